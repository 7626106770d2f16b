"""What `up` decides from the lab that is already there; no container is touched."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from rackloom.lab import config, manage
from rackloom.lab.errors import LabError
from rackloom.lab.options import LabOptions

SUBNET = IPv4Network("10.96.7.0/24")


def state(folder: Path, compute: int = 2, deployed: int = 0, off: tuple[str, ...] = ()) -> manage.LabState:
    options = LabOptions(compute=compute)
    nodes = config.plan(options, SUBNET)
    done = [node.name for node in nodes][: 2 + deployed] if deployed else []
    return manage.LabState(options, folder, str(SUBNET), "image", nodes, tuple(done), off)


def test_lab_json_gives_back_what_was_saved(tmp_path: Path) -> None:
    saved = state(tmp_path / "lab", deployed=2, off=("gpu02",))
    manage._save(saved)
    assert manage._load(tmp_path / "lab") == saved
    assert (tmp_path / "lab").stat().st_mode & 0o777 == 0o700


def test_a_damaged_lab_json_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "lab.json").write_text("{")
    with pytest.raises(LabError) as caught:
        manage._load(tmp_path)
    assert "down" in caught.value.hint


@pytest.mark.parametrize(
    ("compute", "deployed", "off", "limit"),
    [
        (2, 0, (), None),  # new
        (2, 2, (), None),  # all there: everything once more
        (4, 2, (), "gpu03,gpu04,slurm_controller,name_server"),  # grown
        (4, 2, ("gpu02",), "gpu03,gpu04,slurm_controller,name_server"),  # grown, one is off
        (2, 2, ("gpu02",), "mgmt01,login01,gpu01"),
        (2, 0, ("gpu02",), "mgmt01,login01,gpu01"),
    ],
)
def test_who_is_deployed_to(
    tmp_path: Path, compute: int, deployed: int, off: tuple[str, ...], limit: str | None
) -> None:
    assert manage._limit(state(tmp_path, compute, deployed, off)) == limit


def test_a_lab_grows_but_does_not_shrink(tmp_path: Path) -> None:
    said: list[str] = []
    before = state(tmp_path, compute=4)
    assert manage._merge(LabOptions(compute=6), before, said.append).compute == 6
    assert manage._merge(LabOptions(compute=3), before, said.append).compute == 4
    assert "4 compute nodes" in said[0]


def test_up_without_options_goes_on_with_any_lab(tmp_path: Path) -> None:
    special = LabOptions(compute=5, gpus=4, os="debian-13", management=3)
    before = replace(state(tmp_path), options=special)
    said: list[str] = []
    assert manage._merge(LabOptions(), before, said.append) == special
    assert not said


@pytest.mark.parametrize(
    "asked",
    [LabOptions(os="debian-13"), LabOptions(gpus=4), LabOptions(management=3)],
    ids=["os", "gpus", "mgmt"],
)
def test_a_lab_does_not_change_its_kind(tmp_path: Path, asked: LabOptions) -> None:
    with pytest.raises(LabError, match="was made with"):
        manage._merge(asked, state(tmp_path), lambda _: None)


def test_host_keys_of_nodes_that_are_off_are_kept(tmp_path: Path) -> None:
    lab = state(tmp_path)
    path = lab.config_dir / "known_hosts"
    path.parent.mkdir(parents=True)
    path.write_text("10.96.7.51,gpu01 old\n10.96.7.52,gpu02 kept\n10.96.7.99,gone x\n")
    manage._learn_host_keys(lab, "10.96.7.51,gpu01 new\n")
    assert path.read_text() == "10.96.7.52,gpu02 kept\n10.96.7.51,gpu01 new\n"


def test_ssh_command_uses_the_labs_own_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manage, "home", lambda: tmp_path)
    lab = replace(state(tmp_path / ".lab/lab"))
    manage._save(lab)
    for name in ("id_ed25519", "alice"):
        key = lab.config_dir / "ssh" / name
        key.parent.mkdir(parents=True, exist_ok=True)
        key.touch()
    assert manage.ssh_command("lab", "gpu01")[-1] == "root@10.96.7.51"
    assert str(lab.config_dir / "ssh/alice") in manage.ssh_command("lab", "login01", user="alice")
    assert manage.labs() == ["lab"]
    for name, node, user in (("lab", "gpu09", "root"), ("other", "gpu01", "root"), ("lab", "gpu01", "eve")):
        with pytest.raises(LabError) as caught:
            manage.ssh_command(name, node, user)
        assert caught.value.hint
