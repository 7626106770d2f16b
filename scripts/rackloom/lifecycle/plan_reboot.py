"""Nodes that are started anew, wave by wave, with their schedulers told first; or why they may not be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rackloom.lifecycle.plan import Plan, Step, some
from rackloom.lifecycle.plan_nodes import FOLLOWING, LISTS, PROFILE, UNMANAGED_FLAG, Groups
from rackloom.lifecycle.plan_upgrade import waves
from rackloom.lifecycle.seen import Cluster, Seen, SlurmNode
from rackloom.result import Problem

REASON = "reboot"
"""What nodes are cordoned for; in Slurm it stands behind our name."""
OURS = "rackloom"
BORNE = (*LISTS, *FOLLOWING, "slurm_login", "slurm_node", "kube_node")
"""Groups whose nodes may go away for some minutes without anybody but their own users noticing."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for. `needed`: only those that have to be; `names`: none = all nodes that may be."""

    names: tuple[str, ...] = ()
    needed: bool = False
    wave: str = "1"
    delete_unmanaged: bool = False


@dataclass(frozen=True, slots=True)
class Reboot:
    """A plan, and what the playbook is told. `serve_…`: nodes that only have to be taken back, as a run was stopped."""

    plan: Plan
    nodes: tuple[str, ...] = ()
    wave: int = 1
    slurm: tuple[str, ...] = ()
    resume: tuple[str, ...] = ()
    kubernetes: tuple[str, ...] = ()
    serve_slurm: tuple[str, ...] = ()
    serve_kubernetes: tuple[str, ...] = ()


def carried(name: str, groups: Groups) -> tuple[str, ...]:
    """Services that would stop for others meanwhile."""
    return tuple(
        group
        for group, hosts in groups.items()
        if name in hosts and group not in BORNE and not group.startswith(PROFILE)
    )


def asked(wish: Wish, nodes: Sequence[str]) -> list[str]:
    """The nodes that have to be looked at."""
    return [name for name in wish.names if name in nodes] if wish.names else list(nodes)


def plan(wish: Wish, seen: Seen, groups: Groups, nodes: Sequence[str]) -> Reboot:
    """Pure: nothing is asked and nothing touched."""
    refusals = _named(wish, seen, groups, nodes)
    wave = waves(wish.wave, len(wish.names or nodes))
    if wave is None:
        said = f"{wish.wave} is no number of nodes"
        refusals.append(_problem("wave", said, "write a number, or a share like 10%"))
    if refusals:
        return Reboot(Plan(refusals=tuple(refusals)))
    notes, meant = _meant(wish, seen, groups, nodes)
    slurm, cluster = seen.slurm or {}, seen.cluster
    why = {name: list(seen.host(name).reboot) for name in meant}
    chosen = [name for name in meant if why[name] or not wish.needed]
    back = [name for name in meant if name not in chosen]
    serve_slurm = [name for name in back if _ours(slurm.get(name))]
    serve_kubernetes = [name for name in back if _held_by_us(cluster, name)]
    refusals = _schedulers(seen, groups, [*chosen, *serve_slurm, *serve_kubernetes])
    refusals += _unmanaged(wish, cluster, chosen)
    if refusals:
        return Reboot(Plan(refusals=tuple(refusals)))
    # Those at which an earlier run was stopped are first, so that never more nodes are out than a wave has.
    chosen.sort(key=lambda name: not (_ours(slurm.get(name)) or _held_by_us(cluster, name)))
    wave = waves(wish.wave, len(chosen)) or 1
    foreign = {name: slurm[name].reason for name in chosen if _foreign(slurm.get(name))}
    notes += [f"{name} is drained by somebody else and stays so: {said}" for name, said in foreign.items()]
    steps = [
        Step("serve again", name, "a reboot was stopped before it")
        for name in {*serve_slurm, *serve_kubernetes}
    ]
    steps.sort(key=lambda step: step.node)
    for number, start in enumerate(range(0, len(chosen), wave), start=1):
        steps += [
            Step(f"wave {number}: drain, reboot, serve again", name, "; ".join(why[name]))
            for name in chosen[start : start + wave]
        ]
    return Reboot(
        Plan(tuple(steps), (), tuple(notes)),
        tuple(chosen),
        wave,
        tuple(name for name in chosen if name in slurm),
        tuple(name for name in chosen if name in slurm and name not in foreign),
        tuple(name for name in chosen if cluster is not None and name in cluster.nodes),
        tuple(serve_slurm),
        tuple(serve_kubernetes),
    )


def _problem(code: str, message: str, cure: str, host: str = "") -> Problem:
    return Problem(code, message, cure, {"host": host} if host else {})


def _ours(node: SlurmNode | None) -> bool:
    """Whether Slurm has it drained for a reboot of ours."""
    return node is not None and node.reason == f"{OURS}: {REASON}"


def _foreign(node: SlurmNode | None) -> bool:
    return node is not None and node.state.startswith("drain") and not node.reason.startswith(OURS)


def _held_by_us(cluster: Cluster | None, name: str) -> bool:
    return cluster is not None and name in cluster.nodes and cluster.nodes[name].cordoned_for == REASON


def _named(wish: Wish, seen: Seen, groups: Groups, nodes: Sequence[str]) -> list[Problem]:
    """What is wrong with the names."""
    found = []
    for name in wish.names:
        if name not in nodes:
            cure = "`rackloom inventory` lists the nodes of the site"
            found.append(_problem("unknown_node", f"the site has no node {name}", cure, name))
        elif services := carried(name, groups):
            said = f"{name} carries {some(services)}, which would stop for everybody"
            cure = "reboot it by hand when that suits, one such node at a time; then see `rackloom status`"
            found.append(_problem("service_node", said, cure, name))
        elif not seen.host(name).reachable:
            found.append(_problem("unreachable", f"{name} does not answer on SSH", "see that it is on", name))
    return found


def _meant(wish: Wish, seen: Seen, groups: Groups, nodes: Sequence[str]) -> tuple[list[str], list[str]]:
    """(notes, nodes): those with services of others, and those that are silent, are told and left alone."""
    if wish.names:
        return [], list(wish.names)
    notes, meant = [], []
    for name in nodes:
        host = seen.host(name)
        if services := carried(name, groups):
            if host.reboot:
                said = f"{name} has to be rebooted too ({'; '.join(host.reboot)})"
                notes.append(f"{said}; it carries {some(services)}: do it by hand")
        elif not host.reachable:
            notes.append(f"{name} does not answer, and was not asked")
        else:
            meant.append(name)
    return notes, meant


def _schedulers(seen: Seen, groups: Groups, meant: Sequence[str]) -> list[Problem]:
    """Nobody is rebooted whose scheduler cannot be told."""
    found = []
    if seen.cluster is None and set(meant) & set(groups.get("kube_node", ())):
        said = f"the API does not answer: {seen.trouble or 'no control-plane node could be asked'}"
        found.append(_problem("no_api", said, "see `rackloom status`; pods are moved before a node goes"))
    if seen.slurm is None and set(meant) & set(groups.get("slurm_node", ())):
        cure = "see `rackloom status`; jobs end before a node goes"
        found.append(_problem("no_slurm", "no controller of Slurm answers", cure))
    return found


def _unmanaged(wish: Wish, cluster: Cluster | None, chosen: Sequence[str]) -> list[Problem]:
    if cluster is None or wish.delete_unmanaged:
        return []
    found = []
    bare: Mapping[str, tuple[str, ...]] = {
        name: cluster.nodes[name].unmanaged for name in chosen if name in cluster.nodes
    }
    for name, pods in bare.items():
        if pods:
            said = f"{name} has pods that nothing would make anew: {some(pods)}"
            cure = f"delete them, or allow it with {UNMANAGED_FLAG}"
            found.append(_problem("unmanaged_pods", said, cure, name))
    return found
