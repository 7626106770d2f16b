"""Checks of cluster.yml but Slurm: networks, SSH, people, services."""

from __future__ import annotations

import ipaddress
import re
import stat
import zoneinfo

from .check_gpu import place_gpu_nodes
from .check_kubernetes import place_balancer
from .check_logging import place_logging
from .check_mirror import place_mirror
from .check_monitoring import place_monitoring
from .check_web import place_web
from .context import Context, lists_of
from .groups import LISTS, derived
from .mistakes import suggest

SYSTEM_USERS = frozenset(
    {
        *(
            "root",
            "daemon",
            "bin",
            "sys",
            "sync",
            "games",
            "man",
            "lp",
            "mail",
            "news",
            "uucp",
            "proxy",
            "backup",
        ),
        *("list", "irc", "nobody", "www-data", "_apt", "messagebus", "polkitd", "sshd", "chrony", "_chrony"),
        *(
            "systemd-network",
            "systemd-resolve",
            "systemd-timesync",
            "munge",
            "slurm",
            "mysql",
            "dnsmasq",
            "nginx",
        ),
        *("grafana", "prometheus", "etcd"),
    }
)
_SYSCTL = re.compile(r"[a-z0-9_-]+(?:[./][A-Za-z0-9_*-]+)+")
_LIMIT = re.compile(r"-?[0-9]+|unlimited|infinity")


def check_networks(ctx: Context) -> None:
    """One network called cluster, no two overlap, gateways inside."""
    networks = ctx.cluster_file.networks
    written = ctx.raw(ctx.cluster, "networks")
    if isinstance(written, dict) and "cluster" not in written:
        message = "There is no network called cluster, the one that all nodes are in."
        cure = "Add `cluster: {cidr: 10.10.0.0/16}`, or rename one to cluster."
        ctx.cluster(("networks",), "", message, cure, "missing-key", key=True)
    seen = list(networks.items())
    for index, (name, network) in enumerate(seen):
        where = (*network.where, "cidr")
        for other, earlier in seen[:index]:
            if network.cidr.version == earlier.cidr.version and network.cidr.overlaps(earlier.cidr):
                message = f"Network {name} ({network.cidr}) overlaps with network {other} ({earlier.cidr})."
                ctx.cluster(where, network.cidr, message, "Give each its own range.", "overlapping-networks")
                break
        if network.gateway:
            here = (*network.where, "gateway")
            gateway = ipaddress.ip_address(network.gateway)
            if gateway not in network.cidr:
                message = f"Gateway {gateway} is outside network {name} ({network.cidr})."
                ctx.cluster(
                    here, gateway, message, "Write the router's address in that network.", "outside-network"
                )
            elif (
                gateway in (network.cidr.network_address, network.cidr.broadcast_address)
                and network.cidr.num_addresses > 2
            ):
                message = f"Gateway {gateway} is the network's own or its broadcast address."
                ctx.cluster(here, gateway, message, "Write the router's address.", "reserved-address")


def check_ssh(ctx: Context) -> None:
    """A named key exists and ssh would use it."""
    named = ctx.cluster_file.ssh.private_key
    if not named:
        return
    path = ctx.config_dir / named
    where = ("ssh", "private_key")
    if not path.is_file():
        cure = f"Put the key there: ssh-keygen -t ed25519 -f {path}"
        ctx.cluster(where, named, f"There is no key file {named} in this folder.", cure, "missing-file")
    elif stat.S_IMODE(path.stat().st_mode) & 0o077:
        message = f"Others may read the key file {named}, so ssh will not use it."
        ctx.cluster(where, named, message, f"Run: chmod 600 {path}", "key-mode")


def check_clock(ctx: Context) -> None:
    """The time zone exists."""
    zone = ctx.cluster_file.time.timezone
    try:
        zoneinfo.ZoneInfo("Etc/UTC")
    except zoneinfo.ZoneInfoNotFoundError:
        return  # This machine has no time zones to compare with.
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        cure = suggest(zone, zoneinfo.available_timezones()) or "Write one like Europe/Berlin."
        ctx.cluster(("time", "timezone"), zone, f"There is no time zone {zone}.", cure, "bad-timezone")


def check_base(ctx: Context) -> None:
    """Package sources, sysctl keys and limits."""
    seen: dict[str, int] = {}
    for source in ctx.cluster_file.packages.sources:
        where = (*source.where, "name")
        if source.name in seen:
            message = f"Package source {source.name} is already in line {seen[source.name]}."
            ctx.cluster(where, source.name, message, "Name each source once.", "duplicate-name")
        seen.setdefault(source.name, ctx.cluster.line(where))
    for key in ctx.cluster_file.sysctl:
        if _SYSCTL.fullmatch(key) is None:
            ctx.cluster(
                ("sysctl", key),
                key,
                f"{key} is no sysctl key.",
                "Write one like vm.swappiness.",
                "bad-value",
                key=True,
            )
    for limit in ctx.cluster_file.limits:
        if _LIMIT.fullmatch(limit.value) is None:
            where = (*limit.where, "value")
            ctx.cluster(
                where, limit.value, f"{limit.value} is no limit.", "Write a number or unlimited.", "bad-value"
            )


def check_people(ctx: Context) -> None:
    """Names and numbers once, everybody has a key."""
    names: dict[str, int] = {}
    uids: dict[int, tuple[str, int]] = {}
    check = ctx.cluster_file.check_user
    for user in ctx.cluster_file.users:
        where = (*user.where, "name")
        line = ctx.cluster.line(where)
        if user.name in SYSTEM_USERS:
            message = f"{user.name} is an account of the system."
            ctx.cluster(where, user.name, message, "Choose another name.", "reserved-name")
        if user.name in names:
            message = f"User {user.name} is already in line {names[user.name]}."
            ctx.cluster(where, user.name, message, "Name each user once.", "duplicate-name")
        elif user.name == check.name:
            message = f"{user.name} is the user that the checks run as (check_user)."
            ctx.cluster(where, user.name, message, "Choose another name for one of them.", "duplicate-name")
        names.setdefault(user.name, line)
        here = (*user.where, "uid")
        if user.uid in uids:
            other, first = uids[user.uid]
            message = f"uid {user.uid} of {user.name} already belongs to {other} in line {first}."
            ctx.cluster(here, user.uid, message, "Give each user a number of their own.", "duplicate-uid")
        elif user.uid == check.uid:
            message = (
                f"uid {user.uid} of {user.name} belongs to {check.name}, the user that the checks run as."
            )
            ctx.cluster(here, user.uid, message, "Choose another, or set check_user.uid.", "duplicate-uid")
        uids.setdefault(user.uid, (user.name, ctx.cluster.line(here)))
        written = ctx.raw_at((*user.where, "keys"))
        if not written and user.state == "present":
            key = isinstance(ctx.raw_at(user.where), dict) and "keys" in ctx.raw_at(user.where)
            place = (*user.where, "keys") if key else where
            message = f"User {user.name} has no key and could never log in."
            ctx.cluster(
                place, user.name, message, "Add `keys:` with the line of a .pub file.", "no-key", key=key
            )
    if check.name in SYSTEM_USERS:
        ctx.cluster(
            ("check_user", "name"),
            check.name,
            f"{check.name} is an account of the system.",
            "Choose another.",
            "reserved-name",
        )


def resolve_services(ctx: Context) -> None:
    """Fill ctx.groups with every group's hosts; report what a site's overrides get wrong."""
    lists = lists_of(ctx.hosts)
    overrides = ctx.cluster_file.services
    services = [name for name, group in ctx.definitions.items() if group.service]
    off = {
        child
        for name, group in ctx.definitions.items()
        if group.children and overrides.get(name) == []
        for child in group.children
    }
    for name in LISTS:
        ctx.groups[name] = lists[name]
    for name in overrides:
        where = ("services", name)
        group = ctx.definitions.get(name)
        if group is None:
            cure = (
                suggest(name, [*services, *(n for n, g in ctx.definitions.items() if g.children)])
                or "See inventory/groups.yml."
            )
            ctx.cluster(where, name, f"There is no service group {name}.", cure, "unknown-group", key=True)
        elif group.list:
            message = f"{name} is made of the nodes in nodes.yml."
            ctx.cluster(
                where,
                name,
                message,
                f"Remove it here; edit `{name}:` in nodes.yml.",
                "unknown-group",
                key=True,
            )
        elif group.children and overrides[name]:
            message = f"{name} is a group of groups and has no hosts of its own."
            cure = f"Name one of {', '.join(group.children)}; or [] to switch all of them off."
            ctx.cluster(where, name, message, cure, "unknown-group", key=True)
    # Groups that are made of others' rest come after those.
    for name, group in sorted(ctx.definitions.items(), key=lambda item: bool(item[1].without)):
        if not group.service:
            continue
        if name in overrides:
            ctx.groups[name] = _override(ctx, name, lists)
        elif name in off:
            ctx.groups[name] = []
        else:
            ctx.groups[name] = derived(group, lists, ctx.groups)
    place_mirror(ctx, lists)
    place_balancer(ctx, off)
    place_gpu_nodes(ctx)
    place_monitoring(ctx, lists)
    place_logging(ctx, lists)
    place_web(ctx, lists)
    for name, group in ctx.definitions.items():
        if group.children:
            members = dict.fromkeys(host for child in group.children for host in ctx.groups[child])
            ctx.groups[name] = list(members)
    _sizes(ctx)


def _override(ctx: Context, name: str, lists: dict[str, list[str]]) -> list[str]:
    where = ("services", name)
    found = ctx.read_hosts(ctx.cluster_file.services[name], where, name, words=lists)
    doubles = {host for host in found if found.count(host) > 1} if len(found) < 2000 else set()
    if doubles:
        first = min(doubles)
        ctx.cluster(where, first, f"{name} names {first} twice.", "Name each host once.", "duplicate-name")
    return list(dict.fromkeys(found))


def _sizes(ctx: Context) -> None:
    overrides = ctx.cluster_file.services
    broken = ctx.broken_names - set(ctx.hosts)
    for name, group in ctx.definitions.items():
        hosts = ctx.groups[name]
        where = ("services", name)
        if not hosts or broken:
            continue
        if group.odd and len(hosts) % 2 == 0:
            message = (
                f"{name} has {len(hosts)} hosts; an even number tolerates no more failures than one less."
            )
            ctx.cluster(where, overrides.get(name, hosts), message, "Make it odd: 1, 3 or 5.", "even-members")
        if group.max is not None and len(hosts) > group.max:
            message = f"{name} has {len(hosts)} hosts, but only {group.max} can do this work."
            ctx.cluster(where, overrides.get(name, hosts), message, f"Name {group.max}.", "too-many-hosts")
        for other in group.requires:
            if ctx.groups[other]:
                continue
            at = ("services", other) if other in overrides else where
            message = f"{name} has hosts, but {other}, which it needs, has none."
            cure = f"Name a host for {other}, or switch {name} off with `{name}: []`."
            ctx.cluster(at, "[]", message, cure, "missing-service", key=at[1] not in overrides)


def check_cluster(ctx: Context) -> None:
    """Everything about cluster.yml that needs no nodes."""
    check_networks(ctx)
    check_ssh(ctx)
    check_clock(ctx)
    check_base(ctx)
    check_people(ctx)
