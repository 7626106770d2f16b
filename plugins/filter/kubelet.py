"""Filters of the role kubelet: a node's part of the kubelet's configuration, and what is wrong with its inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

_UNITS: dict[str, Decimal | int] = {
    "": 1,
    "m": Decimal("0.001"),
    **{unit: 1000**power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("KMGTPE", 1)},
}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_RESERVED = {"cpu": "cpu", "memory": "memory", "storage": "ephemeral-storage", "pids": "pid"}

Settings = dict[str, Any]


def quantity(text: object) -> Decimal:
    """Return what a Kubernetes quantity stands for. Raises ValueError for what is none."""
    found = _QUANTITY.fullmatch(str(text).strip())
    if found is None:
        raise ValueError(f"{text!r} is no quantity; write a number with a unit, as 500m, 2 or 1Gi")
    return Decimal(found[1]) * Decimal(_UNITS[found[2] or ""])


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> Settings:
    """Return both, maps merged key by key, everything else of `more` in the place of `base`'s."""
    out = dict(base)
    for key, value in more.items():
        mine = out.get(key)
        out[key] = merged(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return out


def _memory_of_node(settings: Mapping[str, Any], total: int = 0) -> int:
    """Return the bytes of memory that pods never get: what is reserved, and what is kept free."""
    places = (("systemReserved", "memory"), ("kubeReserved", "memory"), ("evictionHard", "memory.available"))
    for section, key in places:
        text = str((settings.get(section) or {}).get(key, "0"))
        total += int(quantity(text))
    return total


def kubelet_configuration(inputs: Mapping[str, Any], kernel: Mapping[str, Any]) -> Settings:
    """
    Return this node's part of the KubeletConfiguration, which kubeadm lays over the cluster's.

    inputs are the role's, without their prefix; kernel is what the look at the node found.
    """
    reserved = {_RESERVED[key]: str(value) for key, value in inputs["reserved"].items() if str(value)}
    settings: Settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd",
        "clusterDomain": inputs["cluster_domain"],
        "maxPods": inputs["max_pods"],
        "podPidsLimit": inputs["pod_pids"],
        "systemReserved": reserved,
        "enforceNodeAllocatable": ["pods"],
        "evictionHard": dict(inputs["eviction"]),
        "topologyManagerPolicy": inputs["topology_manager"],
        "cpuManagerPolicy": inputs["cpu_manager"],
        "memoryManagerPolicy": inputs["memory_manager"],
        "rotateCertificates": True,
        "serverTLSBootstrap": True,
        "seccompDefault": True,
        "resolvConf": inputs["resolv_conf"] or kernel["resolv_conf"],
        "serializeImagePulls": False,
        "maxParallelImagePulls": inputs["parallel_pulls"],
        "registryPullQPS": 2 * inputs["parallel_pulls"],
        "registryBurst": 4 * inputs["parallel_pulls"],
        "containerLogMaxSize": inputs["log_size"],
        "containerLogMaxFiles": 5,
        "shutdownGracePeriod": f"{inputs['shutdown_seconds']}s",
        "shutdownGracePeriodCriticalPods": f"{inputs['shutdown_seconds'] // 3}s",
    }
    if inputs["cluster_dns"]:
        settings["clusterDNS"] = [inputs["cluster_dns"]]
    if kernel["cgroup"] == 1:
        settings["failCgroupV1"] = False
    if inputs["swap"] == "limited":
        settings |= {"failSwapOn": False, "memorySwap": {"swapBehavior": "LimitedSwap"}}
    elif "swap" in inputs["tolerate"]:
        settings |= {"failSwapOn": False}
    settings = merged(settings, inputs["settings"])
    if settings["memoryManagerPolicy"] == "Static" and "reservedMemory" not in settings:
        # Their sum has to be what pods never get, to the byte.
        settings["reservedMemory"] = [{"numaNode": 0, "limits": {"memory": str(_memory_of_node(settings))}}]
    return settings


def kubelet_mistakes(inputs: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the inputs, each as a sentence with its cure."""
    found = []
    for key, value in inputs["reserved"].items():
        if key not in _RESERVED:
            found.append(f"kubelet_reserved names {key!r}; it knows {', '.join(_RESERVED)}.")
            continue
        try:
            quantity(value)
        except ValueError as error:
            found.append(f"kubelet_reserved: {key}: {error}.")
    for key, value in inputs["eviction"].items():
        if re.fullmatch(r"[0-9.]+%", str(value)):
            if key == "memory.available" and inputs["memory_manager"] == "Static":
                found.append(
                    f"kubelet_eviction: {key} is {value}, and kubelet_memory_manager Static wants a quantity there, "
                    "as 500Mi."
                )
            continue
        try:
            quantity(value)
        except ValueError as error:
            found.append(f"kubelet_eviction: {key}: {error}, or a share, as 10%.")
    cpu = inputs["reserved"].get("cpu")
    if inputs["cpu_manager"] == "static" and not found and not (cpu and quantity(cpu)):
        found.append(
            "kubelet_cpu_manager is static, which keeps whole processors for single pods, and kubelet_reserved leaves "
            "none to the system; give it cpu, as {cpu: 2, memory: 4Gi}."
        )
    if inputs["memory_manager"] == "Static" and inputs["topology_manager"] == "none":
        found.append(
            "kubelet_memory_manager is Static, which has no effect while kubelet_topology_manager is none; choose "
            "best-effort, restricted or single-numa-node."
        )
    return found


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"kubelet_configuration": kubelet_configuration, "kubelet_mistakes": kubelet_mistakes}
