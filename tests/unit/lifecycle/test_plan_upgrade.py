"""Upgrades are planned from what nodes run: in which order, and what is refused before anything is touched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rackloom.lifecycle.plan_upgrade import Records, Upgrade, Wish, plan, waves
from rackloom.lifecycle.seen import Cluster, Held, Host, KubeNode, Member, Seen

OLD, NEW = "1.36.3", "1.36.4"
MASTERS = ("m1", "m2", "m3")
WORKERS = ("w1", "w2", "w3", "w4", "w5")
GROUPS = {"kube_control_plane": MASTERS, "kube_node": WORKERS}
RECORDS = Records(known=("1.35.4", OLD, NEW))
STATIC = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")


def host(name: str, static: str = OLD, **more: Any) -> Host:
    manifests = dict.fromkeys(STATIC, f"v{static}") | {"etcd": "3.6.14-0"} if name in MASTERS else {}
    return Host(name, manifests=manifests, joined=True, installed={"containerd": "2.3.4"}, **more)


def seen(
    *,
    kubelets: dict[str, str] | None = None,
    static: dict[str, str] | None = None,
    release: str = OLD,
    proxy: str = "",
    nodes: dict[str, dict[str, Any]] | None = None,
    members: tuple[Member, ...] | None = None,
) -> Seen:
    """A cluster in which all is well and old, but for what is said."""
    names = (*MASTERS, *WORKERS)
    rows = {
        name: KubeNode(
            name,
            kubelet=(kubelets or {}).get(name, OLD),
            runtime="containerd://2.3.4",
            control_plane=name in MASTERS,
            **(nodes or {}).get(name, {}),
        )
        for name in names
    }
    cluster = Cluster(
        "m1",
        release,
        release,
        f"v{proxy or release}",
        rows,
        members or tuple(Member(name) for name in MASTERS),
    )
    return Seen({name: host(name, (static or {}).get(name, OLD)) for name in names}, cluster, "", MASTERS)


def codes(found: Upgrade) -> list[str]:
    return sorted({problem.code for problem in found.plan.refusals})


def refused(state: Seen, wish: Wish | None = None, records: Records = RECORDS) -> list[str]:
    found = plan(wish or Wish(NEW), state, GROUPS, records)
    assert not found.plan.steps and not found.control_plane and not found.workers
    assert all(problem.message and problem.cure for problem in found.plan.refusals)
    return codes(found)


# --- The order ------------------------------------------------------------------------------


def test_the_control_plane_goes_node_by_node_before_any_worker() -> None:
    found = plan(Wish(NEW), seen(), GROUPS, RECORDS)
    assert not found.plan.refusals
    assert (found.control_plane, found.first, found.workers, found.wave) == (MASTERS, "m1", WORKERS, 1)
    nodes = [step.node for step in found.plan.steps if step.node in (*MASTERS, *WORKERS)]
    assert nodes[1:] == [*MASTERS, *WORKERS]  # the first one is that of the snapshot
    whats = [step.what for step in found.plan.steps]
    assert whats.index("save a snapshot of etcd") < whats.index("write kubernetes.version into cluster.yml")
    assert [step.node for step in found.plan.steps][
        whats.index("write kubernetes.version into cluster.yml") + 1
    ] == "m1"


def test_workers_go_in_waves() -> None:
    found = plan(Wish(NEW, wave="2"), seen(), GROUPS, RECORDS)
    assert found.wave == 2
    told = {
        step.node: step.what.partition(":")[0] for step in found.plan.steps if step.what.startswith("wave")
    }
    assert told == {"w1": "wave 1", "w2": "wave 1", "w3": "wave 2", "w4": "wave 2", "w5": "wave 3"}


@pytest.mark.parametrize(
    ("text", "workers", "many"),
    [("1", 5, 1), ("3", 5, 3), ("10%", 5, 1), ("40%", 5, 2), ("100%", 5, 5), ("500%", 5, 5), (" 2 ", 9, 2)],
)
def test_a_wave_is_a_number_or_a_share(text: str, workers: int, many: int) -> None:
    assert waves(text, workers) == many


@pytest.mark.parametrize("text", ["0", "-1", "", "all", "0%", "1.5", "%"])
def test_what_is_no_wave_is_refused(text: str) -> None:
    assert waves(text, 5) is None
    assert refused(seen(), Wish(NEW, wave=text)) == ["wave"]


def test_what_is_done_is_left_out() -> None:
    state = seen(kubelets={"m1": NEW, "m2": NEW, "w2": NEW}, static={"m1": NEW, "m2": NEW}, release=NEW)
    found = plan(Wish(NEW), state, GROUPS, RECORDS)
    assert (found.control_plane, found.first) == (("m3",), "")
    assert found.workers == ("w1", "w3", "w4", "w5")


def test_where_all_is_done_nothing_is_left() -> None:
    names = (*MASTERS, *WORKERS)
    state = seen(kubelets=dict.fromkeys(names, NEW), static=dict.fromkeys(MASTERS, NEW), release=NEW)
    found = plan(Wish(NEW), state, GROUPS, RECORDS)
    assert not found.plan.steps and not found.plan.refusals and not found.paused


# --- Going on -------------------------------------------------------------------------------


def test_killed_before_the_cluster_was_moved_the_first_node_moves_it() -> None:
    """kubeadm had replaced the static pods of m1, but not written the configuration."""
    found = plan(Wish(NEW), seen(static={"m1": NEW}), GROUPS, RECORDS)
    assert (found.control_plane, found.first) == (MASTERS, "m1")


def test_killed_before_the_proxy_was_moved_the_first_node_moves_it() -> None:
    state = seen(static={"m1": NEW}, release=NEW, proxy=OLD)
    assert plan(Wish(NEW), state, GROUPS, RECORDS).first == "m1"


def test_killed_at_a_node_that_one_is_first() -> None:
    state = seen(
        kubelets={"m1": NEW, "w1": NEW},
        static={"m1": NEW, "m2": NEW, "m3": NEW},
        release=NEW,
        nodes={"m3": {"cordoned": True, "cordoned_for": "upgrade"}},
    )
    assert plan(Wish(NEW), state, GROUPS, RECORDS).control_plane == ("m3", "m2")


def test_killed_between_new_kubelet_and_uncordon_the_node_is_not_done() -> None:
    names = (*MASTERS, *WORKERS)
    state = seen(
        kubelets=dict.fromkeys(names, NEW),
        static=dict.fromkeys(MASTERS, NEW),
        release=NEW,
        nodes={"w4": {"cordoned": True, "cordoned_for": "upgrade"}},
    )
    found = plan(Wish(NEW), state, GROUPS, RECORDS)
    assert (found.control_plane, found.workers) == ((), ("w4",))


def test_the_node_at_which_it_was_killed_may_be_down() -> None:
    down = {"ready": False, "trouble": "kubelet stopped", "cordoned": True, "cordoned_for": "upgrade"}
    found = plan(Wish(NEW), seen(nodes={"w3": down}), GROUPS, RECORDS)
    assert not found.plan.refusals
    assert found.workers[0] == "w3"


def test_all_nodes_there_and_the_configuration_not() -> None:
    names = (*MASTERS, *WORKERS)
    state = seen(kubelets=dict.fromkeys(names, NEW), static=dict.fromkeys(MASTERS, NEW), release=OLD)
    found = plan(Wish(NEW), state, GROUPS, RECORDS)
    assert (found.control_plane, found.first, found.workers) == (("m1",), "m1", ())


# --- Pauses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "control", "workers"),
    [
        ("control-plane", MASTERS, ()),
        ("m2", ("m1", "m2"), ()),
        ("w1", MASTERS, ("w1", "w2")),
        ("w2", MASTERS, ("w1", "w2")),
        ("w3", MASTERS, ("w1", "w2", "w3", "w4")),
    ],
)
def test_a_pause_ends_after_a_node_and_its_wave(after: str, control: Any, workers: Any) -> None:
    found = plan(Wish(NEW, wave="2", pause_after=after), seen(), GROUPS, RECORDS)
    assert (found.control_plane, found.workers, found.paused) == (control, workers, True)
    assert found.plan.steps[-1].what == "pause"


def test_a_pause_after_the_last_is_none() -> None:
    found = plan(Wish(NEW, pause_after="w5"), seen(), GROUPS, RECORDS)
    assert found.workers == WORKERS and not found.paused


def test_a_pause_after_what_is_not_there_or_done_is_refused() -> None:
    assert refused(seen(), Wish(NEW, pause_after="w9")) == ["pause_after"]
    state = seen(kubelets={"m1": NEW}, static={"m1": NEW}, release=NEW)
    assert refused(state, Wish(NEW, pause_after="m1")) == ["pause_after"]


def test_paused_after_the_control_plane_and_run_again_workers_are_left() -> None:
    state = seen(kubelets=dict.fromkeys(MASTERS, NEW), static=dict.fromkeys(MASTERS, NEW), release=NEW)
    again = plan(Wish(NEW, pause_after="control-plane"), state, GROUPS, RECORDS)
    assert not again.plan.steps and again.paused
    assert plan(Wish(NEW), state, GROUPS, RECORDS).workers == WORKERS


# --- Refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "running", "expected"),
    [
        ("1.36.3", "1.36.4", ["downgrade"]),
        ("1.35.4", "1.36.3", ["downgrade"]),
        ("1.36.3", "1.34.9", ["skipped_minor"]),
        ("2.0.0", "1.36.3", ["skipped_minor"]),
    ],
)
def test_only_one_minor_up(wanted: str, running: str, expected: list[str]) -> None:
    names = (*MASTERS, *WORKERS)
    state = seen(
        kubelets=dict.fromkeys(names, running), static=dict.fromkeys(MASTERS, running), release=running
    )
    found = refused(state, Wish(wanted), replace(RECORDS, known=(*RECORDS.known, wanted)))
    assert set(expected) <= set(found) <= {*expected, "kubelet_ahead"}


@pytest.mark.parametrize("running", ["1.35.4", "1.36.3"])
def test_a_patch_or_a_minor_up_is_fine(running: str) -> None:
    names = (*MASTERS, *WORKERS)
    state = seen(
        kubelets=dict.fromkeys(names, running), static=dict.fromkeys(MASTERS, running), release=running
    )
    assert plan(Wish(NEW), state, GROUPS, RECORDS).control_plane == MASTERS


def half(static: dict[str, str], configuration: str = "1.35.4") -> Seen:
    """A cluster that was on its way from 1.34.9 to 1.35.4 when it was paused or killed."""
    names = (*MASTERS, *WORKERS)
    runs = dict.fromkeys(MASTERS, "1.34.9") | static
    kubelets = dict.fromkeys(names, "1.34.9") | static
    return seen(kubelets=kubelets, static=runs, release=configuration)


def test_no_node_is_left_behind_by_two_minors() -> None:
    """m1 alone has moved, and the cluster's configuration with it."""
    state = half({"m1": "1.35.4"})
    found = plan(Wish(OLD), state, GROUPS, RECORDS)
    assert [(each.code, each.details["host"]) for each in found.plan.refusals] == [
        ("skipped_minor", "m2"),
        ("skipped_minor", "m3"),
    ]
    assert all("v1.34.9" in each.message and "--to 1.35.4" in each.cure for each in found.plan.refusals)
    # the cure is one
    assert plan(Wish("1.35.4"), state, GROUPS, RECORDS).control_plane == ("m2", "m3")
    done = half(dict.fromkeys(MASTERS, "1.35.4"))
    assert plan(Wish(OLD), done, GROUPS, RECORDS).control_plane == MASTERS


def test_a_part_that_a_killed_kubeadm_left_counts() -> None:
    state = half(dict.fromkeys(MASTERS, "1.35.4"))
    parts = {**state.host("m2").manifests, "kube-scheduler": "v1.34.9"}
    hosts = {**state.hosts, "m2": replace(state.host("m2"), manifests=parts)}
    [problem] = plan(Wish(OLD), replace(state, hosts=hosts), GROUPS, RECORDS).plan.refusals
    assert problem.code == "skipped_minor" and "kube-scheduler of m2" in problem.message


def test_a_node_that_is_two_minors_behind_the_cluster_already_has_another_cure() -> None:
    found = plan(Wish(NEW), half({"m1": OLD, "m2": OLD}, OLD), GROUPS, RECORDS)
    [problem] = found.plan.refusals
    assert problem.code == "skipped_minor" and "nodes replace m3 NEW" in problem.cure


def test_a_node_that_moved_before_the_configuration_is_not_taken_back() -> None:
    state = half({"m1": "1.35.4"}, "1.34.9")
    records = replace(RECORDS, known=(*RECORDS.known, "1.34.10"))
    found = plan(Wish("1.34.10"), state, GROUPS, records).plan.refusals
    assert {each.code for each in found} == {"downgrade", "kubelet_ahead"}
    assert all(each.details["host"] == "m1" for each in found)
    [problem] = [each for each in found if each.code == "downgrade"]
    assert "--to 1.35.4" in problem.cure


@pytest.mark.parametrize("text", ["1.36", "latest", "", "1.36.x"])
def test_what_is_no_release_is_refused(text: str) -> None:
    assert refused(seen(), Wish(text)) == ["no_release"]


def test_versions_that_nobody_knows_or_vouches_for_are_refused() -> None:
    assert refused(seen(), records=replace(RECORDS, known=(OLD,))) == ["unknown_release"]
    assert refused(seen(), records=replace(RECORDS, missing=("registry.k8s.io/kube-proxy",))) == ["no_record"]
    assert refused(seen(), records=replace(RECORDS, undigested=("kube-proxy:v1.36.4",))) == ["no_digest"]


def test_without_an_api_nothing_is_begun() -> None:
    assert refused(Seen(trouble="m1: connection refused")) == ["no_api"]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (seen(nodes={"w2": {"ready": False, "trouble": "no network"}}), ["not_ready"]),
        (seen(nodes={"w2": {"ready": False, "cordoned": True, "cordoned_for": "move"}}), ["not_ready"]),
        (seen(kubelets={"w2": "1.32.9"}), ["kubelet_behind"]),
        (seen(kubelets={"w2": "1.37.0"}), ["kubelet_ahead"]),
        (seen(nodes={"w1": {"unmanaged": ("default/bare",)}}), ["unmanaged_pods"]),
        (seen(members=(Member("m1"), Member("m2"), Member("m3", healthy=False))), ["etcd"]),
        (seen(members=(Member("m1"), Member("m2"), Member("m3", learner=True))), ["etcd"]),
    ],
)
def test_what_is_not_well_is_refused(state: Seen, expected: list[str]) -> None:
    assert refused(state) == expected


def test_pods_that_nothing_makes_anew_matter_only_on_nodes_that_are_left() -> None:
    bare = {"unmanaged": ("default/bare",)}
    state = seen(kubelets={"w1": NEW}, nodes={"w1": bare})
    assert not plan(Wish(NEW), state, GROUPS, RECORDS).plan.refusals
    allowed = plan(Wish(NEW, delete_unmanaged=True), seen(nodes={"w1": bare}), GROUPS, RECORDS)
    assert not allowed.plan.refusals


def test_a_node_that_does_not_answer_or_that_nobody_knows_is_refused() -> None:
    state = seen()
    dark = replace(state, hosts={**state.hosts, "w5": Host("w5", reachable=False)})
    assert refused(dark) == ["unreachable"]
    assert state.cluster is not None
    more = replace(state.cluster, nodes={**state.cluster.nodes, "x1": KubeNode("x1", kubelet=OLD)})
    assert refused(replace(state, cluster=more)) == ["foreign_node"]


def test_components_that_are_too_old_are_named_with_their_node() -> None:
    def too_old(component: str, version: str) -> str:
        return "2.1" if component == "containerd" and version == "1.7.0" else ""

    state = seen()
    old = replace(state, hosts={**state.hosts, "w2": replace(host("w2"), installed={"containerd": "1.7.0"})})
    found = plan(Wish(NEW), old, GROUPS, replace(RECORDS, too_old=too_old))
    [problem] = found.plan.refusals
    assert (
        problem.code == "component_too_old" and problem.details["host"] == "w2" and "2.1" in problem.message
    )


def test_an_unused_runtime_does_not_matter() -> None:
    state = seen()
    both = replace(host("w2"), installed={"containerd": "2.3.4", "crio": "1.20.0"})
    records = replace(RECORDS, too_old=lambda component, _version: "9" if component == "crio" else "")
    assert not plan(
        Wish(NEW), replace(state, hosts={**state.hosts, "w2": both}), GROUPS, records
    ).plan.refusals


def test_all_that_is_wrong_is_told_at_once() -> None:
    state = seen(nodes={"w1": {"ready": False}}, kubelets={"w2": "1.37.0"})
    assert refused(state, Wish("1.34.0"), Records()) == [
        "downgrade",
        "kubelet_ahead",
        "not_ready",
        "unknown_release",
    ]


def test_budgets_that_hold_now_are_told_and_are_no_refusal() -> None:
    held = (Held("shop/web", "1 of 1 pods are healthy and 1 have to be", ("shop/web-1",)),)
    found = plan(Wish(NEW), seen(nodes={"w2": {"held": held}}), GROUPS, RECORDS)
    assert not found.plan.refusals
    [note] = found.plan.notes
    assert "w2" in note and "shop/web" in note


def test_a_site_of_one_node() -> None:
    state = seen()
    assert state.cluster is not None
    one = replace(
        state,
        cluster=replace(state.cluster, nodes={"m1": state.cluster.nodes["m1"]}, members=(Member("m1"),)),
    )
    found = plan(Wish(NEW), one, {"kube_control_plane": ("m1",), "kube_node": ("m1",)}, RECORDS)
    assert (found.control_plane, found.first, found.workers) == (("m1",), "m1", ())


def test_a_store_on_hosts_of_its_own_is_looked_at_there() -> None:
    state = seen(members=(Member("s1"),))
    groups = {**GROUPS, "etcd": ("s1",)}
    assert codes(plan(Wish(NEW), state, groups, RECORDS)) == ["store_elsewhere"]
    static = dict.fromkeys(STATIC, f"v{OLD}")
    hosts = {
        name: replace(each, manifests=static if name in MASTERS else {}) for name, each in state.hosts.items()
    }
    hosts["s1"] = Host("s1", installed={"etcd": "3.5.9"})
    state = replace(state, hosts=hosts)
    assert codes(plan(Wish(NEW), state, groups, RECORDS)) == []
    records = replace(
        RECORDS, too_old=lambda what, version: "3.5.24" if (what, version) == ("etcd", "3.5.9") else ""
    )
    [problem] = plan(Wish(NEW), state, groups, records).plan.refusals
    assert problem.code == "component_too_old" and "s1" in problem.message
    assert codes(plan(Wish(NEW), state, GROUPS, RECORDS)) == ["store_elsewhere"]
