"""A member of etcd is begun once and joined once; what has data, or may have had some, is never begun anew."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

MEMBERS = [{"name": f"s{n}", "address": f"192.0.2.{20 + n}"} for n in (1, 2, 3)]
Join = Callable[..., dict[str, Any]]


class Etcd:
    """The members, as etcdctl on host s1 sees and changes them."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.away: set[str] = set()
        self.said: list[str] = []
        self.made = 0
        self.unsettled = 0  # so many changes are refused first

    def has(self, name: str, *, learner: bool = False, started: bool = True) -> None:
        address = next(each["address"] for each in MEMBERS if each["name"] == name)
        self.made += 1
        row: dict[str, Any] = {"ID": self.made, "peerURLs": [f"https://{address}:2380"]}
        row |= {"name": name, "clientURLs": [f"https://{address}:2379"]} if started else {}
        self.rows.append({**row, "isLearner": True} if learner else row)

    def run(self, argv: Sequence[str], _data: str = "") -> tuple[int, str, str]:
        words = [word for word in argv if not word.startswith("-")]
        if argv[0] == "systemctl":
            self.said.append(" ".join(words))
            return 3, "", ""
        assert argv[0] == "etcdctl"
        if "health" in words:
            urls = [url for row in self.rows for url in row.get("clientURLs", []) if url not in self.away]
            return int(bool(self.away)), json.dumps([{"endpoint": url, "health": True} for url in urls]), ""
        if "list" in words:
            return 0, json.dumps({"members": self.rows}), ""
        if self.unsettled:
            self.unsettled -= 1
            return 1, "", "Error: etcdserver: unhealthy cluster"
        self.said.append(" ".join(words[1:4]))
        if "add" in words:
            self.has(words[3], learner="--learner" in argv, started=False)
        elif "remove" in words:
            self.away = set()
            self.rows = [row for row in self.rows if f"{row['ID']:x}" != words[3]]
        elif "promote" in words:
            for row in self.rows:
                row["isLearner"] = False
        return 0, "", ""


@pytest.fixture
def etcd() -> Etcd:
    return Etcd()


@pytest.fixture
def join(
    etcd: Etcd, tmp_path: Path, run_module: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> Join:
    module = importlib.import_module("plugins.modules.etcd_membership")
    monkeypatch.setattr(module, "DATA", tmp_path / "member")
    monkeypatch.setattr(module, "START", tmp_path / "start.env")
    monkeypatch.setattr(module, "runner", lambda _module: etcd.run)
    monkeypatch.setattr(
        module, "listens", lambda address: any(f"https://{address}:2379" in str(row) for row in etcd.rows)
    )
    monkeypatch.setattr(module.time, "sleep", lambda _seconds: None)

    def apply(self: Any) -> None:
        etcd.said.append("started")
        if (tmp_path / "start.env").exists():
            etcd.said.append((tmp_path / "start.env").read_text())
            (tmp_path / "member").mkdir()
            self.actions.append("started")

    monkeypatch.setattr(module.Member, "apply", apply)

    def run(**more: Any) -> dict[str, Any]:
        return run_module("etcd_membership", **{"name": "s1", "members": MEMBERS, "timeout": 5, **more})

    return run


def test_the_first_begins_with_itself_alone(etcd: Etcd, join: Join, tmp_path: Path) -> None:
    assert join(may_begin=True)["actions"] == ["began the cluster", "started"]
    assert 'INITIAL_CLUSTER="s1=https://192.0.2.21:2380"' in etcd.said[1] and "STATE=new" in etcd.said[1]
    # or a folder that is emptied would be a new cluster at the next start
    assert not (tmp_path / "start.env").exists()
    assert join(may_begin=True)["changed"] is False


def test_nobody_begins_who_may_not(etcd: Etcd, join: Join, tmp_path: Path) -> None:
    result = join(refusal="s2 cannot be asked")
    assert result["failed"] and result["msg"] == "s2 cannot be asked"
    assert etcd.said == [] and not (tmp_path / "start.env").exists()


def test_the_next_learns_first_and_then_votes(etcd: Etcd, join: Join) -> None:
    etcd.has("s2")
    etcd.has("s3")
    etcd.unsettled = 2
    result = join(may_begin=True)
    assert result["actions"] == ["joined the members", "started"]
    added, _, start, promoted = etcd.said
    assert added == "member add s1" and promoted == "member promote 3"
    everybody = "s2=https://192.0.2.22:2380,s3=https://192.0.2.23:2380,s1=https://192.0.2.21:2380"
    assert "STATE=existing" in start and f'"{everybody}"' in start


def test_who_lost_its_data_gives_its_place_back_first(etcd: Etcd, join: Join) -> None:
    for name in ("s1", "s2", "s3"):
        etcd.has(name)
    etcd.away = {"https://192.0.2.21:2379"}
    result = join(may_begin=True)
    assert result["actions"][:2] == ["left its former place", "joined the members"]
    assert etcd.said[:2] == ["member remove 1", "member add s1"]


def test_no_place_is_given_back_that_the_quorum_needs(etcd: Etcd, join: Join, tmp_path: Path) -> None:
    for name in ("s1", "s2", "s3"):
        etcd.has(name)
    etcd.away = {"https://192.0.2.21:2379", "https://192.0.2.22:2379"}
    result = join(may_begin=True)
    assert result["failed"] and "no quorum" in result["msg"]
    assert etcd.said == [] and not (tmp_path / "start.env").exists()


def test_data_of_another_cluster_is_not_started(etcd: Etcd, join: Join, tmp_path: Path) -> None:
    (tmp_path / "member").mkdir()
    etcd.has("s2")
    result = join(may_begin=True)
    assert result["failed"] and "the members do not know it" in result["msg"] and etcd.said == []


def test_a_join_that_was_cut_off_is_gone_on_with(etcd: Etcd, join: Join, tmp_path: Path) -> None:
    (tmp_path / "member").mkdir()
    etcd.has("s2")
    etcd.has("s1", learner=True)
    assert not join()["changed"]
    assert etcd.said == ["started", "member promote 2"]


def test_all_that_have_data_are_started_at_once(etcd: Etcd, join: Join, tmp_path: Path) -> None:
    assert join(state="looked")["found"] == "none" and etcd.said == []
    (tmp_path / "member").mkdir()
    assert join(state="looked")["found"] == "member"
    assert "systemctl start rackloom-etcd.service" in etcd.said


@pytest.mark.parametrize(
    ("known", "said"), [(False, "would begin the cluster"), (True, "would join the members")]
)
def test_check_mode_changes_nothing(etcd: Etcd, join: Join, tmp_path: Path, known: bool, said: str) -> None:
    if known:
        etcd.has("s2")
    assert join(check=True)["actions"] == [said]
    assert etcd.said == [] and not (tmp_path / "start.env").exists()
