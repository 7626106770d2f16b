"""The edge of a closed lab: nothing gets out, and everything that tries is counted, name lookups included.

Nodes have a route to the edge and a name server behind it, as a site has whose firewall forwards nothing. The rules are
one table of the kernel's packet filter, so a lab's edge comes and goes with one command and touches nobody else's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rackloom.lab.errors import LabError
from rackloom.lab.machine import Machine
from rackloom.lab.network import Network
from rackloom.lab.shell import run

DEAD_RESOLVER = "192.0.2.53"
"""An address of the documentation's network: nobody answers there, whatever network a machine is in."""

_RULES = """
table inet {table}
delete table inet {table}
table inet {table} {{
    set conversations {{
        type ipv4_addr . ipv4_addr . inet_proto . inet_service
        size 65535
        flags dynamic
        counter
    }}
    set others {{
        type ipv4_addr . ipv4_addr . inet_proto
        size 65535
        flags dynamic
        counter
    }}
    counter tried {{ }}
    chain edge {{
        type filter hook prerouting priority mangle; policy accept;
        iifname != "{bridge}" return
        ip daddr {subnet} ip daddr != {gateway} return
        ip daddr {{ 224.0.0.0/4, 255.255.255.255 }} drop
        ip6 daddr {{ ff00::/8, fe80::/10 }} return
        ct state established,related return
        meta nfproto ipv4 meta l4proto {{ tcp, udp }} \\
            update @conversations {{ ip saddr . ip daddr . meta l4proto . th dport }}
        meta nfproto ipv4 meta l4proto != {{ tcp, udp }} update @others {{ ip saddr . ip daddr . meta l4proto }}
        counter name tried drop
    }}
}}
"""


@dataclass(frozen=True)
class Attempt:
    """Packets of one kind that tried to leave."""

    source: str
    destination: str
    protocol: str
    port: int
    packets: int

    def __str__(self) -> str:
        where = f"{self.destination} port {self.port}" if self.port else self.destination
        return f"{self.source} to {where} ({self.protocol}), {self.packets} packets"


@dataclass(frozen=True)
class Escapes:
    """Everything that tried to leave a lab since it was made."""

    packets: int
    attempts: tuple[Attempt, ...]


def close(name: str, bridge: str, subnet: Network, machine: Machine) -> None:
    """Let nothing out of the lab's network. Counts go on where the edge is there already. Raises LabError."""
    if _listed(name, machine) is None:
        rules = _RULES.format(table=_table(name), bridge=bridge, subnet=subnet, gateway=subnet[1])
        _nft(machine, ["-f", "-"], rules)


def open_(name: str, machine: Machine) -> None:
    """Take the edge away."""
    if _listed(name, machine) is not None:
        _nft(machine, ["delete", "table", "inet", _table(name)])


def escapes(name: str, machine: Machine) -> Escapes | None:
    """What tried to leave; None for a lab that has no edge."""
    listed = _listed(name, machine)
    return None if listed is None else parse(listed)


def parse(listed: dict[str, Any]) -> Escapes:
    """Read what nft tells of the table."""
    packets, attempts = 0, []
    for entry in listed["nftables"]:
        if (counter := entry.get("counter")) is not None:
            packets += int(counter["packets"])
        for element in (entry.get("set") or {}).get("elem", []):
            value = element["elem"]["val"]["concat"]
            count = int((element["elem"].get("counter") or {}).get("packets", 0))
            source, destination, protocol, *port = value
            attempts.append(
                Attempt(str(source), str(destination), str(protocol), int(port[0]) if port else 0, count)
            )
    return Escapes(packets, tuple(sorted(attempts, key=lambda attempt: -attempt.packets)))


def _table(name: str) -> str:
    return f"rackloom-{name}"


def _listed(name: str, machine: Machine) -> dict[str, Any] | None:
    done = run([*machine.sudo, "nft", "-j", "list", "table", "inet", _table(name)], check=False)
    if done.returncode:
        return None
    data: dict[str, Any] = json.loads(done.stdout)
    return data


def _nft(machine: Machine, words: list[str], rules: str | None = None) -> None:
    try:
        run([*machine.sudo, "nft", *words], stdin=rules)
    except LabError as error:
        raise LabError(
            f"this machine's packet filter does not take the edge of a closed lab: {error}",
            "install nftables",
        ) from error
