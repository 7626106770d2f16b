"""Disks: which there are, which are taken, and how they are cut up. Everything is decided before the first write."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import programs
from .trouble import TroubleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MIB = 1 << 20
AUTO, REST = "auto", "rest"
BIOS_MIB = 1
ESP_MIB = 300  # FAT32 needs 260 on disks with blocks of 4 KiB
_ALIGNED_MIB = 2  # the first partition's alignment, and the second partition table at the disk's end
_MIN_REST_MIB = 256
_NO_DISKS = ("zram", "nbd", "ram", "fd", "mtdblock")
_UNITS = {"M": 1, "G": 1024, "T": 1024 * 1024}
_SIZE = re.compile(r"([1-9][0-9]*)\s*([MGT])(?:i?B)?", re.IGNORECASE)
_CURE_LAYOUT = "change the layout in cluster.yml, or the disk"
SWAP = "swap"
# Type codes of sgdisk.
_BIOS, _ESP, _LINUX, _SWAP, _RAID = "EF02", "EF00", "8300", "8200", "FD00"


class Disk(NamedTuple):
    """A whole disk."""

    path: str
    size: int
    """Bytes."""
    removable: bool = False
    read_only: bool = False
    model: str = ""
    serial: str = ""
    transport: str = ""

    def partition(self, number: int) -> str:
        """The device of its n-th partition."""
        return f"{self.path}{'p' if self.path[-1].isdigit() else ''}{number}"


class Part(NamedTuple):
    """One partition that the layout asks for."""

    mount: str
    filesystem: str
    mib: int
    """Its size; 0 = all that is left."""


class Plan(NamedTuple):
    """Which disks get which partitions; all disks of a plan are cut alike."""

    disks: tuple[Disk, ...]
    raid: bool
    parts: tuple[Part, ...]
    """In the order of the layout; the one without a size is made last, whatever its place."""

    def number(self, part: Part) -> int:
        """A partition's number. 1 and 2 are the firmware's."""
        return 3 + self.parts.index(part)

    def device(self, part: Part) -> str:
        """What is formatted and mounted for it: a partition, or the array over its two."""
        if self.raid:
            return f"/dev/md{self.parts.index(part)}"
        return self.disks[0].partition(self.number(part))


def found(text: str | None = None) -> list[Disk]:
    """The disks of this machine, as lsblk tells them (or `text`, its answer)."""
    columns = "PATH,TYPE,SIZE,RM,RO,MODEL,SERIAL,TRAN"
    answer = text or programs.run("lsblk", "--json", "--bytes", "--nodeps", "--output", columns)
    result = []
    for item in json.loads(answer).get("blockdevices", []):
        name = Path(str(item.get("path") or "")).name
        if (
            item.get("type") != "disk"
            or name.startswith(("zram", "nbd", "ram", "fd", "mtdblock"))
            or not item.get("size")
        ):
            continue
        result.append(
            Disk(
                path=str(item["path"]),
                size=int(item["size"]),
                removable=_truth(item.get("rm")) or item.get("tran") == "usb",
                read_only=_truth(item.get("ro")),
                model=str(item.get("model") or "").strip(),
                serial=str(item.get("serial") or "").strip(),
                transport=str(item.get("tran") or ""),
            )
        )
    return result


def plan(layout: Mapping[str, Any], disks: Sequence[Disk], need: int) -> Plan:
    """Decide where everything goes; `need` is how many bytes the root file system's files take.

    Raises TroubleError when there is no disk, or none that is large enough.
    """
    parts = tuple(_parts(layout))
    root = next((part for part in parts if part.mount == "/"), None)
    if root is None:
        raise TroubleError("the disk layout has no partition for /", _CURE_LAYOUT)
    root_mib = -(-need * 5 // 4 // MIB) + 64  # a file system's own tables, and room to boot
    if root.mib and root.mib < root_mib:
        raise TroubleError(
            f"the layout gives / {root.mib} MiB and the image needs {root_mib} MiB",
            "make / larger in the layout, or build a smaller image",
        )
    total = _ALIGNED_MIB + BIOS_MIB + ESP_MIB
    for part in parts:
        total += part.mib or max(_MIN_REST_MIB, root_mib if part is root else 0)
    raid = str(layout.get("raid") or "none") == "1"
    return Plan(_choose(layout, disks, total, 2 if raid else 1), raid, parts)


def table(plan: Plan) -> list[str]:
    """The words for sgdisk that cut one disk of the plan; the disk is the last one, which the caller adds."""
    words = [
        *("--new=1:0:+1M", f"--typecode=1:{_BIOS}", "--change-name=1:bios"),
        *(f"--new=2:0:+{ESP_MIB}M", f"--typecode=2:{_ESP}", "--change-name=2:efi"),
    ]
    for part in sorted(plan.parts, key=lambda one: one.mib == 0):
        number = plan.number(part)
        kind = _RAID if plan.raid else _SWAP if part.filesystem == SWAP else _LINUX
        size = f"+{part.mib}M" if part.mib else "0"
        name = part.mount.strip("/").replace("/", "-") or ("root" if part.mount else SWAP)
        words += [f"--new={number}:0:{size}", f"--typecode={number}:{kind}", f"--change-name={number}:{name}"]
    return words


def mib(text: str) -> int:
    """MiB of a size like 20G; 0 for rest."""
    if text.strip() == REST:
        return 0
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise TroubleError(f"the disk layout has a size '{text}'", _CURE_LAYOUT)
    return int(match[1]) * _UNITS[match[2].upper()]


def _parts(layout: Mapping[str, Any]) -> list[Part]:
    entries = layout.get("partitions") or [{"mount": "/", "size": REST, "filesystem": "ext4"}]
    parts = [
        Part(
            str(entry.get("mount") or ""),
            str(entry.get("filesystem") or "ext4"),
            mib(str(entry.get("size") or REST)),
        )
        for entry in entries
    ]
    if sum(part.mib == 0 for part in parts) > 1:
        raise TroubleError(
            "the disk layout gives the rest of the disk to more than one partition", _CURE_LAYOUT
        )
    return parts


def _choose(layout: Mapping[str, Any], disks: Sequence[Disk], total_mib: int, count: int) -> tuple[Disk, ...]:
    """The disks to write to: the ones named, or the smallest fixed ones that are large enough."""
    named = [str(name) for name in layout.get("disks") or [AUTO]]
    if AUTO in named:
        fixed = [disk for disk in disks if not disk.removable and not disk.read_only]
        fixed.sort(key=lambda disk: (disk.size, disk.path))
        if len(fixed) < count:
            there = ", ".join(f"{disk.path} ({_gib(disk.size)})" for disk in disks) or "none"
            what = "no fixed disk" if not fixed else f"only {len(fixed)} fixed disk and RAID 1 takes two"
            raise TroubleError(
                f"the node has {what}; it sees: {there}",
                "check cables and the controller's mode, or build the image with the generic kernel",
            )
        large = [disk for disk in fixed if disk.size >= total_mib * MIB]
        if len(large) < count:
            raise _too_small(fixed[-1], total_mib)
        return tuple(large[:count])
    chosen = []
    for name in named[:count]:
        path = str(Path(name).resolve()) if name.startswith("/") else f"/dev/{name}"
        disk = next((one for one in disks if one.path == path), None)
        if disk is None:
            raise TroubleError(
                f"the node has no disk {name}; it sees: {', '.join(one.path for one in disks) or 'none'}",
                _CURE_LAYOUT,
            )
        if disk.size < total_mib * MIB:
            raise _too_small(disk, total_mib)
        chosen.append(disk)
    if len(chosen) < count:
        raise TroubleError("RAID 1 takes two disks and the layout names one", _CURE_LAYOUT)
    return tuple(chosen)


def _too_small(disk: Disk, total_mib: int) -> TroubleError:
    return TroubleError(
        f"disk too small: {disk.path} has {_gib(disk.size)} and layout and image need {_gib(total_mib * MIB)}",
        "use a larger disk, or a smaller layout or image",
    )


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def _truth(value: object) -> bool:
    return value in (True, 1, "1", "true")
