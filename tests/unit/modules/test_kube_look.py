"""What a control-plane node says of the cluster, put together from what the API and etcd say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from plugins.module_utils.kube_client import Kubectl
from plugins.modules.kube_look import cluster

NODES, PODS = 40, 5


class Spec(dict[str, Any]):
    """A pod's, which counts how often somebody asks on which node it is."""

    asked: ClassVar[int] = 0

    def get(self, key: Any, default: Any = None) -> Any:
        Spec.asked += key == "nodeName"
        return super().get(key, default)


def pod(node: str, number: int) -> dict[str, Any]:
    metadata = {"name": f"{node}-{number}", "namespace": "default", "labels": {"app": "web"}}
    spec = Spec({"nodeName": node} if node else {})
    return {"metadata": metadata, "spec": spec, "status": {"phase": "Running"}}


def node(name: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {},
        "status": {"nodeInfo": {}, "conditions": [], "addresses": []},
    }


class Api(Kubectl):
    """The API of a cluster with pods on every node, and some that are on none yet."""

    def __init__(self) -> None:
        super().__init__(self.none)
        names = [f"n{number}" for number in range(NODES)]
        self.things: dict[str, list[dict[str, Any]]] = {
            "nodes": [node(name) for name in names],
            "pods": [pod(name, number) for name in (*names, "") for number in range(PODS)],
            "poddisruptionbudgets": [
                {
                    "metadata": {"name": "web", "namespace": "default"},
                    "spec": {"selector": {"matchLabels": {"app": "web"}}},
                    "status": {"disruptionsAllowed": 0},
                }
            ],
        }

    @staticmethod
    def none(_argv: Sequence[str], _data: str) -> tuple[int, str, str]:
        return 1, "", "nothing else is asked"

    def call(self, *_words: str, **_: Any) -> str:
        return json.dumps({"gitVersion": "v1.2.3"})

    def find(self, *_: str) -> Any:
        return None

    def items(self, *words: str) -> list[dict[str, Any]]:
        return self.things[words[0]]


class Store:
    """etcd with one member that never started."""

    def members(self) -> list[dict[str, Any]]:
        rows = [("m1", "10.0.0.1", False), ("", "10.0.0.4", True)]
        return [
            {
                "id": "7",
                "name": name,
                "peers": [f"https://{at}:2380"],
                "learner": learner,
                "healthy": not learner,
            }
            for name, at, learner in rows
        ]


def test_every_node_has_its_own_pods_and_each_pod_is_looked_at_once() -> None:
    Spec.asked = 0
    told = cluster(Api(), Store())  # type: ignore[arg-type]
    assert len(told["nodes"]) == NODES
    for row in told["nodes"]:
        own = [f"default/{row['name']}-{number}" for number in range(PODS)]
        assert row["unmanaged"] == own
        assert [each["pods"] for each in row["held"]] == [own]
    assert Spec.asked == (NODES + 1) * PODS


def test_a_member_that_never_started_is_told_by_its_address() -> None:
    told = cluster(Api(), Store())  # type: ignore[arg-type]
    assert [member["name"] for member in told["members"]] == ["m1", "10.0.0.4"]
