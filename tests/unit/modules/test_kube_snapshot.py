"""A snapshot has its name once it is good, and a restored store is whole or not there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from plugins.module_utils.kube_client import KubeError
from plugins.modules import kube_snapshot
from plugins.modules.kube_snapshot import about, restore, save


class Programs:
    """etcdctl and etcdutl."""

    def __init__(self) -> None:
        self.good = True
        self.said: list[str] = []

    def run(self, argv: Sequence[str], _data: str = "") -> tuple[int, str, str]:
        self.said.append(" ".join(argv))
        if "save" in argv:
            Path(argv[-1]).write_text("everything")
        if "status" in argv:
            told = json.dumps({"hash": 1, "revision": 12, "totalKey": 34, "totalSize": 56})
            return (0, told, "") if self.good else (1, "", "Error: snapshot file integrity check failed")
        for word in argv if "restore" in argv else ():
            if word.startswith("--data-dir="):
                (Path(word[11:]) / "member" / "snap").mkdir(parents=True)
        return 0, "", ""


def test_a_snapshot_is_verified_before_it_has_its_name(tmp_path: Path) -> None:
    programs, path = Programs(), tmp_path / "deep" / "by-hand.db"
    save(programs.run, str(path))
    assert path.read_text() == "everything" and path.stat().st_mode & 0o777 == 0o600
    assert about(programs.run, str(path))["keys"] == 34
    programs.good = False
    path.write_text("the one before")
    with pytest.raises(KubeError, match="integrity"):
        save(programs.run, str(path))
    assert path.read_text() == "the one before"


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(kube_snapshot, "STORE", str(tmp_path / "etcd"))
    return {
        "path": "/s.db",
        "name": "m1",
        "address": "10.0.0.1",
        "mark": str(tmp_path / "state" / "restored"),
    }


def test_a_store_is_laid_out_once(params: dict[str, Any], tmp_path: Path) -> None:
    programs = Programs()
    assert restore(programs.run, params, "abc")
    assert (tmp_path / "etcd/member/snap").is_dir()
    assert (tmp_path / "state/restored").read_text() == "abc\n"
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["restored"]
    [said] = programs.said
    assert "--initial-cluster=m1=https://10.0.0.1:2380" in said and "--mark-compacted" in said
    assert not restore(programs.run, params, "abc")
    assert len(programs.said) == 1


def test_what_is_there_is_never_overwritten(params: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "etcd/member").mkdir(parents=True)
    with pytest.raises(KubeError, match="not empty"):
        restore(Programs().run, params, "abc")


def test_another_snapshot_is_not_taken_for_this_one(params: dict[str, Any]) -> None:
    restore(Programs().run, params, "abc")
    with pytest.raises(KubeError, match="not empty"):
        restore(Programs().run, params, "def")


def test_killed_before_the_store_had_its_name_it_is_laid_out_again(
    params: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "etcd/.restoring/snap").mkdir(parents=True)
    (tmp_path / "state").mkdir()
    (tmp_path / "state/restored").write_text("abc\n")
    assert restore(Programs().run, params, "abc")
    assert (tmp_path / "etcd/member/snap").is_dir() and not (tmp_path / "etcd/.restoring").exists()
