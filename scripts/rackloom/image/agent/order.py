"""What this boot is for: the words of ours on the kernel's command line."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .trouble import TroubleError

INSTALL, MEMORY, DISCOVER = "install", "memory", "discover"
_MODES = (INSTALL, MEMORY, DISCOVER)

# What belongs to booting from the network, and so not on the command line of a system on a disk.
_OURS = ("boot=", "fetch=", "initrd=", "ip=", "BOOTIF=", "BOOT_IMAGE=", "rackloom.", "console=", "root=")
_BOOTIF = "BOOTIF=01-"
_OURS_ALONE = ("ro", "rw")


class Order(NamedTuple):
    """One boot's order."""

    mode: str
    url: str
    """The boot server's HTTP root."""
    mac: str
    """By which the boot server knows this node, lower case with colons."""
    image: str
    image_id: str
    after: str
    """What to do when all is done, where it differs: reboot, poweroff or wait."""
    options: str
    """Further words, which an installed system gets too."""
    interface: str = ""
    """The MAC that this machine booted from: another one where it took over the node by its serial number."""

    @property
    def mac_path(self) -> str:
        """The MAC as it stands in the boot server's paths."""
        return self.mac.replace(":", "-")


def read(path: Path = Path("/proc/cmdline")) -> Order:
    """Return this boot's order. Raises TroubleError where a word is missing."""
    return parse(path.read_text(encoding="ascii", errors="replace"))


def parse(line: str) -> Order:
    """Read a kernel command line."""
    words = line.split()
    ours = dict(
        word[len("rackloom.") :].partition("=")[::2] for word in words if word.startswith("rackloom.")
    )
    missing = [key for key in ("mode", "url", "mac", "image", "id") if not ours.get(key)]
    if missing:
        raise TroubleError(
            f"the kernel's command line has no rackloom.{missing[0]}=",
            "deploy the boot server again: its boot scripts",
        )
    if ours["mode"] not in _MODES:
        raise TroubleError(
            f"there is no mode '{ours['mode']}'", "deploy the boot server again: its boot scripts"
        )
    mac = ours["mac"].lower().replace("-", ":")
    booted = next((word[len(_BOOTIF) :] for word in words if word.startswith(_BOOTIF)), "")
    return Order(
        mode=ours["mode"],
        url=ours["url"].rstrip("/"),
        mac=mac,
        image=ours["image"],
        image_id=ours["id"],
        after=ours.get("after", ""),
        interface=booted.lower().replace("-", ":") or mac,
        options=" ".join(word for word in words if not word.startswith(_OURS) and word not in _OURS_ALONE),
    )
