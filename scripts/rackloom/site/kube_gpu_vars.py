"""Inputs of the role kube_gpu, and the labels by which the GPU operator knows nodes: only data."""

from __future__ import annotations

from typing import Any

from . import versions
from .models import Profile
from .models_gpu import GpuStack
from .resolved import Node, Site
from .versions import KUBERNETES

CONTROL_PLANE = "kube_control_plane"
WORKER = "kube_node"
CHART = "gpu-operator"
LABEL_SHARING = "nvidia.com/device-plugin.config"
LABEL_SLICES = "nvidia.com/mig.config"
RESOURCE = "nvidia.com/gpu"
OWN_TAINTS = {"node-role.kubernetes.io/control-plane:NoSchedule", "nvidia.com/gpu:NoSchedule"}

Vars = dict[str, Any]


def serving(site: Site) -> list[Node]:
    """Nodes of Kubernetes that take pods and have GPUs."""
    nodes = site.group(WORKER) or site.group(CONTROL_PLANE)
    return [node for node in nodes if node.profile in site.profiles and site.profiles[node.profile].gpus]


def sliced(profile: Profile) -> bool:
    """Whether any of a profile's GPUs is cut into slices."""
    return any(gpu.mig for gpu in profile.gpus)


def host_toolkit(stack: GpuStack) -> bool:
    """Whether the hosts have the container toolkit themselves."""
    wanted = stack.toolkit if stack.toolkit is not None else stack.driver.source != "none"
    return wanted and not stack.simulated


def strategy(site: Site) -> str:
    """How slices are named."""
    told = site.cluster.gpu.kubernetes.mig
    if told != "auto":
        return str(told)
    return "mixed" if any(sliced(site.profiles[node.profile]) for node in serving(site)) else "none"


def resources_of(profile: Profile, named: str) -> list[str]:
    """What pods ask a profile's GPUs by; slices have names of their own where the strategy is mixed."""
    names = []
    for gpu in profile.gpus:
        mixed = [f"nvidia.com/mig-{name}" for name in gpu.mig] if named == "mixed" else []
        names += mixed or [RESOURCE]
    return list(dict.fromkeys(names))


def layout(profile: Profile) -> list[Vars]:
    """A profile's slices, GPU by GPU in the order of nodes.yml, as mig-parted reads them."""
    found: list[Vars] = []
    first = 0
    for gpu in profile.gpus:
        devices = list(range(first, first + gpu.count))
        first += gpu.count
        slices = {"mig-devices": dict(gpu.mig)} if gpu.mig else {}
        found.append({"devices": devices, "mig-enabled": bool(gpu.mig), **slices})
    return found


def gpu_labels(site: Site, node: Node) -> dict[str, str]:
    """What a node with GPUs is labelled with, so that the operator shares and cuts its GPUs as its profile says."""
    kube = site.cluster.gpu.kubernetes
    profile = site.profiles.get(node.profile)
    if not kube.enabled or kube.resources == "dra" or profile is None or not profile.gpus:
        return {}
    shared = kube.sharing.get(node.profile)
    labels = {LABEL_SHARING: node.profile} if shared and (shared.time_slicing or shared.mps) else {}
    return labels | ({LABEL_SLICES: node.profile} if kube.cut and sliced(profile) else {})


def kube_gpu_vars(site: Site) -> Vars:
    """For the control plane. A site that has switched the operator off says so, and it goes."""
    if not site.groups[CONTROL_PLANE]:
        return {}
    stack = site.cluster.gpu
    kube = stack.kubernetes
    if not kube.enabled:
        return {"kube_gpu_enabled": False}
    held = versions.effective(site.config_dir)
    named = strategy(site)
    profiles = {node.profile: site.profiles[node.profile] for node in serving(site)}
    toolkit = kube.toolkit
    if toolkit == "auto":
        toolkit = "host" if host_toolkit(stack) and kube.driver.place == "host" else "operator"
    exporter = kube.exporter
    if exporter is None:
        exporter = not (stack.dcgm.enabled and stack.dcgm.exporter)
    taints = [
        taint for node in serving(site) for taint in (*site.profiles[node.profile].taints, *node.taints)
    ]
    return {
        "kube_gpu_enabled": True,
        "kube_gpu_release": kube.operator,
        "kube_gpu_kubernetes": site.cluster.kubernetes.version or held.get("file", KUBERNETES).version,
        "kube_gpu_driver": kube.driver.place,
        "kube_gpu_driver_kind": stack.driver.kind,
        "kube_gpu_driver_precompiled": kube.driver.precompiled,
        "kube_gpu_driver_sources": list(kube.driver.sources),
        "kube_gpu_toolkit": toolkit,
        "kube_gpu_runtime": site.cluster.kubernetes.runtime,
        "kube_gpu_resources": kube.resources,
        "kube_gpu_compute_domains": kube.compute_domains,
        "kube_gpu_mig_strategy": named,
        "kube_gpu_mig_layouts": {
            name: layout(profile) for name, profile in profiles.items() if kube.cut and sliced(profile)
        },
        "kube_gpu_sharing": {
            name: {**shared.model_dump(), "resources": resources_of(profiles[name], named)}
            for name, shared in kube.sharing.items()
            if name in profiles and (shared.time_slicing or shared.mps)
        },
        "kube_gpu_dcgm": kube.dcgm,
        "kube_gpu_exporter": exporter,
        "kube_gpu_rdma": kube.rdma,
        "kube_gpu_gds": kube.gds,
        "kube_gpu_gdrcopy": kube.gdrcopy,
        "kube_gpu_network_operator": kube.network_operator,
        "kube_gpu_taints": [taint for taint in dict.fromkeys(taints) if taint not in OWN_TAINTS],
        "kube_gpu_pull_secrets": list(kube.pull_secrets),
        "kube_gpu_values": dict(kube.values),
    }
