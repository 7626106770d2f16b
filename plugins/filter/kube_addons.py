"""Filters of the role kube_addons: what a site asked for, and what of it nobody knows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any


def given_values(enabled: Mapping[str, Any]) -> dict[str, Any]:
    """The values of each add-on; none where a site wrote nothing after its name."""
    return {name: dict(values or {}) for name, values in enabled.items()}


def unknown_addons(
    enabled: Mapping[str, Any], known: Iterable[str], options: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Names of add-ons that there are not, and ADDON.OPTION where an add-on has options of its own and not this one."""
    names = set(known)
    unknown = [name for name in enabled if name not in names]
    unknown += [
        f"{name}.{option}"
        for name, values in given_values(enabled).items()
        if name in options
        for option in values
        if option not in options[name]
    ]
    return sorted(unknown)


QUEUES = "kueue.x-k8s.io/v1beta2"


def queue_objects(wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Kinds of nodes and queues, as Kueue reads them; which namespaces may use a queue stands there too."""
    found = [
        {
            "apiVersion": QUEUES,
            "kind": "ResourceFlavor",
            "metadata": {"name": name},
            "spec": {"nodeLabels": dict(labels)} if labels else {},
        }
        for name, labels in wanted.get("kinds", {}).items()
    ]
    for queue in wanted.get("queues", []):
        groups = [
            {
                "coveredResources": list(group["resources"]),
                "flavors": [
                    {
                        "name": kind,
                        "resources": [
                            {"name": name, "nominalQuota": str(amounts[name])} for name in group["resources"]
                        ],
                    }
                    for kind, amounts in group["kinds"].items()
                ],
            }
            for group in queue["groups"]
        ]
        allowed = {
            "key": "kubernetes.io/metadata.name",
            "operator": "In",
            "values": list(queue["namespaces"]),
        }
        cohort = {"cohortName": queue["cohort"]} if queue.get("cohort") else {}
        # Who lent something gets it back as soon as it is wanted.
        back = {"preemption": {"reclaimWithinCohort": "Any"}} if cohort else {}
        found.append(
            {
                "apiVersion": QUEUES,
                "kind": "ClusterQueue",
                "metadata": {"name": queue["name"]},
                "spec": {
                    "namespaceSelector": {"matchExpressions": [allowed]},
                    "resourceGroups": groups,
                    **cohort,
                    **back,
                },
            }
        )
    return found


def queue_releases(wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Releases of helm with the queues, and with the way to them in each namespace that may use them."""
    ways: dict[str, list[str]] = {}
    for queue in wanted.get("queues", []):
        for namespace in queue["namespaces"]:
            ways.setdefault(namespace, []).append(queue["name"])
    if not ways:
        return []
    releases = [_release("kueue-queues", "kueue-system", queue_objects(wanted), ["kueue"])]
    for namespace, names in ways.items():
        # Who names no queue gets the first one.
        own = {"default": names[0], **{name: name for name in names}}
        objects = [
            {
                "apiVersion": QUEUES,
                "kind": "LocalQueue",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"clusterQueue": queue},
            }
            for name, queue in own.items()
        ]
        releases.append(_release(f"kueue-queues-{namespace}"[:53].rstrip("-"), namespace, objects, ["kueue"]))
    return releases


def _release(
    name: str, namespace: str, objects: Iterable[Mapping[str, Any]], after: list[str]
) -> dict[str, Any]:
    text = "\n---\n".join(json.dumps(each) for each in objects)
    return {"title": "kueue", "name": name, "namespace": namespace, "manifests": text, "after": after}


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "given_values": given_values,
            "unknown_addons": unknown_addons,
            "queue_releases": queue_releases,
        }
