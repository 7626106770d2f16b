"""Queues with quotas, and gangs, as the roles of Kubernetes want them: only data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .models_queueing import UNDECLARED
from .resolved import Site
from .support import minor, support

Vars = dict[str, Any]
Quotas = Mapping[str, Mapping[str, str]]


def queue_groups(quotas: Quotas) -> list[tuple[tuple[str, ...], list[str]]]:
    """Kinds of nodes that have quotas of the same resources, together: (resources, kinds)."""
    found: dict[tuple[str, ...], list[str]] = {}
    for kind, amounts in quotas.items():
        found.setdefault(tuple(sorted(amounts)), []).append(kind)
    return list(found.items())


def queueing_vars(site: Site) -> Vars:
    """For the role kube_addons."""
    queueing = site.cluster.kubernetes.queueing
    if not queueing.queues:
        return {"kube_addons_queues": {}}
    counted = {name for queue in queueing.queues for amounts in queue.quotas.values() for name in amounts}
    kinds = dict.fromkeys(kind for queue in queueing.queues for kind in queue.quotas)
    return {
        "kube_addons_queues": {
            "kinds": {kind: dict(queueing.kinds.get(kind, {})) for kind in kinds},
            "uncounted": [name for name in UNDECLARED if name not in counted],
            "queues": [
                {
                    "name": queue.name,
                    "cohort": queue.cohort,
                    "namespaces": list(dict.fromkeys(queue.namespaces)),
                    "groups": [
                        {"resources": list(resources), "kinds": {kind: queue.quotas[kind] for kind in kinds}}
                        for resources, kinds in queue_groups(queue.quotas)
                    ],
                }
                for queue in queueing.queues
            ],
        }
    }


def with_gangs(settings: Mapping[str, Mapping[str, str]], release: str) -> dict[str, dict[str, str]]:
    """The control plane's arguments with what makes it schedule gangs; a site's own switches stay."""
    found = {part: dict(arguments) for part, arguments in settings.items()}
    for part, arguments in support().gang_scheduling.get(minor(release), {}).items():
        for name, value in arguments.items():
            given = found.setdefault(part, {}).get(name, "")
            found[part][name] = ",".join([*([given] if given else []), value])
    return found
