"""Nodes leave, are replaced and move in steps that follow from what is there, or not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rackloom.lifecycle.plan_nodes import Leaving, Move, Moving, Removal, move, remove
from rackloom.lifecycle.seen import Cluster, Held, Host, Job, KubeNode, Member, Seen, SlurmNode

MASTERS = ("m1", "m2", "m3")
WORKERS = ("w1", "w2")
COMPUTE = ("g1", "g2")
NODES = [*MASTERS, "m4", *WORKERS, *COMPUTE]
GROUPS: dict[str, tuple[str, ...]] = {
    "management": (*MASTERS, "m4"),
    "compute": (*WORKERS, *COMPUTE),
    "name_server": ("m1",),
    "slurm_controller": ("m1",),
    "kube_control_plane": MASTERS,
    "kube_api_balancer": MASTERS,
    "kube_node": WORKERS,
    "slurm_node": COMPUTE,
    "kubernetes": (*MASTERS, *WORKERS),
}


def seen(
    *,
    off: tuple[str, ...] = (),
    sick: tuple[str, ...] = (),
    nodes: dict[str, dict[str, Any]] | None = None,
    hosts: dict[str, dict[str, Any]] | None = None,
    slurm: dict[str, SlurmNode] | None = None,
) -> Seen:
    """A site in which all is well, but for what is said."""
    names = (*MASTERS, *WORKERS)
    rows = {
        name: KubeNode(
            name,
            **{"ready": name not in off, "control_plane": name in MASTERS, **(nodes or {}).get(name, {})},
        )
        for name in names
    }
    members = tuple(Member(name, healthy=name not in (*off, *sick)) for name in MASTERS)
    units = dict.fromkeys(names, ("kubelet.service",)) | dict.fromkeys(COMPUTE, ("slurmd.service",))
    machines = {
        name: Host(
            name,
            **{
                "reachable": name not in off,
                "joined": name in names,
                "active": units.get(name, ()),
                **(hosts or {}).get(name, {}),
            },
        )
        for name in NODES
    }
    apis = tuple(name for name in MASTERS if name not in off)
    known = {name: SlurmNode("idle") for name in COMPUTE} if slurm is None else slurm
    return Seen(machines, Cluster(apis[0], nodes=rows, members=members) if apis else None, "", apis, known)


def removal(*names: str, state: Seen | None = None, groups: Any = None, **more: Any) -> Leaving:
    return remove(Removal(names, **more), state or seen(), groups or GROUPS, NODES)


def codes(found: Leaving | Moving) -> list[str]:
    assert not found.plan.refusals or not found.plan.steps
    assert all(problem.message and problem.cure for problem in found.plan.refusals)
    return sorted({problem.code for problem in found.plan.refusals})


# --- Removing -------------------------------------------------------------------------------


def test_a_worker_is_drained_reset_and_forgotten() -> None:
    found = removal("w1")
    assert codes(found) == []
    assert (found.drain, found.reset, found.forget) == (("w1",), ("w1",), ("w1",))
    assert (found.drain_slurm, found.members, found.stay, found.edit) == ((), (), {}, True)


def test_a_node_of_slurm_is_drained_there_alone() -> None:
    found = removal("g1", "g2")
    assert (found.drain_slurm, found.reset) == (("g1", "g2"), ("g1", "g2"))
    assert not found.drain and not found.forget


def test_the_order_of_steps() -> None:
    found = removal("m2", by="m4")
    whats = [step.what for step in found.plan.steps]
    order = [
        *(
            "Kubernetes: drain",
            "save a snapshot",
            "take the member out of etcd",
            "take Kubernetes and Slurm off",
        ),
        *(
            "remove it from the API",
            "put m4 in its place",
            "take it out of",
            "deploy those",
            "deploy it, join",
        ),
    ]
    assert len(whats) == len(order)
    assert all(what.startswith(begin) for what, begin in zip(whats, order, strict=True)), whats


def test_a_budget_that_holds_is_told_before() -> None:
    held = (Held("shop/web", "1 of 1 pods are healthy and 1 have to be", ("shop/web-1",)),)
    found = removal("w1", state=seen(nodes={"w1": {"held": held}}))
    assert any("shop/web" in step.why for step in found.plan.steps)


@pytest.mark.parametrize("name", MASTERS)
def test_any_control_plane_node_can_be_replaced_the_first_too(name: str) -> None:
    found = removal(name, by="m4")
    assert codes(found) == []
    assert (found.members, found.drain, found.forget) == ((name,), (name,), (name,))


def test_two_of_three_control_plane_nodes_may_go_at_once() -> None:
    found = removal("m2", "m3")
    assert codes(found) == [] and found.members == ("m2", "m3") and found.edit


def test_a_node_with_other_services_keeps_its_entry() -> None:
    found = removal("m1", by="m4")
    assert found.stay == {"m1": ("name_server", "slurm_controller")}
    assert any("name_server" in note for note in found.plan.notes)
    assert removal("m2", by="m4").stay == {}


def test_a_dead_node_needs_the_flag_and_is_neither_drained_nor_reset() -> None:
    state = seen(off=("w1",))
    assert codes(removal("w1", state=state)) == ["dead_node"]
    found = removal("w1", state=state, dead=True)
    assert codes(found) == []
    assert (found.drain, found.reset, found.forget) == ((), (), ("w1",))


def test_a_dead_control_plane_node_leaves_etcd() -> None:
    found = removal("m1", state=seen(off=("m1",)), dead=True, by="m4")
    assert codes(found) == []
    assert (found.members, found.drain, found.reset) == (("m1",), (), ())


def test_a_dead_control_plane_node_without_successor_stays_in_the_files() -> None:
    found = removal("m2", state=seen(off=("m2",)), dead=True)
    assert codes(found) == [] and not found.edit
    assert any("nodes replace m2" in note for note in found.plan.notes)


def test_who_answers_is_not_dead() -> None:
    assert codes(removal("w1", dead=True)) == ["alive_node"]
    unseen = seen(off=("w1",), nodes={"w1": {"ready": True}})
    assert codes(removal("w1", state=unseen, dead=True)) == ["alive_node"]


def test_an_even_number_is_refused() -> None:
    assert codes(removal("m3")) == ["even_control_plane"]


@pytest.mark.parametrize(
    ("names", "state", "expected"),
    [
        (("m1", "m2", "m3"), seen(), ["last_control_plane"]),
        (("m1",), seen(sick=("m2",)), ["quorum"]),
        (("m2", "m3"), seen(sick=("m1",)), ["quorum"]),
        (("m2",), seen(sick=("m2", "m3")), ["quorum"]),
        (("w1",), seen(off=MASTERS), ["no_api"]),
        (("nobody",), seen(), ["unknown_node"]),
        (("w1",), seen(nodes={"w1": {"unmanaged": ("default/bare",)}}), ["unmanaged_pods"]),
    ],
)
def test_what_may_not_be(names: tuple[str, ...], state: Seen, expected: list[str]) -> None:
    assert codes(removal(*names, state=state)) == expected


def test_the_sick_one_may_go() -> None:
    assert codes(removal("m2", state=seen(sick=("m2",)), by="m4")) == []


def test_etcd_that_cannot_be_asked_loses_no_member() -> None:
    state = seen()
    assert state.cluster is not None
    blind = replace(state, cluster=replace(state.cluster, members=(), store_trouble="etcdctl: timeout"))
    assert codes(removal("m2", state=blind, by="m4")) == ["quorum"]
    assert codes(removal("w1", state=blind)) == []


def joining(**more: Any) -> Seen:
    """m4 died after etcd had let it in: nobody but etcd knows it, and etcd by its address alone."""
    state = seen(off=("m4",))
    assert state.cluster is not None
    members = (*state.cluster.members, Member("10.0.0.4", healthy=False, learner=True))
    cluster = replace(state.cluster, **{"members": members, **more})
    return replace(state, cluster=cluster, addresses={"m1": "10.0.0.1", "m4": "10.0.0.4"})


def test_a_node_that_died_while_it_joined_leaves_no_member() -> None:
    groups = {**GROUPS, "kube_control_plane": (*MASTERS, "m4")}
    found = removal("m4", state=joining(), groups=groups, dead=True)
    assert codes(found) == []
    assert (found.members, found.forget, found.reset) == (("10.0.0.4",), (), ())
    [step] = [each for each in found.plan.steps if each.what.startswith("take the member")]
    assert step.node == "m4"
    assert removal("m4", state=joining(), groups=groups, dead=True, by="g1").members == ("10.0.0.4",)
    # no other node takes it along
    assert removal("m2", state=joining(), by="g1").members == ("m2",)


def test_its_member_can_be_taken_out_when_the_site_has_forgotten_it() -> None:
    state = replace(joining(), addresses={})
    found = removal("10.0.0.4", state=state)
    assert codes(found) == [] and found.members == ("10.0.0.4",)


def test_one_that_votes_and_never_started_counts_for_the_quorum() -> None:
    members = (Member("m1"), Member("m2", healthy=False), Member("10.0.0.4", healthy=False))
    groups = {**GROUPS, "kube_control_plane": (*MASTERS, "m4")}
    assert codes(removal("m4", state=joining(members=members), groups=groups, dead=True)) == ["quorum"]


def test_whether_it_left_a_member_has_to_be_known() -> None:
    groups = {**GROUPS, "kube_control_plane": (*MASTERS, "m4")}
    blind = joining(members=(), store_trouble="etcdctl: timeout")
    assert codes(removal("m4", state=blind, groups=groups, dead=True)) == ["quorum"]


STORES = ("s1", "s2", "s3")


def apart(**more: Any) -> tuple[Seen, dict[str, tuple[str, ...]]]:
    """The same site with etcd on hosts of its own."""
    static = dict.fromkeys(("kube-apiserver", "kube-scheduler"), "v1.2.3")
    state = seen(hosts={name: {"manifests": static} for name in MASTERS})
    assert state.cluster is not None
    members = tuple(Member(name) for name in STORES)
    hosts = {**state.hosts, **{name: Host(name, store=True) for name in STORES}}
    cluster = replace(state.cluster, **{"members": members, **more})
    return replace(state, cluster=cluster, hosts=hosts), {**GROUPS, "etcd": STORES}


def test_a_host_of_etcd_leaves_its_members_and_no_other() -> None:
    state, groups = apart()
    found = remove(Removal(("s2",), by="m4"), state, groups, [*NODES, *STORES])
    assert codes(found) == []
    assert found.members == ("s2",) and found.reset == ("s2",) and found.drain == found.forget == ()
    found = remove(Removal(("m2",), by="m4"), state, groups, [*NODES, *STORES])
    assert found.members == () and found.forget == ("m2",)


def test_a_host_of_etcd_stays_where_its_members_cannot_be_asked_or_need_it() -> None:
    known = [*NODES, *STORES]
    state, groups = apart(members=(), store_trouble="etcdctl: timeout")
    assert codes(remove(Removal(("s2",), by="m4"), state, groups, known)) == ["quorum"]
    sick = (Member("s1"), Member("s2"), Member("s3", healthy=False))
    state, groups = apart(members=sick)
    assert codes(remove(Removal(("s2",), by="m4"), state, groups, known)) == ["quorum"]
    assert codes(remove(Removal(("s3",), by="m4"), state, groups, known)) == []
    state, groups = apart()
    blind = replace(state, cluster=None, trouble="timeout")
    assert codes(remove(Removal(("s2",), by="m4"), blind, groups, known)) == ["no_api"]
    assert codes(remove(Removal(("s2",), by="s3"), state, groups, known)) == ["node_taken"]


def test_nobody_leaves_where_the_files_do_not_fit_the_store() -> None:
    state, groups = apart()
    assert codes(remove(Removal(("w1",)), state, {**groups, "etcd": ()}, NODES)) == ["store_elsewhere"]


def test_the_only_control_plane_node_is_restored_elsewhere_not_replaced() -> None:
    groups = {**GROUPS, "kube_control_plane": ("m1",), "kube_api_balancer": ()}
    state = seen()
    assert state.cluster is not None
    nodes = {name: node for name, node in state.cluster.nodes.items() if name not in ("m2", "m3")}
    one = replace(state, cluster=replace(state.cluster, nodes=nodes, members=(Member("m1"),)))
    [problem] = removal("m1", state=one, groups=groups, by="m4").plan.refusals
    assert problem.code == "last_control_plane" and "restore" in problem.cure


def test_a_node_that_is_not_in_the_files_any_more_can_still_leave() -> None:
    found = remove(Removal(("w1",)), seen(), GROUPS, [name for name in NODES if name != "w1"])
    assert codes(found) == []
    assert found.drain == ("w1",) and found.reset == ()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("w1", "nobody", ["unknown_node"]),
        ("w1", "w1", ["node_taken", "same_node"]),
        ("w1", "w2", ["node_taken"]),
        ("m1", "m2", ["node_taken"]),
    ],
)
def test_who_may_not_take_over(old: str, new: str, expected: list[str]) -> None:
    assert set(codes(removal(old, by=new))) & set(expected)


def test_who_takes_over_has_to_answer() -> None:
    assert codes(removal("m1", by="m4", state=seen(off=("m4",)))) == ["unreachable"]


def test_a_replacement_that_was_stopped_goes_on() -> None:
    """Its files were written: nobody knows the old node, and the new one has not joined."""
    groups = {**GROUPS, "kube_control_plane": ("m2", "m3", "m4"), "management": ("m2", "m3", "m4")}
    state = seen()
    assert state.cluster is not None
    nodes = {name: node for name, node in state.cluster.nodes.items() if name != "m1"}
    rest = replace(state, cluster=replace(state.cluster, nodes=nodes, members=(Member("m2"), Member("m3"))))
    found = remove(Removal(("m1",), by="m4"), rest, groups, [name for name in NODES if name != "m1"])
    assert codes(found) == []
    assert not found.members and not found.drain and not found.reset
    assert found.plan.steps[-1].node == "m4"


# --- Moving ---------------------------------------------------------------------------------


def moving(name: str, to: Any, state: Seen | None = None, groups: Any = None, **more: Any) -> Moving:
    return move(Move(name, to, **more), state or seen(), groups or GROUPS, NODES)


def test_from_slurm_to_kubernetes() -> None:
    found = moving("g1", "kubernetes")
    assert codes(found) == []
    assert found.drain_slurm and found.edit and found.stop_slurm and found.deploy
    assert not found.drain and not found.reset and not found.forget
    whats = [step.what for step in found.plan.steps]
    assert whats[0].startswith("Slurm: drain") and whats[-1] == "ask both schedulers"


def test_from_kubernetes_to_slurm() -> None:
    found = moving("w1", "slurm")
    assert codes(found) == []
    assert found.drain and found.edit and found.reset and found.forget and found.deploy
    assert not found.drain_slurm and not found.stop_slurm
    whats = [step.what for step in found.plan.steps]
    assert whats[0].startswith("Kubernetes: drain") and whats[-1] == "ask both schedulers"


def test_who_is_there_does_not_move() -> None:
    assert moving("g1", "slurm").plan.steps == ()
    assert moving("w1", "kubernetes").plan.steps == ()


def moved(name: str, to: str) -> dict[str, tuple[str, ...]]:
    """The groups once cluster.yml was written."""
    own, other = ("kube_node", "slurm_node") if to == "kubernetes" else ("slurm_node", "kube_node")
    return {
        **GROUPS,
        own: (*GROUPS[own], name),
        other: tuple(each for each in GROUPS[other] if each != name),
    }


def test_stopped_after_the_file_was_written_it_goes_on() -> None:
    drained = {"g1": SlurmNode("drained", "rackloom: move"), "g2": SlurmNode("idle")}
    found = moving("g1", "kubernetes", seen(slurm=drained), moved("g1", "kubernetes"))
    assert not found.edit and found.drain_slurm and found.stop_slurm and found.deploy


def test_stopped_before_it_joined_it_goes_on() -> None:
    state = seen(slurm={"g2": SlurmNode("idle")}, hosts={"g1": {"active": ()}})
    found = moving("g1", "kubernetes", state, moved("g1", "kubernetes"))
    assert not found.edit and not found.drain_slurm and not found.stop_slurm and found.deploy


def test_stopped_after_the_reset_it_goes_on() -> None:
    state = seen(hosts={"w1": {"joined": False, "active": ()}})
    assert state.cluster is not None
    nodes = {name: node for name, node in state.cluster.nodes.items() if name != "w1"}
    rest = replace(state, cluster=replace(state.cluster, nodes=nodes))
    found = moving("w1", "slurm", rest, moved("w1", "slurm"))
    assert not found.edit and not found.drain and not found.reset and not found.forget and found.deploy


def test_back_in_slurm_but_still_drained_it_goes_on() -> None:
    state = seen(
        slurm={"w1": SlurmNode("drained", "rackloom: move")},
        hosts={"w1": {"joined": False, "active": ("slurmd.service",)}},
    )
    assert state.cluster is not None
    nodes = {name: node for name, node in state.cluster.nodes.items() if name != "w1"}
    rest = replace(state, cluster=replace(state.cluster, nodes=nodes))
    assert moving("w1", "slurm", rest, moved("w1", "slurm")).deploy


@pytest.mark.parametrize(
    ("name", "to", "state", "groups", "expected"),
    [
        ("nobody", "slurm", None, None, ["unknown_node"]),
        ("m1", "slurm", None, None, ["control_plane"]),
        ("g1", "kubernetes", None, {**GROUPS, "kube_control_plane": ()}, ["no_service"]),
        ("w1", "slurm", None, {**GROUPS, "slurm_controller": ()}, ["no_service"]),
        ("w1", "slurm", seen(off=("w1",)), None, ["unreachable"]),
        ("g1", "kubernetes", seen(off=MASTERS), None, ["no_api"]),
        ("w1", "slurm", seen(nodes={"w1": {"unmanaged": ("default/bare",)}}), None, ["unmanaged_pods"]),
    ],
)
def test_what_may_not_move(name: str, to: Any, state: Any, groups: Any, expected: list[str]) -> None:
    assert codes(moving(name, to, state, groups)) == expected


def test_without_a_controller_nothing_moves() -> None:
    assert codes(moving("g1", "kubernetes", replace(seen(), slurm=None))) == ["no_slurm"]


def test_running_jobs_are_no_refusal() -> None:
    state = replace(seen(), jobs=(Job("7", "alice", "RUNNING", "g1"),))
    assert codes(moving("g1", "kubernetes", state)) == []


def test_groups_that_follow_from_others_keep_nobody_in_the_site() -> None:
    """What a node is of because of its profile, or because it is there, goes with it."""
    also = {"profile_big": ("w1",), "gpu_node": ("w1",), "monitored": tuple(NODES), "logged": tuple(NODES)}
    assert not removal("w1", groups={**GROUPS, **also}).stay
    assert removal("w1", groups={**GROUPS, **also, "mirror": ("w1",)}).stay == {"w1": ("mirror",)}
