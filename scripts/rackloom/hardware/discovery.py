"""What machines reported of themselves, beside what the site knows: which are new, and which have changed.

Reports come from the wire, from whoever is on it. Nothing of them is believed that is not of the right form, and
nothing is written that nobody asked for.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rackloom.site import fields as f
from rackloom.site.gpus import gpus as gpu_data
from rackloom.site.hardware import declared_mb, gpu_count
from rackloom.site.models import Profile
from rackloom.site.resolved import Node, Site

State = Literal["new", "known", "moved", "incomplete"]
"""moved: a node of this serial number or switch port, with another MAC. incomplete: nodes.yml lacks something of it."""
MEMORY_STEP_MB = 256
MEMORY_SLACK = 0.03
_SERIAL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._:/+-]{0,126}[A-Za-z0-9])?")
_PORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,126}")
_WORD = re.compile(r"[^ -~]+")


@dataclass(frozen=True, slots=True)
class Machine:
    """One report, cleaned. gpus: type → count, of cards that Slurm can hand out; other_gpus: how many more."""

    mac: str
    seen: float = 0.0
    macs: tuple[str, ...] = ()
    serial: str = ""
    model: str = ""
    sockets: int = 0
    cores: int = 0
    threads: int = 0
    memory_mb: int = 0
    disks: tuple[int, ...] = ()
    gpus: tuple[tuple[str, int], ...] = ()
    other_gpus: int = 0
    bmc: str = ""
    switch_port: str = ""
    firmware: str = "uefi"

    @property
    def whole(self) -> bool:
        """Whether a hardware profile can be made of it."""
        return min(self.sockets, self.cores, self.threads) > 0 and self.memory_mb > 0


def _text(value: Any, longest: int = 60) -> str:
    return _WORD.sub(" ", value).strip()[:longest] if isinstance(value, str) else ""


def _number(value: Any, most: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most else 0


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value[:256] if isinstance(item, dict)] if isinstance(value, list) else []


def _address(value: Any) -> str:
    try:
        return str(ipaddress.ip_address(value)) if isinstance(value, str) else ""
    except ValueError:
        return ""


def _matching(value: Any, rule: re.Pattern[str]) -> str:
    return value if isinstance(value, str) and rule.fullmatch(value) else ""


def _port(card: Mapping[str, Any]) -> str:
    lldp = _dict(card.get("lldp"))
    switch, port = lldp.get("switch"), lldp.get("port")
    return _matching(f"{switch}/{port}", _PORT) if switch and port else ""


def _gpus(cards: list[Mapping[str, Any]]) -> tuple[dict[str, int], int]:
    found: dict[str, int] = {}
    other = 0
    known = gpu_data()
    for card in cards:
        device = str(card.get("device", "")).lower()
        if card.get("vendor") == "nvidia" and re.fullmatch(r"[0-9a-f]{4}", device):
            product = known.by_pci(device)
            kind = known.products[product].type if product else f"nvidia_{device}"
            found[kind] = found.get(kind, 0) + 1
        else:
            other += 1
    return found, other


def machine(mac: str, report: Mapping[str, Any], seen: float = 0.0) -> Machine:
    """A report, with everything left out that is not what it should be."""
    cpus = _dict(report.get("cpus"))
    cards = _dicts(report.get("cards"))
    gpus, other = _gpus(_dicts(report.get("gpus")))
    macs = [f.read_mac(str(card.get("mac", ""))) for card in cards]
    ports = [port for card in cards if card.get("mac") == mac and (port := _port(card))]
    fixed = [disk for disk in _dicts(report.get("disks")) if not disk.get("removable")]
    return Machine(
        mac=mac,
        seen=seen,
        macs=tuple(dict.fromkeys(one for one in (mac, *macs) if one)),
        serial=_matching(report.get("serial"), _SERIAL),
        model=" ".join(filter(None, (_text(report.get("vendor")), _text(report.get("product"))))),
        sockets=_number(cpus.get("sockets"), 4096),
        cores=_number(cpus.get("cores"), 4096),
        threads=_number(cpus.get("threads"), 4096),
        memory_mb=_number(report.get("memory_mib"), 1024**3),
        disks=tuple(size for disk in fixed if (size := _number(disk.get("size"), 1 << 60))),
        gpus=tuple(sorted(gpus.items())),
        other_gpus=other,
        bmc=_address(_dict(report.get("bmc")).get("address")),
        switch_port=ports[0] if ports else "",
        firmware="bios" if report.get("firmware") == "bios" else "uefi",
    )


def machines(reports: Iterable[Mapping[str, Any]]) -> list[Machine]:
    """All of them, in the order in which they reported."""
    found = [
        machine(mac, _dict(one.get("report")), float(one.get("seen") or 0))
        for one in reports
        if (mac := f.read_mac(str(one.get("mac", ""))))
    ]
    return sorted(found, key=lambda one: (one.seen, one.mac))


@dataclass(frozen=True, slots=True)
class Match:
    """A machine, and the node it is. missing: (field, value) that the machine knows and nodes.yml does not."""

    machine: Machine
    state: State
    node: str = ""
    by: str = ""
    missing: tuple[tuple[str, str], ...] = ()


def match(site: Site, found: Iterable[Machine]) -> list[Match]:
    """Who is who: by MAC, then by serial number, then by switch port."""
    by_mac = {node.mac: node for node in site.nodes.values() if node.mac}
    by_serial = {node.serial: node for node in site.nodes.values() if node.serial}
    by_port = {node.switch_port: node for node in site.nodes.values() if node.switch_port}
    result = []
    for one in found:
        node, by = next((by_mac[mac] for mac in one.macs if mac in by_mac), None), "mac"
        if node is None:
            node, by = by_serial.get(one.serial), "serial"
        if node is None:
            node, by = by_port.get(one.switch_port), "switch port"
        if node is None:
            result.append(Match(one, "new"))
            continue
        missing = tuple(_missing(site, node, one))
        moved = by != "mac" and bool(node.mac)
        state: State = "moved" if moved else "incomplete" if missing else "known"
        result.append(Match(one, state, node.name, by, missing))
    return result


def _missing(site: Site, node: Node, one: Machine) -> Iterable[tuple[str, str]]:
    if node.mac not in one.macs:
        yield "mac", one.mac
    if one.serial and not node.serial:
        yield "serial", one.serial
    elif one.serial and node.serial != one.serial:
        # The node at this port or with this card has another board now.
        yield "serial", one.serial
    if not node.bmc and (bmc := usable_bmc(site, one)):
        yield "bmc", bmc


def usable_bmc(site: Site, one: Machine) -> str:
    """The BMC's address, if it is one that nodes.yml would take."""
    network = site.cluster.networks.get("bmc")
    if not one.bmc or (network and ipaddress.ip_address(one.bmc) not in network.cidr):
        return ""
    return "" if any(one.bmc in (node.bmc, node.address) for node in site.nodes.values()) else one.bmc


def fits(profile: Profile, one: Machine) -> bool:
    """Whether a machine is of this kind of hardware."""
    shape = (profile.sockets, profile.cores, profile.threads, profile.firmware)
    if shape != (one.sockets, one.cores, one.threads, one.firmware):
        return False
    if gpu_count(profile) != sum(count for _, count in one.gpus):
        return False
    declared = declared_mb(profile)
    return declared <= one.memory_mb <= declared * (1 + MEMORY_SLACK) + MEMORY_STEP_MB


def profile_name(one: Machine) -> str:
    """A name made of the hardware, like c64_500g_8xa100."""
    size = f"{round(one.memory_mb / 1024)}g" if one.memory_mb >= 1024 else f"{one.memory_mb}m"
    gpus = [f"{count}x{kind}" for kind, count in one.gpus]
    text = "_".join(
        [f"c{one.sockets * one.cores}", size, *gpus, *(["bios"] if one.firmware == "bios" else [])]
    )
    return re.sub(r"[^a-z0-9_]", "_", text)


def profile_text(one: Machine) -> str:
    """The profile in YAML, in one line."""
    memory = one.memory_mb - one.memory_mb % MEMORY_STEP_MB or one.memory_mb
    parts = [f"sockets: {one.sockets}", f"cores: {one.cores}", f"threads: {one.threads}", f"memory: {memory}"]
    if one.gpus:
        gpus = ", ".join(f"{{type: {kind}, count: {count}}}" for kind, count in one.gpus)
        parts.append(f"gpus: [{gpus}]")
    if one.firmware == "bios":
        parts.append("firmware: bios")
    return f"{{{', '.join(parts)}}}"
