"""A snapshot has its name once it is good, and a restored store is whole or not there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from plugins.module_utils.kube_client import KubeError
from plugins.modules import kube_snapshot
from plugins.modules.kube_snapshot import RESERVE, about, attempt, restore, save


class Programs:
    """etcdctl and etcdutl."""

    def __init__(self) -> None:
        self.good = self.whole = True
        self.said: list[str] = []

    def run(self, argv: Sequence[str], _data: str = "") -> tuple[int, str, str]:
        self.said.append(" ".join(argv))
        if "save" in argv:
            Path(argv[-1]).write_text("everything")
        if "status" in argv:
            told = json.dumps({"hash": 1, "revision": 12, "totalKey": 34, "totalSize": 56})
            return (0, told, "") if self.good else (1, "", "Error: snapshot file integrity check failed")
        if "restore" in argv and not self.whole:
            return 1, "", "Error: snapshot missing hash but --skip-hash-check=false"
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
    (tmp_path / "s.db").write_bytes(bytes(4096 + 32))
    return {
        "path": str(tmp_path / "s.db"),
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


def test_a_trial_leaves_nothing_behind(params: dict[str, Any], tmp_path: Path) -> None:
    programs = Programs()
    attempt(programs.run, params)
    [said] = programs.said
    assert f"--data-dir={tmp_path}/state/restoring" in said and "--initial-cluster=m1=" in said
    assert list((tmp_path / "state").iterdir()) == [] and not (tmp_path / "etcd").exists()


def test_a_file_that_cannot_be_restored_is_refused_at_the_trial(
    params: dict[str, Any], tmp_path: Path
) -> None:
    programs = Programs()
    programs.whole = False
    with pytest.raises(KubeError, match="missing hash"):
        attempt(programs.run, params)
    assert list((tmp_path / "state").iterdir()) == []


@pytest.mark.parametrize(("size", "skipped"), [(8192, True), (8192 + 32, False), (8192 + 7, False)])
def test_only_a_store_s_own_file_goes_without_its_checksum(
    params: dict[str, Any], size: int, skipped: bool
) -> None:
    Path(params["path"]).write_bytes(bytes(size))
    programs = Programs()
    attempt(programs.run, params)
    restore(programs.run, params, "abc")
    assert [("--skip-hash-check" in said) for said in programs.said] == [skipped, skipped]


def test_a_file_system_of_its_own_is_no_data(params: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "etcd/lost+found").mkdir(parents=True)
    assert restore(Programs().run, params, "abc")
    assert (tmp_path / "etcd/member/snap").is_dir() and (tmp_path / "etcd/lost+found").is_dir()


def test_an_address_of_ipv6_is_bracketed(params: dict[str, Any]) -> None:
    programs = Programs()
    attempt(programs.run, {**params, "address": "2001:db8::1"})
    assert "m1=https://[2001:db8::1]:2380" in programs.said[0]


def test_no_snapshot_takes_the_room_that_etcd_writes_to(
    params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etcd/member/snap").mkdir(parents=True)
    (tmp_path / "etcd/member/snap/db").write_bytes(bytes(5000))
    free = SimpleNamespace(free=RESERVE + 5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    programs = Programs()
    save(programs.run, params["path"])
    free.free -= 1
    programs.said.clear()
    with pytest.raises(KubeError, match="are free"):
        save(programs.run, params["path"])
    assert programs.said == []
