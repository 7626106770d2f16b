"""The way of a cluster from the releases it runs to another one, or why it may not be begun."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rackloom.lifecycle.plan import STORE_CURE, Plan, Step, release, some, store_elsewhere
from rackloom.lifecycle.seen import Cluster, KubeNode, Seen
from rackloom.result import Problem

REASON = "upgrade"
"""What nodes are cordoned for."""
CONTROL_PLANE = "control-plane"
"""For --pause-after."""
RELEASED = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
"""Static pods whose version is that of the release."""
OLDEST_KUBELET = 3
"""Minors that a kubelet may be behind the API server."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for. `wave`: how many workers at a time, a number or a share like 10%."""

    release: str
    wave: str = "1"
    pause_after: str = ""
    delete_unmanaged: bool = False


@dataclass(frozen=True, slots=True)
class Records:
    """What the versions files hold for the release, and which versions go with it."""

    known: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    undigested: tuple[str, ...] = ()
    too_old: Callable[[str, str], str] = field(default=lambda _component, _version: "")
    """(component, version) → the oldest version that works, where this one is older."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A plan, and what the playbook is told: the nodes that are left, in order."""

    plan: Plan
    control_plane: tuple[str, ...] = ()
    first: str = ""
    workers: tuple[str, ...] = ()
    wave: int = 1
    paused: bool = False
    """Whether nodes are left for the next time."""


def plan(wish: Wish, seen: Seen, groups: Mapping[str, Sequence[str]], records: Records) -> Upgrade:
    """Pure: nothing is asked and nothing touched."""
    target = release(wish.release)
    if target is None:
        return _refused(
            [
                _problem(
                    "no_release",
                    f"{wish.release!r} is no release",
                    "write all three numbers, as the versions file does",
                )
            ]
        )
    if seen.cluster is None:
        cure = "see `rackloom status`; a cluster that is not well is mended before it is upgraded"
        said = f"the API does not answer: {seen.trouble or 'no control-plane node could be asked'}"
        return _refused([_problem("no_api", said, cure)])
    cluster = seen.cluster
    masters = [name for name in groups.get("kube_control_plane", ()) if name in cluster.nodes]
    others = [name for name in groups.get("kube_node", ()) if name in cluster.nodes and name not in masters]
    refusals = [
        *_versions(wish.release, cluster, records),
        *_static_pods(wish.release, seen, cluster, masters),
        *_nodes(wish, seen, cluster, [*masters, *others]),
        *_store(cluster, seen, records),
    ]
    if said := store_elsewhere(seen, groups):
        refusals.append(_problem("store_elsewhere", said, STORE_CURE))
    wave = waves(wish.wave, len(others))
    if wave is None:
        refusals.append(
            _problem("wave", f"{wish.wave} is no number of nodes", "write a number, or a share like 10%")
        )
    if wish.pause_after and wish.pause_after not in (CONTROL_PLANE, *masters, *others):
        cure = f"name one of {some([CONTROL_PLANE, *masters, *others], 8)}"
        refusals.append(_problem("pause_after", f"there is no {wish.pause_after} to pause after", cure))
    if wish.pause_after in (*masters, *others) and not _left(
        cluster.nodes[wish.pause_after], seen, wish.release
    ):
        said = f"{wish.pause_after} is there already"
        refusals.append(_problem("pause_after", said, "leave --pause-after out, or name a node that is left"))
    if refusals:
        return _refused(refusals)
    return _steps(wish, seen, cluster, masters, others, wave or 1)


def waves(text: str, workers: int) -> int | None:
    """How many workers at a time; None where the text is neither a number nor a share."""
    number = text.strip().removesuffix("%")
    if not number.isdigit() or int(number) < 1:
        return None
    if text.strip().endswith("%"):
        return max(1, math.floor(workers * min(100, int(number)) / 100))
    return int(number)


def _problem(code: str, message: str, cure: str, host: str = "") -> Problem:
    return Problem(code, message, cure, {"host": host} if host else {})


def _refused(refusals: Sequence[Problem]) -> Upgrade:
    return Upgrade(Plan(refusals=tuple(refusals)))


# --- What forbids it -----------------------------------------------------------------------


def _now(cluster: Cluster) -> tuple[int, int, int]:
    """What the cluster's own configuration says."""
    return release(cluster.release) or release(cluster.server) or (0, 0, 0)


def _versions(wanted: str, cluster: Cluster, records: Records) -> list[Problem]:
    target = release(wanted) or (0, 0, 0)
    found = []
    now = _now(cluster)
    text = ".".join(str(part) for part in now)
    if wanted not in records.known:
        cure = f"the versions file holds {some(records.known, 9) or 'none'}; add its records to config/versions.yml"
        found.append(_problem("unknown_release", f"nothing is known of Kubernetes {wanted}", cure))
    if target < now:
        cure = "a control plane is never taken back; restore a snapshot of before instead"
        found.append(_problem("downgrade", f"the cluster runs {text}, and {wanted} is older", cure))
    elif _skips(now, target):
        step = f"{now[0]}.{now[1] + 1}"
        held = [name for name in records.known if name.startswith(f"{step}.")]
        cure = f"go to {held[-1] if held else f'a release of {step}'} first"
        said = f"from {text} to {wanted} is more than one minor release at a time"
        found.append(_problem("skipped_minor", said, cure))
    if records.missing:
        cure = "add them to config/versions.yml, or take a bundle that holds the release"
        found.append(
            _problem("no_record", f"the versions file lacks {some(records.missing)} for {wanted}", cure)
        )
    if records.undigested:
        said = f"no digest is known of {some(records.undigested)}"
        found.append(
            _problem("no_digest", said, "rackloom bundle pin asks the registries and writes them down")
        )
    return found


def _static_pods(wanted: str, seen: Seen, cluster: Cluster, masters: Sequence[str]) -> list[Problem]:
    """Control-plane nodes that may not go there from what they run themselves.

    The first one moves the cluster's configuration before the others have moved, so that says nothing of them.
    """
    target, now = release(wanted) or (0, 0, 0), _now(cluster)
    found = []
    for name in masters:
        tags = seen.host(name).manifests
        runs = {part: release(tags[part]) or (0, 0, 0) for part in RELEASED if part in tags}
        if not runs:
            continue  # it does not answer, or has no control plane
        newest, oldest = max(runs, key=runs.__getitem__), min(runs, key=runs.__getitem__)
        # what is true of the whole cluster has been said already
        if runs[newest] > max(target, now):
            said = f"{newest} of {name} is {tags[newest]}, newer than {wanted}, and is never taken back"
            to = tags[newest].removeprefix("v")
            cure = f"finish the upgrade that was begun: rackloom upgrade kubernetes --to {to}"
            found.append(_problem("downgrade", said, cure, name))
        elif runs[oldest][:2] != now[:2] and _skips(runs[oldest], target):
            said = f"{oldest} of {name} is {tags[oldest]}, more than one minor release below {wanted}"
            to = cluster.release or cluster.server
            cure = f"finish the upgrade to the earlier release first: rackloom upgrade kubernetes --to {to}"
            if _skips(runs[oldest], now):
                cure = f"it is too far behind to go on; let a new one join: rackloom nodes replace {name} NEW"
            found.append(_problem("skipped_minor", said, cure, name))
    return found


def _skips(runs: tuple[int, int, int], target: tuple[int, int, int]) -> bool:
    """Whether there is a minor between the two."""
    return target[0] != runs[0] or target[1] > runs[1] + 1


def _nodes(wish: Wish, seen: Seen, cluster: Cluster, mine: Sequence[str]) -> list[Problem]:
    target = release(wish.release) or (0, 0, 0)
    found = []
    for name, node in cluster.nodes.items():
        if name not in mine:
            cure = f"write it into the site's files, or: rackloom nodes remove {name}"
            found.append(
                _problem("foreign_node", f"{name} is in the cluster and not in the site", cure, name)
            )
            continue
        runs = release(node.kubelet) or (0, 0, 0)
        # the one on which an upgrade was stopped may be down for that very reason
        if not node.ready and node.cordoned_for != REASON:
            cure = f"mend it first, or take it out: rackloom nodes remove {name}"
            found.append(_problem("not_ready", f"{name} is not ready: {node.trouble}", cure, name))
        if not seen.host(name).reachable:
            found.append(_problem("unreachable", f"{name} does not answer on SSH", "see that it is on", name))
        if runs > target:
            said = f"the kubelet of {name} is {node.kubelet}, newer than {wish.release}"
            found.append(
                _problem("kubelet_ahead", said, "an API server may not be older than a kubelet", name)
            )
        elif target[1] - runs[1] > OLDEST_KUBELET:
            said = f"the kubelet of {name} is {node.kubelet}, too old for {wish.release}"
            cure = f"rackloom upgrade kubernetes --to {cluster.release} brings it up first"
            found.append(_problem("kubelet_behind", said, cure, name))
        if node.unmanaged and not wish.delete_unmanaged and _left(node, seen, wish.release):
            said = f"{name} has pods that nothing would make anew: {some(node.unmanaged)}"
            cure = "delete them, or allow it with --delete-unmanaged-pods"
            found.append(_problem("unmanaged_pods", said, cure, name))
    return found


def _store(cluster: Cluster, seen: Seen, records: Records) -> list[Problem]:
    found = []
    if cluster.store_trouble:
        found.append(_problem("etcd", f"etcd could not be asked: {cluster.store_trouble}", "mend it first"))
    found += [
        _problem(
            "etcd", f"etcd's member {member.name or member.id} is not well", "mend it, or remove its node"
        )
        for member in cluster.members
        if not member.healthy or member.learner
    ]
    members = [member.name for member in cluster.members if member.name not in cluster.nodes]
    for name in (*cluster.nodes, *members):
        host = seen.host(name)
        versions = {key: host.installed[key] for key in ("containerd", "crio") if key in host.installed}
        if "etcd" in host.manifests:
            versions["etcd"] = host.manifests["etcd"]
        if name in members and "etcd" in host.installed:
            versions["etcd"] = host.installed["etcd"]
        # only what the node really uses counts, where it says so
        runtime = "" if name in members else cluster.nodes[name].runtime
        runtime = runtime.partition("://")[0].replace("cri-o", "crio")
        for component, version in versions.items():
            if component in ("containerd", "crio") and runtime and component != runtime:
                continue
            if oldest := records.too_old(component, version):
                said = f"{component} on {name} is {version}, and the release wants {oldest} or later"
                cure = "deploy a newer one first: its record is in the versions file"
                found.append(_problem("component_too_old", said, cure, name))
    return found


# --- The way -------------------------------------------------------------------------------


def _left(node: KubeNode, seen: Seen, wanted: str) -> str:
    """What of a node is not done yet, in words; '' where all is."""
    static = {name: tag.removeprefix("v") for name, tag in seen.host(node.name).manifests.items()}
    parts = [f"{name} {static[name]}" for name in RELEASED if name in static and static[name] != wanted]
    if node.kubelet != wanted:
        parts.append(f"kubelet {node.kubelet}")
    if node.cordoned_for == REASON:
        parts.append("cordoned by an upgrade that was stopped")
    return ", ".join(parts)


def _steps(
    wish: Wish, seen: Seen, cluster: Cluster, masters: Sequence[str], others: Sequence[str], wave: int
) -> Upgrade:
    left = {name: _left(cluster.nodes[name], seen, wish.release) for name in (*masters, *others)}

    def order(names: Sequence[str]) -> list[str]:
        # the one that was stopped at is first, so that never more nodes are out than a wave has
        waiting = [name for name in names if left[name]]
        return sorted(waiting, key=lambda name: cluster.nodes[name].cordoned_for != REASON)

    control, workers = order(masters), order(others)
    moved = cluster.release == wish.release and cluster.proxy.removeprefix("v") in ("", wish.release)
    if not moved and not control and masters:
        control = [masters[0]]  # every node is there, the cluster's own configuration is not
        left[masters[0]] = f"configuration {cluster.release}, kube-proxy {cluster.proxy}"
    control, workers, paused = _cut(wish.pause_after, control, workers, wave)
    notes = [
        f"{name}: the budget {held.budget} holds {some(held.pods, 3)} now ({held.stands}); the drain waits for it"
        for name in (*control, *workers)
        for held in cluster.nodes[name].held
    ]
    if not control and not workers:
        return Upgrade(Plan(notes=tuple(notes)), paused=paused)
    first = control[0] if control and not moved else ""
    steps = [Step("fetch programs and images", "", f"{wish.release} on every node that is left")]
    steps.append(Step("save a snapshot of etcd", cluster.at, "before anything changes"))
    steps.append(Step("write kubernetes.version into cluster.yml", "", wish.release))
    for name in control:
        how = "upgrade the control plane" if name == first else "upgrade its part of the control plane"
        steps.append(Step(f"{how}, drain, replace the kubelet, serve again", name, left[name]))
    for number, start in enumerate(range(0, len(workers), wave), start=1):
        steps += [
            Step(f"wave {number}: drain, replace the kubelet, serve again", name, left[name])
            for name in workers[start : start + wave]
        ]
    steps.append(Step("pause" if paused else "ask every node for its release"))
    if not paused:
        steps.append(Step("deploy the stage kubernetes", "", "the site's settings over those of the release"))
    return Upgrade(Plan(tuple(steps), (), tuple(notes)), tuple(control), first, tuple(workers), wave, paused)


def _cut(after: str, control: list[str], workers: list[str], wave: int) -> tuple[list[str], list[str], bool]:
    """The nodes up to where it is to pause; a wave is never cut in two."""
    if after == CONTROL_PLANE:
        return control, [], bool(workers)
    if after in control:
        keep = control[: control.index(after) + 1]
        return keep, [], keep != control or bool(workers)
    if after in workers:
        end = (workers.index(after) // wave + 1) * wave
        return control, workers[:end], end < len(workers)
    return control, workers, False
