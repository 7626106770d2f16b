"""config_files writes what it is told, once, and nothing when one entry is refused."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

from .conftest import RunModule


def payload(*entries: dict[str, Any]) -> str:
    """Pack entries as the action side does."""
    full = []
    for entry in entries:
        item = {"state": "file", "secret": False, "force": True, **entry}
        item["path"] = str(item["path"])
        if "content" in item:
            item["content"] = base64.b64encode(item["content"].encode()).decode()
        full.append(item)
    return base64.b64encode(json.dumps(full).encode()).decode()


def test_writes_once_and_then_nothing(run_module: RunModule, tmp_path: Path) -> None:
    target = tmp_path / "a" / "b.conf"
    pack = payload({"path": target, "content": "x = 1\n", "mode": "0640"})
    first = run_module("component", payload=pack)
    assert first["changed"] and first["changed_paths"] == [str(target)]
    assert target.read_text() == "x = 1\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    inode = target.stat().st_ino
    second = run_module("component", payload=pack)
    assert not second["changed"] and target.stat().st_ino == inode


def test_check_mode_predicts_and_touches_nothing(run_module: RunModule, tmp_path: Path) -> None:
    target = tmp_path / "b.conf"
    result = run_module(
        "component", check=True, diff=True, payload=payload({"path": target, "content": "1\n"})
    )
    assert result["changed"] and not target.exists()
    assert result["diff"][0]["after"] == "1\n"


def test_one_refused_entry_leaves_all_files_as_they_were(run_module: RunModule, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    result = run_module(
        "component",
        payload=payload(
            {"path": one, "content": "new\n"}, {"path": two, "content": "bad\n", "validate": "grep good %s"}
        ),
    )
    assert result["failed"] and "two" in result["msg"] and "grep good" in result["msg"]
    assert not one.exists() and not two.exists()


def test_a_secret_is_in_no_output(run_module: RunModule, tmp_path: Path) -> None:
    target = tmp_path / "key"
    pack = payload({"path": target, "content": "hunter2\n", "mode": "0400", "secret": True})
    result = run_module("component", diff=True, payload=pack)
    assert target.read_text() == "hunter2\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o400
    assert "hunter2" not in json.dumps(result)


def test_a_secret_is_in_no_message_when_refused(run_module: RunModule, tmp_path: Path) -> None:
    entry = {
        "path": tmp_path / "key",
        "content": "hunter2\n",
        "validate": "grep -v hunter2 %s",
        "secret": True,
    }
    result = run_module("component", payload=payload(entry))
    assert result["failed"] and "hunter2\n" not in json.dumps(result)


def test_mode_alone_is_a_change(run_module: RunModule, tmp_path: Path) -> None:
    target = tmp_path / "f"
    target.write_text("same\n")
    target.chmod(0o644)
    result = run_module("component", payload=payload({"path": target, "content": "same\n", "mode": "0600"}))
    assert result["changed_paths"] == [str(target)]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_directories_links_and_removal(run_module: RunModule, tmp_path: Path) -> None:
    folder, link, old = tmp_path / "d", tmp_path / "l", tmp_path / "old"
    old.write_text("x")
    entries = (
        {"path": folder, "state": "directory", "mode": "0750"},
        {"path": link, "state": "link", "target": "d"},
        {"path": old, "state": "absent"},
    )
    assert run_module("component", payload=payload(*entries))["changed_paths"] == [
        str(folder),
        str(link),
        str(old),
    ]
    assert folder.is_dir() and link.readlink() == Path("d") and not old.exists()
    assert not run_module("component", payload=payload(*entries))["changed"]


def test_a_directory_with_content_is_not_removed(run_module: RunModule, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("x")
    result = run_module("component", payload=payload({"path": tmp_path / "d", "state": "absent"}))
    assert result["failed"] and (tmp_path / "d" / "f").exists()


def test_an_unknown_owner_is_named(run_module: RunModule, tmp_path: Path) -> None:
    entry = {"path": tmp_path / "f", "content": "x\n", "owner": "nobody-of-this-name"}
    result = run_module("component", payload=payload(entry))
    assert result["failed"] and "nobody-of-this-name" in result["msg"]


def test_force_false_keeps_what_is_there(run_module: RunModule, tmp_path: Path) -> None:
    target = tmp_path / "f"
    target.write_text("mine\n")
    assert not run_module("component", payload=payload({"path": target, "content": "x\n", "force": False}))[
        "changed"
    ]
    assert target.read_text() == "mine\n"
