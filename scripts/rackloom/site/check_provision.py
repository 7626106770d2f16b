"""Checks of `provision:`: images and layouts that can be, addresses no two machines get, nodes that can be found."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from . import fields as f
from .context import Context
from .groups import LISTS
from .keys import controller_key
from .mistakes import Path as Where
from .mistakes import suggest
from .models import NodeEntry
from .models_provision import DEFAULT_LAYOUT, DiskPartition, Image, Layout
from .part import Part
from .paths import home
from .ranges import RangeError, expand, fold_sorted
from .resolved import Node

TOP = ("provision",)
LEAST_ROOT_MB = 1024
OWNED_WORDS = ("boot", "fetch", "ip", "initrd", "root")
OWNED_PREFIX = "rackloom."
RPM_SYSTEMS = ("rocky-9", "rhel-9")


def roles() -> set[str]:
    """Names of the roles that an image may hold."""
    return {path.name for path in (home() / "roles").glob("*") if (path / "tasks").is_dir()}


def boot_network(ctx: Context) -> tuple[str, f.IpNetwork] | None:
    """Name and range of the network that nodes boot in: the one of the boot server's address."""
    networks = ctx.cluster_file.networks
    address = ctx.cluster_file.provision.address
    if not address:
        return ("cluster", networks["cluster"].cidr) if "cluster" in networks else None
    for name, network in networks.items():
        if ipaddress.ip_address(address) in network.cidr:
            return name, network.cidr
    return None


def check_provision(ctx: Context) -> None:
    """Everything about provisioning; fills `image` of the nodes. Nothing of it holds for a site that has none."""
    _on(ctx)
    for name, image in ctx.cluster_file.provision.images.items():
        _image(ctx, name, image)
    for layout in ctx.cluster_file.provision.layouts.values():
        _layout(ctx, layout)
    _assign(ctx)
    _discovery(ctx)
    _network(ctx)
    _bmc(ctx)
    _nodes(ctx)


def _on(ctx: Context) -> None:
    """Images and a provisioner come together."""
    provision = ctx.cluster_file.provision
    provisioners = ctx.groups.get("provisioner", [])
    declared = ctx.raw(ctx.cluster, "provision", "images")
    if declared and not provisioners and not ctx.raw(ctx.cluster, "services", "provisioner"):
        message = "There are images, but no node that serves them: the group provisioner is empty."
        cure = "Name one: `services: {provisioner: [<management node>]}`."
        ctx.cluster((*TOP, "images"), "provisioner", message, cure, "no-provisioner", key=True)
    if (provisioners or ctx.raw(ctx.cluster, "provision")) and not declared:
        where: Where = TOP if ctx.raw(ctx.cluster, "provision") else ("services", "provisioner")
        message = "Nodes cannot be installed without an image."
        cure = "Add `provision: {images: {compute: {os: debian-12}}, assign: {compute: compute}}`."
        if where != TOP:
            cure = f"{cure[:-1]}, or switch provisioner off."
        ctx.cluster(where, "images", message, cure, "no-image", key=True)
    elif provision.address:
        _one_address(ctx, provision.address)


def _one_address(ctx: Context, address: str) -> None:
    """The boot server's address belongs to no node that is no provisioner."""
    where = (*TOP, "address")
    owner = next((node for node in ctx.hosts.values() if node.address == address), None)
    if owner is not None and owner.name not in ctx.groups.get("provisioner", []):
        message = f"{address} is the address of {owner.name}, which is no provisioner."
        cure = "Write a provisioner's address, or add the node to `services: {provisioner: …}`."
        ctx.cluster(where, address, message, cure, "duplicate-address")


def _image(ctx: Context, name: str, image: Image) -> None:
    known = roles()
    for index, role in enumerate(image.roles):
        if role not in known:
            written = ctx.raw_at((*image.where, "roles"))
            where = (*image.where, "roles", index) if isinstance(written, list) else (*image.where, "roles")
            cure = suggest(role, known) or "See the reference of roles."
            ctx.cluster(where, role, f"There is no role {role}.", cure, "unknown-role")
    _known_layout(ctx, image)
    if image.kind == "installer" and image.mode == "memory":
        message = f"Image {name} cannot run from memory: an installer writes to a disk."
        ctx.cluster(
            (*image.where, "mode"), image.mode, message, "Write `mode: disk`, or `kind: image`.", "image-mode"
        )
    if image.kind == "image" and image.os in RPM_SYSTEMS:
        message = f"Images are built of Debian and Ubuntu; {image.os} has its installer."
        ctx.cluster((*image.where, "os"), image.os, message, "Add `kind: installer`.", "image-os")
    if image.kind == "installer" and not image.source and not image.os.startswith("ubuntu"):
        message = (
            f"The installer of {image.os} fetches every package, and image {name} does not say from where."
        )
        cure = "Add `source:`, the address of a mirror of this distribution."
        ctx.cluster((*image.where, "kind"), image.kind, message, cure, "image-source")
    for word in image.kernel_options.split():
        key = word.partition("=")[0]
        if key in OWNED_WORDS or key.startswith(OWNED_PREFIX):
            where = (*image.where, "kernel_options")
            message = f"The boot server sets {key} itself."
            ctx.cluster(where, word, message, "Remove it.", "owned-setting")


def _known_layout(ctx: Context, image: Image) -> None:
    known = {DEFAULT_LAYOUT, *ctx.declared(ctx.cluster, "provision", "layouts")}
    if image.layout not in known:
        cure = suggest(image.layout, known) or "Add it under `layouts:`."
        ctx.cluster(
            (*image.where, "layout"),
            image.layout,
            f"There is no layout {image.layout}.",
            cure,
            "unknown-layout",
        )


def _lost(ctx: Context, part: Part, key: str) -> bool:
    """Whether what is written there could not be read: said where it stands, and no reason for a second mistake."""
    written = ctx.raw_at((*part.where, key))
    default = type(part).model_fields[key].default
    if written in (None, "") or getattr(part, key) != default:
        return False
    if isinstance(default, list):
        return default != (written if isinstance(written, list) else [written])
    return str(default) != str(written).lower()


def _place(ctx: Context, part: Part, key: str) -> Where:
    """Where a key is written, or the part if it is left out."""
    return part.where if ctx.raw_at((*part.where, key)) is None else (*part.where, key)


def _layout(ctx: Context, layout: Layout) -> None:
    where = _place(ctx, layout, "disks")
    if not _lost(ctx, layout, "raid") and not _lost(ctx, layout, "disks"):
        trouble = _disks_trouble(layout)
        if trouble is not None:
            ctx.cluster(where, layout.disks, trouble[0], trouble[1], "impossible-layout")
    _partitions(ctx, layout)


def _disks_trouble(layout: Layout) -> tuple[str, str] | None:
    """(message, cure) of disks that make no layout."""
    disks = layout.disks
    if not disks:
        return "A layout without a disk.", "Write `disks: [auto]`."
    if layout.raid == "1" and len(disks) < 2:
        return "RAID 1 mirrors two disks; one is named.", "Write `disks: [auto, auto]`, or name two."
    if layout.raid == "none" and len(disks) > 1:
        message = f"{len(disks)} disks, but no RAID: only one of them would be used."
        return message, "Write `raid: 1`, or name one disk."
    double = next((disk for disk in disks if disk != "auto" and disks.count(disk) > 1), None)
    if double is not None:
        return f"{double} is named twice.", "Name each disk once; only auto may come twice."
    return None


def _partitions(ctx: Context, layout: Layout) -> None:
    code = "impossible-layout"
    mounts: dict[str, int] = {}
    rest = 0
    whole = len(ctx.raw_at((*layout.where, "partitions")) or layout.partitions) == len(layout.partitions)
    for partition in layout.partitions:
        if any(_lost(ctx, partition, key) for key in ("mount", "size", "filesystem")):
            whole = False
            continue
        trouble = _partition_trouble(partition)
        if trouble is not None:
            key, message, cure = trouble
            ctx.cluster(_place(ctx, partition, key), getattr(partition, key), message, cure, code)
        if partition.mount:
            where = (*partition.where, "mount")
            if partition.mount in mounts:
                message = (
                    f"{partition.mount} is mounted twice; the first is in line {mounts[partition.mount]}."
                )
                ctx.cluster(where, partition.mount, message, "Keep one of them.", code)
            mounts.setdefault(partition.mount, ctx.cluster.line(where))
        rest += partition.size == f.REST
        if partition.size == f.REST and rest == 2:
            message = "Two partitions of one disk cannot both take the rest."
            ctx.cluster(_place(ctx, partition, "size"), f.REST, message, "Give one of them a size.", code)
    if "/" not in mounts and whole:
        message = "No partition is mounted at /, so there is no place for the system."
        place = _place(ctx, layout, "partitions")
        ctx.cluster(place, "/", message, "Add `{mount: /, size: rest}`.", code, key=True)


def _partition_trouble(partition: DiskPartition) -> tuple[str, str, str] | None:
    """(key, message, cure) of a partition that cannot be."""
    if partition.filesystem == "swap":
        if partition.mount:
            return "mount", "Swap is not mounted anywhere.", "Remove `mount:`."
        return None
    if not partition.mount:
        return "mount", "A partition without a place.", "Add `mount:`, or `filesystem: swap`."
    if partition.mount in ("/boot/efi", "/efi"):
        return "mount", "The firmware's partition is added by itself.", "Remove this one."
    if partition.mount in (
        "/etc",
        "/usr",
        "/bin",
        "/sbin",
        "/lib",
        "/lib64",
        "/dev",
        "/proc",
        "/sys",
        "/run",
    ):
        return "mount", f"{partition.mount} belongs to the system on /.", "Remove this partition."
    size = f.size_mb(partition.size)
    if partition.mount == "/" and size is not None and size < LEAST_ROOT_MB:
        return "size", f"{partition.size} is too small for a system.", "Write 4G or more, or rest."
    return None


def _assign(ctx: Context) -> None:
    images = ctx.declared(ctx.cluster, "provision", "images")
    for role, image in ctx.cluster_file.provision.assign.items():
        where = (*TOP, "assign", role)
        if role not in LISTS:
            message = f"assign names {role}, which is none of the three lists."
            cure = f"Write one of {', '.join(LISTS)}; single nodes take `image:` in nodes.yml."
            ctx.cluster(where, role, message, cure, "unknown-list", key=True)
        if image not in images:
            cure = suggest(image, images) or "Add it under `images:`."
            ctx.cluster(where, image, f"There is no image {image}.", cure, "unknown-image")


def _discovery(ctx: Context) -> None:
    provision = ctx.cluster_file.provision
    named = provision.discovery_image
    images = ctx.declared(ctx.cluster, "provision", "images")
    where = (*TOP, "discovery_image")
    if named and named not in images:
        cure = suggest(named, images) or "Add it under `images:`."
        ctx.cluster(where, named, f"There is no image {named}.", cure, "unknown-image")
    elif named in provision.images and provision.images[named].kind != "image":
        message = f"{named} is an installer; machines report themselves from an image that runs in memory."
        ctx.cluster(where, named, message, "Name one of `kind: image`.", "image-mode")
    if provision.unknown != "discover":
        return
    where = (*TOP, "unknown")
    if not named and provision.images and not any(one.kind == "image" for one in provision.images.values()):
        message = "Unknown machines need an image to report themselves from; here are only installers."
        ctx.cluster(where, "discover", message, "Add an image of `kind: image`.", "no-image")
    if provision.dhcp.mode == "authoritative" and not ctx.raw(ctx.cluster, "provision", "dhcp", "pool"):
        message = "Unknown machines get no address, so they cannot report themselves."
        cure = "Add `pool: [first, last]` under `dhcp:`, or write `unknown: ignore`."
        ctx.cluster(where, "discover", message, cure, "no-pool")


def _network(ctx: Context) -> None:
    provision = ctx.cluster_file.provision
    if not provision.on:
        return
    found = boot_network(ctx)
    if found is None:
        if provision.address and ctx.cluster_file.networks:
            message = f"The boot server's address {provision.address} is in no network."
            cure = "Choose one inside, or add its network under `networks:`."
            ctx.cluster((*TOP, "address"), provision.address, message, cure, "outside-network")
        return
    name, network = found
    if network.version != 4:
        where: Where = (*TOP, "address") if provision.address else ("networks", name, "cidr")
        message = f"Network {name} ({network}) is IPv6; booting from the network takes IPv4."
        ctx.cluster(where, network, message, "Write an IPv4 network.", "not-ipv4")
        return
    router = provision.dhcp.router
    if router and ipaddress.ip_address(router) not in network:
        message = f"Router {router} is outside network {name} ({network})."
        ctx.cluster(
            (*TOP, "dhcp", "router"), router, message, "Write the router's address in it.", "outside-network"
        )
    _pool(ctx, name, network)


def _pool(ctx: Context, network_name: str, network: f.IpNetwork) -> None:
    provision = ctx.cluster_file.provision
    pool = provision.dhcp.pool
    where = (*TOP, "dhcp", "pool")
    if not pool:
        return
    if provision.dhcp.mode != "authoritative":
        message = f"In mode {provision.dhcp.mode} the boot server gives no addresses, so a pool is of no use."
        ctx.cluster(where, pool, message, "Remove it, or write `mode: authoritative`.", "bad-pool")
        return
    if len(pool) != 2:
        cure = "Write [first, last], like [10.10.9.1, 10.10.9.254]."
        ctx.cluster(where, pool, f"A pool is two addresses, not {len(pool)}.", cure, "bad-pool")
        return
    first, last = (ipaddress.ip_address(text) for text in pool)
    for address in (first, last):
        if address not in network:
            message = f"{address} of the pool is outside network {network_name} ({network})."
            ctx.cluster(where, address, message, "Choose addresses inside.", "outside-network")
            return
        if address in (network.network_address, network.broadcast_address) and network.num_addresses > 2:
            message = f"{address} of the pool is network {network_name}'s own or its broadcast address."
            ctx.cluster(where, address, message, "Leave it out.", "reserved-address")
            return
    if int(last) < int(first):
        message = f"The pool ends ({last}) before it begins ({first})."
        ctx.cluster(where, pool, message, f"Write [{last}, {first}].", "bad-pool")
        return
    _pool_is_free(ctx, network_name, int(first), int(last))


def _pool_is_free(ctx: Context, network_name: str, first: int, last: int) -> None:
    where = (*TOP, "dhcp", "pool")
    provision = ctx.cluster_file.provision
    taken = [
        node
        for node in ctx.hosts.values()
        if node.address
        and ":" not in node.address
        and first <= int(ipaddress.ip_address(node.address)) <= last
    ]
    if taken:
        names = fold_sorted(node.name for node in taken)
        who = names if len(names) < 60 else f"{len(taken)} nodes"
        message = f"The pool holds the address of {who} ({taken[0].address})."
        cure = "Move it to addresses that no node has."
        ctx.cluster(where, taken[0].address, message, cure, "pool-overlap")
        return
    others = {
        f"the gateway of network {network_name}": ctx.cluster_file.networks[network_name].gateway,
        "the boot server": provision.address,
        "the router": provision.dhcp.router,
    }
    for what, address in others.items():
        if address and ":" not in address and first <= int(ipaddress.ip_address(address)) <= last:
            message = f"The pool holds {address}, the address of {what}."
            ctx.cluster(where, address, message, "Leave it out.", "pool-overlap")
            return


def _bmc(ctx: Context) -> None:
    bmc = ctx.cluster_file.provision.bmc
    if not bmc.ca_file:
        return
    where = (*TOP, "bmc", "ca_file")
    if bmc.protocol != "redfish" or not bmc.verify:
        why = "nothing is verified" if bmc.protocol == "redfish" else f"{bmc.protocol} has no certificates"
        ctx.cluster(where, bmc.ca_file, f"ca_file is of no use: {why}.", "Remove it, or verify.", "bmc-tls")
    elif not (ctx.config_dir / bmc.ca_file).is_file():
        message = f"There is no file {bmc.ca_file} in this folder."
        cure = "Put the BMCs' CA certificate there, in PEM."
        ctx.cluster(where, bmc.ca_file, message, cure, "missing-file")


def _entries(ctx: Context) -> Iterator[tuple[str, NodeEntry, list[Node]]]:
    for role in LISTS:
        for entry in getattr(ctx.nodes_file, role):
            try:
                names = expand(entry.name)
            except RangeError:
                continue
            yield role, entry, [ctx.hosts[name] for name in names if name in ctx.hosts]


def _nodes(ctx: Context) -> None:
    provision = ctx.cluster_file.provision
    images = ctx.declared(ctx.cluster, "provision", "images")
    provisioners = set(ctx.groups.get("provisioner", []))
    provisioned = False
    _profiles(ctx)
    for role, entry, nodes in _entries(ctx):
        if entry.image and entry.image not in images:
            cure = suggest(entry.image, images) or "Add it under `provision.images` in cluster.yml."
            message = f"There is no image {entry.image}."
            ctx.nodes((*entry.where, "image"), entry.image, message, cure, "unknown-image")
        image = entry.image or provision.assign.get(role, "")
        mine = [node for node in nodes if node.name in provisioners]
        if mine and entry.image in provision.images:
            message = f"{mine[0].name} serves the images and cannot be installed from itself."
            cure = "Install it by hand, and remove `image:`."
            ctx.nodes((*entry.where, "image"), entry.image, message, cure, "provisioner-image")
        if image not in provision.images:
            continue
        chosen = [node for node in nodes if node.name not in provisioners]
        for node in chosen:
            node.image = image
        if chosen:
            provisioned = True
            _findable(ctx, entry, chosen)
            _powered(ctx, entry, chosen)
    reachable = bool(controller_key(ctx.config_dir, ctx.cluster_file.ssh.private_key)) or any(
        user.admin and user.state == "present" for user in ctx.cluster_file.users
    )
    written = ctx.raw(ctx.cluster, "users") or []
    whole = isinstance(written, list) and len(written) == len(ctx.cluster_file.users)
    if provisioned and whole and not reachable:
        message = "Nobody could log in to an installed node: there is no administrator, and no key in ssh/."
        cure = f"Run: ssh-keygen -t ed25519 -N '' -f {ctx.config_dir / 'ssh/id_ed25519'}"
        ctx.cluster((*TOP, "assign"), "ssh", message, cure, "no-key", key=True)


def _profiles(ctx: Context) -> None:
    known = {DEFAULT_LAYOUT, *ctx.declared(ctx.cluster, "provision", "layouts")}
    for profile in ctx.nodes_file.profiles.values():
        if profile.layout and profile.layout not in known:
            cure = suggest(profile.layout, known) or "Add it under `provision.layouts` in cluster.yml."
            message = f"There is no layout {profile.layout}."
            ctx.nodes((*profile.where, "layout"), profile.layout, message, cure, "unknown-layout")


def _findable(ctx: Context, entry: NodeEntry, nodes: list[Node]) -> None:
    """The boot server knows a node by its MAC, or waits until the machine has reported itself."""
    written = entry.mac
    for node in nodes:
        if node.mac.count(":") > 5:
            message = f"{node.name} boots from Ethernet, whose MAC has six bytes; {node.mac} has eight."
            ctx.nodes((*entry.where, "mac"), node.mac, message, "Write the Ethernet port's MAC.", "bad-mac")
            return
    if ctx.cluster_file.provision.unknown == "discover":
        return
    wrong = isinstance(written, (str, list)) and bool(written)  # said where it stands
    missing = [node.name for node in nodes if not node.mac]
    if missing and not wrong:
        many = f"{fold_sorted(missing)} have" if len(missing) > 1 else f"{missing[0]} has"
        message = f"{many} no MAC, so the boot server cannot know the machine."
        cure = "Add `mac:`, or write `unknown: discover` in cluster.yml and run `rackloom node discover`."
        ctx.nodes((*entry.where, "name"), entry.name, message, cure, "no-mac")


def _powered(ctx: Context, entry: NodeEntry, nodes: list[Node]) -> None:
    """Where the site says how its BMCs are spoken to, each node has one, or says that it has none."""
    bmc = ctx.cluster_file.provision.bmc
    where = (*entry.where, "bmc")
    for node in nodes:
        if bmc.protocol == "ipmi" and "://" in node.bmc:
            message = f"The BMC of {node.name} is a Redfish URL, but the site speaks IPMI."
            ctx.nodes(where, node.bmc, message, "Write its address, or `protocol: redfish`.", "bmc-protocol")
            return
        if bmc.protocol == "redfish" and node.bmc.startswith("http://") and bmc.verify:
            message = f"The BMC of {node.name} is spoken to without TLS, so nothing can be verified."
            cure = "Write https://, or `bmc: {verify: false}` in cluster.yml."
            ctx.nodes(where, node.bmc, message, cure, "bmc-tls")
            return
    written = ctx.raw(ctx.cluster, "provision", "bmc", "protocol")
    if bmc.protocol == "none" or str(written).lower() != bmc.protocol:
        return
    spread = entry.bmc
    if isinstance(spread, dict):
        missing = [node.name for node in nodes if not spread.get(node.name)]
    else:
        missing = [] if spread else [node.name for node in nodes]
    if missing:
        many = f"{fold_sorted(missing)} have" if len(missing) > 1 else f"{missing[0]} has"
        message = f"{many} no BMC, so nothing can switch the machine on."
        cure = "Add `bmc:`, or `bmc: none` where somebody presses the button."
        ctx.nodes((*entry.where, "name"), entry.name, message, cure, "no-bmc")
