"""local_accounts finds the fewest commands, and stops before it would take files from somebody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plugins.module_utils import node_accounts
from plugins.module_utils.node_accounts import Accounts, Refused, group_commands, key_file, user_commands

PASSWD = """root:x:0:0:root:/root:/bin/bash
alice:x:2001:2001:Alice A.:/home/alice:/bin/bash
eve:x:2666:2666::/home/eve:/bin/sh
+::::::
"""
GROUP = """root:x:0:
alice:x:2001:
eve:x:2666:
video:x:44:alice,eve
project:x:3000:
"""
SHADOW = """root:*:1::::::
alice:*:1::::::
eve:$6$a$b:1::::::
"""


@pytest.fixture
def now() -> Accounts:
    return Accounts.parse(PASSWD, GROUP, SHADOW)


def commands(now: Accounts, **entry: Any) -> list[str]:
    return [" ".join(command) for command in user_commands(entry, now, create_home=True)]


def test_what_is_as_wanted_costs_nothing(now: Accounts) -> None:
    assert commands(now, name="alice", uid=2001, comment="Alice A.", groups=["video"]) == []


def test_new_user_with_a_group_of_their_own(now: Accounts) -> None:
    assert commands(now, name="bob", uid=2002, groups=["video", "project"]) == [
        "groupadd -g 2002 bob",
        "useradd -u 2002 -g 2002 -d /home/bob -s /bin/bash -p * -G project,video -m bob",
    ]


def test_new_user_in_a_group_that_is_there(now: Accounts) -> None:
    (command,) = commands(now, name="bob", uid=2002, gid=3000)
    assert "-g 3000" in command


def test_password_is_taken_away(now: Accounts) -> None:
    assert commands(now, name="eve", uid=2666, home="/home/eve", groups=["video"]) == [
        "usermod -s /bin/bash -p * eve"
    ]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"name": "alice", "uid": 3001}, "has uid 2001"),
        ({"name": "bob", "uid": 2001}, "which alice has"),
        ({"name": "bob", "uid": 2002, "groups": ["none-such"]}, "none-such"),
        ({"name": "root", "uid": 0}, "no account for a person"),
        ({"name": "Bob;", "uid": 2002}, "no account for a person"),
    ],
)
def test_refused(now: Accounts, entry: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        commands(now, **entry)


def test_groups_are_exact(now: Accounts) -> None:
    assert commands(now, name="alice", uid=2001, comment="Alice A.") == ["usermod -G  alice"]


def test_groups(now: Accounts) -> None:
    assert group_commands([{"name": "project", "gid": 3000}, {"name": "new", "gid": 3001}], now) == [
        ["groupadd", "-g", "3001", "new"]
    ]
    for clash in ({"name": "project", "gid": 3333}, {"name": "other", "gid": 3000}):
        with pytest.raises(Refused):
            group_commands([clash], now)


def test_keys(tmp_path: Path) -> None:
    folder = str(tmp_path / "keys.d")
    assert key_file(folder, "alice", ["ssh-ed25519 A"], check=True)
    assert not (tmp_path / "keys.d").exists()
    assert key_file(folder, "alice", ["ssh-ed25519 A"], check=False)
    assert key_file(folder, "alice", ["ssh-ed25519 A"], check=False) is None
    assert key_file(folder, "alice", [], check=False)
    assert key_file(folder, "alice", [], check=False) is None


def test_nothing_is_done_when_one_entry_is_refused(
    run_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"/etc/passwd": PASSWD, "/etc/group": GROUP, "/etc/shadow": SHADOW}
    monkeypatch.setattr(node_accounts, "read", lambda path: texts.get(path, ""))
    users = [{"name": "alice", "uid": 2001, "keys": ["k"]}, {"name": "eve", "uid": 1}]
    done = run_module("local_accounts", users=users, keys_dir=str(tmp_path / "keys.d"))
    assert done["failed"]
    assert not (tmp_path / "keys.d").exists()
