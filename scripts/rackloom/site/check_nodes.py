"""Checks of nodes.yml: ranges expanded, one address each, nothing twice, everything inside its network."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from pydantic_core import PydanticCustomError

from . import fields as f
from .context import Context
from .groups import LISTS
from .hardware import SLICE, declared_mb, devices, gpu_count
from .mistakes import Path as Where
from .mistakes import show, suggest
from .models import Gpu, NodeEntry, Profile
from .ranges import RangeError, expand
from .resolved import Node

NO_BMC = "none"
_SERIAL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._:/+-]{0,126}[A-Za-z0-9])?")
OWNED_NODE_OPTIONS = {
    "nodename": "name", "nodeaddr": "address", "nodehostname": "name", "sockets": "sockets",
    "corespersocket": "cores", "threadspercore": "threads", "cpus": "sockets, cores and threads", "procs": "cores",
    "realmemory": "memory", "memspeclimit": "reserved_memory", "feature": "features", "features": "features",
    "tmpdisk": "tmp_disk", "weight": "weight", "gres": "gpus",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Placed:
    """A value for one node and the place in the file it comes from."""

    text: str
    where: Where


def check_profiles(ctx: Context) -> None:
    """Hardware that cannot be."""
    for profile in ctx.nodes_file.profiles.values():
        _memory(ctx, profile)
        _options(ctx, profile)
        _gpus(ctx, profile)


def _memory(ctx: Context, profile: Profile) -> None:
    if declared_mb(profile) < 1:
        ctx.nodes(
            (*profile.where, "memory"),
            profile.memory.mb,
            "A node without memory.",
            "Write its size.",
            "bad-memory",
        )
    elif profile.reserved_memory.mb >= declared_mb(profile):
        message = f"reserved_memory ({profile.reserved_memory.mb} MiB) leaves nothing of the memory for jobs."
        ctx.nodes(
            (*profile.where, "reserved_memory"),
            profile.reserved_memory.mb,
            message,
            "Reserve less.",
            "bad-memory",
        )


def _options(ctx: Context, profile: Profile) -> None:
    for key in profile.options:
        owner = OWNED_NODE_OPTIONS.get(key.lower())
        if owner:
            where = (*profile.where, "options", key)
            code = "gpu-count" if key.lower() == "gres" else "owned-setting"
            message = f"{key} is made from {owner} of the profile and cannot be set beside it."
            ctx.nodes(where, profile.options[key], message, f"Remove it and set {owner}.", code)


def _gpus(ctx: Context, profile: Profile) -> None:
    taken: dict[str, int] = {}
    detected = any(gpu.mig and not gpu.files for gpu in profile.gpus)
    for gpu in profile.gpus:
        _slices(ctx, gpu)
        if not gpu.files:
            continue
        where = (*gpu.where, "files")
        try:
            files = expand(gpu.files)
        except RangeError as error:
            ctx.nodes(where, gpu.files, f"{error}.", "Write files like /dev/nvidia[0-7].", "bad-range")
            continue
        wrong = next((file for file in files if not file.startswith("/dev/")), None)
        if wrong is not None:
            ctx.nodes(
                where, wrong, f"{wrong} is no device file.", "Write files like /dev/nvidia[0-7].", "gpu-files"
            )
        if len(files) != devices(gpu):
            of = "MIG slices" if gpu.mig else "GPUs"
            there = f"there are {devices(gpu)} {of} of type {gpu.type}"
            message = f"{gpu.files} names {len(files)} device files, but {there}."
            ctx.nodes(where, gpu.files, message, "Make the files and the count agree.", "gpu-files")
        for file in files:
            if file in taken:
                message = f"{file} is used twice in this profile; the first is in line {taken[file]}."
                ctx.nodes(where, file, message, "Give each GPU its own file.", "gpu-files")
                break
            taken[file] = ctx.nodes.line(where)
        if detected and not gpu.mig:
            message = (
                "These files are of no use: the MIG slices beside them name none, so NVML finds all GPUs."
            )
            ctx.nodes(
                where,
                gpu.files,
                message,
                "Remove files here, or name the files of the slices too.",
                "gpu-files",
            )


def _slices(ctx: Context, gpu: Gpu) -> None:
    share = 0
    for name, each in gpu.mig.items():
        match = SLICE.fullmatch(name)
        if match is None:
            cure = "Write one as `nvidia-smi mig -lgip` lists them, like 1g.10gb or 3g.20gb."
            ctx.nodes(
                (*gpu.where, "mig", name), name, f"{name!r} is no MIG slice.", cure, "mig-slice", key=True
            )
            continue
        share += int(match.group(1)) * each
    if share > 7:
        message = f"These slices take {share} sevenths of each GPU."
        ctx.nodes(
            (*gpu.where, "mig"),
            gpu.mig,
            message,
            "The first numbers times their counts add up to 7 at most.",
            "mig-slice",
        )


class Placement:
    """Expands the three lists into `ctx.hosts`."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.say = ctx.nodes
        self.names: dict[str, int] = {}
        self.addresses: dict[str, tuple[str, str]] = {}
        self.macs: dict[str, tuple[str, int]] = {}
        self.serials: dict[str, tuple[str, int]] = {}
        self.ports: dict[str, tuple[str, int]] = {}
        self.bmc_urls: dict[str, tuple[str, int]] = {}
        self.profiles = ctx.declared(ctx.nodes, "profiles")
        networks = ctx.cluster_file.networks
        for name, network in networks.items():
            if network.gateway:
                self.addresses[network.gateway] = (f"the gateway of network {name}", "cluster.yml")

    def run(self) -> None:
        """All three lists."""
        for role in LISTS:
            for entry in getattr(self.ctx.nodes_file, role):
                self._entry(role, entry)
            self._note_broken(role)

    def _note_broken(self, role: str) -> None:
        """Names of entries that could not be read, so that nobody calls them unknown."""
        section = self.ctx.raw(self.ctx.nodes, role)
        for item in section if isinstance(section, list) else []:
            name = item.get("name") if isinstance(item, dict) else item
            if isinstance(name, str):
                try:
                    self.ctx.broken_names.update(expand(name))
                except RangeError:
                    continue

    def _entry(self, role: str, entry: NodeEntry) -> None:
        names = self._names(entry)
        if names is None:
            return
        self._profile(role, entry)
        self._addressed(role, entry)
        size = len(names)
        addresses = self._spread(entry, "address", names, countable=True)
        bmcs = self._spread(entry, "bmc", names, countable=True) if entry.bmc != NO_BMC else []
        bmcs = [Placed("", item.where) if item.text == NO_BMC else item for item in bmcs]
        bmcs = bmcs or [Placed("", (*entry.where, "bmc"))] * size
        macs = self._spread(entry, "mac", names)
        serials = self._spread(entry, "serial", names)
        ports = self._spread(entry, "switch_port", names)
        cluster = self.ctx.cluster_file.networks.get("cluster")
        bmc = self.ctx.cluster_file.networks.get("bmc")
        read_addresses = self._addresses(names, addresses, "", "cluster" if cluster else "")
        read_bmcs = self._bmcs(names, bmcs, "bmc" if bmc else "")
        read_macs = self._once(names, macs, self.macs, "MAC", "duplicate-mac", self._mac)
        read_serials = self._once(
            names, serials, self.serials, "Serial number", "duplicate-serial", self._serial
        )
        read_ports = self._once(
            names, ports, self.ports, "Switch port", "duplicate-port", lambda placed: placed.text
        )
        line = self.say.line((*entry.where, "name"))
        for index in range(size):
            name = names[index]
            if name in self.ctx.hosts:
                continue
            self.ctx.hosts[name] = Node(
                name=name, role=role, address=read_addresses[index], profile=entry.profile, mac=read_macs[index],
                bmc=read_bmcs[index], serial=read_serials[index], switch_port=read_ports[index],
                labels=entry.labels, taints=list(entry.taints), vars=entry.vars, line=line,
            )  # fmt: skip

    def _names(self, entry: NodeEntry) -> list[str] | None:
        where = (*entry.where, "name")
        try:
            names = expand(entry.name)
        except RangeError as error:
            self.say(where, entry.name, f"{error}.", "Write names or ranges like gpu[001-016].", "bad-range")
            return None
        for name in names:
            trouble = f.host_name_trouble(name)
            if trouble is not None:
                said = f"{trouble[0]} It comes from {entry.name}." if name != entry.name else trouble[0]
                self.say(where, name, said, trouble[1], "bad-host-name")
                break
        else:
            self._group_named(names, where)
        line = self.say.line(where)
        doubles: list[tuple[str, int]] = []
        for name in names:
            if name in self.names:
                doubles.append((name, self.names[name]))
            else:
                self.names[name] = line
        if doubles:
            name, first = doubles[0]
            more = f" (and {len(doubles) - 1} more)" if len(doubles) > 1 else ""
            place = "in this very entry" if first == line else f"in line {first}"
            self.say(
                where,
                name,
                f"Node {name}{more} is already named {place}.",
                "Name each node once.",
                "duplicate-name",
            )
        return names

    def _group_named(self, names: list[str], where: Where) -> None:
        for name in names:
            if name in self.ctx.definitions:
                self.say(
                    where,
                    name,
                    f"{name} is the name of a group.",
                    "Add a number to the node's name.",
                    "bad-host-name",
                )

    def _profile(self, role: str, entry: NodeEntry) -> None:
        if entry.profile:
            where = (*entry.where, "profile")
            if entry.profile not in self.profiles:
                cure = suggest(entry.profile, self.profiles) or "Add it under `profiles:`."
                self.say(
                    where, entry.profile, f"There is no profile {entry.profile}.", cure, "unknown-profile"
                )
            else:
                self._counted(entry)
        elif entry.gpus:
            message = f"{entry.name} has GPUs but no profile that says of which type."
            self.say((*entry.where, "gpus"), entry.gpus, message, "Add a profile with `gpus:`.", "gpu-count")
        if role == "compute" and not entry.profile:
            cure = f"Add `profile:`. {suggest('', self.profiles)}".strip()
            self.say(
                (*entry.where, "name"),
                entry.name,
                f"Compute node {entry.name} has no profile.",
                cure,
                "no-profile",
            )

    def _addressed(self, role: str, entry: NodeEntry) -> None:
        """An address that is written, but with nothing in it. A missing one was said where it is missing."""
        value = entry.address
        blank = isinstance(value, dict) and not all(value.values())
        section = self.ctx.raw(self.ctx.nodes, role)
        index = entry.where[-1]
        item = section[index] if isinstance(section, list) and isinstance(index, int) else {}
        if blank or (value == "" and item.get("address") == ""):
            where = (*entry.where, "address")
            cure = "Write one like 10.10.0.11."
            self.say(where, "", f"{entry.name} has an empty address.", cure, "bad-address", key=True)

    def _counted(self, entry: NodeEntry) -> None:
        profile = self.ctx.nodes_file.profiles.get(entry.profile)
        if profile is None or entry.gpus is None or gpu_count(profile) == entry.gpus:
            return
        written = self.ctx.raw(self.ctx.nodes, "profiles", entry.profile, "gpus")
        if isinstance(written, list) and len(written) != len(profile.gpus):
            return  # Some of them could not be read, which is said where they stand.
        there = f"but {gpu_count(profile)} by profile {entry.profile}"
        message = f"{entry.name} has {entry.gpus} GPUs by this line, {there}."
        cure = "Correct the number, or give these nodes a profile of their own."
        self.say((*entry.where, "gpus"), entry.gpus, message, cure, "gpu-count")

    def _spread(
        self, entry: NodeEntry, field: str, names: list[str], *, countable: bool = False
    ) -> list[Placed]:
        """One value a node out of the notations: one, first of a row, range, list or map. Wrong ones become ""."""
        value: str | list[str] | dict[str, str] = getattr(entry, field)
        where = (*entry.where, field)
        nothing = [Placed("", where)] * len(names)
        if value == "":
            return nothing
        if isinstance(value, dict):
            return self._spread_map(entry, field, names, value)
        if isinstance(value, str):
            if "[" not in value and "," not in value:
                if len(names) == 1:
                    return [Placed(value.strip(), where)]
                if countable and "://" not in value:
                    return self._count_up(value.strip(), names, where)
                message = f"One {field} for the {len(names)} nodes {entry.name}."
                self.say(where, value, message, f"Write a list, or a map `name: {field}`.", "count-mismatch")
                return nothing
            value = [value]
            places = [where]
        else:
            places = [(*where, index) for index in range(len(value))]
        placed: list[Placed] = []
        for text, place in zip(value, places, strict=True):
            try:
                placed += [
                    Placed(item, place) for item in (expand(text) if countable or "[" in text else [text])
                ]
            except RangeError as error:
                self.say(place, text, f"{error}.", "Write addresses like 10.10.1.[1-16].", "bad-range")
                return nothing
        if len(placed) != len(names):
            message = (
                f"{entry.name} is {_many(len(names), 'node')}, but {field} has {_many(len(placed), 'value')}."
            )
            self.say(where, value, message, "Write as many as there are nodes.", "count-mismatch", key=True)
            return nothing
        return placed

    def _spread_map(
        self, entry: NodeEntry, field: str, names: list[str], value: dict[str, str]
    ) -> list[Placed]:
        where = (*entry.where, field)
        for key in value:
            if key not in names:
                cure = suggest(key, names) or "Remove it, or correct the name."
                message = f"{field} names {key}, which is not one of {entry.name}."
                self.say((*where, key), key, message, cure, "unknown-host", key=True)
        missing = [name for name in names if name not in value]
        if missing and field == "address":
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            message = f"{missing[0]}{more} of {entry.name} has no address in this map."
            self.say(
                where, missing[0], message, f"Add `{missing[0]}: <address>`.", "count-mismatch", key=True
            )
        return [Placed(value.get(name, ""), (*where, name) if name in value else where) for name in names]

    def _count_up(self, first: str, names: list[str], where: Where) -> list[Placed]:
        try:
            start = f.read_address(first)
        except PydanticCustomError:
            return [Placed(first, where)] + [Placed("", where)] * (len(names) - 1)
        make: Callable[[int], object] = ipaddress.IPv4Address if start.version == 4 else ipaddress.IPv6Address
        base = int(start)
        if base + len(names) > 2**start.max_prefixlen:
            message = f"{len(names)} addresses from {first} on do not exist."
            self.say(where, first, message, "Start lower.", "outside-network")
            return [Placed("", where)] * len(names)
        return [Placed(str(make(base + index)), where) for index in range(len(names))]

    def _addresses(self, names: list[str], placed: list[Placed], prefix: str, network_name: str) -> list[str]:
        """Checked addresses in their usual notation, "" where wrong; one mistake a place and kind."""
        found: list[str] = []
        troubles: dict[tuple[Where, str], list[tuple[str, str, str]]] = {}
        networks = self.ctx.cluster_file.networks
        network = networks[network_name].cidr if network_name else None
        known = [(name, one.cidr, one.gateway) for name, one in networks.items()]
        for name, item in zip(names, placed, strict=True):
            if not item.text:
                found.append("")
                continue
            try:
                address = f.read_address(item.text)
            except PydanticCustomError as error:
                context = error.context or {}
                troubles.setdefault((item.where, "bad-address"), []).append(
                    (item.text, context["message"], context["cure"])
                )
                found.append("")
                continue
            text = str(address)
            found.append(text)
            who = f"{prefix}{name}"
            trouble = _address_trouble(address, text, who, network_name, network, known)
            if trouble is not None:
                troubles.setdefault((item.where, trouble[0]), []).append((text, trouble[1], trouble[2]))
            elif text in self.addresses:
                other, file = self.addresses[text]
                line = f" ({file})" if file else ""
                message = f"Address {text} of {who} already belongs to {other}{line}."
                troubles.setdefault((item.where, "duplicate-address"), []).append(
                    (text, message, "Give each its own.")
                )
            else:
                self.addresses[text] = (who, f"line {self.say.line(item.where)}" if len(placed) < 2 else "")
        for (where, code), cases in troubles.items():
            text, message, cure = cases[0]
            more = f" The same goes for {len(cases) - 1} more of this entry." if len(cases) > 1 else ""
            self.say(where, text, message + more, cure, code)
        return found

    def _bmcs(self, names: list[str], placed: list[Placed], network_name: str) -> list[str]:
        """Addresses, and URLs of Redfish systems: a URL says where it is by itself, so no network is asked."""
        plain = [item if "://" not in item.text else Placed("", item.where) for item in placed]
        urls = [item if "://" in item.text else Placed("", item.where) for item in placed]
        addresses = self._addresses(names, plain, "the BMC of ", network_name)
        found = self._once(names, urls, self.bmc_urls, "BMC", "duplicate-address", self._bmc_url)
        return [address or url for address, url in zip(addresses, found, strict=True)]

    def _bmc_url(self, placed: Placed) -> str | None:
        trouble = f.bmc_url_trouble(placed.text)
        if trouble is not None:
            shown = "" if "@" in placed.text else placed.text
            self.say(placed.where, shown, trouble[0], trouble[1], "bad-bmc")
            return None
        return placed.text.rstrip("/")

    def _serial(self, placed: Placed) -> str | None:
        if _SERIAL.fullmatch(placed.text) is None:
            cure = "Write it as the label or `dmidecode -s system-serial-number` has it: letters, digits, -._:/+."
            self.say(
                placed.where, placed.text, f"{show(placed.text)!r} is no serial number.", cure, "bad-serial"
            )
            return None
        return placed.text

    def _mac(self, placed: Placed) -> str | None:
        mac = f.read_mac(placed.text)
        if mac is None:
            cure = "Write six bytes, like 52:54:00:12:34:56."
            self.say(placed.where, placed.text, f"{show(placed.text)!r} is no MAC address.", cure, "bad-mac")
        return mac

    def _once(
        self, names: list[str], placed: list[Placed], seen: dict[str, tuple[str, int]], what: str, code: str,
        read: Callable[[Placed], str | None],
    ) -> list[str]:  # fmt: skip
        """Values that must be unique over all nodes."""
        found: list[str] = []
        for name, item in zip(names, placed, strict=True):
            value = read(item) if item.text else None
            found.append(value or "")
            if value is None:
                continue
            if value in seen:
                other, line = seen[value]
                message = f"{what} {value} of {name} already belongs to {other} in line {line}."
                self.say(item.where, item.text, message, "Correct one of them.", code)
            else:
                seen[value] = (name, self.say.line(item.where))
        return found


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _address_trouble(
    address: f.IpAddress, text: str, who: str, network_name: str, network: f.IpNetwork | None,
    known: list[tuple[str, f.IpNetwork, str]],
) -> tuple[str, str, str] | None:  # fmt: skip
    """(code, message, cure) if no host can have this address."""
    if network is not None and address not in network:
        message = f"Address {text} of {who} is outside network {network_name} ({network})."
        return "outside-network", message, f"Choose one inside, or widen {network_name} in cluster.yml."
    for name, cidr, gateway in known:
        if address not in cidr:
            continue
        if cidr.prefixlen < cidr.max_prefixlen - 1:
            if address == cidr.network_address:
                return (
                    "reserved-address",
                    f"{text} of {who} is the address of network {name} itself.",
                    "Choose another.",
                )
            if address.version == 4 and address == cidr.broadcast_address:
                return (
                    "reserved-address",
                    f"{text} of {who} is the broadcast address of network {name}.",
                    "Choose another.",
                )
        if gateway == text:
            return "reserved-address", f"{text} of {who} is the gateway of network {name}.", "Choose another."
    return None


def check_nodes(ctx: Context) -> None:
    """Everything about nodes.yml; fills ctx.hosts and ctx.broken_names."""
    check_profiles(ctx)
    Placement(ctx).run()
    needed = {
        "management": "the services run there",
        "login": "people log in there",
        "compute": "jobs run there",
    }
    for role, why in needed.items():
        if not ctx.raw(ctx.nodes, role):
            message = f"There is no {role} node."
            ctx.nodes(
                (role,), "", message, f"Add at least one under `{role}:`; {why}.", f"no-{role}", key=True
            )
