"""Host keys of fresh nodes, and the way to them."""

from __future__ import annotations

from pathlib import Path

from rackloom.provision.reach import Reach


def reach(tmp_path: Path, port: int = 22) -> Reach:
    return Reach("root", port, None, tmp_path / "known_hosts")


def test_a_reinstalled_node_gets_its_new_key_and_others_keep_theirs(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text(
        "10.0.0.31,gpu01 ssh-ed25519 OLD\n10.0.0.32,gpu02 ssh-ed25519 KEEP\ngpu01 ssh-rsa OLDER\n"
    )
    reach(tmp_path).record({("gpu01", "10.0.0.31"): ["ssh-ed25519 NEW root@gpu01", "ssh-rsa NEW2"]})
    assert (tmp_path / "known_hosts").read_text() == (
        "10.0.0.32,gpu02 ssh-ed25519 KEEP\n10.0.0.31,gpu01 ssh-ed25519 NEW\n10.0.0.31,gpu01 ssh-rsa NEW2\n"
    )


def test_another_port_is_part_of_the_name(tmp_path: Path) -> None:
    reach(tmp_path, 2222).record({("gpu01", "10.0.0.31"): ["ssh-ed25519 NEW"]})
    assert (tmp_path / "known_hosts").read_text() == "[10.0.0.31]:2222,[gpu01]:2222 ssh-ed25519 NEW\n"


def test_nothing_speaks_on_a_port_nobody_listens_on(tmp_path: Path) -> None:
    assert not reach(tmp_path, 1).lets_in("127.0.0.1")
