"""Tell what this machine is: network cards, disks, processors, memory, GPUs, BMC, serial number."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import disks, neighbours, programs

if TYPE_CHECKING:
    from collections.abc import Callable

    from .order import Order
    from .server import Server

_GPU_CLASSES = ("0x0300", "0x0302", "0x0380", "0x1200")
_GPU_VENDORS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
_NO_GPU = ("0x8086",)  # Intel's graphics count only as accelerators of their own class
_DMI = {
    "serial": "product_serial",
    "vendor": "sys_vendor",
    "product": "product_name",
    "uuid": "product_uuid",
    "board_serial": "board_serial",
    "bios": "bios_version",
}
_NONSENSE = (
    "",
    "none",
    "default string",
    "not specified",
    "to be filled by o.e.m.",
    "0",
    "system serial number",
)


def discover(server: Server, order: Order, say: Callable[[str], None]) -> None:
    """Put what is known of this machine to the boot server."""
    facts = look(order.mac)
    say(
        f"MAC {order.mac}, serial {facts['serial'] or 'unknown'}: {facts['cpus']['model']}, {facts['memory_mib']} MiB"
    )
    server.put(f"/discovered/{order.mac_path}.json", facts)


def look(mac: str = "", root: Path = Path("/")) -> dict[str, Any]:
    """Everything that a site's nodes.yml wants to know."""
    facts: dict[str, Any] = {key: _dmi(root, name) for key, name in _DMI.items()}
    found: list[dict[str, Any]] = []
    with contextlib.suppress(programs.ProgramError):
        found = [disk._asdict() for disk in disks.found()]
    found_cards = cards(root)
    beside = neighbours.listen([card["name"] for card in found_cards if card["link"]])
    facts.update(
        mac=mac,
        macs=[card["mac"] for card in found_cards],
        cards=[
            {**card, "lldp": beside[card["name"]]} if card["name"] in beside else card for card in found_cards
        ],
        disks=found,
        cpus=processors((root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace"), root),
        memory_mib=memory_mib((root / "proc/meminfo").read_text(encoding="ascii")),
        gpus=gpus(root),
        bmc=bmc(),
        firmware="uefi" if (root / "sys/firmware/efi").is_dir() else "bios",
    )
    return facts


def cards(root: Path) -> list[dict[str, Any]]:
    """Network cards that are hardware, in the kernel's order."""
    result = []
    for path in sorted((root / "sys/class/net").glob("*")):
        mac = _read(path / "address").lower()
        if not (path / "device").exists() or not re.fullmatch(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", mac):
            continue
        driver = (path / "device/driver").resolve().name if (path / "device/driver").exists() else ""
        speed = _read(path / "speed")
        result.append(
            {
                "name": path.name,
                "mac": mac,
                "link": _read(path / "carrier") == "1",
                "speed": int(speed) if speed.isdigit() else 0,
                "driver": driver,
            }
        )
    return result


def processors(cpuinfo: str, root: Path = Path("/")) -> dict[str, Any]:
    """Sockets, cores a socket, threads a core, and the model's name."""
    threads: dict[tuple[str, str], int] = {}
    packages: set[str] = set()
    online = 0
    for cpu in sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*")):
        package, core = _read(cpu / "topology/physical_package_id"), _read(cpu / "topology/core_id")
        if package and core:
            packages.add(package)
            threads[package, core] = threads.get((package, core), 0) + 1
            online += 1
    model = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    sockets = len(packages) or 1
    return {
        "model": model[1].strip() if model else "",
        "sockets": sockets,
        "cores": max(len(threads) // sockets, 1),
        "threads": max(threads.values(), default=1),
        "total": online or cpuinfo.count("processor\t"),
    }


def memory_mib(meminfo: str) -> int:
    """MiB that Linux sees."""
    match = re.search(r"^MemTotal:\s*(\d+) kB", meminfo, re.MULTILINE)
    return int(match[1]) // 1024 if match else 0


def gpus(root: Path) -> list[dict[str, str]]:
    """Accelerators on the PCI bus, by class and vendor; the BMC's own graphics are none."""
    result = []
    for path in sorted((root / "sys/bus/pci/devices").glob("*")):
        kind, vendor = _read(path / "class"), _read(path / "vendor")
        if not kind.startswith(_GPU_CLASSES) or vendor not in _GPU_VENDORS:
            continue
        if vendor in _NO_GPU and not kind.startswith("0x1200"):
            continue
        result.append(
            {
                "pci": path.name,
                "vendor": _GPU_VENDORS[vendor],
                "device": _read(path / "device").removeprefix("0x"),
            }
        )
    return result


def bmc(text: str | None = None) -> dict[str, str]:
    """The BMC's address and MAC, as ipmitool tells them (or `text`, its answer); empty where there is none."""
    if text is None:
        text = ""
        for module in ("ipmi_devintf", "ipmi_si"):
            with contextlib.suppress(programs.ProgramError):
                programs.run("modprobe", "--quiet", module)
        with contextlib.suppress(programs.ProgramError):
            text = programs.run("ipmitool", "lan", "print")
    found = {}
    for key, label in (("address", "IP Address"), ("mac", "MAC Address")):
        match = re.search(rf"^{label}\s*:\s*(\S+)", text, re.MULTILINE)
        if match and match[1] != "0.0.0.0":  # noqa: S104 - what a BMC without an address says
            found[key] = match[1].lower()
    return found


def _dmi(root: Path, name: str) -> str:
    text = _read(root / "sys/class/dmi/id" / name)
    return "" if text.lower() in _NONSENSE else text


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
