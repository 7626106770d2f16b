"""The lab's site: the same two files a real cluster has, written for the nodes of a lab."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rackloom.lab import kubernetes
from rackloom.lab.machine import Machine
from rackloom.lab.nodes import NodeSpec, make_key
from rackloom.lab.options import LabOptions
from rackloom.lab.vms import (
    CERTIFICATE,
    VmSpec,
    entries,
    profiles,
    provision_section,
    room_address,
    with_provision,
)

ROLES = ("management", "login", "compute")
_FIRST = {"management": 11, "login": 21, "compute": 51}
_LOGINS = 1
_NODE_MEMORY_MB = 2000
_LEAST_MEMORY_MB = 500
_ROOMY_MB = 6000
_SOCKET_PATH_LIMIT = 80
"""Longest folder for SSH's sockets: the kernel takes 108 bytes, ssh adds up to 28 of its own."""


def plan(options: LabOptions, subnet: ipaddress.IPv4Network) -> tuple[NodeSpec, ...]:
    """Return the lab's nodes with their addresses: mgmt01 …, login01, gpu01 … (cn01 … without GPUs)."""
    compute = "gpu" if options.gpus else "cn"
    lists = (
        ("management", "mgmt", options.management, 0),
        ("login", "login", _LOGINS, 0),
        ("compute", compute, options.compute, options.gpus),
    )
    return tuple(
        NodeSpec(f"{prefix}{number + 1:02d}", str(subnet[_FIRST[role] + number]), role, gpus)
        for role, prefix, count, gpus in lists
        for number in range(count)
    )


def fold(nodes: Sequence[NodeSpec]) -> str:
    """Return the names of consecutively numbered nodes as one range: gpu[01-04]."""
    if len(nodes) == 1:
        return nodes[0].name
    stem = nodes[0].name.rstrip("0123456789")
    return f"{stem}[{nodes[0].name[len(stem) :]}-{nodes[-1].name[len(stem) :]}]"


def node_memory(machine: Machine) -> int:
    """Return the MiB each node counts as its own; nodes share the machine, nothing is set aside."""
    return (
        _NODE_MEMORY_MB if machine.memory_mb >= _ROOMY_MB else max(machine.memory_mb // 4, _LEAST_MEMORY_MB)
    )


def nodes_file(
    nodes: Sequence[NodeSpec],
    options: LabOptions,
    machine: Machine,
    machines: Sequence[VmSpec] = (),
    room: str = "",
) -> dict[str, Any]:
    """Return nodes.yml as data. The hardware is what slurmd finds on this machine.

    `machines` are virtual ones; they compute, and `room` is the address of their controller.
    """
    cpus = machine.topology
    server = {
        "sockets": cpus.sockets,
        "cores": cpus.cores,
        "threads": cpus.threads,
        "memory": f"{node_memory(machine)}M",
    }
    profiles_of: dict[str, Any] = {"server": server}
    if options.gpus:
        profiles_of["gpu"] = {**server, "gpus": [{"type": "a100", "count": options.gpus}]}
    site: dict[str, Any] = {"profiles": profiles_of}
    for role in ROLES:
        members = [node for node in nodes if node.role == role]
        profile = "gpu" if role == "compute" and options.gpus else "server"
        entry = {"name": fold(members), "address": members[0].address, "profile": profile}
        site[role] = [{**entry, "mac": [node.mac for node in members]}]
    profiles_of.update(profiles(machines))
    site["compute"] += entries(machines, room)
    return site


def cluster_file(
    options: LabOptions, subnet: ipaddress.IPv4Network, machine: Machine, keys: Mapping[str, str]
) -> dict[str, Any]:
    """Return cluster.yml as data; `keys` are the public SSH keys of alice and bob."""
    people = [("alice", 2001, "research"), ("bob", 2002, "teaching")]
    slurm: dict[str, Any] = {
        "partitions": [
            {"name": "batch", "nodes": "all", "default": True, "max_time": "1-00:00:00"},
            {"name": "debug", "nodes": "all", "max_time": "0:30:00", "priority": 10},
        ],
        "qos": [
            {"name": "low", "priority": 0},
            {"name": "urgent", "priority": 1000, "preempt": ["low"], "max_jobs_per_user": 4},
        ],
        "preempt": {"mode": "requeue"},
        "accounts": [
            {"name": "research", "fairshare": 3, "qos": ["normal", "low", "urgent"]},
            {"name": "teaching", "fairshare": 1, "qos": ["normal", "low"]},
        ],
        "users": [{"name": name, "account": account} for name, _, account in people],
        "health_check": {"interval": 30},
    }
    if not machine.topology.regular:
        # Processors of two kinds look different to slurmd than any file can say.
        slurm["settings"] = {"SlurmdParameters": "config_overrides"}
    site: dict[str, Any] = {
        "name": options.name,
        "domain": f"{options.name}.test",
        "networks": {"cluster": {"cidr": str(subnet), "gateway": str(subnet[1])}},
        "ssh": {"user": "root", "private_key": "ssh/id_ed25519", "known_hosts": "known_hosts"},
        # Containers share this machine's clock: nobody outside needs to be asked.
        "time": {"timezone": "Etc/UTC", "upstream": []},
        "dns": {"upstream": [] if options.closed else list(machine.resolvers)},
        "users": [{"name": name, "uid": uid, "keys": [keys[name]]} for name, uid, _ in people],
        "slurm": slurm,
    }
    if options.gpus:
        site["gpu"] = {"simulated": True}
    if options.kubernetes:
        site.update(kubernetes.sections(plan(options, subnet), subnet, machine))
        if not site["services"].get("slurm_controller", True):
            del site["slurm"]
    return site


def write(
    folder: Path,
    options: LabOptions,
    subnet: ipaddress.IPv4Network,
    nodes: Sequence[NodeSpec],
    machine: Machine,
    machines: Sequence[VmSpec] = (),
) -> str:
    """Write the site into `folder`; returns the public key that opens the nodes.

    nodes.yml follows the lab's nodes. cluster.yml and keys are written once and then belong
    to whoever tries things in the lab.
    """
    ssh = folder / "ssh"
    ssh.mkdir(parents=True, exist_ok=True)
    for private in (folder, ssh):
        private.chmod(0o700)
    admin_key = make_key(ssh / "id_ed25519", f"lab-{options.name}")
    keys = {name: make_key(ssh / name, name) for name in ("alice", "bob")}
    cluster = folder / "cluster.yml"
    if not cluster.exists():
        head = "# The lab's cluster. Change it and run: rackloom deploy --config <this folder>"
        replace(cluster, _yaml(cluster_file(options, subnet, machine, keys), head))
    head = "# The lab's nodes; `rackloom lab up` writes this file anew when it adds some."
    site = nodes_file(nodes, options, machine, machines, room_address(str(subnet)))
    replace(folder / "nodes.yml", _yaml(site, head))
    sockets = folder.parent / "cp"
    if len(str(sockets)) <= _SOCKET_PATH_LIMIT:
        # Open connections are kept where `down` finds and closes them.
        text = _yaml({"ansible_control_path_dir": str(sockets)}, "# Where SSH keeps its sockets.")
        replace(folder / "group_vars/all/connection.yml", text)
    return admin_key


def add_provisioning(folder: Path, nodes: Sequence[NodeSpec]) -> None:
    """Let cluster.yml say how machines are provisioned, unless it does already."""
    cluster = folder / "cluster.yml"
    provisioner = next(node.name for node in nodes if node.role == "management")
    replace(cluster, with_provision(cluster.read_text(), provision_section(CERTIFICATE), provisioner))


def replace(path: Path, text: str) -> None:
    """Write a file in one step, and only when its content changes."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)


def _yaml(data: Mapping[str, Any], head: str) -> str:
    import yaml  # noqa: PLC0415 - the CLI's help does not need it

    return f"---\n{head}\n{yaml.safe_dump(dict(data), sort_keys=False, width=100)}"
