"""Who may log in, as whom, and who may become root."""

from __future__ import annotations

import pytest
from testinfra.host import Host


def test_people_have_their_numbers(host: Host) -> None:
    assert host.check_output("su - alice -c 'id -u; id -g; pwd; echo $SHELL'").split() == [
        "2001",
        "2001",
        "/home/alice",
        "/bin/bash",
    ]
    assert host.user("bob").gid == 3000
    assert host.user("bob").groups == ["project", "users"]
    assert host.user("carol").shell == "/bin/bash"


def test_administrator_becomes_root(host: Host) -> None:
    assert host.check_output("su alice -c 'sudo -n id -u'") == "0"


def test_others_do_not(host: Host) -> None:
    assert host.run("su bob -c 'sudo -n id -u'").rc != 0


@pytest.mark.parametrize("name", ["alice", "bob", "carol"])
def test_nobody_has_a_password(host: Host, name: str) -> None:
    # As PAM sees it: no password matches.
    assert host.check_output(f"passwd --status {name}").split()[1] == "L"


@pytest.mark.parametrize(("name", "home"), [("dave", "/home/dave"), ("mallory", "/home/mallory")])
def test_leavers_are_gone_but_their_files_are_not(host: Host, name: str, home: str) -> None:
    assert not host.user(name).exists
    assert not host.file(f"/etc/ssh/authorized_keys.d/{name}").exists
    assert host.file(home).is_directory


def test_keys_cannot_be_changed_by_their_owner(host: Host) -> None:
    assert host.run("su alice -c 'echo x >> /etc/ssh/authorized_keys.d/alice'").rc != 0
    assert "alice" in host.check_output("su alice -c 'cat /etc/ssh/authorized_keys.d/alice'")
