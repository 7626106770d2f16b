"""Nodes are drained with respect, let serve again by who drained them, and forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from plugins.module_utils.kube_client import CORDONED, Kubectl, KubeError
from plugins.modules.kube_node import Nodes


class Api:
    """As much of a cluster as kubectl drain, cordon and annotate need."""

    def __init__(self) -> None:
        self.now = 0.0
        self.node: dict[str, Any] | None = {
            "metadata": {"name": "w1", "annotations": {}},
            "spec": {},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "nodeInfo": {"kubeletVersion": "v1.36.3"},
            },
        }
        self.pods: list[dict[str, Any]] = []
        self.budgets: list[dict[str, Any]] = []
        self.said: list[str] = []
        self.on_pause: Callable[[], None] = lambda: None

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.on_pause()

    def run(self, argv: Sequence[str], _data: str = "") -> tuple[int, str, str]:
        words = [word for word in argv[1:] if not word.startswith(("--kubeconfig", "--request-timeout"))]
        if words[0] == "get":
            return 0, self._get(words), ""
        self.said.append(" ".join(words))
        assert self.node is not None
        if words[0] == "annotate":
            key, _, value = words[-1].partition("=")
            if key.endswith("-"):
                self.node["metadata"]["annotations"].pop(key[:-1], None)
            else:
                self.node["metadata"]["annotations"][key] = value
        elif words[0] in ("cordon", "uncordon"):
            self.node["spec"]["unschedulable"] = words[0] == "cordon"
        elif words[0] == "delete":
            self.node = None
        elif words[0] == "drain":
            return self._drain(words)
        return 0, "", ""

    def _get(self, words: Sequence[str]) -> str:
        if words[1] == "pods":
            return json.dumps({"items": self.pods})
        if words[1] == "poddisruptionbudgets":
            return json.dumps({"items": self.budgets})
        return json.dumps(self.node) if self.node else ""

    def _drain(self, words: Sequence[str]) -> tuple[int, str, str]:
        held = any(not each["status"]["disruptionsAllowed"] for each in self.budgets)
        if held and "--disable-eviction" not in words:
            [seconds] = [word[10:-1] for word in words if word.startswith("--timeout=")]
            self.now += int(seconds)
            return (
                1,
                "",
                "global timeout reached: Cannot evict pod as it would violate the pod's disruption budget.",
            )
        self.pods = []
        return 0, "", ""


PARAMS: dict[str, Any] = {
    "reason": "upgrade",
    "release": "",
    "timeout": 100,
    "delete_unmanaged_pods": False,
    "evict_despite_budgets": False,
}


def nodes(api: Api, state: str, *, check: bool = False, **more: Any) -> Nodes:
    kubectl = Kubectl(api.run, patience=0, pause=api.pause, clock=lambda: api.now)
    return Nodes(kubectl, {**PARAMS, "state": state, **more}, check=check)


def pod(name: str, owner: str = "ReplicaSet") -> dict[str, Any]:
    references = [{"kind": owner, "controller": True}] if owner else []
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {"app": "web"},
            "ownerReferences": references,
        },
        "status": {"phase": "Running"},
    }


def hold(api: Api) -> None:
    api.budgets = [
        {
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}},
            "status": {"disruptionsAllowed": 0, "currentHealthy": 1, "expectedPods": 1, "desiredHealthy": 1},
        }
    ]


def test_a_drain_marks_cordons_and_empties() -> None:
    api = Api()
    api.pods = [pod("one")]
    worker = nodes(api, "drained")
    worker.work("w1")
    assert worker.changed == ["w1"] and api.pods == []
    assert api.node is not None and api.node["metadata"]["annotations"] == {CORDONED: "upgrade"}
    assert [word.split()[0] for word in api.said] == ["annotate", "cordon", "drain"]
    again = nodes(api, "drained")
    again.work("w1")
    assert again.changed == []


def test_a_budget_that_holds_is_named_and_the_node_stays_cordoned() -> None:
    api = Api()
    api.pods = [pod("one")]
    hold(api)
    with pytest.raises(KubeError, match=r"the budget shop/web holds shop/one \(1 of 1 pods are healthy"):
        nodes(api, "drained").work("w1")
    assert api.now >= 100
    assert api.node is not None and api.node["spec"]["unschedulable"]


def test_a_budget_that_lets_go_in_time() -> None:
    api = Api()
    api.pods = [pod("one")]
    hold(api)
    api.on_pause = lambda: api.budgets.clear() if api.now > 40 else None
    nodes(api, "drained").work("w1")
    assert api.pods == [] and api.now < 100


def test_despite_budgets_only_when_it_is_said() -> None:
    api = Api()
    api.pods = [pod("one")]
    hold(api)
    nodes(api, "drained", evict_despite_budgets=True).work("w1")
    assert api.pods == [] and any("--disable-eviction" in word for word in api.said)


def test_pods_that_nothing_makes_anew_are_not_lost() -> None:
    api = Api()
    api.pods = [pod("bare", "")]
    with pytest.raises(KubeError, match="shop/bare"):
        nodes(api, "drained").work("w1")
    assert api.said == []
    nodes(api, "drained", delete_unmanaged_pods=True).work("w1")
    assert api.pods == [] and any("--force" in word for word in api.said)


def test_who_was_cordoned_by_hand_stays_so() -> None:
    api = Api()
    assert api.node is not None
    api.node["spec"]["unschedulable"] = True
    api.pods = [pod("one")]
    nodes(api, "drained").work("w1")
    assert api.node["metadata"]["annotations"] == {}
    served = nodes(api, "serving")
    served.work("w1")
    assert served.changed == [] and api.node["spec"]["unschedulable"]


def test_a_node_serves_once_it_is_well_and_of_the_release() -> None:
    api = Api()
    assert api.node is not None
    nodes(api, "drained").work("w1")

    def later() -> None:
        if api.now > 5 and api.node is not None:
            api.node["status"]["nodeInfo"]["kubeletVersion"] = "v1.36.4"

    api.on_pause = later
    worker = nodes(api, "serving", release="v1.36.4")
    worker.work("w1")
    assert worker.changed == ["w1"] and api.now > 5
    assert not api.node["spec"]["unschedulable"] and not api.node["metadata"]["annotations"]


def test_a_node_that_does_not_become_well_is_said() -> None:
    api = Api()
    nodes(api, "drained").work("w1")
    with pytest.raises(KubeError, match=r"its kubelet says that it is 1.36.3, not 1.36.4"):
        nodes(api, "serving", release="1.36.4").work("w1")


def test_gone_is_gone() -> None:
    api = Api()
    worker = nodes(api, "absent")
    worker.work("w1")
    assert worker.changed == ["w1"] and api.node is None
    again = nodes(api, "absent")
    again.work("w1")
    assert again.changed == []
    nodes(api, "drained").work("w1")
    with pytest.raises(KubeError, match="does not know the node w1"):
        nodes(api, "serving").work("w1")


@pytest.mark.parametrize("state", ["drained", "serving", "absent"])
def test_check_mode_changes_nothing(state: str) -> None:
    api = Api()
    api.pods = [pod("one")]
    nodes(api, state, check=True).work("w1")
    assert api.said == []
