"""What nodes, the API, etcd and Slurm told when they were looked at, as typed data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Host:
    """A node as it tells of itself. `reachable` is false where it did not answer; then nothing else is known."""

    name: str
    reachable: bool = True
    installed: Mapping[str, str] = field(default_factory=dict)
    manifests: Mapping[str, str] = field(default_factory=dict)
    joined: bool = False
    store: bool = False
    active: tuple[str, ...] = ()
    reboot: tuple[str, ...] = ()
    """Why it has to be rebooted."""

    @property
    def control_plane(self) -> bool:
        """Whether it is to run an API server."""
        return "kube-apiserver" in self.manifests


@dataclass(frozen=True, slots=True)
class Held:
    """A budget that lets none of a node's pods go now."""

    budget: str
    stands: str
    pods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KubeNode:
    """A node as the API knows it."""

    name: str
    ready: bool = True
    trouble: str = ""
    kubelet: str = ""
    runtime: str = ""
    address: str = ""
    cordoned: bool = False
    cordoned_for: str = ""
    control_plane: bool = False
    held: tuple[Held, ...] = ()
    unmanaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """A member of etcd. One that was let in and never started is called by its address."""

    name: str
    healthy: bool = True
    learner: bool = False
    id: str = ""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a control-plane node said of all. `at` is its name."""

    at: str
    server: str = ""
    release: str = ""
    proxy: str = ""
    nodes: Mapping[str, KubeNode] = field(default_factory=dict)
    members: tuple[Member, ...] = ()
    store_trouble: str = ""


@dataclass(frozen=True, slots=True)
class SlurmNode:
    """A node as Slurm knows it."""

    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A job on one of the nodes that were asked for."""

    id: str
    user: str
    state: str
    nodes: str


@dataclass(frozen=True, slots=True)
class Seen:
    """All of it. `cluster` is None where no API answered, and `trouble` says why; `slurm` where no controller did."""

    hosts: Mapping[str, Host] = field(default_factory=dict)
    cluster: Cluster | None = None
    trouble: str = ""
    apis: tuple[str, ...] = ()
    """Control-plane nodes through which the API answered."""
    slurm: Mapping[str, SlurmNode] | None = None
    jobs: tuple[Job, ...] = ()
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Those of the site's nodes, as its files have them: etcd calls a member that never started by nothing else."""

    def host(self, name: str) -> Host:
        """A host; one that was not asked did not answer."""
        return self.hosts.get(name, Host(name, reachable=False))


def read(
    facts: Mapping[str, Mapping[str, Any]], silent: Iterable[str] = (), order: Iterable[str] = ()
) -> Seen:
    """What the look's playbook gave. `silent`: hosts that did not answer; `order`: who is believed first."""
    hosts = {name: Host(name, reachable=False) for name in silent}
    asked: dict[str, Mapping[str, Any]] = {}
    slurm: Mapping[str, SlurmNode] | None = None
    jobs: tuple[Job, ...] = ()
    for name, told in facts.items():
        kubernetes = told.get("kubernetes")
        if kubernetes or "reboot" in told:
            hosts[name] = _host(name, (kubernetes or {}).get("node") or {}, told.get("reboot") or {})
        if kubernetes:
            asked[name] = kubernetes
        if (found := told.get("slurm")) is not None and slurm is None:
            slurm = {
                node: SlurmNode(str(row.get("state", "")), str(row.get("reason", "")))
                for node, row in (found.get("nodes") or {}).items()
            }
            jobs = tuple(
                Job(str(row["id"]), str(row["user"]), str(row["state"]), str(row["nodes"]))
                for row in found.get("jobs") or []
            )
    ranked = [name for name in order if name in asked] + [name for name in asked if name not in set(order)]
    apis = tuple(name for name in ranked if asked[name].get("cluster"))
    troubles = [f"{name}: {asked[name]['trouble']}" for name in ranked if asked[name].get("trouble")]
    cluster = _cluster(apis[0], asked[apis[0]]["cluster"]) if apis else None
    return Seen(hosts, cluster, "; ".join(troubles[:3]), apis, slurm, jobs)


def _host(name: str, told: Mapping[str, Any], reboot: Mapping[str, Any]) -> Host:
    return Host(
        name,
        installed=dict(told.get("installed") or {}),
        manifests=dict(told.get("manifests") or {}),
        joined=bool(told.get("joined")),
        store=bool(told.get("store")),
        active=tuple(told.get("active") or ()),
        reboot=tuple(reboot.get("why") or ()),
    )


def _cluster(at: str, told: Mapping[str, Any]) -> Cluster:
    nodes = {}
    for row in told.get("nodes") or []:
        held = tuple(
            Held(str(each["budget"]), str(each["stands"]), tuple(each["pods"]))
            for each in row.get("held") or []
        )
        plain = {
            key: row[key] for key in KubeNode.__slots__ if key in row and key not in ("held", "unmanaged")
        }
        nodes[str(row["name"])] = KubeNode(**plain, held=held, unmanaged=tuple(row.get("unmanaged") or ()))
    members = tuple(
        Member(
            str(row.get("name", "")),
            bool(row.get("healthy")),
            bool(row.get("learner")),
            str(row.get("id", "")),
        )
        for row in told.get("members") or []
    )
    plain = {key: str(told.get(key) or "") for key in ("server", "release", "proxy", "store_trouble")}
    return Cluster(at, nodes=nodes, members=members, **plain)
