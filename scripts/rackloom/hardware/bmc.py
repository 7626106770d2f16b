"""What a BMC can be asked, whatever protocol it speaks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

Power = Literal["on", "off", "unknown"]
"""unknown: on its way from one to the other, or not told."""
Wish = Literal["on", "off", "cycle"]
Device = Literal["pxe", "disk"]


class BmcError(Exception):
    """One BMC did not do what it was asked: which node's, one sentence, and the cure. Never with the password."""

    def __init__(self, node: str, message: str, cure: str = "") -> None:
        self.node = node
        self.message = message
        self.cure = cure
        super().__init__(f"{node}: {message}" if node else message)


@dataclass(frozen=True, slots=True)
class BmcTarget:
    """Where one node's BMC is and how to get in.

    address: "" where `url`, that of the Redfish system, says it. port: 0 = the protocol's own. ca_file: "" = what
    this machine trusts. firmware: how the node boots, uefi or bios.
    """

    node: str
    address: str = ""
    url: str = ""
    protocol: str = "redfish"
    port: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    verify: bool = True
    ca_file: str = ""
    firmware: str = "uefi"

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self.url or (f"{self.address}:{self.port}" if self.port else self.address)


class Bmc(Protocol):
    """A conversation with one BMC. Every method raises BmcError."""

    @property
    def target(self) -> BmcTarget:
        """Whose it is."""
        ...

    def power(self) -> Power:
        """Whether the machine is on."""
        ...

    def set_power(self, wish: Wish) -> None:
        """Ask for a state; it is not waited for. `off` is hard. `cycle` switches a machine on that is off."""
        ...

    def boot_once(self, device: Device, firmware: str = "") -> None:
        """The next boot, and only that one, is from the network or from the disk."""
        ...

    def console_hint(self) -> str:
        """A command or a place with which a person sees the machine's screen or serial line."""
        ...

    def close(self) -> None:
        """End the conversation."""
        ...
