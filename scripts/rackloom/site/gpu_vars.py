"""Inputs of the roles for nodes with GPUs: only data, under exactly the names that the roles declare."""

from __future__ import annotations

from typing import Any

from .gpus import Modules, gpus
from .hardware import gres
from .kube_gpu_vars import layout, serving, sliced
from .kubernetes_vars import CONTROL_PLANE, WORKER, endpoint
from .models import Gpu
from .ranges import expand
from .resolved import Site

GPU_NODE = "gpu_node"
METRICS = "/var/lib/prometheus/node-exporter/rackloom_gpu.prom"
Vars = dict[str, Any]


def products_of(gpu: Gpu) -> list[str]:
    """What an entry of nodes.yml may be: its product, or all of its type."""
    return [gpu.product] if gpu.product else gpus().of_type(gpu.type)


def modules(site: Site) -> str:
    """Open or proprietary: what the site wants, or the best that its branch has for all of its GPUs; '' = any."""
    driver = site.cluster.gpu.driver
    if driver.kind != "auto" or not driver.branch:
        return "" if driver.kind == "auto" else str(driver.kind)
    found: list[set[Modules]] = [
        set(gpus().kinds(driver.branch, product))
        for profile in site.profiles.values()
        for gpu in profile.gpus
        for product in products_of(gpu)
    ]
    able: list[Modules] = [
        kind for kind in ("open", "proprietary") if all(kind in some for some in found if some)
    ]
    return able[0] if able else ""


def driver_inputs(section: Any) -> Vars:
    """What of a written section `gpu:` says which packages nodes get, for a bundle; nodes play no part in that."""
    section = section if isinstance(section, dict) else {}
    driver = section.get("driver") if isinstance(section.get("driver"), dict) else {}
    rdma = section.get("rdma") if isinstance(section.get("rdma"), dict) else {}
    source, cards = str(driver.get("source", "none")), str(rdma.get("source", "none"))
    kind = str(driver.get("kind", "auto"))
    return {
        "gpu_driver_source": source if source in ("distribution", "vendor") else "none",
        "gpu_driver_branch": str(driver.get("branch", "")),
        "gpu_driver_kind": "" if kind == "auto" else kind,
        "gpu_driver_packages": list(driver.get("packages") or []),
        "gpu_driver_rdma": cards if cards in ("distribution", "vendor") else "none",
        "gpu_driver_rdma_packages": list(rdma.get("packages") or []) if cards != "none" else [],
        "gpu_driver_gds": bool(rdma.get("gds", False)),
        "gpu_slices_enabled": bool(section.get("cut", False)),
        "gpu_slices_packages": list(section.get("cut_packages") or []) if section.get("cut") else [],
        "gpu_toolkit_enabled": bool(section.get("toolkit", source in ("distribution", "vendor"))),
        "dcgm_enabled": bool((section.get("dcgm") or {}).get("enabled", False)),
    }


def _platforms() -> list[Vars]:
    """The table of machines, by PCI ids; a node finds itself in it."""
    known = gpus()
    return [
        {
            "name": one.name,
            "devices": sorted({device for name in one.products for device in known.products[name].pci}),
            "switches": list(one.switches),
            "services": list(one.services),
        }
        for one in known.platforms
    ]


def gpu_group_vars(site: Site) -> Vars:
    """For the group of nodes with GPUs."""
    if not site.groups.get(GPU_NODE):
        return {}
    stack = site.cluster.gpu
    driver, health = stack.driver, stack.health
    kubernetes: Vars = {}
    if site.groups[CONTROL_PLANE]:
        address, port = endpoint(site)
        place = f"[{address}]" if ":" in address else address
        kubernetes = {"server": f"https://{place}:{port}"}
    ours = driver.source != "none" and not stack.simulated
    return {
        "gpu_driver_source": driver.source if ours else "none",
        "gpu_driver_branch": driver.branch,
        "gpu_driver_kind": modules(site),
        "gpu_driver_packages": list(driver.packages),
        "gpu_driver_hold": driver.hold,
        "gpu_driver_rdma": stack.rdma.source,
        "gpu_driver_rdma_packages": list(stack.rdma.packages),
        "gpu_driver_peer_memory": stack.rdma.peer_memory,
        "gpu_driver_gds": stack.rdma.gds,
        "gpu_slices_packages": list(stack.cut_packages),
        "gpu_driver_platforms": _platforms(),
        # As the role containerd writes its own configuration.
        "gpu_toolkit_containerd_format": 4,
        "gpu_health_enabled": health.enabled,
        "gpu_health_simulated": stack.simulated,
        "gpu_health_interval": health.interval,
        "gpu_health_max_temperature": health.max_temperature,
        "gpu_health_ignore": list(health.ignore),
        "gpu_health_ignore_xids": list(health.ignore_xids),
        "gpu_health_dcgm": stack.dcgm.enabled,
        "gpu_health_metrics": METRICS,
        "gpu_health_kubernetes": kubernetes,
        "gpu_health_evict": health.evict,
        "dcgm_enabled": stack.dcgm.enabled and not stack.simulated,
        "gpu_dcgm_exported": stack.dcgm.exporter,
        "gpu_validate_dcgm_level": 0 if stack.simulated else stack.dcgm.level,
    }


def gpu_profile_vars(site: Site, name: str) -> Vars:
    """For the hosts of one profile with GPUs."""
    profile = site.profiles[name]
    if not profile.gpus:
        return {}
    known = gpus()
    entries, everything = [], []
    for gpu in profile.gpus:
        products = products_of(gpu)
        everything += products
        links = {known.products[product].nvlinks for product in products}
        entries.append(
            {
                "name": gpu.type,
                "count": gpu.count,
                "devices": sorted({device for product in products for device in known.products[product].pci}),
                # Where the type leaves open which product it is, nobody can tell how many links there should be.
                "nvlinks": links.pop() if len(links) == 1 else 0,
                "mig": dict(gpu.mig),
            }
        )
    platform = known.platform(everything, [switch for one in known.platforms for switch in one.switches])
    return {
        "gpu_health_expected": entries,
        "gpu_health_files": [file for line in gres(profile) if line.files for file in expand(line.files)],
        # Elsewhere a machine may have been built without switches; what its GPUs then say of a fabric is nothing.
        "gpu_validate_allreduce_gbs": platform.allreduce_gbs,
        "gpu_health_fabric": bool(platform.services) and not platform.switches,
    }


def _operator_cuts(site: Site, name: str) -> bool:
    """Whether the GPU operator's MIG manager cuts this node's GPUs."""
    kube = site.cluster.gpu.kubernetes
    return (
        kube.enabled
        and kube.cut
        and kube.resources != "dra"
        and name in {node.name for node in serving(site)}
    )


def gpu_host_vars(site: Site, name: str) -> Vars:
    """For one host: whether the container runtime needs the toolkit, and how its GPUs are cut."""
    if name not in site.groups.get(GPU_NODE, ()):
        return {}
    stack = site.cluster.gpu
    pods = name in site.groups[WORKER] or (name in site.groups[CONTROL_PLANE] and not site.groups[WORKER])
    wanted = stack.toolkit if stack.toolkit is not None else pods and stack.driver.source != "none"
    profile = site.profiles[site.nodes[name].profile]
    ours = stack.cut and sliced(profile) and not _operator_cuts(site, name)
    return {
        "gpu_slices_enabled": ours,
        "gpu_slices_layout": layout(profile) if ours else [],
        "gpu_toolkit_enabled": bool(wanted) and not stack.simulated,
        "gpu_toolkit_runtime": site.cluster.kubernetes.runtime if pods else "",
    }
