"""A free subnet for a lab."""

from __future__ import annotations

import ipaddress
import json
import random
from collections.abc import Iterable, Sequence
from typing import Any

from rackloom.lab.errors import LabError
from rackloom.lab.podman import Podman
from rackloom.lab.shell import run

Network = ipaddress.IPv4Network
_WHOLE = Network("10.112.0.0/12")
"""Clear of the networks that Kubernetes takes for services (10.96.0.0/12) and pods (10.244.0.0/16)."""
_SPACE = tuple(_WHOLE.subnets(new_prefix=24))


def taken_by_routes(routes: Iterable[dict[str, Any]]) -> list[Network]:
    """Return the IPv4 networks of `ip -json route` rows; the default route takes nothing."""
    found = []
    for row in routes:
        try:
            network = ipaddress.IPv4Network(row.get("dst", ""), strict=False)
        except ValueError:
            continue
        if network.prefixlen > 0:
            found.append(network)
    return found


def taken_by_networks(networks: Iterable[dict[str, Any]]) -> list[Network]:
    """Return the IPv4 subnets of `podman network inspect` rows."""
    found = []
    for row in networks:
        subnets = list(row.get("subnets") or [])
        for plugin in row.get("plugins") or []:  # as podman 3 told them
            for alternatives in (plugin.get("ipam") or {}).get("ranges") or []:
                subnets += alternatives
        for subnet in subnets:
            try:
                found.append(ipaddress.IPv4Network(subnet["subnet"]))
            except (KeyError, ValueError):
                continue
    return found


def labels_of(network: dict[str, Any]) -> dict[str, str]:
    """Return the labels of a `podman network inspect` row, of podman 3 as of later ones."""
    labels = network.get("labels") or (network.get("args") or {}).get("podman_labels") or {}
    return {str(key): str(value) for key, value in labels.items()}


def bridge(podman: Podman, name: str) -> str:
    """Return the network interface of the network `name` on this machine. Raises LabError."""
    for row in podman.networks():
        if row.get("name") == name and row.get("network_interface"):
            return str(row["network_interface"])
    raise LabError(
        f"the engine does not tell which interface the network {name} has", "update podman to 4 or later"
    )


def candidates(taken: Sequence[Network], chooser: random.Random) -> list[Network]:
    """Return the free /24 networks of the labs' range in the chooser's order.

    The order is random on purpose: a new lab must not meet connections, leases or caches
    left over from an older one at the same addresses.
    """
    free = [subnet for subnet in _SPACE if not any(subnet.overlaps(other) for other in taken)]
    chooser.shuffle(free)
    return free


def create(podman: Podman, name: str, labels: dict[str, str]) -> Network:
    """Make the network `name` on a free subnet, or return the one it already has.

    Raises LabError where no subnet is free.
    """
    existing = podman.networks()
    for row in existing:
        if row.get("name") == name:
            return taken_by_networks([row])[0]
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]).stdout or "[]")
    taken = taken_by_routes(routes) + taken_by_networks(existing)
    refused = ""
    for subnet in candidates(taken, random.SystemRandom())[:8]:
        try:
            podman.create_network(name, str(subnet), labels)
        except LabError as error:  # another lab was faster
            refused = str(error)
            continue
        return subnet
    raise LabError(f"no free /24 network in {_WHOLE} for the lab {refused}".rstrip())
