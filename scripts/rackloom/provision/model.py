"""What is known of each node between power-on and SSH, and what an event changes about it.

Nothing here reads a clock, a network or a file: `Board.feed` takes events as they come, `Board.stalled` a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any


class Stage(IntEnum):
    """How far a node has come."""

    ARMED = 0
    POWERED = 1
    DHCP = 2
    KERNEL = 3
    WRITING = 4
    REBOOTING = 5
    SSH = 6

    @property
    def word(self) -> str:
        """The stage as people read it."""
        return self.name if self in (Stage.DHCP, Stage.SSH) else self.name.lower()


class State(StrEnum):
    """How a node stands."""

    QUEUED = "queued"
    """Not switched on yet."""
    MOVING = "moving"
    UP = "up"
    """Installed, and lets us in."""
    KEPT = "kept"
    """It ran an operating system before and was left alone."""
    REFUSED = "refused"
    FAILED = "failed"
    """It, or its management controller, said what is wrong."""
    LOST = "lost"
    """It has not moved for too long."""


ENDED = (State.UP, State.KEPT, State.REFUSED, State.FAILED, State.LOST)
_AT_WORK = "installer at work"
_REPORTS: Mapping[str, tuple[Stage, str]] = {
    "started": (Stage.KERNEL, _AT_WORK),
    "partitioning": (Stage.WRITING, "partitioning"),
    "writing": (Stage.WRITING, "image"),
    "bootloader": (Stage.WRITING, "boot loader"),
    "identity": (Stage.WRITING, "identity"),
    "installed": (Stage.REBOOTING, ""),
    "booted": (Stage.REBOOTING, "system is up"),
}
_ASKS = ("DHCPDISCOVER", "DHCPREQUEST", "PXE", "BOOTP")
_KERNEL_FILES = ("vmlinuz", "linux", "initrd", "initrd.gz", "kernel")


@dataclass
class Progress:
    """One node. Times are seconds on the caller's clock."""

    name: str
    mac: str
    address: str
    mode: str
    image: str = ""
    token: str = ""
    state: State = State.QUEUED
    stage: Stage = Stage.ARMED
    detail: str = ""
    began: float | None = None
    """When it was switched on."""
    moved: float = 0.0
    """When it last did something."""
    ended: float | None = None
    times: dict[str, float] = field(default_factory=dict)
    """Stage word -> seconds from power-on to it."""
    host_keys: tuple[str, ...] = ()
    told_stall: bool = False
    code: str = ""
    message: str = ""
    cure: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing more is expected of it."""
        return self.state in ENDED

    @property
    def loads(self) -> bool:
        """Whether it may be loading from the boot server now."""
        return self.state is State.MOVING and self.stage <= Stage.KERNEL and self.detail != _AT_WORK

    @property
    def knocks(self) -> bool:
        """Whether it is time to ask it for SSH."""
        return self.state is State.MOVING and self.stage is Stage.REBOOTING

    def seconds(self, now: float) -> float:
        """Time since power-on, up to its end."""
        return 0.0 if self.began is None else (self.ended if self.ended is not None else now) - self.began

    def reach(self, stage: Stage, at: float, detail: str = "") -> bool:
        """Go on to a stage; returns whether that was news."""
        if self.over:
            return False
        if self.began is None:
            self.began = at
        self.state = State.MOVING
        self.moved = max(self.moved, at)
        if stage > self.stage:
            self.stage, self.detail, self.told_stall = stage, detail, False
            self.times[stage.word] = round(at - self.began, 1)
            return True
        if stage is self.stage and detail and detail != self.detail:
            self.detail, self.told_stall = detail, False
            return True
        return False

    def end(self, state: State, at: float, code: str = "", message: str = "", cure: str = "") -> None:
        """Nothing more is expected; the first end counts."""
        if not self.over:
            self.state, self.ended = state, at
            self.code, self.message, self.cure = code, message, cure


@dataclass
class Board:
    """All nodes of one run, found by name, hardware address and network address."""

    nodes: dict[str, Progress] = field(default_factory=dict)
    strangers: dict[str, float] = field(default_factory=dict)
    """Hardware addresses that asked for a boot and that the site does not know, with the time of the last asking."""
    site_macs: frozenset[str] = frozenset()
    other_servers: dict[str, str] = field(default_factory=dict)
    """Nodes that took an offer of another DHCP server, with that server's address where it is known."""

    def add(self, node: Progress) -> None:
        """Follow one more node."""
        self.nodes[node.name] = node

    def of_mac(self, mac: str) -> Progress | None:
        """Return the node with this hardware address."""
        return next((node for node in self.nodes.values() if node.mac and node.mac == mac), None)

    def of_address(self, address: str) -> Progress | None:
        """Return the node with this network address."""
        return next((node for node in self.nodes.values() if node.address and node.address == address), None)

    def finished(self) -> bool:
        """Whether all nodes have come to an end."""
        return all(node.over for node in self.nodes.values())

    def feed(self, event: Mapping[str, Any], at: float) -> Progress | None:
        """Take in one event that happened `at`; returns the node it moved on, if it did."""
        kind = event.get("kind")
        if kind == "report":
            return self._report(event, at)
        if kind == "dhcp":
            return self._dhcp(event, at)
        if kind == "http":
            return self._http(event, at)
        return None

    def _report(self, event: Mapping[str, Any], at: float) -> Progress | None:
        node = self.of_mac(str(event.get("mac", "")))
        if node is None or event.get("token") != node.token or node.over:
            return None
        stage, raw = str(event.get("stage", "")), event.get("data")
        data: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
        if keys := data.get("host_keys"):
            node.host_keys = tuple(str(key) for key in keys)
        if stage == "failed":
            node.reach(node.stage, at)
            message = str(data.get("message") or "its installation failed without a reason")
            cure = str(data.get("cure") or "its console tells more: rackloom node console " + node.name)
            node.end(State.FAILED, at, "install_failed", message, cure)
            return node
        if stage not in _REPORTS:
            return None
        reached, detail = _REPORTS[stage]
        return node if node.reach(reached, at, detail) else None

    def _dhcp(self, event: Mapping[str, Any], at: float) -> Progress | None:
        mac, what = str(event.get("mac", "")), str(event.get("what", ""))
        node = self.of_mac(mac)
        if node is None:
            if what in _ASKS and mac not in self.site_macs:
                self.strangers[mac] = at
            return None
        if what == "DHCPNAK" and "server" in str(event.get("rest", "")).lower():
            self.other_servers.setdefault(node.name, "")
        if node.began is None or at < node.began:
            return None  # it was on before we switched it
        # What boots from its disk asks for an address again; only what is new counts.
        return node if node.reach(Stage.DHCP, at) else None

    def _http(self, event: Mapping[str, Any], at: float) -> Progress | None:
        mac, address = str(event.get("mac") or ""), str(event.get("address") or "")
        node = self.of_mac(mac.replace("-", ":")) if mac else self.of_address(address)
        if node is None or node.began is None or at < node.began:
            return None
        uri = str(event.get("uri", ""))
        if "/images/" not in uri:
            return node if node.reach(Stage.DHCP, at) else None
        if node.stage > Stage.KERNEL or node.detail == _AT_WORK:
            node.moved = max(node.moved, at)  # the installer loads what it needs
            return None
        name = uri.rsplit("/", 1)[-1]
        detail = "loading kernel" if name in _KERNEL_FILES else f"loaded {name}"
        return node if node.reach(Stage.KERNEL, at, detail) else None

    def standing(self, now: float, patience: float) -> list[Progress]:
        """Return the nodes that have not moved for `patience` seconds."""
        return [
            node for node in self.nodes.values() if node.state is State.MOVING and now - node.moved > patience
        ]


def where(node: Progress, board: Board) -> tuple[str, str, str]:
    """Say for a node that stands still: `(code, where it stopped, what to look at)`."""
    if node.stage <= Stage.POWERED:
        return _silent(node, board)
    if node.name in board.other_servers:
        return (
            "other_dhcp",
            "it took its address from another DHCP server",
            "find that server and switch it off, or set provision.dhcp.mode to proxy in cluster.yml",
        )
    if node.stage is Stage.DHCP:
        return (
            "stopped_dhcp",
            "it got an address and loaded no kernel",
            "see its screen; a node that boots from its disk looks like this",
        )
    if node.stage is Stage.KERNEL:
        return (
            "stopped_kernel",
            "its kernel was loaded and has not reported",
            "see its console; too little memory for the image, or no driver for its network card, look like this",
        )
    if node.stage is Stage.WRITING:
        return (
            "stopped_writing",
            f"it stopped while writing ({node.detail})",
            "see its console; a disk that is dying looks like this. It stays armed: run this again to start over",
        )
    return (
        "stopped_rebooting",
        "it was installed and does not answer on SSH",
        "see its console; a firmware that does not start from the disk, or another network card, look like this",
    )


def _silent(node: Progress, board: Board) -> tuple[str, str, str]:
    seen = [mac for mac, at in board.strangers.items() if node.began is None or at >= node.began]
    message = f"nothing with its address {node.mac} has asked for a boot since it was switched on"
    if seen:
        asked = ", ".join(sorted(seen))
        return (
            "no_dhcp",
            f"{message}; {asked} did, which no node has",
            "if one of these is its card, correct its mac in nodes.yml",
        )
    return (
        "no_dhcp",
        message,
        "see that it is on, starts from the network, and that its card is on the network of the boot server",
    )


def counts(nodes: Iterable[Progress]) -> dict[str, int]:
    """Return how many nodes are in each state."""
    found: dict[str, int] = {}
    for node in nodes:
        found[node.state] = found.get(node.state, 0) + 1
    return found
