"""A restore begins where the data is to be."""

from __future__ import annotations

from rackloom.lifecycle.run import plan_restore
from rackloom.lifecycle.seen import Host, Seen

SEEN = Seen({name: Host(name, store=name == "s1") for name in ("m1", "m2", "s1", "s2")})


def test_on_the_control_plane_nodes() -> None:
    steps = plan_restore(["m1", "m2"], SEEN).steps
    assert [(step.what.partition(",")[0], step.node) for step in steps] == [
        ("look at the snapshot", "m1"),
        ("take the control plane off the node", "m1"),
        ("take the control plane off the node", "m2"),
        ("lay the snapshot out", "m1"),
        ("join", "m2"),
    ]


def test_on_hosts_of_etcd_s_own() -> None:
    steps = plan_restore(["m1", "m2"], SEEN, ["s1", "s2"]).steps
    assert [(step.what.partition(",")[0], step.node) for step in steps] == [
        ("look at the snapshot", "s1"),
        ("take the control plane off the node", "m1"),
        ("take the control plane off the node", "m2"),
        ("stop etcd", "s1"),
        ("stop etcd", "s2"),
        ("lay the snapshot out", "s1"),
        ("join", "s2"),
        ("begin with what etcd holds", "m1"),
        ("join", "m2"),
    ]
    assert [step.node for step in steps if "aside" in step.why] == ["s1"]
