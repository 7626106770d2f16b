"""Members leave etcd only where it keeps its quorum."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from plugins.module_utils import kube_etcd
from plugins.module_utils.kube_client import KubeError
from plugins.module_utils.kube_etcd import (
    HERE,
    Etcd,
    apart,
    asked,
    called,
    leftovers,
    parse_members,
    reason,
    refusal,
)
from plugins.modules.kube_member import remove

LISTED = {
    "members": [
        {
            "ID": 18249187646912138824,
            "name": "m1",
            "peerURLs": ["https://10.0.0.1:2380"],
            "clientURLs": ["https://a"],
        },
        {"ID": 2, "name": "m2", "peerURLs": ["https://10.0.0.2:2380"], "clientURLs": ["https://b"]},
        {"ID": 3, "peerURLs": ["https://10.0.0.3:2380"], "isLearner": True},
    ]
}


def test_members_as_etcdctl_prints_them() -> None:
    members = parse_members(json.dumps(LISTED))
    assert [member["id"] for member in members] == ["fd422379fda50e48", "2", "3"]
    assert [member["name"] for member in members] == ["m1", "m2", ""]
    assert members[2]["learner"] and not members[0]["learner"]
    with pytest.raises(KubeError):
        parse_members("nothing")


def test_health_is_read_though_one_is_not_well() -> None:
    health = json.dumps(
        [{"endpoint": "https://a", "health": True}, {"endpoint": "https://b", "health": False}]
    )

    def run(argv: Any, data: str = "") -> tuple[int, str, str]:
        if "health" in argv:
            return 1, health, "Error: unhealthy cluster"
        return 0, json.dumps(LISTED), ""

    assert [member["healthy"] for member in Etcd(run).members()] == [True, False, False]


def test_reasons() -> None:
    assert (
        reason('{"level":"warn","msg":"x"}\nError: context deadline exceeded\n')
        == "context deadline exceeded"
    )
    assert reason('{"level":"fatal","error":"bad file"}') == "bad file"
    assert reason("") == "no message"


class Fake:
    """etcd with these members; True is well."""

    def __init__(self, **members: bool) -> None:
        self.rows = [
            {"id": name, "name": name, "learner": False, "healthy": well} for name, well in members.items()
        ]

    def members(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.rows]

    def remove(self, member: str) -> None:
        assert refusal(self.rows, [member]) == ""
        self.rows = [row for row in self.rows if row["id"] != member]


@pytest.mark.parametrize(
    ("members", "names", "left"),
    [
        ({"a": True, "b": True, "c": True}, ["b"], ["a", "c"]),
        ({"a": True, "b": True, "c": True}, ["a", "b"], ["c"]),
        ({"a": True, "b": False, "c": True}, ["a", "b"], ["c"]),
        ({"a": True, "b": True, "c": False, "d": True, "e": False}, ["c", "e"], ["a", "b", "d"]),
        ({"a": True}, ["z"], ["a"]),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_members_leave(members: dict[str, bool], names: list[str], left: list[str], check: bool) -> None:
    etcd, removed = Fake(**members), list[str]()
    assert remove(etcd, names, removed, check=check) == left
    assert set(removed) == set(names) & set(members)
    if check:
        assert len(etcd.rows) == len(members)


@pytest.mark.parametrize(
    ("members", "names", "why"),
    [
        ({"a": True}, ["a"], "no member"),
        ({"a": True, "b": False}, ["b"], "has no quorum"),
        ({"a": True, "b": True, "c": False}, ["a"], "lose its quorum"),
        ({"a": False, "b": False, "c": True}, ["a"], "has no quorum"),
    ],
)
def test_the_quorum_is_kept(members: dict[str, bool], names: list[str], why: str) -> None:
    etcd = Fake(**members)
    with pytest.raises(KubeError, match=why):
        remove(etcd, names, [])
    assert len(etcd.rows) == len(members)


def test_the_next_one_waits_until_the_rest_is_well() -> None:
    etcd = Fake(a=True, b=True, c=True)
    now = 0.0
    take = etcd.remove

    def shaken(member: str) -> None:
        take(member)
        etcd.rows[-1]["healthy"] = False

    def pause(seconds: float) -> None:
        nonlocal now
        now += seconds
        if now > 3:
            etcd.rows[-1]["healthy"] = True

    etcd.remove = shaken  # type: ignore[method-assign]
    removed: list[str] = []
    assert remove(etcd, ["a", "b"], removed, pause=pause, clock=lambda: now) == ["c"]
    assert removed == ["a", "b"] and now > 3


def unstarted(etcd: Fake, address: str, *, learner: bool = True) -> None:
    """A member that was let in, and whose node died before it started."""
    peers = [f"https://{address}:2380"]
    etcd.rows.append({"id": "77", "name": "", "peers": peers, "learner": learner, "healthy": False})


@pytest.mark.parametrize("address", ["10.0.0.4", "[2001:db8::4]"])
def test_a_member_that_never_started_is_called_by_its_address(address: str) -> None:
    etcd = Fake(a=True)
    unstarted(etcd, address)
    assert [called(row) for row in etcd.rows] == ["a", address.strip("[]")]
    assert [row["id"] for row in leftovers(etcd.rows, [address.strip("[]")])] == ["77"]
    assert leftovers(etcd.rows, ["", "10.0.0.40"]) == []
    assert called({"name": ""}) == "" and leftovers([{"name": ""}], [""]) == []


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("learner", [False, True])
def test_a_member_that_never_started_leaves(check: bool, learner: bool) -> None:
    etcd = Fake(a=True, b=True, c=True)
    unstarted(etcd, "10.0.0.4", learner=learner)
    removed: list[str] = []
    assert remove(etcd, ["d", "10.0.0.4"], removed, check=check) == ["a", "b", "c"]
    assert removed == ["10.0.0.4"] and len(etcd.rows) == 3 + check


def test_one_that_votes_and_never_started_counts_for_the_quorum() -> None:
    etcd = Fake(a=True, b=False)
    unstarted(etcd, "10.0.0.4", learner=False)
    assert "has no quorum" in refusal(etcd.rows, ["10.0.0.4"])


def manifest(folder: Path, servers: str) -> str:
    path = folder / "kube-apiserver.yaml"
    path.write_text(
        f"spec:\n  containers:\n  - command:\n    - kube-apiserver\n    - --etcd-servers={servers}\n    - --v=2\n"
    )
    return str(path)


def test_where_it_is_follows_from_what_the_api_server_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked(str(tmp_path / "none")) == ()
    for here in ("https://127.0.0.1:2379", "https://[::1]:2379"):
        assert apart(asked(manifest(tmp_path, here))) == ()
    monkeypatch.setattr(kube_etcd, "asked", lambda: ("https://127.0.0.1:2379",))
    assert Etcd(lambda _argv, _data: (0, "", "")).endpoints == (HERE,)
    both = ("https://192.0.2.21:2379", "https://192.0.2.22:2379")
    assert apart(asked(manifest(tmp_path, ",".join(both)))) == both
    monkeypatch.setattr(kube_etcd, "asked", lambda: both)
    assert Etcd(lambda _argv, _data: (0, "", "")).endpoints == both


def test_any_member_that_is_well_gives_the_snapshot() -> None:
    asked_of: list[str] = []

    def run(argv: Sequence[str], _data: str) -> tuple[int, str, str]:
        asked_of.extend(word.partition("=")[2] for word in argv if word.startswith("--endpoints"))
        return (0, "", "") if asked_of[-1] == "https://b" else (1, "", "Error: context deadline exceeded")

    Etcd(run, ["https://a", "https://b", "https://c"]).save("/s.db")
    assert asked_of == ["https://a", "https://b"]
    with pytest.raises(KubeError, match="deadline"):
        Etcd(run, ["https://a"]).save("/s.db")
