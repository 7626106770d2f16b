"""A survey believes a record only where the node still is as the record says, in every respect."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plugins.module_utils import node_packages, node_records, node_units
from plugins.plugin_utils.surveyed import own

from .conftest import RunModule

DPKG = """#!/bin/sh
cat "$(dirname "$0")/packages"
"""
SYSTEMCTL = """#!/bin/sh
here=$(dirname "$0")
[ "$1" = show ] && cat $here/unit
exit 0
"""
RUNNING = "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no\nCanReload=yes\n"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that plays a node: bin/ (its programs), etc/ (its files)."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "etc").mkdir()
    for name, text in {"dpkg-query": DPKG, "apt-get": "#!/bin/sh\n", "systemctl": SYSTEMCTL}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "bin/packages").write_text("chrony\tinstalled\t4.3-2\t\n")
    (tmp_path / "bin/unit").write_text(RUNNING)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(node_records, "RECORDS", str(tmp_path / "records"))
    monkeypatch.setattr(node_units, "STAMPS", str(tmp_path / "units"))
    monkeypatch.setattr(node_packages, "STAMP", str(tmp_path / "lists"))
    return tmp_path


def ask(run_module: RunModule, node: Path, *, check: bool = False) -> dict[str, Any]:
    """Ask for a component with one of everything."""
    conf, where = str(node / "etc/chrony.conf"), str(node / "etc")
    files = [
        {"path": f"{where}/conf.d", "state": "directory", "mode": "0750", "secret": False, "force": True},
        {
            "path": conf,
            "state": "file",
            "mode": "0640",
            "secret": True,
            "force": True,
            "content": base64.b64encode(b"a secret\n").decode(),
        },
        {"path": f"{where}/link", "state": "link", "target": conf, "secret": False, "force": True},
        {"path": f"{where}/old", "state": "absent", "secret": False, "force": True},
    ]
    return run_module(
        "component",
        check=check,
        packages=["chrony"],
        payload=base64.b64encode(json.dumps(files).encode()).decode(),
        units=[{"name": "chrony.service", "restart_on": [conf]}],
        record={"key": "chrony", "digest": "d1"},
    )


def surveyed(run_module: RunModule) -> dict[str, str]:
    """The digests that hold, by key."""
    found: dict[str, str] = run_module("node_survey")["ansible_facts"]["rackloom_survey"]
    return found


@pytest.mark.usefixtures("node")
def test_a_node_without_records_is_known_by_its_system_alone(run_module: RunModule) -> None:
    facts = run_module("node_survey")["ansible_facts"]
    assert facts["rackloom_survey"] == {}
    assert facts["os_family"]
    assert facts["distribution_version"]


def test_what_was_done_holds_until_something_differs(run_module: RunModule, node: Path) -> None:
    assert ask(run_module, node)["changed"]
    assert surveyed(run_module) == {"chrony": "d1"}
    assert not ask(run_module, node)["changed"]


def test_a_record_holds_no_secret_and_is_for_root_alone(run_module: RunModule, node: Path) -> None:
    ask(run_module, node)
    record = node / "records/chrony.json"
    assert "secret\\n" not in record.read_text()
    assert base64.b64encode(b"a secret\n").decode() not in record.read_text()
    assert record.stat().st_mode & 0o777 == 0o600


def test_a_check_leaves_no_record(run_module: RunModule, node: Path) -> None:
    ask(run_module, node, check=True)
    assert surveyed(run_module) == {}


DRIFTS: dict[str, Callable[[Path], object]] = {
    "content": lambda node: (node / "etc/chrony.conf").write_text("other\n"),
    "mode": lambda node: (node / "etc/chrony.conf").chmod(0o644),
    "file gone": lambda node: (node / "etc/chrony.conf").unlink(),
    "directory mode": lambda node: (node / "etc/conf.d").chmod(0o755),
    "directory gone": lambda node: (node / "etc/conf.d").rmdir(),
    "link": lambda node: (node / "etc/link").rename(node / "etc/elsewhere"),
    "file back": lambda node: (node / "etc/old").write_text(""),
    "package gone": lambda node: (node / "bin/packages").write_text("chrony\tconfig-files\t4.3-2\t\n"),
    "unit stopped": lambda node: (node / "bin/unit").write_text(RUNNING.replace("=active", "=inactive")),
    "unit disabled": lambda node: (node / "bin/unit").write_text(RUNNING.replace("=enabled", "=disabled")),
    "unit unread": lambda node: (node / "bin/unit").write_text(RUNNING.replace("load=no", "load=yes", 1)),
    "unit's record gone": lambda node: (node / "units/chrony.service.json").unlink(),
    "broken record": lambda node: (node / "records/chrony.json").write_text("{"),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_every_drift_is_seen(run_module: RunModule, node: Path, drift: str) -> None:
    ask(run_module, node)
    DRIFTS[drift](node)
    assert surveyed(run_module) == {}


def test_settings_of_the_host_are_looked_at(
    run_module: RunModule, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = node / "etc/somaxconn"
    key.write_text("4096\n")
    monkeypatch.setattr("plugins.module_utils.node_host.sysctl_path", lambda _key: str(key))
    wanted = {"sysctl": {"net.core.somaxconn": "4096"}, "record": {"key": "host", "digest": "h"}}
    run_module("host_settings", **wanted)
    assert surveyed(run_module) == {"host": "h"}
    key.write_text("128\n")
    assert surveyed(run_module) == {}


def test_accounts_are_looked_at(run_module: RunModule, node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "/etc/passwd": "alice:x:2001:2001::/home/alice:/bin/bash\n",
        "/etc/group": "alice:x:2001:\n",
        "/etc/shadow": "alice:*:::::::\n",
    }
    keys = node / "keys.d"
    real = node_accounts_read()
    monkeypatch.setattr("plugins.module_utils.node_accounts.read", lambda path: texts.get(path) or real(path))
    run_module(
        "local_accounts",
        users=[{"name": "alice", "uid": 2001, "keys": ["ssh-ed25519 AAAA alice"]}],
        keys_dir=str(keys),
        record={"key": "people", "digest": "p"},
    )
    assert surveyed(run_module) == {"people": "p"}
    (keys / "alice").write_text("ssh-ed25519 AAAB mallory\n")
    assert surveyed(run_module) == {}


def node_accounts_read() -> Callable[[str], str]:
    """The reader of account files, as it is before a test replaces it."""
    from plugins.module_utils import node_accounts  # noqa: PLC0415 - the name is replaced in the test

    return node_accounts.read


@pytest.mark.parametrize(
    ("watched", "written", "answer"),
    [
        ("/etc/a.conf", ["/etc/a.conf"], True),
        ("/etc/a.d", ["/etc/a.d/ours"], True),
        ("/etc/a.d/", ["/etc/a.d/ours"], True),
        ("/etc/a", ["/etc/a.conf"], False),
        ("/usr/bin/program", ["/etc/a.conf"], False),
    ],
)
def test_only_watched_files_of_its_own_may_be_left_to_the_survey(
    watched: str, written: list[str], answer: bool
) -> None:
    assert own(watched, written) is answer
