"""Labels and taints: what the inventory says is kept, what others say is left alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from plugins.module_utils.kube_client import Kubectl
from plugins.modules.kube_settings import LABELS, TAINTS, Settings, binding, node_patch


def node(
    has: dict[str, str] | None = None, taints: list[dict[str, str]] | None = None, ours: str = ""
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "gpu1",
            "resourceVersion": "7",
            "labels": has or {},
            "annotations": {LABELS: ours} if ours else {},
        },
        "spec": {"taints": taints} if taints else {},
    }


def test_a_node_that_is_as_it_should_be_needs_nothing() -> None:
    there = node({"rack": "r1", "other": "x"}, ours="rack")
    assert node_patch(there, {"labels": {"rack": "r1"}}) == ({}, [])
    assert node_patch(node(), {}) == ({}, [])


def test_others_labels_stay_and_former_ones_of_ours_go() -> None:
    patch, words = node_patch(
        node({"rack": "r1", "tier": "a", "other": "x"}, ours="rack,tier"), {"labels": {"rack": "r2"}}
    )
    assert patch["metadata"]["labels"] == {"rack": "r2", "tier": None}
    assert patch["metadata"]["annotations"] == {LABELS: "rack"}
    assert words == ["label rack=r2", "no label tier"]


def test_others_taints_stay_and_former_ones_of_ours_go() -> None:
    theirs = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule", "timeAdded": "now"}
    there = node(taints=[theirs, {"key": "old", "effect": "NoExecute"}])
    there["metadata"]["annotations"] = {TAINTS: "old:NoExecute"}
    patch, _ = node_patch(there, {"taints": ["gpu=yes:NoSchedule"]})
    assert patch["spec"]["taints"] == [theirs, {"key": "gpu", "value": "yes", "effect": "NoSchedule"}]
    assert patch["metadata"]["resourceVersion"] == "7"


@pytest.mark.parametrize("value", ["yes", ""])
def test_a_taint_that_is_there_is_not_written_again(value: str) -> None:
    taint = {"key": "gpu", "effect": "NoSchedule", **({"value": value} if value else {})}
    there = node(taints=[taint])
    there["metadata"]["annotations"] = {TAINTS: "gpu:NoSchedule"}
    text = f"gpu={value}:NoSchedule" if value else "gpu:NoSchedule"
    assert node_patch(there, {"taints": [text]}) == ({}, [])


def test_a_taint_s_value_follows_the_inventory() -> None:
    there = node(taints=[{"key": "gpu", "value": "no", "effect": "NoSchedule"}])
    there["metadata"]["annotations"] = {TAINTS: "gpu:NoSchedule"}
    patch, _ = node_patch(there, {"taints": ["gpu=yes:NoSchedule"]})
    assert patch["spec"]["taints"] == [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]


def test_the_last_taint_can_go() -> None:
    there = node(taints=[{"key": "a", "effect": "NoSchedule"}])
    there["metadata"]["annotations"] = {TAINTS: "a:NoSchedule"}
    patch, _ = node_patch(there, {})
    assert patch["spec"]["taints"] == [] and patch["metadata"]["annotations"] == {TAINTS: None}


def test_what_somebody_writes_meanwhile_stays() -> None:
    theirs = {"key": "theirs", "effect": "NoSchedule"}
    told: list[Sequence[str]] = []

    def run(argv: Sequence[str], _data: str = "") -> tuple[int, str, str]:
        told.append(argv)
        if len(told) == 1:
            return 1, "", 'Operation cannot be fulfilled on nodes "gpu1": the object has been modified'
        return 0, json.dumps(node(taints=[theirs])), ""

    module: Any = SimpleNamespace(params={}, check_mode=False)
    settings = Settings(module)
    settings.kubectl = Kubectl(run, pause=lambda _seconds: None)
    words = settings.keep(node(), {"taints": ["gpu=yes:NoSchedule"]})
    assert words == ["taints theirs:NoSchedule, gpu:NoSchedule"]
    ours = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
    assert json.loads(told[-1][-1])["spec"]["taints"] == [theirs, ours]
    assert [argv[3] for argv in told] == ["patch", "get", "patch"]


def test_administrators_are_named_one_by_one() -> None:
    assert [each["kind"] for each in binding(["a", "b"])["subjects"]] == ["User", "User"]
