"""Filters of the role kube_gpu: what the GPU operator's parts read, out of plain options."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

RESOURCE = "nvidia.com/gpu"
WHOLE = "default"
"""What nodes without a label of their own have; a word that no profile may be called by then."""
EVERYTHING = "all-disabled"
DISTRIBUTION = re.compile(r"-(?:ubuntu|rhel|rocky|sles|rhcos)[0-9.]+$")
"""Images that are made for a distribution have it at the end of their tag."""
EFFECTS = ("NoSchedule", "NoExecute", "PreferNoSchedule")


def _text(value: Any) -> str:
    """YAML of a value, without what Ansible notes about its strings."""
    return str(yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False))


def sharing_twice(sharing: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names under which GPUs would be shared in two ways."""
    return sorted(name for name, one in sharing.items() if one.get("time_slicing") and one.get("mps"))


def mps_of_slices(sharing: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names under which MPS would share what is no whole GPU."""
    return sorted(
        name
        for name, one in sharing.items()
        if one.get("mps") and any(resource != RESOURCE for resource in one.get("resources") or [RESOURCE])
    )


def plugin_configs(sharing: Mapping[str, Mapping[str, Any]], strategy: str) -> dict[str, str]:
    """The device plugin's configurations by name, as text: one for whole GPUs, one for each way of sharing."""
    found: dict[str, Any] = {WHOLE: {"version": "v1", "flags": {"migStrategy": strategy}}}
    for name, one in sharing.items():
        kind, count = ("mps", one["mps"]) if one.get("mps") else ("timeSlicing", one.get("time_slicing") or 1)
        shared: dict[str, Any] = {"renameByDefault": False}
        if kind == "timeSlicing":
            # More of them would not be more of a GPU, so who asks for two is told.
            shared["failRequestsGreaterThanOne"] = True
        names = one.get("resources") or [RESOURCE]
        shared["resources"] = [{"name": resource, "replicas": int(count)} for resource in names]
        found[name] = {**found[WHOLE], "sharing": {kind: shared}}
    return {name: _text(config) for name, config in found.items()}


def slices_config(layouts: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The file of mig-parted with all layouts, and the one that takes slices away."""
    configs: dict[str, Any] = {EVERYTHING: [{"devices": "all", "mig-enabled": False}]}
    configs |= {name: [dict(part) for part in parts] for name, parts in layouts.items()}
    return _text({"version": "v1", "mig-configs": configs})


def named_by_content(name: str, content: Any) -> str:
    """A name that changes with the content: who reads a ConfigMap only when it starts is started anew by that."""
    return f"{name}-{hashlib.sha256(_text(content).encode()).hexdigest()[:8]}"


def image_parts(
    records: Iterable[Mapping[str, Any]], *, distribution: bool = True
) -> dict[str, dict[str, str]]:
    """Images by name as NVIDIA's charts want them; `distribution`: with what their tags end with for that."""
    found = {}
    for record in records:
        repository, _, image = str(record["name"]).rpartition("/")
        version = str(record["version"])
        if not distribution:
            version = DISTRIBUTION.sub("", version)
        found[str(record["name"])] = {"repository": repository, "image": image, "version": version}
    return found


def as_one_image(parts: Mapping[str, str]) -> dict[str, str]:
    """The same as other charts want it."""
    return {"repository": f"{parts['repository']}/{parts['image']}", "tag": parts["version"]}


def with_tag(parts: Mapping[str, str]) -> dict[str, str]:
    """The same where the version is called tag."""
    return {"repository": parts["repository"], "image": parts["image"], "tag": parts["version"]}


def by_name(names: Iterable[str]) -> list[dict[str, str]]:
    """Names as objects, as Kubernetes refers to other objects."""
    return [{"name": str(name)} for name in names]


def tolerations(taints: Iterable[str]) -> list[dict[str, str]]:
    """What pods need to run on nodes with these taints, KEY=VALUE:EFFECT or KEY:EFFECT."""
    found = []
    for taint in taints:
        body, _, effect = taint.rpartition(":")
        key, equals, value = body.partition("=")
        if not key or effect not in EFFECTS:
            raise ValueError(f"{taint} is no taint: KEY=VALUE:EFFECT, or KEY:EFFECT")
        same = {"operator": "Equal", "value": value} if equals else {"operator": "Exists"}
        found.append({"key": key, **same, "effect": effect})
    return found


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "gpu_sharing_twice": sharing_twice,
            "gpu_mps_of_slices": mps_of_slices,
            "gpu_plugin_configs": plugin_configs,
            "gpu_slices_config": slices_config,
            "named_by_content": named_by_content,
            "image_parts": image_parts,
            "as_one_image": as_one_image,
            "with_tag": with_tag,
            "by_name": by_name,
            "tolerations": tolerations,
        }
