"""Nodes that leave, are replaced, or move between Slurm and Kubernetes: the steps, or why they may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rackloom.lifecycle.plan import STORE_CURE, Plan, Step, some, store_elsewhere, store_refusal
from rackloom.lifecycle.seen import Cluster, Seen
from rackloom.result import Problem

DEAD_FLAG = "--the-node-is-dead-and-stays-so"
UNMANAGED_FLAG = "--delete-unmanaged-pods"
Groups = Mapping[str, Sequence[str]]
To = Literal["slurm", "kubernetes"]
OWN = ("kube_control_plane", "kube_node", "kube_api_balancer", "slurm_node", "etcd")
"""Groups that a node leaves when it is removed."""
LISTS = ("management", "login", "compute")
FOLLOWING = ("kubernetes", "slurm", "gpu_node", "gpu_host", "monitored", "logged", "filebeat")
"""Groups that a node is of because of others, or because it is there; so is that of its profile."""
PROFILE = "profile_"


@dataclass(frozen=True, slots=True)
class Removal:
    """What is asked for. `dead`: they are not on and never will be; `by`: the node that takes the one's place."""

    names: tuple[str, ...]
    dead: bool = False
    delete_unmanaged: bool = False
    by: str = ""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A plan, and what the playbook and the editor of the site's files are told."""

    plan: Plan
    drain_slurm: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    reset: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()
    edit: bool = True
    """Whether the site's files lose them."""
    stay: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Nodes that keep their entry in nodes.yml, with the services that they still carry."""


def _problem(code: str, message: str, cure: str, host: str = "") -> Problem:
    return Problem(code, message, cure, {"host": host} if host else {})


def remove(wish: Removal, seen: Seen, groups: Groups, nodes: Sequence[str]) -> Leaving:
    """Pure: nothing is asked and nothing touched. `nodes`: those in nodes.yml."""
    cluster = seen.cluster
    known = set(cluster.nodes) if cluster else set()
    members = _in_store(wish.names, seen)
    slurm = set(seen.slurm or ())
    # an earlier run may have come so far that nobody knows the old one any more
    gone = bool(wish.by) and any(wish.by in groups.get(group, ()) for group in OWN)
    refusals = [] if gone else _unknown(wish, {*known, *members.values(), *slurm}, nodes)
    refusals += [] if refusals else _alive(wish, seen, nodes)
    refusals += _control_plane(wish, cluster, seen, groups)
    refusals += _taking_over(wish, seen, groups, nodes, known)
    alive = [name for name in wish.names if seen.host(name).reachable]
    if cluster and not wish.delete_unmanaged and not wish.dead:
        for name in wish.names:
            if name in known and cluster.nodes[name].unmanaged:
                said = f"{name} has pods that nothing would make anew: {some(cluster.nodes[name].unmanaged)}"
                cure = f"delete them, or allow it with {UNMANAGED_FLAG}"
                refusals.append(_problem("unmanaged_pods", said, cure, name))
    if refusals:
        return Leaving(Plan(refusals=tuple(refusals)))
    in_slurm = tuple(name for name in wish.names if name in slurm and not wish.dead)
    draining = tuple(name for name in wish.names if name in known and not wish.dead)
    leaving = tuple(members)
    reset = tuple(name for name in alive if name in nodes)
    forget = tuple(name for name in wish.names if name in known)
    stay = {name: services for name in wish.names if (services := _others(name, groups)) and name in nodes}
    odd = not _even(wish, groups)
    edit = bool(wish.by) or odd
    steps = [Step("Slurm: drain, wait for its jobs", name, "no job is killed") for name in in_slurm]
    steps += [Step("Kubernetes: drain, budgets respected", name, _held(cluster, name)) for name in draining]
    if leaving and cluster:
        steps.append(Step("save a snapshot of etcd", cluster.at, "before a member leaves"))
        steps += [
            Step(
                "take the member out of etcd",
                name,
                "before its node goes" if member == name else "it was let in and never started",
            )
            for member, name in members.items()
        ]
    steps += [Step("take Kubernetes and Slurm off the node", name, "it answers") for name in reset]
    steps += [Step("remove it from the API", name) for name in forget]
    listed = [name for name in wish.names if name in nodes]
    if edit and wish.by:
        steps.append(Step(f"put {wish.by} in its place in cluster.yml", wish.names[0]))
    if edit:
        steps += [
            Step(
                "take it out of cluster.yml" if name in stay else "take it out of cluster.yml and nodes.yml",
                name,
            )
            for name in listed
        ]
    steps.append(Step("deploy those whose files list nodes", "", "name servers, controllers, balancers"))
    if wish.by:
        steps.append(Step("deploy it, join", wish.by))
    return Leaving(
        Plan(tuple(steps), (), tuple(_notes(wish, groups, stay, odd=odd))),
        in_slurm, draining, leaving, reset, forget, edit, stay,
    )  # fmt: skip


def _in_store(names: Sequence[str], seen: Seen) -> dict[str, str]:
    """The members of etcd that are on these nodes, as etcd calls them, with their nodes."""
    there = {member.name for member in seen.cluster.members} if seen.cluster else set()
    return {
        called: name
        for name in names
        for called in (name, seen.addresses.get(name, ""))
        if called and called in there
    }


def _unknown(wish: Removal, known: set[str], nodes: Sequence[str]) -> list[Problem]:
    cure = (
        "`rackloom inventory` lists the nodes of the site, `kubectl get nodes` and `sinfo -N` those that run"
    )
    return [
        _problem("unknown_node", f"neither the site nor Kubernetes nor Slurm knows {name}", cure, name)
        for name in wish.names
        if name not in known and name not in nodes
    ]


def _alive(wish: Removal, seen: Seen, nodes: Sequence[str]) -> list[Problem]:
    """The flag for dead nodes belongs to dead nodes, and to them alone."""
    found = []
    for name in wish.names:
        on = seen.host(name).reachable
        if not on and not wish.dead and name in nodes:
            cure = f"see that it is on; or, if it will never be again: {DEAD_FLAG}"
            found.append(_problem("dead_node", f"{name} does not answer", cure, name))
        if on and wish.dead:
            cure = "leave the flag out: the node is drained and reset then"
            found.append(_problem("alive_node", f"{name} answers; it is not dead", cure, name))
        ready = seen.cluster is not None and name in seen.cluster.nodes and seen.cluster.nodes[name].ready
        if not on and wish.dead and ready:
            cure = "switch it off: what still runs there would run twice"
            found.append(
                _problem("alive_node", f"{name} does not answer us, but its kubelet is at work", cure, name)
            )
    return found


def _control_plane(wish: Removal, cluster: Cluster | None, seen: Seen, groups: Groups) -> list[Problem]:
    masters, stores = list(groups.get("kube_control_plane", ())), groups.get("etcd", ())
    of_kubernetes = {*masters, *stores, *groups.get("kube_node", ())}
    if cluster is None:
        if masters and of_kubernetes & set(wish.names):
            said = f"the API does not answer: {seen.trouble or 'no control-plane node could be asked'}"
            cure = "bring the control plane back first; the guide's page on disasters has the steps"
            return [_problem("no_api", said, cure)]
        return []
    found = []
    real = [name for name, node in cluster.nodes.items() if node.control_plane]
    leaving = [name for name in wish.names if name in real]
    if leaving and not set(real) - set(wish.names):
        cure = (
            "save a snapshot, write the new node into cluster.yml in its place, and restore the snapshot there: "
            "rackloom kubernetes snapshot, rackloom kubernetes restore"
        )
        if not wish.by:
            cure = "to end Kubernetes on this site: rackloom kubernetes reset"
        found.append(
            _problem("last_control_plane", f"{some(leaving)}: no control-plane node would be left", cure)
        )
    elif said := store_refusal(cluster.members, _in_store(wish.names, seen)):
        cure = "bring back the members that are not well, or restore a snapshot"
        found.append(_problem("quorum", said, cure))
    if of_kubernetes & set(wish.names) and (said := store_elsewhere(seen, groups)):
        found.append(_problem("store_elsewhere", said, STORE_CURE))
    # one that died while it joined may be a member, though the API does not know it
    if cluster.store_trouble and (leaving or {*masters, *stores} & set(wish.names)):
        found.append(_problem("quorum", f"etcd could not be asked: {cluster.store_trouble}", "mend it first"))
    if not found and leaving and _even(wish, groups) and not wish.by and not wish.dead:
        left = len(set(masters) - set(wish.names))
        said = f"{left} control-plane nodes would be left, and an even number bears no more failures than one less"
        cure = f"rackloom nodes replace {leaving[0]} NEW, or remove two at once"
        found.append(_problem("even_control_plane", said, cure))
    return found


def _even(wish: Removal, groups: Groups) -> bool:
    """Whether an even number of control-plane nodes would be left."""
    masters = set(groups.get("kube_control_plane", ()))
    left = masters - set(wish.names)
    return bool(masters & set(wish.names)) and len(left) % 2 == 0 and not wish.by


def _taking_over(
    wish: Removal, seen: Seen, groups: Groups, nodes: Sequence[str], known: set[str]
) -> list[Problem]:
    if not wish.by:
        return []
    if wish.by not in nodes:
        return [_problem("unknown_node", f"{wish.by} is not in nodes.yml", "write it there first", wish.by)]
    if wish.by in wish.names:
        return [_problem("same_node", f"{wish.by} cannot take its own place", "name another node")]
    taken = (*OWN[:2], "etcd")
    both = [group for group in taken if {wish.by, wish.names[0]} <= set(groups.get(group, ()))]
    if both or (wish.by in known and wish.names[0] in known):
        cure = "name a node that does not serve Kubernetes yet"
        return [_problem("node_taken", f"{wish.by} is in Kubernetes already", cure, wish.by)]
    if not seen.host(wish.by).reachable:
        return [_problem("unreachable", f"{wish.by} does not answer on SSH", "see that it is on", wish.by)]
    return []


def _others(name: str, groups: Groups) -> tuple[str, ...]:
    """Services that a node carries and that do not leave with it."""
    return tuple(
        group
        for group, hosts in groups.items()
        if name in hosts and group not in (*OWN, *LISTS, *FOLLOWING) and not group.startswith(PROFILE)
    )


def _held(cluster: Cluster | None, name: str) -> str:
    held = cluster.nodes[name].held if cluster else ()
    return f"held now by {some((each.budget for each in held), 3)}" if held else ""


def _notes(wish: Removal, groups: Groups, stay: Mapping[str, tuple[str, ...]], *, odd: bool) -> list[str]:
    notes = [
        f"{name} keeps its entry in nodes.yml: it still carries {some(services)}"
        for name, services in stay.items()
    ]
    left = len(set(groups.get("kube_control_plane", ())) - set(wish.names))
    if not odd and not wish.by:
        notes.append(
            f"cluster.yml still names {some(wish.names)}: {left} control-plane nodes are left, which bears no failure. "
            f"Next: rackloom nodes replace {wish.names[0]} NEW"
        )
    return notes


# --- Between Slurm and Kubernetes ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Move:
    """What is asked for."""

    name: str
    to: To
    delete_unmanaged: bool = False


@dataclass(frozen=True, slots=True)
class Moving:
    """A plan, and which of its parts are left."""

    plan: Plan
    drain_slurm: bool = False
    drain: bool = False
    forget: bool = False
    reset: bool = False
    stop_slurm: bool = False
    edit: bool = False
    deploy: bool = False


def move(wish: Move, seen: Seen, groups: Groups, nodes: Sequence[str]) -> Moving:
    """Pure: nothing is asked and nothing touched. What is done already is left out."""
    name, cluster = wish.name, seen.cluster
    refusals = _may_not_move(wish, seen, groups, nodes)
    if refusals:
        return Moving(Plan(refusals=tuple(refusals)))
    host = seen.host(name)
    in_slurm = name in (seen.slurm or {})
    in_kubernetes = cluster is not None and name in cluster.nodes
    listed = name in groups.get("kube_node" if wish.to == "kubernetes" else "slurm_node", ())
    also = name in groups.get("slurm_node" if wish.to == "kubernetes" else "kube_node", ())
    edit = not listed or also
    if wish.to == "kubernetes":
        runs = "slurmd.service" in host.active
        serving = (
            in_kubernetes
            and cluster is not None
            and cluster.nodes[name].ready
            and not cluster.nodes[name].cordoned
        )
        found = Moving(
            Plan(), drain_slurm=in_slurm, stop_slurm=runs, edit=edit,
            deploy=edit or in_slurm or runs or not serving,
        )  # fmt: skip
    else:
        state = (seen.slurm or {}).get(name)
        serving = (
            state is not None
            and "slurmd.service" in host.active
            and not state.state.startswith(("drain", "down"))
        )
        found = Moving(
            Plan(), drain=in_kubernetes, forget=in_kubernetes, reset=host.joined or "kubelet.service" in host.active,
            edit=edit, deploy=edit or in_kubernetes or host.joined or not serving,
        )  # fmt: skip
    return Moving(
        Plan(tuple(_move_steps(wish, found, cluster))), found.drain_slurm, found.drain, found.forget, found.reset,
        found.stop_slurm, found.edit, found.deploy,
    )  # fmt: skip


def _move_steps(wish: Move, found: Moving, cluster: Cluster | None) -> list[Step]:
    name = wish.name
    wanted = (
        (found.drain_slurm, "Slurm: drain, wait for its jobs", "no job is killed"),
        (found.drain, "Kubernetes: drain, budgets respected", _held(cluster, name) if found.drain else ""),
        (found.edit, "write it into cluster.yml", f"{wish.to} has it then"),
        (found.stop_slurm, "stop slurmd", ""),
        (found.reset, "take Kubernetes off the node", ""),
        (found.forget, "remove it from the API", ""),
        (found.deploy, f"deploy it for {wish.to}, and those whose files list nodes", ""),
        (found.deploy, "ask both schedulers", ""),
    )
    return [Step(what, name, why) for on, what, why in wanted if on]


def _may_not_move(wish: Move, seen: Seen, groups: Groups, nodes: Sequence[str]) -> list[Problem]:
    name, cluster = wish.name, seen.cluster
    if name not in nodes:
        return [_problem("unknown_node", f"{name} is not in nodes.yml", "write it there first", name)]
    found = []
    if name in groups.get("kube_control_plane", ()) or (
        cluster is not None and name in cluster.nodes and cluster.nodes[name].control_plane
    ):
        cure = "only workers move; a control-plane node is replaced: rackloom nodes replace"
        found.append(_problem("control_plane", f"{name} is of the control plane", cure, name))
    for group, what in (("kube_control_plane", "Kubernetes"), ("slurm_controller", "Slurm")):
        if not groups.get(group):
            cure = f"name its {group} under services in cluster.yml, and deploy"
            found.append(_problem("no_service", f"this site has no {what}", cure))
    if found:
        return found
    if not seen.host(name).reachable:
        found.append(_problem("unreachable", f"{name} does not answer on SSH", "see that it is on", name))
    if cluster is None:
        said = f"the API does not answer: {seen.trouble or 'no control-plane node could be asked'}"
        found.append(_problem("no_api", said, "see `rackloom status`"))
    if seen.slurm is None:
        found.append(_problem("no_slurm", "no controller of Slurm answers", "see `rackloom status`"))
    if cluster is not None and wish.to == "slurm" and name in cluster.nodes and not wish.delete_unmanaged:
        bare = cluster.nodes[name].unmanaged
        if bare:
            said = f"{name} has pods that nothing would make anew: {some(bare)}"
            found.append(
                _problem("unmanaged_pods", said, f"delete them, or allow it with {UNMANAGED_FLAG}", name)
            )
    return found
