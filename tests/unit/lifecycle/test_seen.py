"""What nodes tell is read whatever is missing."""

from __future__ import annotations

from typing import Any

from rackloom.lifecycle.seen import Seen, read

NODE = {
    "installed": {"kubelet": "1.36.4"},
    "manifests": {"kube-apiserver": "v1.36.4"},
    "joined": True,
    "store": True,
}
CLUSTER: dict[str, Any] = {
    "server": "1.36.4",
    "release": "1.36.4",
    "proxy": "v1.36.4",
    "nodes": [
        {
            "name": "w1", "ready": True, "trouble": "", "kubelet": "1.36.4", "runtime": "containerd://2.3.4",
            "address": "10.0.0.1", "cordoned": True, "cordoned_for": "upgrade", "control_plane": False,
            "held": [{"budget": "a/b", "stands": "so", "pods": ["a/p"]}], "unmanaged": ["a/q"],
        }
    ],
    "members": [{"name": "m1", "id": "1f", "healthy": True, "learner": False, "peers": [], "clients": []}],
    "store_trouble": "",
}  # fmt: skip


def test_a_whole_look() -> None:
    facts = {
        "m1": {"kubernetes": {"node": NODE, "cluster": {}, "trouble": "connection refused"}},
        "m2": {"kubernetes": {"node": NODE, "cluster": CLUSTER, "trouble": ""}},
        "m9": {"slurm": {"nodes": {"g1": {"state": "idle", "reason": ""}}, "jobs": []}},
    }
    seen = read(facts, ["m3"], ["m1", "m2", "m3"])
    assert seen.apis == ("m2",) and seen.cluster is not None and seen.cluster.at == "m2"
    [node] = seen.cluster.nodes.values()
    assert node.cordoned_for == "upgrade" and node.held[0].pods == ("a/p",) and node.unmanaged == ("a/q",)
    assert seen.host("m1").control_plane and not seen.host("m3").reachable and not seen.host("m4").reachable
    assert seen.slurm is not None and seen.slurm["g1"].state == "idle"
    assert seen.trouble == "m1: connection refused"


def test_the_first_of_the_site_is_believed_first() -> None:
    facts = {name: {"kubernetes": {"node": NODE, "cluster": CLUSTER}} for name in ("m3", "m1", "m2")}
    assert read(facts, (), ("m1", "m2", "m3")).apis == ("m1", "m2", "m3")


def test_nobody_answers() -> None:
    assert read({}, ["m1"]) == Seen(hosts={"m1": read({}, ["m1"]).host("m1")})
