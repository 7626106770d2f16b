"""Checks of the section `kubernetes.queueing:` of cluster.yml, and of gang scheduling."""

from __future__ import annotations

from . import versions
from .context import Context
from .mistakes import suggest
from .models_kubernetes import NEEDS_QUEUES
from .models_queueing import ANYWHERE, KubeQueue
from .queueing_vars import queue_groups
from .support import minor, support
from .versions import KUBERNETES, VersionsError

TOP = ("kubernetes", "queueing")


def check_queueing(ctx: Context) -> None:
    """All mistakes about queues."""
    queueing = ctx.cluster_file.kubernetes.queueing
    if ANYWHERE in queueing.kinds:
        message = f"Every node is of the kind {ANYWHERE}."
        ctx.cluster(
            (*TOP, "kinds", ANYWHERE), ANYWHERE, message, "Choose another name.", "reserved-name", key=True
        )
    seen: dict[str, int] = {}
    for queue in queueing.queues:
        where = (*queue.where, "name")
        if queue.name in seen:
            message = f"Queue {queue.name} is already in line {seen[queue.name]}."
            ctx.cluster(where, queue.name, message, "Name each queue once.", "duplicate-name")
        seen.setdefault(queue.name, ctx.cluster.line(where))
        _quotas(ctx, queue)
    addon = ctx.cluster_file.kubernetes.addons.get(NEEDS_QUEUES)
    if addon is not None and not addon.enabled and queueing.queues:
        message = f"There are queues, and {NEEDS_QUEUES} is off."
        cure = f"Remove the queues, or `{NEEDS_QUEUES}` from `addons`."
        where = ("kubernetes", "addons", NEEDS_QUEUES, "enabled")
        ctx.cluster(where, False, message, cure, "needs-kueue")
    _gangs(ctx)


def _quotas(ctx: Context, queue: KubeQueue) -> None:
    kinds = ctx.declared(ctx.cluster, *TOP, "kinds") | {ANYWHERE}
    where = (*queue.where, "quotas")
    if not queue.namespaces:
        message = f"Nobody may use queue {queue.name}."
        ctx.cluster((*queue.where, "namespaces"), [], message, "Write `namespaces: [NAME]`.", "bad-value")
    for kind in queue.quotas:
        if kind not in kinds:
            cure = suggest(kind, kinds) or f"Kinds are: {', '.join(sorted(kinds))}."
            ctx.cluster(
                (*where, kind), kind, f"There is no kind of node {kind}.", cure, "unknown-kind", key=True
            )
    home: dict[str, tuple[str, ...]] = {}
    for resources, flavors in queue_groups(queue.quotas):
        for name in resources:
            if name in home:
                here, there = _others(home[name], name), _others(resources, name)
                message = f"{name} is counted together with {here}, and with {there}."
                cure = "Give each kind of node that has it a quota of the same resources."
                ctx.cluster((*where, flavors[0]), name, message, cure, "mixed-quotas", key=True)
                break
            home[name] = resources


def _others(resources: tuple[str, ...], name: str) -> str:
    return ", ".join(each for each in resources if each != name) or "nothing"


def _gangs(ctx: Context) -> None:
    kubernetes = ctx.cluster_file.kubernetes
    if not kubernetes.gang_scheduling:
        return
    try:
        held = versions.effective(ctx.config_dir)
    except VersionsError:
        return  # check_versions has told it
    plain = held.find("file", KUBERNETES)
    release = kubernetes.version or (plain.version if plain else "")
    known = support().gang_scheduling
    if release and minor(release) not in known:
        message = f"How Kubernetes {release} schedules gangs is not known."
        cure = f"It is of {', '.join(known)}. Remove it, or have Volcano by `addons: {{volcano: {{}}}}`."
        ctx.cluster(("kubernetes", "gang_scheduling"), True, message, cure, "unsupported-version")
