"""Filters of the role boot_server: what is wrong with its inputs, and a network in the parts that dnsmasq names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

INSTALLERS = ("ubuntu-22.04", "ubuntu-24.04", "debian-12", "debian-13", "rocky-9", "rhel-9")
# Installers that bring nothing along: they fetch every package, and must be told from where.
NEED_SOURCE = ("debian-12", "debian-13", "rocky-9", "rhel-9")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ /+-]*")
# Words of a kernel's command line; iPXE and the shell of an installer see them too.
_PLAIN = re.compile(r"[A-Za-z0-9 ,.=:/_@%+\[\]-]*")

Node = Mapping[str, Any]


def _address(text: str) -> ipaddress.IPv4Address | None:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        return None


def _twice(nodes: Iterable[Node], key: str, what: str) -> list[str]:
    seen: dict[str, str] = {}
    found = []
    for node in nodes:
        value = str(node.get(key) or "").lower()
        if not value:
            continue
        if value in seen:
            found.append(
                f"{seen[value]} and {node['name']} have the same {what} {value}; "
                f"correct one of them in nodes.yml."
            )
        seen.setdefault(value, str(node["name"]))
    return found


def _one_node(
    node: Node, images: Mapping[str, Any], network: ipaddress.IPv4Network, unknown: str
) -> list[str]:
    name, mac = node["name"], str(node.get("mac", ""))
    found = []
    if not mac and unknown != "discover":
        found.append(f"{name} has no MAC address, so it cannot be told from others; write it into nodes.yml.")
    if mac and not _MAC.fullmatch(mac):
        found.append(
            f"{name} has the MAC address {mac!r}; write six pairs of lower-case hexadecimal digits with colons, "
            f"as 52:54:00:0a:0b:0c."
        )
    address = _address(str(node.get("address", "")))
    if address is None or address not in network:
        found.append(
            f"{name} has the address {node.get('address')!r}, which is not in the network {network}."
        )
    serial = str(node.get("serial") or "")
    if serial and not _SERIAL.fullmatch(serial):
        found.append(
            f"{name} has the serial number {serial!r}; it may hold letters, digits, spaces and . _ / + -"
        )
    image = images.get(str(node.get("image")))
    if image is None:
        known = ", ".join(sorted(images)) or "none"
        found.append(
            f"{name} is to boot the image {node.get('image')!r}, which is not declared; declared: {known}."
        )
    elif (node.get("mode") == "installer") != (image.get("kind") == "installer"):
        found.append(
            f"{name} has the mode {node.get('mode')!r}, and its image {node['image']} is of the kind "
            f"{image.get('kind')!r}; installer goes with installer only."
        )
    return found


def _pool(pool: list[str], nodes: Iterable[Node], address: str, network: ipaddress.IPv4Network) -> list[str]:
    if not pool:
        return []
    ends = [_address(str(end)) for end in pool]
    if len(pool) != 2 or None in ends:
        return [f"The DHCP pool is {pool}; give its first and its last IPv4 address."]
    first, last = ends
    assert first is not None and last is not None  # noqa: S101, PT018 - said above, for mypy
    shown = f"{first} to {last}"
    if first > last:
        return [f"The DHCP pool runs from {first} down to {last}; name the lower address first."]
    if first not in network or last not in network:
        return [f"The DHCP pool {shown} is not in the network {network}."]
    taken = [(str(node["name"]), _address(str(node.get("address", "")))) for node in nodes]
    taken.append(("the boot server", _address(address)))
    inside = [f"{name} ({own})" for name, own in taken if own is not None and first <= own <= last]
    if not inside:
        return []
    more = f" and {len(inside) - 5} more" if len(inside) > 5 else ""
    names = ", ".join(inside[:5])
    return [
        f"The DHCP pool {shown} holds addresses that are given away already: {names}{more}; move the pool elsewhere."
    ]


def boot_server_problems(
    nodes: Sequence[Node],
    *,
    images: Mapping[str, Any],
    address: str,
    network: str,
    pool: list[str],
    unknown: str = "ignore",
    discovery_image: str = "",
    package_sources: Mapping[str, str] | None = None,
) -> list[str]:
    """Return everything that is wrong with the role's inputs, one sentence each."""
    try:
        net = ipaddress.IPv4Network(network)
    except ValueError:
        return [f"The network of the booting nodes is {network!r}; write it as 10.10.0.0/16."]
    found = []
    if _address(address) is None:
        found.append(
            f"The boot server's address is {address!r}; give the IPv4 address that booting nodes reach."
        )
    elif _address(address) not in net:
        found.append(f"The boot server's address {address} is not in the network {net} that it serves.")
    for key, what in (
        ("name", "name"),
        ("mac", "MAC address"),
        ("address", "address"),
        ("serial", "serial number"),
    ):
        found += _twice(nodes, key, what)
    for node in nodes:
        found += _one_node(node, images, net, unknown)
    found += _pool(pool, nodes, address, net)
    if unknown == "discover":
        image = images.get(discovery_image)
        if image is None or image.get("kind") == "installer":
            found.append(
                f"Unlisted machines are to be discovered with the image {discovery_image!r}; "
                f"name a declared image that is no installer."
            )
    for name, image in images.items():
        if not _PLAIN.fullmatch(str(image.get("kernel_options") or "")):
            found.append(
                f"The image {name} has kernel_options with characters that boot programs do not take literally."
            )
        if image.get("kind") != "installer":
            continue
        system = image.get("os")
        if system not in INSTALLERS:
            found.append(
                f"The image {name} is an installer of {system!r}; known are {', '.join(INSTALLERS)}."
            )
        elif system in NEED_SOURCE and not (package_sources or {}).get(str(system)):
            found.append(
                f"The image {name} is the installer of {system}, which fetches every package; "
                f"name its source in boot_server_package_sources."
            )
    return found


def boot_server_network(cidr: str) -> dict[str, Any]:
    """Return network, netmask and prefix of a CIDR."""
    network = ipaddress.IPv4Network(cidr)
    return {
        "network": str(network.network_address),
        "netmask": str(network.netmask),
        "prefix": network.prefixlen,
    }


def boot_server_netmask(interface: str) -> str:
    """Return the netmask of an address with its prefix."""
    return str(ipaddress.IPv4Interface(interface).netmask)


_UNITS = {"M": 1, "G": 1024, "T": 1024 * 1024}
_REST_MIB = 4096  # what "rest" takes at least; less would not hold a system


def boot_server_disks(layout: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return a layout as installers want it: sizes in MiB, the number of disks, and what each must hold.

    A partition that takes the rest has the size 0 and comes last.
    """
    wanted = layout.get("partitions") or [{"mount": "/", "size": "rest", "filesystem": "ext4"}]
    partitions = []
    for entry in wanted:
        size = str(entry.get("size", "rest"))
        mib = 0 if size == "rest" else int(float(size[:-1]) * _UNITS[size[-1]])
        filesystem = entry.get("filesystem", "ext4")
        mount = "" if filesystem == "swap" else entry.get("mount", "")
        partitions.append({"mount": mount, "mib": mib, "filesystem": filesystem})
    partitions.sort(key=lambda entry: not entry["mib"])
    raid = str(layout.get("raid", "none")) == "1"
    return {
        "disks": list(layout.get("disks") or ["auto"]),
        "raid": raid,
        "count": 2 if raid else 1,
        "partitions": partitions,
        "need_mib": 1024 + sum(entry["mib"] or _REST_MIB for entry in partitions),
    }


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "boot_server_disks": boot_server_disks,
            "boot_server_netmask": boot_server_netmask,
            "boot_server_network": boot_server_network,
            "boot_server_problems": boot_server_problems,
        }
