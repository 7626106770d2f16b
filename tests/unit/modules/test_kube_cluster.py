"""What Kubernetes says, recorded from a real cluster, and what is made of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from plugins.module_utils.kube_cluster import (
    Failed,
    Limit,
    address_of,
    compare_nodes,
    default_class,
    moment,
    name_of,
    places,
    skews,
    stale,
    why_not_ready,
)

RECORDED = Path(__file__).parent / "recorded" / "kubernetes"


def recorded(name: str) -> list[dict[str, Any]]:
    """The objects of a list, as `kubectl get -o json` gave them."""
    items: list[dict[str, Any]] = json.loads((RECORDED / f"{name}.json").read_text())["items"]
    return items


def one(name: str, of: str) -> dict[str, Any]:
    return next(item for item in recorded(name) if name_of(item) == of)


def test_only_nodes_that_are_ready_take_pods() -> None:
    """gpu01's kubelet was stopped; mgmt01 is of the control plane, and comes last where there are others."""
    nodes = recorded("nodes")
    assert [name_of(node) for node in nodes] == ["gpu01", "mgmt01"]
    assert places(nodes) == ["mgmt01"]
    revived = one("nodes", "gpu01")
    revived["spec"]["taints"] = []
    for condition in revived["status"]["conditions"]:
        if condition["type"] == "Ready":
            condition["status"] = "True"
    assert places([one("nodes", "mgmt01"), revived]) == ["gpu01", "mgmt01"]
    revived["spec"]["unschedulable"] = True
    assert places([revived]) == []


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["mgmt01", "gpu01"], ["gpu01 is not ready: Kubelet stopped posting node status."]),
        (["gpu01"], ["gpu01 is not ready", "mgmt01 is in the cluster and not in the inventory"]),
        (["mgmt01", "gpu01", "gpu07"], ["gpu07 is not in the cluster", "gpu01 is not ready"]),
        ([], ["gpu01 is not ready"]),
    ],
)
def test_what_is_wrong_with_nodes_is_named(wanted: list[str], said: list[str]) -> None:
    wrong = compare_nodes(recorded("nodes"), wanted)
    assert len(wrong) == len(said)
    assert all(line.startswith(start) for line, start in zip(wrong, said, strict=True)), wrong


def test_a_nodes_own_address() -> None:
    node = one("nodes", "mgmt01")
    told = {entry["type"]: entry["address"] for entry in node["status"]["addresses"]}
    assert address_of(node) == told["InternalIP"]
    assert address_of({"metadata": {"name": "new"}, "spec": {}}) == ""


def test_why_pods_do_not_run() -> None:
    events = [event for event in recorded("events") if event["involvedObject"]["name"] == "noimage"]
    assert why_not_ready(one("pods", "noimage"), events).startswith(
        'Failed to pull image "example.invalid/none:1"'
    )
    assert "status 3" in why_not_ready(one("pods", "crash"))
    assert "didn't match Pod's node affinity/selector" in why_not_ready(one("pods", "nowhere"))
    assert why_not_ready({"spec": {}, "status": {"phase": "Pending"}}) == "Pending, on no node yet"
    sandbox = [{"type": "Normal"}, {"type": "Warning", "message": "failed to set up sandbox"}]
    started = {"spec": {"nodeName": "gpu01"}, "status": {"phase": "Pending"}}
    assert why_not_ready(started, sandbox) == "failed to set up sandbox"
    assert why_not_ready(started) == "Pending on gpu01"


def test_the_default_storage_class() -> None:
    classes = recorded("storageclasses")
    assert default_class(classes) == name_of(classes[0])
    classes[0]["metadata"]["annotations"] = {}
    assert default_class(classes) == default_class([]) == ""


def test_clocks_are_compared_by_leases() -> None:
    leases = recorded("leases")
    taken = moment(leases[0]["metadata"]["managedFields"][0]["time"])
    assert skews(leases, taken + 10) == {"gpu01": 0.0, "mgmt01": 0.0}
    ahead, behind = leases
    ahead["metadata"]["managedFields"][0]["time"] = "2026-11-22T07:00:00Z"
    ahead["spec"]["renewTime"] = "2026-11-22T07:00:05.500000Z"
    behind["metadata"]["managedFields"][0]["time"] = "2026-11-22T07:00:00Z"
    behind["spec"]["renewTime"] = "2026-11-22T06:59:56.000000Z"
    found = skews(leases, moment("2026-11-22T07:00:03Z"))
    assert found == {name_of(ahead): pytest.approx(4.5), name_of(behind): pytest.approx(-4.0)}
    assert skews(leases, moment("2026-11-22T07:05:00Z")) == {}, "nodes that are off have no clock"


def test_only_namespaces_older_than_any_check_are_left_overs() -> None:
    def namespace(name: str, created: str, **more: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "creationTimestamp": created, **more}}

    there = [
        namespace("old", "2026-11-22T07:00:00Z"),
        namespace("going", "2026-11-22T07:00:00Z", deletionTimestamp="2026-11-22T07:20:00Z"),
        namespace("another-run", "2026-11-22T07:19:00Z"),
    ]
    assert stale(there, moment("2026-11-22T07:20:30Z"), 900) == ["old"]


def test_a_limit_names_what_was_awaited_and_what_was_seen_last() -> None:
    limit = Limit(0.3)
    with pytest.raises(Failed, match=r"not within 0 s: the moon \(it is day\)"):
        limit.await_that("the moon", _day, 0.05)
    assert Limit(5).await_that("anything", lambda: "it") == "it"


def _day() -> bool:
    raise Failed("it is day")


def test_a_limit_always_leaves_one_more_try() -> None:
    limit = Limit(0)
    assert limit.left() == 1.0
    began = time.monotonic()
    assert limit.await_that("what is there", lambda: True)
    assert time.monotonic() - began < 1
