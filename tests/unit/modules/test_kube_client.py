"""kubectl is asked again while the API is away, and what objects say is read rightly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from plugins.module_utils.kube_client import (
    CHECK,
    Kubectl,
    KubeError,
    holding,
    node_row,
    selects,
    tag_of,
    to_evict,
    unmanaged,
)


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def client(
    answers: list[tuple[int, str, str]], patience: float = 10
) -> tuple[Kubectl, list[Sequence[str]], Clock]:
    """A kubectl that gives these answers, the last one for ever."""
    asked: list[Sequence[str]] = []
    clock = Clock()

    def run(argv: Sequence[str], data: str = "") -> tuple[int, str, str]:
        asked.append(argv)
        return answers.pop(0) if len(answers) > 1 else answers[0]

    return Kubectl(run, patience=patience, pause=clock.pause, clock=clock), asked, clock


AWAY = (1, "", "The connection to the server 10.0.0.1:6443 was refused - connection refused")


def test_an_api_that_is_away_is_asked_again() -> None:
    kubectl, asked, _ = client([AWAY, AWAY, (0, "{}", "")])
    assert kubectl.get("nodes") == {}
    assert len(asked) == 3


def test_patience_ends() -> None:
    kubectl, _, clock = client([AWAY], patience=5)
    with pytest.raises(KubeError, match="connection refused"):
        kubectl.call("get", "nodes")
    assert clock.now == 5


def test_a_no_is_an_answer() -> None:
    kubectl, asked, _ = client([(1, "", 'Error from server (Forbidden): nodes is forbidden: User "x"')])
    with pytest.raises(KubeError, match="forbidden"):
        kubectl.call("get", "nodes")
    assert len(asked) == 1


def test_what_is_not_there_is_none() -> None:
    assert client([(0, "", "")])[0].find("node", "gpu09") is None
    with pytest.raises(KubeError, match="no JSON"):
        client([(0, "oops", "")])[0].get("nodes")


def pod(name: str, owner: str = "ReplicaSet", phase: str = "Running", **labels: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "shop", "labels": labels}
    if owner == "mirror":
        metadata["annotations"] = {"kubernetes.io/config.mirror": "x"}
    elif owner:
        metadata["ownerReferences"] = [{"kind": owner, "controller": True}]
    return {"metadata": metadata, "status": {"phase": phase}, "spec": {"nodeName": "w1"}}


def budget(name: str, allowed: int, selector: dict[str, Any] | None, space: str = "shop") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": space},
        "spec": {"selector": selector},
        "status": {
            "disruptionsAllowed": allowed,
            "currentHealthy": 1,
            "expectedPods": 1,
            "desiredHealthy": 1,
        },
    }


def test_what_a_drain_moves() -> None:
    pods = [pod("a"), pod("b", "DaemonSet"), pod("c", "mirror"), pod("d", "Job", "Succeeded"), pod("e", "")]
    assert [each["metadata"]["name"] for each in to_evict(pods)] == ["a", "e"]
    assert unmanaged(pods) == ["shop/e"]


def test_nobody_misses_a_pod_of_our_checks_nor_one_that_ends_anyway() -> None:
    ours, ending, missed = pod("a", ""), pod("b", ""), pod("c", "")
    ours["metadata"]["labels"] = {CHECK: "true"}
    ending["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
    assert [each["metadata"]["name"] for each in to_evict([ours, ending, missed])] == ["a", "b", "c"]
    assert unmanaged([ours, ending, missed]) == ["shop/c"]


def test_budgets_that_hold() -> None:
    web = {"matchLabels": {"app": "web"}}
    pods = [pod("one", app="web"), pod("two", app="db"), pod("three", "DaemonSet", app="web")]
    found = holding(
        pods,
        [
            budget("web", 0, web),
            budget("free", 1, web),
            budget("else", 0, web, "other"),
            budget("none", 0, None),
        ],
    )
    [(name, stands, held)] = found
    assert (name, held) == ("shop/web", ["shop/one"]) and "1 of 1" in stands


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ({}, True),
        (None, False),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "x"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Weird"}]}, False),
    ],
)
def test_selectors(selector: dict[str, Any] | None, fits: bool) -> None:
    assert selects(selector, {"app": "web"}) is fits


def test_a_node_as_a_row() -> None:
    row = node_row(
        {
            "metadata": {
                "name": "w1",
                "annotations": {"rackloom.cluster/cordoned": "upgrade"},
                "labels": {"node-role.kubernetes.io/control-plane": ""},
            },
            "spec": {"unschedulable": True},
            "status": {
                "conditions": [{"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting"}],
                "nodeInfo": {"kubeletVersion": "v1.36.4", "containerRuntimeVersion": "containerd://2.3.4"},
                "addresses": [{"type": "InternalIP", "address": "10.0.0.9"}],
            },
        }
    )
    assert row == {
        "name": "w1",
        "ready": False,
        "trouble": "Kubelet stopped posting",
        "kubelet": "1.36.4",
        "runtime": "containerd://2.3.4",
        "address": "10.0.0.9",
        "cordoned": True,
        "cordoned_for": "upgrade",
        "control_plane": True,
    }
    assert json.dumps(row)


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("registry.k8s.io/kube-proxy:v1.36.4", "v1.36.4"),
        ("mgmt01:5000/v2/etcd:3.6.14-0@sha256:ab", "3.6.14-0"),
        ("localhost:5000/plain", ""),
    ],
)
def test_tags(image: str, tag: str) -> None:
    assert tag_of(image) == tag
