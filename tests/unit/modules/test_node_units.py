"""unit restarts what has not read its files, also when the run before was cut off between the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plugins.module_utils import node_units as unit

from .conftest import RunModule

# A systemctl that keeps a unit's state in a file and writes down what it was told.
SYSTEMCTL = """#!/bin/sh
here=$(dirname "$0")
case "$1" in
  show)
    echo "LoadState=$(cat $here/load)"
    echo "ActiveState=$(cat $here/active)"
    echo "UnitFileState=$(cat $here/file)"
    echo "NeedDaemonReload=no"
    echo "CanReload=$(cat $here/canreload)" ;;
  *)
    echo "$*" >> $here/calls
    case "$1" in
      start | restart) [ -e $here/broken ] && exit 1; echo active > $here/active ;;
      stop) echo inactive > $here/active ;;
      enable) echo enabled > $here/file ;;
    esac ;;
esac
"""


class Fake:
    """A fake systemd in a directory, and the module pointed to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in {
            "load": "loaded",
            "active": "inactive",
            "file": "disabled",
            "canreload": "yes",
        }.items():
            self.set(name, text)

    def set(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text + "\n")

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.write_text("")
        return lines


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"systemctl": SYSTEMCTL, "journalctl": "#!/bin/sh\necho it said this last\n"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(unit, "STAMPS", str(tmp_path / "stamps"))
    return Fake(folder)


def test_starts_enables_and_then_rests(fake: Fake, run_module: RunModule, tmp_path: Path) -> None:
    conf = tmp_path / "x.conf"
    conf.write_text("1")
    arguments: dict[str, Any] = {"name": "x.service", "restart_on": [str(conf)]}
    assert run_module("component", units=[arguments])["actions"] == ["x.service enabled", "x.service started"]
    fake.calls()
    assert run_module("component", units=[arguments])["actions"] == []
    assert fake.calls() == []


def test_a_changed_file_restarts(fake: Fake, run_module: RunModule, tmp_path: Path) -> None:
    conf = tmp_path / "x.conf"
    conf.write_text("1")
    arguments: dict[str, Any] = {"name": "x.service", "restart_on": [str(conf)]}
    run_module("component", units=[arguments])
    conf.write_text("2")
    assert run_module("component", check=True, units=[arguments])["actions"] == ["x.service restarted"]
    assert run_module("component", units=[arguments])["actions"] == ["x.service restarted"]
    assert run_module("component", units=[arguments])["actions"] == []


def test_a_failed_restart_is_tried_again_by_the_next_run(
    fake: Fake, run_module: RunModule, tmp_path: Path
) -> None:
    conf = tmp_path / "x.conf"
    conf.write_text("1")
    arguments: dict[str, Any] = {"name": "x.service", "restart_on": [str(conf)]}
    run_module("component", units=[arguments])
    conf.write_text("2")
    fake.set("broken", "")
    result = run_module("component", units=[arguments])
    assert result["failed"] and "it said this last" in result["msg"]
    (fake.folder / "broken").unlink()
    assert run_module("component", units=[arguments])["actions"] == ["x.service restarted"]


def test_a_reload_restarts_what_cannot_reload(fake: Fake, run_module: RunModule, tmp_path: Path) -> None:
    conf = tmp_path / "d"
    conf.mkdir()
    arguments: dict[str, Any] = {"name": "x.service", "reload_on": [str(conf)]}
    run_module("component", units=[arguments])
    (conf / "new.conf").write_text("1")
    assert run_module("component", units=[arguments])["actions"] == ["x.service reloaded"]
    fake.set("canreload", "no")
    (conf / "new.conf").write_text("2")
    assert run_module("component", units=[arguments])["actions"] == ["x.service restarted"]


def test_a_missing_unit_is_one_sentence(fake: Fake, run_module: RunModule) -> None:
    fake.set("load", "not-found")
    assert "is its package installed?" in run_module("component", units=[{"name": "x.service"}])["msg"]
    assert run_module("component", check=True, units=[{"name": "x.service"}])["changed"]


def test_waits_for_what_it_serves(fake: Fake, run_module: RunModule, tmp_path: Path) -> None:
    result = run_module(
        "component",
        units=[{"name": "x.service", "wait_for": {"socket": str(tmp_path / "none"), "timeout": 1}}],
    )
    assert result["failed"] and "not ready in time" in result["msg"]


def test_a_drop_in_is_read_by_systemd_first(fake: Fake, run_module: RunModule, tmp_path: Path) -> None:
    drop_in = tmp_path / "systemd" / "x.service.d" / "own.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\n")
    arguments: dict[str, Any] = {"name": "x.service", "restart_on": [str(drop_in)]}
    assert run_module("component", units=[arguments])["actions"] == [
        "x.service daemon-reload",
        "x.service enabled",
        "x.service started",
    ]
    assert fake.calls()[0] == "daemon-reload"
    assert run_module("component", units=[arguments])["actions"] == []
    drop_in.write_text("[Service]\nNice=1\n")
    assert run_module("component", units=[arguments])["actions"] == [
        "x.service daemon-reload",
        "x.service restarted",
    ]
