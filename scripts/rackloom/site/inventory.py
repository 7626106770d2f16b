"""A site as an inventory in plain data: what the inventory plugin hands to Ansible and reports read."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any

from .gpu_vars import gpu_group_vars, gpu_host_vars, gpu_profile_vars
from .groups import groups as group_definitions
from .kubernetes_vars import kubernetes_vars
from .logging_vars import logging_vars
from .mirror_vars import mirror_host_vars, mirror_vars, name_server_settings
from .monitoring_vars import monitoring_vars
from .provision_vars import provision_vars
from .resolved import Node, Site
from .role_vars import check_user, name_server_vars, profile_vars, role_vars
from .web_vars import web_vars

PROFILE_GROUP = "profile_"


@dataclass(slots=True)
class Inventory:
    """hosts: group → host names in order; children: group → groups; vars and hostvars: plain values."""

    hosts: dict[str, list[str]] = field(default_factory=dict)
    children: dict[str, list[str]] = field(default_factory=dict)
    vars: dict[str, dict[str, Any]] = field(default_factory=dict)
    hostvars: dict[str, dict[str, Any]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """In the form that ``ansible-inventory --list --export`` prints."""
        result: dict[str, Any] = {"_meta": {"hostvars": self.hostvars}}
        for name in [*self.hosts, *(name for name in self.vars if name not in self.hosts)]:
            result[name] = {
                key: value
                for key, value in (
                    ("hosts", self.hosts.get(name)),
                    ("children", self.children.get(name)),
                    ("vars", self.vars.get(name)),
                )
                if value
            }
        return result


def _connection(site: Site) -> dict[str, Any]:
    ssh = site.cluster.ssh
    folder = site.config_dir.resolve()
    # New nodes are trusted at first sight, changed ones never; the site has its own file for that.
    options = [
        "-o",
        f"UserKnownHostsFile={folder / ssh.known_hosts}",
        "-o",
        "StrictHostKeyChecking=accept-new",
    ]
    result: dict[str, Any] = {
        "ansible_user": ssh.user,
        "ansible_port": ssh.port,
        "ansible_ssh_common_args": shlex.join(options),
    }
    key = folder / (ssh.private_key or "ssh/id_ed25519")
    if ssh.private_key or key.is_file():
        result["ansible_ssh_private_key_file"] = str(key)
    return result


def _roles(site: Site) -> dict[str, list[str]]:
    """Host → the groups it is in by its place and its services, in the order of groups.yml."""
    roles: dict[str, list[str]] = {name: [] for name in site.nodes}
    for group in group_definitions():
        for host in site.groups[group]:
            roles[host].append(group)
    return roles


def _recorded(node: Node, roles: list[str]) -> dict[str, Any]:
    return {
        "address": node.address,
        "mac": node.mac,
        "bmc": node.bmc,
        "profile": node.profile,
        "roles": roles,
        "serial": node.serial,
    }


def build(site: Site) -> Inventory:
    """The whole inventory."""
    inventory = Inventory()
    definitions = group_definitions()
    roles = _roles(site)
    for name, hosts in site.groups.items():
        group = definitions.get(name)
        inventory.hosts[name] = [] if group is not None and group.children else list(hosts)
        if group is not None and group.children:
            inventory.children[name] = list(group.children)
    inventory.vars["all"] = {
        **_connection(site),
        "rackloom_cluster_name": site.cluster.name,
        "rackloom_domain": site.cluster.domain,
        "rackloom_config_dir": str(site.config_dir.resolve()),
        "rackloom_networks": {
            name: {"cidr": str(network.cidr), "gateway": network.gateway}
            for name, network in site.cluster.networks.items()
        },
        "rackloom_profiles": {name: profile_vars(site, name)["rackloom_hardware"] for name in site.profiles},
        "rackloom_check_user": check_user(site),
        **role_vars(site),
        **mirror_vars(site),
    }
    inventory.vars["name_server"] = {**name_server_vars(site), **name_server_settings(site)}
    if mirror := mirror_host_vars(site):
        inventory.vars["mirror"] = mirror
    if site.cluster.provision.on and site.groups["provisioner"]:
        inventory.vars["provisioner"] = provision_vars(site)
    kubernetes = kubernetes_vars(site)
    for name, variables in kubernetes.groups.items():
        inventory.vars[name] = dict(variables)
    monitoring, logs, web = monitoring_vars(site), logging_vars(site), web_vars(site)
    for part in (monitoring, logs, web):
        for name, variables in part.groups.items():
            inventory.vars.setdefault(name, {}).update(variables)
    if gpu := gpu_group_vars(site):
        inventory.vars.setdefault("gpu_node", {}).update(gpu)
    recorded = {name: _recorded(node, roles[name]) for name, node in site.nodes.items()}
    for name, group in definitions.items():
        if group.sees_nodes and site.groups[name]:
            # One object for all of them: its length is that of the cluster.
            inventory.vars.setdefault(name, {})["rackloom_nodes"] = recorded
    for name in site.profiles:
        inventory.vars[f"{PROFILE_GROUP}{name}"] = {
            **profile_vars(site, name),
            **gpu_profile_vars(site, name),
        }
    for name, node in site.nodes.items():
        inventory.hostvars[name] = {
            "ansible_host": node.address,
            "rackloom_address": node.address,
            "rackloom_profile": node.profile,
            "rackloom_roles": roles[name],
            **kubernetes.hosts.get(name, {}),
            **gpu_host_vars(site, name),
            **monitoring.hosts.get(name, {}),
            **logs.hosts.get(name, {}),
            **web.hosts.get(name, {}),
            **node.vars,
        }
    return inventory
