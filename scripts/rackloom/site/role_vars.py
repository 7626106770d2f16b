"""The inputs of the roles, made from the site: only data, under exactly the names that the roles declare.

Lists of nodes are folded, so their length follows the number of kinds of nodes and not the number of nodes.
The one thing of length N for a role are the DNS records.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from .hardware import declared_mb, gres, real_memory_mb
from .models import ALL_NODES, PROFILE_PREFIX, Account, PackageSource, Partition, Qos, SlurmUser, User
from .ranges import expand, fold, fold_sorted
from .resolved import Node, Site

SLURMCTLD_PORT = 6817
# slurm.conf(5): slurmd reads these when it starts, and never again.
SLURMD_START = frozenset(
    {
        *("authtype", "grestypes", "jobacctgathertype", "jobcontainertype", "proctracktype", "prologflags"),
        *("selecttype", "slurmdport", "slurmdspooldir", "switchtype", "taskplugin", "taskpluginparam"),
    }
)
DEFAULT_QOS = "normal"  # slurmdbd makes it, and gives it to who names no other
CHECK_TEXT = "Checks by rackloom validate"

Vars = dict[str, Any]


def _host(node: Node) -> Vars:
    return {"name": node.name, "address": node.address}


def _hosts(nodes: Iterable[Node]) -> list[Vars]:
    return [_host(node) for node in nodes]


def _package_source(source: PackageSource) -> Vars:
    """A deb822 stanza with a name; what the site left out is left out. Without uris it is options alone."""
    apt: Vars = {
        "Types": list(source.types),
        "URIs": list(source.uris),
        "Suites": list(source.suites),
        "Components": list(source.components),
        "Architectures": list(source.architectures),
        "Signed-By": source.signed_by,
        "Trusted": "yes" if source.trusted else "",
    }
    fields = {key: value for key, value in apt.items() if value} if source.uris else {}
    return {"name": source.name, **fields, **source.options}


def _base(site: Site) -> Vars:
    cluster = site.cluster
    servers = [node.address for node in site.group("name_server")]
    return {
        "base_domain": cluster.domain,
        "base_search": list(dict.fromkeys([cluster.domain, *cluster.dns.search])),
        "base_name_servers": servers or list(cluster.dns.upstream),
        "base_static_hosts": _hosts(site.group("management")),
        "base_timezone": cluster.time.timezone,
        "base_package_sources": [_package_source(source) for source in cluster.packages.sources],
        "base_package_proxy": cluster.packages.proxy,
        "base_extra_packages": list(cluster.packages.extra),
        "base_sysctl": dict(cluster.sysctl),
        "base_limits": [limit.model_dump() for limit in cluster.limits],
    }


def _user(user: User) -> Vars:
    return {
        "name": user.name,
        "uid": user.uid,
        "gid": user.gid if user.gid is not None else user.uid,
        "keys": list(user.keys),
        "admin": user.admin,
        "groups": list(user.groups),
        "shell": user.shell,
        "comment": user.comment,
        "home": user.home or f"/home/{user.name}",
        "state": user.state,
    }


def check_user(site: Site) -> Vars:
    """The ordinary user that validation runs jobs as; its public key is a secret's other half, so not here."""
    user = site.cluster.check_user
    return _user(User(name=user.name, uid=user.uid, comment=CHECK_TEXT))


def _preempting(site: Site) -> tuple[str, str]:
    """(low, high): two QOS of which the second may preempt the first, for the check; "" where there are none."""
    preempt = site.cluster.slurm.preempt
    if preempt.mode != "off" and preempt.type == "qos":
        for qos in site.cluster.slurm.qos:
            if qos.preempt:
                return qos.preempt[0], qos.name
    return "", ""


def admins(site: Site) -> list[str]:
    """Who gets in everywhere and always: the user that Ansible comes as, and the administrators."""
    people = [user.name for user in site.cluster.users if user.admin and user.state == "present"]
    return list(dict.fromkeys([site.cluster.ssh.user, *people]))


def _access(site: Site) -> Vars:
    cluster = site.cluster
    return {
        "accounts_users": [_user(user) for user in cluster.users],
        "sshd_port": cluster.ssh.port,
        "sshd_admin_users": admins(site),
    }


def _clock(site: Site) -> Vars:
    return {
        "chrony_servers": [node.address for node in site.group("time_server")],
        "chrony_upstream": list(site.cluster.time.upstream),
        "chrony_allow": [str(network.cidr) for network in site.cluster.networks.values()],
    }


def _names(site: Site) -> Vars:
    cluster = site.cluster
    return {
        "name_server_domain": cluster.domain,
        "name_server_upstream": list(cluster.dns.upstream),
        "name_server_networks": [str(network.cidr) for network in cluster.networks.values()],
        "name_server_records": _hosts(site.nodes.values()),
        "name_server_srv": [
            {"service": "_slurmctld._tcp", "host": node.name, "port": SLURMCTLD_PORT, "priority": number}
            for number, node in enumerate(site.group("slurm_controller"))
        ],
    }


def slurm_nodes(site: Site) -> list[Vars]:
    """Nodes of group slurm_node folded by profile: one entry a profile."""
    by_profile: dict[str, list[Node]] = {}
    for node in site.group("slurm_node"):
        by_profile.setdefault(node.profile, []).append(node)
    entries: list[Vars] = []
    for name, nodes in by_profile.items():
        profile = site.profiles[name]
        entries.append(
            {
                "names": fold(node.name for node in nodes),
                "addresses": fold(node.address for node in nodes),
                "count": len(nodes),
                "profile": name,
                "sockets": profile.sockets,
                "cores": profile.cores,
                "threads": profile.threads,
                "memory_mb": real_memory_mb(profile),
                "tmp_disk_mb": profile.tmp_disk.mb,
                "gres": ",".join(str(line) for line in gres(profile)),
                "features": list(profile.features),
                "weight": profile.weight,
                "options": dict(profile.options),
            }
        )
    return entries


def slurm_gres(site: Site) -> list[Vars]:
    """gres.conf lines' data: one a profile and GPU type."""
    return [
        {"names": entry["names"], "name": "gpu", "type": line.type, "count": line.count,
         "files": line.files, "autodetect": line.autodetect}
        for entry in slurm_nodes(site)
        for line in gres(site.profiles[entry["profile"]])
    ]  # fmt: skip


def partition_nodes(site: Site, partition: Partition) -> str:
    """Folded node list of a partition; ALL when that is what was asked for."""
    members = set(site.groups["slurm_node"])
    found: list[str] = []
    for text in partition.nodes:
        if text == ALL_NODES:
            return "ALL"
        if text.startswith(PROFILE_PREFIX):
            wanted = text.removeprefix(PROFILE_PREFIX)
            found += [node.name for node in site.group("slurm_node") if node.profile == wanted]
        else:
            found += [name for name in expand(text) if name in members]
    return fold_sorted(found)


def slurm_partitions(site: Site) -> list[Vars]:
    """Partitions; at least one where there are nodes, and a default one unless the site says of each it is not."""
    checker = site.cluster.check_user.name
    declared = list(site.cluster.slurm.partitions)
    if not declared and site.groups["slurm_node"]:
        declared = [Partition(name="batch", default=True)]
    if declared and not any(partition.default for partition in declared):
        first = next((p.name for p in declared if p.default is None), None)
    else:
        first = None
    return [
        {
            **partition.model_dump(exclude={"nodes", "default"}),
            # Validation has to reach every partition, also those of a few accounts.
            "allow_accounts": [*partition.allow_accounts, checker] if partition.allow_accounts else [],
            "nodes": partition_nodes(site, partition),
            "default": bool(partition.default) or partition.name == first,
        }
        for partition in declared
    ]


def slurm_topology(site: Site) -> list[Vars]:
    """Switches over nodes that Slurm has now; a switch whose nodes all serve something else is left out."""
    members = set(site.groups["slurm_node"])
    switches = site.cluster.slurm.topology
    leaves = {
        switch.switch: [name for name in expand(switch.nodes) if name in members]
        for switch in switches
        if switch.nodes
    }
    above = {switch.switch: expand(switch.switches) for switch in switches if switch.switches}
    empty = {name for name, nodes in leaves.items() if not nodes}
    while bare := {name for name, under in above.items() if name not in empty and empty.issuperset(under)}:
        empty |= bare
    return [
        {
            "switch": switch.switch,
            "nodes": fold_sorted(leaves.get(switch.switch, [])),
            "switches": fold_sorted(name for name in above.get(switch.switch, []) if name not in empty),
        }
        for switch in switches
        if switch.switch not in empty
    ]


def _qos(qos: Qos) -> Vars:
    limits = {
        "MaxJobsPerUser": qos.max_jobs_per_user,
        "MaxSubmitJobsPerUser": qos.max_submit_per_user,
        "MaxWall": qos.max_wall,
        "MaxTRESPerUser": qos.max_tres_per_user,
    }
    return {
        "name": qos.name,
        "priority": qos.priority,
        "preempt": list(qos.preempt),
        "preempt_mode": qos.preempt_mode,
        "flags": list(qos.flags),
        "description": qos.description,
        "limits": {key: str(value) for key, value in limits.items() if value not in (None, "")} | qos.limits,
    }


def _account(account: Account) -> Vars:
    return {
        **account.model_dump(),
        "description": account.description or account.name,
        "organization": account.organization or account.name,
    }


def parents_first(accounts: list[Account]) -> list[Account]:
    """Accounts in an order in which each comes after its parent. Cycles were refused before."""
    by_name = {account.name: account for account in accounts}
    ordered: dict[str, Account] = {}
    for account in accounts:
        chain: list[Account] = []
        step: Account | None = account
        while step is not None and step.name not in ordered and step not in chain:
            chain.append(step)
            step = by_name.get(step.parent)
        for link in reversed(chain):
            ordered[link.name] = link
    return list(ordered.values())


def _slurm_user(user: SlurmUser) -> Vars:
    return {
        **user.model_dump(),
        "accounts": list(dict.fromkeys([user.account, *user.accounts])),
        # Slurm refuses a job that names no QOS when the user's list has no default.
        "default_qos": user.default_qos or next(iter(user.qos), ""),
    }


def _slurm(site: Site) -> Vars:
    cluster, slurm = site.cluster, site.cluster.slurm
    controllers = _hosts(site.group("slurm_controller"))
    accounting = site.group("slurm_accounting")
    database = site.group("slurm_database")
    dbd_host = _host(accounting[0]) if accounting else {}
    together = bool(accounting and database and accounting[0].name == database[0].name)
    storage = ("localhost" if together else database[0].name) if database and accounting else ""
    nodes = slurm_nodes(site)
    lines = slurm_gres(site)
    partitions = slurm_partitions(site)
    health = slurm.health_check.model_dump()
    check = site.cluster.check_user
    low_qos, high_qos = _preempting(site)
    check_qos = list(dict.fromkeys([DEFAULT_QOS, low_qos, high_qos])) if high_qos else []
    check_account = Account(name=check.name, description=CHECK_TEXT, organization="rackloom")
    result: Vars = {
        "mariadb_client_addresses": [] if together or not database else [node.address for node in accounting],
        "slurmdbd_host": dbd_host,
        "slurmdbd_storage_host": storage,
        "slurmctld_cluster_name": cluster.name,
        "slurmctld_controllers": controllers,
        "slurmctld_dbd_host": dbd_host,
        "slurmctld_nodes": nodes,
        "slurmctld_gres": lines,
        "slurmctld_gres_types": ["gpu"] if lines else [],
        "slurmctld_partitions": partitions,
        "slurmctld_priority": slurm.priority.model_dump(),
        "slurmctld_preempt": slurm.preempt.model_dump(),
        "slurmctld_topology": slurm_topology(site),
        "slurmctld_health_check": health,
        "slurmctld_settings": dict(slurm.settings),
        "slurmd_controllers": controllers,
        "slurmd_health_check": health,
        "slurmd_admin_users": admins(site),
        "slurm_accounts_cluster_name": cluster.name,
        "slurm_accounts_qos": [_qos(qos) for qos in slurm.qos],
        "slurm_accounts_accounts": [
            _account(account) for account in [*parents_first(slurm.accounts), check_account]
        ],
        "slurm_accounts_users": [
            _slurm_user(user)
            for user in [*slurm.users, SlurmUser(name=check.name, account=check.name, qos=check_qos)]
        ],
        "slurm_login_controllers": controllers,
        "slurm_login_cluster_name": cluster.name,
        "slurm_check_user": check.name,
        "slurm_check_low_qos": low_qos,
        "slurm_check_high_qos": high_qos,
        "slurm_check_partition": next((p["name"] for p in partitions if p["default"]), ""),
    }
    if dbd_host:
        result["slurm_accounts_dbd_host"] = dbd_host
    if slurm.state_dir:
        result["slurmctld_state_dir"] = slurm.state_dir
    return result


def role_vars(site: Site) -> Vars:
    """Inputs for the group `all`. name_server_* are apart, see `name_server_vars`."""
    return {**_base(site), **_access(site), **_clock(site), **_slurm(site)}


def name_server_vars(site: Site) -> Vars:
    """Inputs of the role name_server; one record a node, so only for the group that needs them."""
    return _names(site)


def profile_vars(site: Site, name: str) -> Vars:
    """Inputs for the hosts of one profile: their own hardware."""
    profile = site.profiles[name]
    lines = gres(profile)
    settings = {
        key: value for key, value in site.cluster.slurm.settings.items() if key.lower() in SLURMD_START
    }
    hardware = [profile.sockets, profile.cores, profile.threads, [str(line) for line in lines]]
    return {
        # Anything that differs when slurmd has to start anew; it is compared, not read.
        "slurmd_restart_on": json.dumps([hardware, settings], sort_keys=True),
        "slurmd_gpus": [{"type": line.type, "count": line.count, "files": line.files} for line in lines],
        "rackloom_hardware": {
            "sockets": profile.sockets,
            "cores": profile.cores,
            "threads": profile.threads,
            "memory_mb": declared_mb(profile),
            "slurm_memory_mb": real_memory_mb(profile),
            "tmp_disk_mb": profile.tmp_disk.mb,
            "features": list(profile.features),
            "gpus": [{"type": gpu.type, "count": gpu.count, "mig": dict(gpu.mig)} for gpu in profile.gpus],
        },
    }
