"""The section `kubernetes:` of cluster.yml: what runs on the nodes that `services:` gives to Kubernetes."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from . import fields as f
from .models_queueing import Queueing
from .part import Count, Part

API_PORT = 6443
BALANCER_PORT = 7443
"""HAProxy stands on the same hosts as the API servers, and those take 6443 on every address; 8443 is the mirror's."""
KUBE_VIP: Literal["kube-vip"] = "kube-vip"
OURS = ("keepalived", KUBE_VIP)
"""Who keeps up an endpoint's address on nodes of the site."""

EndpointKind = Literal["own", "keepalived", "kube-vip", "external"]
Port = Annotated[int, f.NoBool, Field(ge=0, le=65535)]


class AddonInfo(NamedTuple):
    """An add-on that a site can switch on; default: whether it is on where the site says nothing."""

    description: str
    default: bool = False
    chart: str = ""
    """The record of the chart that it is installed from, if it is from one."""
    options: tuple[str, ...] | None = None
    """What its values may hold, where it is not from a chart."""


ADDONS: dict[str, AddonInfo] = {
    "metrics_server": AddonInfo(
        "CPU and memory in use: kubectl top, autoscaling", default=True, chart="metrics-server"
    ),
    "local_path": AddonInfo(
        "volumes on the node's own disk; the default storage class",
        default=True,
        options=("path", "class", "default", "reclaim"),
    ),
    "nfs": AddonInfo(
        "volumes on an NFS server",
        options=("server", "path", "class", "default", "reclaim", "archive", "mount_options"),
    ),
    "metallb": AddonInfo(
        "addresses for LoadBalancer services; on by itself where there is a pool", chart="metallb"
    ),
    "gateway": AddonInfo(
        "Gateway API with a controller", options=("replicas", "class", "service", "address")
    ),
    "cert_manager": AddonInfo("certificates for workloads", chart="cert-manager"),
    "headlamp": AddonInfo("dashboard", options=("replicas", "service", "base_url")),
    "node_problem_detector": AddonInfo("trouble of nodes as conditions and events", options=("monitors",)),
    "kube_state_metrics": AddonInfo(
        "metrics of objects; on by itself where there is a Prometheus", options=("reader", "resources")
    ),
    "kueue": AddonInfo("queues with quotas for jobs; on by itself where there are queues", chart="kueue"),
    "volcano": AddonInfo("a second scheduler, for jobs that start whole or not at all", chart="volcano"),
    "mpi_operator": AddonInfo("jobs of MPI over several pods", options=("replicas",)),
    "trainer": AddonInfo(
        "training jobs over several pods, by Kubeflow Trainer with JobSet", chart="kubeflow-trainer"
    ),
    "kuberay": AddonInfo("Ray: clusters, jobs and services", chart="kuberay-operator"),
    "jupyterhub": AddonInfo("notebooks for many people", chart="jupyterhub"),
}
NEEDS_POOL = "metallb"
NEEDS_PROMETHEUS = "kube_state_metrics"
NEEDS_QUEUES = "kueue"


class Endpoint(Part):
    """The one address of the API."""

    address: f.Address = Field(
        "", description="Left out: that of the control-plane node, as long as there is but one"
    )
    port: Port = Field(0, description="0 = 6443; with keepalived 7443")
    by: f.EndpointBy = Field(
        "",
        description="keepalived: it moves between the control-plane nodes, HAProxy behind it; kube-vip: it moves "
        "between them, with no balancer behind it; external: a load balancer of yours has it; left out: keepalived "
        "once there is an address",
    )

    @property
    def kind(self) -> EndpointKind:
        """Who holds the address."""
        if self.by == "external":
            return "external"
        if self.by == KUBE_VIP:
            return KUBE_VIP
        return "keepalived" if self.by == "keepalived" or self.address else "own"

    @property
    def real_port(self) -> int:
        """The port that clients use."""
        return self.port or (BALANCER_PORT if self.kind == "keepalived" else API_PORT)


class KubeNetworks(Part):
    """Ranges that exist inside Kubernetes alone; they must not overlap with any network of the site."""

    pods: f.Cidr = Field(
        ipaddress.ip_network("10.244.0.0/16"), description="Addresses of pods; each node takes a /24 of it"
    )
    services: f.Cidr = Field(ipaddress.ip_network("10.96.0.0/12"), description="Addresses of services")


class PodNetwork(Part):
    """Who connects the pods."""

    plugin: f.PodPlugin = Field(
        "flannel", description="flannel, with kube-router enforcing NetworkPolicy; calico; cilium"
    )
    backend: f.FlannelBackend = Field("vxlan", description="How flannel gets from node to node")
    mtu: Annotated[int, f.NoBool, Field(ge=0, le=65535)] = Field(0, description="0 = found out by itself")
    values: f.Values = Field({}, description="Further values of the plugin's chart")


class Reserved(Part):
    """What pods never get, so that the system and its daemons live on."""

    cpu: f.CpuQuantity = Field("500m", description="CPUs: 2, or thousandths as 500m")
    memory: f.Quantity = Field("1Gi", description="Memory")
    storage: f.Quantity = Field("5Gi", description="Disk below the kubelet's folder")


class Kubelet(Part):
    """The agent on each node."""

    max_pods: Annotated[int, f.NoBool, Field(ge=1, le=1000)] = Field(110, description="Pods a node may have")
    reserved: Reserved = Field(default_factory=Reserved)
    topology_manager: f.TopologyManager = Field(
        "none", description="Whether GPUs, CPUs and memory of a pod shall be near each other"
    )
    cpu_manager: f.CpuManager = Field("none", description="static: whole CPUs for pods that ask for them")
    memory_manager: f.MemoryManager = Field(
        "None", description="Static: memory of one NUMA node for such pods"
    )
    settings: f.Values = Field({}, description="Further fields of the kubelet's configuration")


class KubeUser(Part):
    """A person with a kubeconfig of their own."""

    name: f.KubeName = Field(description="Name that permissions are given to")
    admin: bool = Field(False, description="May do everything")
    groups: f.KubeGroups = Field([], description="Groups that permissions are given to")


class Snapshots(Part):
    """Copies of the cluster's store on the control-plane nodes."""

    every: f.Interval = Field("6h", description="Time between two")
    keep: Count = Field(28, description="How many are kept")


class LoadBalancer(Part):
    """Addresses that services of type LoadBalancer get."""

    pool: f.Words = Field(
        [],
        description="Networks, ranges like 10.10.9.1-10.10.9.50, or addresses of network cluster; [] = none",
    )


class Addon(Part):
    """One add-on."""

    enabled: bool = Field(True, description="Whether it runs")
    values: f.Values = Field({}, description="Further values of its chart")


class ControlPlaneSettings(Part):
    """Further command-line arguments of the control plane, without the dashes."""

    apiserver: f.Settings = Field({}, description="kube-apiserver")
    controller_manager: f.Settings = Field({}, description="kube-controller-manager")
    scheduler: f.Settings = Field({}, description="kube-scheduler")
    etcd: f.Settings = Field({}, description="etcd")


class Kubernetes(Part):
    """Kubernetes on the nodes that `services` names for it: kube_control_plane and kube_node."""

    version: f.Release = Field(
        "", description="A release that the versions file holds; left out: its plain record"
    )
    endpoint: Endpoint = Field(default_factory=Endpoint)
    networks: KubeNetworks = Field(default_factory=KubeNetworks)
    domain: f.Domain = Field("cluster.local", description="DNS domain of services")
    runtime: f.Runtime = Field("containerd", description="What runs containers")
    network: PodNetwork = Field(default_factory=PodNetwork)
    proxy: f.ServiceProxy = Field("nftables", description="How service addresses lead to pods")
    tolerate: f.Tolerated = Field(
        [],
        description="Test hosts: what would stop an install and is only warned of then: cgroup_v1, swap, kernel",
    )
    kubelet: Kubelet = Field(default_factory=Kubelet)
    pod_security: f.PodSecurity = Field(
        "baseline", description="What pods may in namespaces that say nothing about it"
    )
    users: list[KubeUser] = Field([], description="Who gets a kubeconfig")
    snapshots: Snapshots = Field(default_factory=Snapshots)
    load_balancer: LoadBalancer = Field(default_factory=LoadBalancer)
    addons: dict[f.Text, Addon] = Field(
        {}, description=f"By name: {', '.join(ADDONS)}; left out: metrics_server and local_path"
    )
    queueing: Queueing = Field(default_factory=Queueing)
    gang_scheduling: bool = Field(
        False,
        description="Pods of a group start all or none, by Kubernetes' own scheduler; young, and not in each release",
    )
    settings: ControlPlaneSettings = Field(default_factory=ControlPlaneSettings)

    def enabled_addons(self, *, measured: bool) -> dict[str, dict[str, Any]]:
        """Add-ons that run, with their values, in the order of ADDONS. measured: whether there is a Prometheus."""
        alone = {
            NEEDS_POOL: bool(self.load_balancer.pool),
            NEEDS_PROMETHEUS: measured,
            NEEDS_QUEUES: bool(self.queueing.queues),
        }
        found: dict[str, dict[str, Any]] = {}
        for name, info in ADDONS.items():
            on = info.default or alone.get(name, False)
            addon = self.addons.get(name)
            if addon.enabled if addon is not None else on:
                found[name] = dict(addon.values) if addon is not None else {}
        return found
