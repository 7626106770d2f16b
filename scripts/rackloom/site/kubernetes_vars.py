"""Inputs of the roles that make Kubernetes: only data, under exactly the names that the roles declare."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from . import versions
from .kube_gpu_vars import gpu_labels, kube_gpu_vars
from .mirror_vars import CA_FILE, closed, places
from .models_kubernetes import API_PORT, KUBE_VIP
from .queueing_vars import queueing_vars, with_gangs
from .resolved import Node, Site
from .versions import KUBERNETES, Versions

GROUP = "kubernetes"
CONTROL_PLANE = "kube_control_plane"
WORKER = "kube_node"
BALANCER = "kube_api_balancer"
STORE = "etcd"
STORE_PORT = 2379
RUNTIMES = ("containerd", "crio")

REGISTRY = "registry.k8s.io"
PAUSE = "registry.k8s.io/pause"
CONTROL_PLANE_TAINT = "node-role.kubernetes.io/control-plane:NoSchedule"
_FIRST_PRIORITY = 200
_DNS_PLACE = 10
"""The cluster's resolver has the tenth service address, as kubeadm gives it."""

Vars = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KubernetesVars:
    """groups: group → its variables; hosts: host → those that are its own."""

    groups: dict[str, Vars]
    hosts: dict[str, Vars]


def release(site: Site, held: Versions) -> str:
    """The release of Kubernetes that a site has."""
    return site.cluster.kubernetes.version or held.get("file", KUBERNETES).version


def endpoint(site: Site) -> tuple[str, int]:
    """Address and port under which everybody reaches the API."""
    told = site.cluster.kubernetes.endpoint
    return told.address or site.group(CONTROL_PLANE)[0].address, told.real_port


def labels(site: Site, node: Node) -> dict[str, str]:
    """A node's labels; its own win over its profile's, and both over those that its GPUs need."""
    profile = site.profiles.get(node.profile)
    return {**gpu_labels(site, node), **(profile.labels if profile else {}), **node.labels}


def taints(site: Site, node: Node) -> list[str]:
    """A node's taints, its profile's first."""
    profile = site.profiles.get(node.profile)
    return list(dict.fromkeys([*(profile.taints if profile else []), *node.taints]))


def pool(site: Site) -> list[str]:
    """The load balancer's addresses, as MetalLB reads them: networks, or first-last."""
    return [
        text if "/" in text or "-" in text else f"{text}/{ipaddress.ip_address(text).max_prefixlen}"
        for text in site.cluster.kubernetes.load_balancer.pool
    ]


def kubernetes_vars(site: Site) -> KubernetesVars:
    """Nothing where no node is of Kubernetes."""
    if not site.groups[CONTROL_PLANE]:
        return KubernetesVars({}, {})
    held = versions.effective(site.config_dir)
    wanted = release(site, held)
    hosts: dict[str, Vars] = {name: {"kubelet_address": site.nodes[name].address} for name in _kubelets(site)}
    groups = {GROUP: _every(site, held, wanted), CONTROL_PLANE: _control_plane(site, held, wanted)}
    for node in site.group(CONTROL_PLANE):
        hosts[node.name] |= _control_plane_host(site, node)
    if site.groups[WORKER]:
        groups[WORKER] = _workers(site)
        for node in site.group(WORKER):
            hosts[node.name] |= {
                "kube_worker_labels": labels(site, node),
                "kube_worker_taints": taints(site, node),
            }
    if site.groups[STORE]:
        groups[STORE] = _store(site)
        for node in site.group(STORE):
            hosts[node.name] = {**hosts.get(node.name, {}), "etcd_address": node.address}
    if site.groups[BALANCER]:
        groups[BALANCER] = _balancers(site)
        for name, own in _balancer_hosts(site).items():
            hosts[name] = {**hosts.get(name, {}), **own}
    return KubernetesVars(groups, hosts)


def _kubelets(site: Site) -> list[str]:
    return [*site.groups[CONTROL_PLANE], *site.groups[WORKER]]


def _every(site: Site, held: Versions, wanted: str) -> Vars:
    """For every host of Kubernetes: its container runtime and its kubelet."""
    kubernetes = site.cluster.kubernetes
    kubelet = kubernetes.kubelet
    sandbox = held.beside("image", PAUSE, wanted).reference
    result: Vars = {
        "kubelet_release": wanted,
        "kubelet_runtime": kubernetes.runtime,
        "kubelet_tolerate": list(kubernetes.tolerate),
        "kubelet_max_pods": kubelet.max_pods,
        "kubelet_reserved": kubelet.reserved.model_dump(),
        "kubelet_topology_manager": kubelet.topology_manager,
        "kubelet_cpu_manager": kubelet.cpu_manager,
        "kubelet_memory_manager": kubelet.memory_manager,
        "kubelet_settings": dict(kubelet.settings),
        "kubelet_cluster_dns": str(kubernetes.networks.services[_DNS_PLACE]),
        "kubelet_cluster_domain": kubernetes.domain,
    }
    for runtime in RUNTIMES:
        result |= {
            f"{runtime}_mirror": places(site)["images"],
            f"{runtime}_outside": not closed(site),
            f"{runtime}_ca_file": CA_FILE,
            f"{runtime}_sandbox_image": sandbox,
        }
    return result


def addons(site: Site) -> Vars:
    """Add-ons that run, with their values."""
    return site.cluster.kubernetes.enabled_addons(measured=bool(site.groups["prometheus"]))


def _control_plane(site: Site, held: Versions, wanted: str) -> Vars:
    kubernetes = site.cluster.kubernetes
    address, port = endpoint(site)
    place = f"[{address}]" if ":" in address else address

    def image(name: str) -> Vars:
        record = held.beside("image", name, wanted)
        return {"repository": record.name.rpartition("/")[0], "tag": record.version}

    network = kubernetes.network
    moved = _moved_by_kube_vip(site)
    return {
        **(_kube_vip(site, moved) if moved else {}),
        "kube_control_plane_release": wanted,
        "kube_control_plane_endpoint": f"{place}:{port}",
        "kube_control_plane_runtime": kubernetes.runtime,
        "kube_control_plane_members": [
            {"name": node.name, "address": node.address} for node in site.group(CONTROL_PLANE)
        ],
        "kube_control_plane_store": [
            f"https://{f'[{node.address}]' if ':' in node.address else node.address}:{STORE_PORT}"
            for node in site.group(STORE)
        ],
        "kube_control_plane_nodes": [
            {
                "name": node.name,
                "address": node.address,
                "names": [f"{node.name}.{site.cluster.domain}"],
                "labels": labels(site, node),
                "taints": _all_taints(site, node),
            }
            for node in [*site.group(CONTROL_PLANE), *site.group(WORKER)]
        ],
        "kube_control_plane_pod_network": str(kubernetes.networks.pods),
        "kube_control_plane_service_network": str(kubernetes.networks.services),
        "kube_control_plane_domain": kubernetes.domain,
        "kube_control_plane_proxy": kubernetes.proxy,
        "kube_control_plane_pod_security": kubernetes.pod_security,
        "kube_control_plane_users": [user.model_dump() for user in kubernetes.users],
        "kube_control_plane_snapshots": kubernetes.snapshots.model_dump(),
        "kube_control_plane_images": {
            "repository": REGISTRY,
            "etcd": image("registry.k8s.io/etcd"),
            "coredns": image("registry.k8s.io/coredns/coredns"),
            "pause": image(PAUSE),
        },
        "kube_control_plane_tolerate": list(kubernetes.tolerate),
        "kube_control_plane_settings": with_gangs(kubernetes.settings.model_dump(), wanted)
        if kubernetes.gang_scheduling
        else kubernetes.settings.model_dump(),
        "kube_network_plugin": network.plugin,
        "kube_network_backend": network.backend,
        "kube_network_mtu": network.mtu,
        "kube_network_pod_network": str(kubernetes.networks.pods),
        "kube_network_service_network": str(kubernetes.networks.services),
        "kube_network_values": dict(network.values),
        "kube_addons_enabled": addons(site),
        "kube_addons_load_balancer_pool": pool(site),
        "kube_addons_balance_on_control_plane": not site.group(WORKER),
        "kube_addons_domain": kubernetes.domain,
        "kube_addons_nodes": len(set(_kubelets(site))),
        **queueing_vars(site),
        "kube_check_endpoint": f"{place}:{port}",
        "kube_check_nodes": list(dict.fromkeys(_kubelets(site))),
        "kube_check_domain": kubernetes.domain,
        "kube_check_load_balancer": "metallb" in addons(site),
        **kube_gpu_vars(site),
    }


def _moved_by_kube_vip(site: Site) -> str:
    """The endpoint's address, where kube-vip keeps it up."""
    told = site.cluster.kubernetes.endpoint
    return told.address if told.kind == KUBE_VIP else ""


def _kube_vip(site: Site, moved: str) -> Vars:
    found: Vars = {"kube_vip_address": moved, "kube_control_plane_hold": moved}
    if len(site.group(CONTROL_PLANE)) == 1:
        # nobody else could take it while the one API server starts anew
        found["kube_vip_lease"] = {"duration": 120, "renew": 100, "retry": 2}
    return found


def _all_taints(site: Site, node: Node) -> list[str]:
    """With the one that keeps pods off the control plane, where there are other nodes for them."""
    keeps_off = site.groups[WORKER] and node.name in site.groups[CONTROL_PLANE]
    return list(dict.fromkeys([*([CONTROL_PLANE_TAINT] if keeps_off else []), *taints(site, node)]))


def _control_plane_host(site: Site, node: Node) -> Vars:
    full = f"{node.name}.{site.cluster.domain}"
    moved = _moved_by_kube_vip(site)
    vip: Vars = {
        "kube_vip_node_address": node.address,
        "kube_vip_peers": [other.address for other in site.group(CONTROL_PLANE) if other.name != node.name],
    }
    return {
        **(vip if moved else {}),
        "kube_control_plane_address": node.address,
        "kube_control_plane_names": list(
            dict.fromkeys([endpoint(site)[0], node.name, full, "localhost", "127.0.0.1"])
        ),
        "kube_control_plane_labels": labels(site, node),
        "kube_control_plane_taints": _all_taints(site, node),
    }


def _store(site: Site) -> Vars:
    """Hosts of etcd; its settings are the same as beside the API servers."""
    kubernetes = site.cluster.kubernetes
    return {
        "etcd_members": [{"name": node.name, "address": node.address} for node in site.group(STORE)],
        "etcd_settings": dict(kubernetes.settings.etcd),
        "etcd_snapshots": kubernetes.snapshots.model_dump(),
    }


def store_hosts(site: Site) -> list[str]:
    """Where etcd runs: on hosts of its own, or beside the API servers."""
    return list(site.groups[STORE] or site.groups[CONTROL_PLANE])


def _workers(site: Site) -> Vars:
    address, port = endpoint(site)
    place = f"[{address}]" if ":" in address else address
    return {
        "kube_worker_endpoint": f"{place}:{port}",
        "kube_worker_runtime": site.cluster.kubernetes.runtime,
        "kube_worker_tolerate": list(site.cluster.kubernetes.tolerate),
    }


def _balancers(site: Site) -> Vars:
    address, port = endpoint(site)
    return {
        "kube_endpoint_address": address,
        "kube_endpoint_port": port,
        "kube_endpoint_backends": [
            {"name": node.name, "address": node.address, "port": API_PORT}
            for node in site.group(CONTROL_PLANE)
        ],
        "kube_endpoint_interface": "",
        "kube_endpoint_router_id": int(ipaddress.ip_address(address)) % 255 + 1,
    }


def _balancer_hosts(site: Site) -> dict[str, Vars]:
    members = site.group(BALANCER)
    step = max(1, (_FIRST_PRIORITY - 1) // max(1, len(members)))
    step = min(step, 10)
    return {
        node.name: {
            "kube_endpoint_priority": max(1, _FIRST_PRIORITY - step * place),
            "kube_endpoint_peers": [other.address for other in members if other.name != node.name],
        }
        for place, node in enumerate(members)
    }
