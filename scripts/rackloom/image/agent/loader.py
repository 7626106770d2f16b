"""The boot loader of a system on a disk: GRUB, for BIOS and for UEFI, whichever the machine has today."""

from __future__ import annotations

import contextlib
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import programs

if TYPE_CHECKING:
    from collections.abc import Sequence

_LABEL = "Rackloom"
_SERIAL = "ttyS"
_EFI_TARGETS = {"x86_64": "x86_64-efi", "aarch64": "arm64-efi"}


class Places(NamedTuple):
    """Where GRUB and the kernel find the system."""

    root_uuid: str
    boot_uuid: str
    """The file system that holds the kernel; the root's own where /boot has none."""
    folder: str
    """Where the kernel is on that file system: /boot, or nothing."""


def words(console: str, options: str) -> str:
    """The kernel's words besides its root: the screen, the serial console if there is one, and the image's own."""
    consoles = ["console=tty0", f"console={console}"] if console else []
    return " ".join([*consoles, *options.split()])


def settings(console: str, options: str) -> str:
    """/etc/default/grub, which counts from the first kernel upgrade on."""
    lines = [
        "GRUB_DEFAULT=0",
        "GRUB_TIMEOUT=1",
        "GRUB_DISTRIBUTOR=Linux",
        'GRUB_CMDLINE_LINUX_DEFAULT=""',
        f'GRUB_CMDLINE_LINUX="{words(console, options)}"',
        "GRUB_DISABLE_OS_PROBER=true",
    ]
    if serial := _serial(console):
        lines += ['GRUB_TERMINAL="console serial"', f'GRUB_SERIAL_COMMAND="{serial}"']
    return "\n".join(lines) + "\n"


def menu(places: Places, kernel: str, console: str, options: str) -> str:
    """grub.cfg: one system, found by the UUIDs of its file systems."""
    serial = _serial(console)
    line = f"root=UUID={places.root_uuid} ro {words(console, options)}".rstrip()
    head = [serial, "terminal_input console serial", "terminal_output console serial"] if serial else []
    return "\n".join(
        [
            *head,
            "set timeout=1",
            "insmod part_gpt",
            "insmod mdraid1x",
            f"search --no-floppy --fs-uuid --set=root {places.boot_uuid}",
            "menuentry 'Linux' {",
            f"\tlinux {places.folder}/vmlinuz-{kernel} {line}",
            f"\tinitrd {places.folder}/initrd.img-{kernel}",
            "}",
            "",
        ]
    )


def install(root: Path, disks: Sequence[str], systems: Sequence[Path]) -> None:
    """Put GRUB onto `disks` for BIOS and into the EFI system partitions mounted below `root` at `systems`.

    UEFI finds it at the removable path, without an entry in the firmware, on any machine that the disk is put in.
    """
    machine = platform.machine()
    boot = root / "boot"
    if machine == "x86_64":
        for disk in disks:
            programs.run(
                *(
                    "grub-install",
                    "--target=i386-pc",
                    f"--boot-directory={boot}",
                    "--no-floppy",
                    "--skip-fs-probe",
                ),
                *(f"--directory={root}/usr/lib/grub/i386-pc", disk),
            )
    target = _EFI_TARGETS[machine]
    for folder in systems:
        programs.run(
            *("grub-install", f"--target={target}", f"--boot-directory={boot}", f"--efi-directory={folder}"),
            *(f"--directory={root}/usr/lib/grub/{target}", "--removable", "--no-nvram", "--skip-fs-probe"),
        )


def enter(disk: str, number: int, label: str = _LABEL) -> None:
    """Name the EFI system partition in the firmware's boot order, right behind the network entry that we came from.

    A firmware that takes no entry still finds the removable path.
    """
    if not Path("/sys/firmware/efi/efivars").is_dir():
        return
    with contextlib.suppress(programs.ProgramError):
        before = programs.run("efibootmgr")
        for old in re.findall(rf"^Boot([0-9A-F]{{4}})\*? {label}\b", before, re.MULTILINE):
            programs.run("efibootmgr", "--quiet", "--bootnum", old, "--delete-bootnum")
        machine = "BOOTX64.EFI" if platform.machine() == "x86_64" else "BOOTAA64.EFI"
        programs.run(
            *("efibootmgr", "--quiet", "--create-only", "--disk", disk, "--part", str(number)),
            *("--label", label, "--loader", rf"\EFI\BOOT\{machine}"),
        )
        listing = programs.run("efibootmgr")
        programs.run("efibootmgr", "--quiet", "--bootorder", ",".join(boot_order(listing, label)))
        # Some firmware sorts its order anew at each start; the very next one is not its to choose.
        for mine in re.findall(rf"^Boot([0-9A-F]{{4}})\*? {label}\b", listing, re.MULTILINE):
            programs.run("efibootmgr", "--quiet", "--bootnext", mine)


def boot_order(listing: str, label: str = _LABEL) -> list[str]:
    """The firmware's boot order with our entry behind the one that was booted, out of what efibootmgr says."""
    current = re.search(r"^BootCurrent: (\w+)", listing, re.MULTILINE)
    found = re.search(r"^BootOrder: (\S+)", listing, re.MULTILINE)
    mine = re.findall(rf"^Boot([0-9A-F]{{4}})\*? {label}\b", listing, re.MULTILINE)
    order = [entry for entry in (found[1].split(",") if found else []) if entry not in mine]
    place = order.index(current[1]) + 1 if current and current[1] in order else 0
    return [*order[:place], *mine, *order[place:]]


def _serial(console: str) -> str:
    """GRUB's serial command for a console like ttyS0,115200n8; empty for another."""
    device, _, mode = console.partition(",")
    if not device.startswith(_SERIAL) or not device[len(_SERIAL) :].isdigit():
        return ""
    speed = "".join(mode[: mode.find("n")] if "n" in mode else mode) or "9600"
    return f"serial --unit={device[len(_SERIAL) :]} --speed={speed}"
