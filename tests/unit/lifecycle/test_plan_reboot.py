"""Nodes are rebooted in waves; who is in the way is named, and a stopped run is gone on with."""

from __future__ import annotations

from typing import Any

import pytest

from rackloom.lifecycle.plan_reboot import Reboot, Wish, asked, plan
from rackloom.lifecycle.seen import Cluster, Host, KubeNode, Seen, SlurmNode

NODES = ["m1", "l1", "g1", "g2", "g3", "w1", "w2"]
GROUPS: dict[str, tuple[str, ...]] = {
    "management": ("m1",),
    "login": ("l1",),
    "compute": ("g1", "g2", "g3", "w1", "w2"),
    "slurm_controller": ("m1",),
    "slurm_login": ("l1",),
    "slurm_node": ("g1", "g2", "g3"),
    "kube_control_plane": ("m1",),
    "kube_node": ("w1", "w2"),
    "kubernetes": ("m1", "w1", "w2"),
    "monitored": tuple(NODES),
    "profile_any": tuple(NODES),
}
KERNEL = ("a newer kernel is installed",)
DRAINED = SlurmNode("drained", "rackloom: reboot")


def seen(
    *,
    need: tuple[str, ...] = (),
    off: tuple[str, ...] = (),
    slurm: dict[str, SlurmNode] | None = None,
    kube: dict[str, dict[str, Any]] | None = None,
    api: bool = True,
    controller: bool = True,
) -> Seen:
    """A site in which all is well, but for what is said."""
    hosts = {name: Host(name, name not in off, reboot=KERNEL if name in need else ()) for name in NODES}
    rows = {name: KubeNode(name, **(kube or {}).get(name, {})) for name in ("m1", "w1", "w2")}
    known = {name: SlurmNode("idle") for name in GROUPS["slurm_node"]} | (slurm or {})
    return Seen(
        hosts,
        Cluster("m1", nodes=rows) if api else None,
        "" if api else "m1: connection refused",
        ("m1",) if api else (),
        known if controller else None,
    )


def reboot(*names: str, state: Seen | None = None, **more: Any) -> Reboot:
    return plan(Wish(names, **more), state or seen(), GROUPS, NODES)


def codes(found: Reboot) -> list[str]:
    return [problem.code for problem in found.plan.refusals]


def test_those_that_are_named_go_wave_by_wave() -> None:
    found = reboot("g1", "g2", "w1", wave="2")
    assert found.nodes == ("g1", "g2", "w1") and found.wave == 2
    assert found.slurm == found.resume == ("g1", "g2") and found.kubernetes == ("w1",)
    assert [(step.what.partition(":")[0], step.node) for step in found.plan.steps] == [
        ("wave 1", "g1"), ("wave 1", "g2"), ("wave 2", "w1"),
    ]  # fmt: skip


def test_only_those_that_have_to_be() -> None:
    found = reboot(needed=True, state=seen(need=("g2", "w1")), wave="50%")
    assert found.nodes == ("g2", "w1") and found.wave == 1
    assert {step.why for step in found.plan.steps} == set(KERNEL)
    assert reboot("g1", "g2", needed=True, state=seen(need=("g2",))).nodes == ("g2",)
    assert not reboot(needed=True).plan.steps


def test_what_carries_others_is_told_and_left_alone() -> None:
    found = reboot(needed=True, state=seen(need=("m1", "l1")))
    assert found.nodes == ("l1",)
    assert any(
        "m1 has to be rebooted too" in note and "slurm_controller" in note for note in found.plan.notes
    )
    assert codes(reboot("m1")) == ["service_node"]


def test_who_is_silent_is_named() -> None:
    assert codes(reboot("g1", state=seen(off=("g1",)))) == ["unreachable"]
    found = reboot(needed=True, state=seen(off=("g1",), need=("g2",)))
    assert found.nodes == ("g2",) and "g1 does not answer" in found.plan.notes[0]


def test_a_stopped_run_is_gone_on_with() -> None:
    """g1 came back and was not taken back, g2 is drained and noted, g3 is only noted."""
    state = seen(need=("g3", "g2"), slurm={"g1": DRAINED, "g2": DRAINED})
    found = reboot(needed=True, state=state)
    assert found.serve_slurm == ("g1",) and found.nodes == ("g2", "g3")
    assert found.plan.steps[0].what == "serve again" and found.plan.steps[0].node == "g1"
    state = seen(need=("w2",), kube={"w1": {"cordoned": True, "cordoned_for": "reboot"}})
    found = reboot(needed=True, state=state)
    assert found.serve_kubernetes == ("w1",) and found.kubernetes == ("w2",)


def test_what_is_held_by_us_is_first_so_that_no_more_are_out_than_a_wave_has() -> None:
    state = seen(need=("g1", "g2", "g3"), slurm={"g3": DRAINED})
    assert reboot(needed=True, state=state).nodes == ("g3", "g1", "g2")


@pytest.mark.parametrize("reason", ["new fan", "health: 10-gpus: GPU 0: hot"])
def test_a_drain_of_somebody_else_stays(reason: str) -> None:
    found = reboot("g1", "g2", state=seen(slurm={"g1": SlurmNode("drained", reason)}))
    assert found.slurm == ("g1", "g2") and found.resume == ("g2",)
    assert any(reason in note for note in found.plan.notes)


@pytest.mark.parametrize(
    ("names", "state", "code"),
    [
        (("w1",), {"api": False}, "no_api"),
        (("g1",), {"controller": False}, "no_slurm"),
        (("w1",), {"kube": {"w1": {"unmanaged": ("default/mine",)}}}, "unmanaged_pods"),
        (("nobody",), {}, "unknown_node"),
    ],
)
def test_what_forbids_it(names: tuple[str, ...], state: dict[str, Any], code: str) -> None:
    assert codes(reboot(*names, state=seen(**state))) == [code]


def test_a_scheduler_that_is_away_matters_to_its_own_nodes_alone() -> None:
    assert reboot("g1", state=seen(api=False)).nodes == ("g1",)
    assert reboot("w1", state=seen(controller=False)).nodes == ("w1",)
    state = seen(kube={"w1": {"unmanaged": ("default/mine",)}})
    assert reboot("w1", state=state, delete_unmanaged=True).kubernetes == ("w1",)


@pytest.mark.parametrize("wave", ["0", "some", "-1", "0%"])
def test_a_wave_is_a_number_of_nodes(wave: str) -> None:
    assert codes(reboot("g1", wave=wave)) == ["wave"]


def test_everybody_is_looked_at_where_nobody_is_named() -> None:
    assert asked(Wish(("g1", "nobody")), NODES) == ["g1"]
    assert asked(Wish(needed=True), NODES) == NODES
