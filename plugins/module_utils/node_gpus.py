"""What a machine's PCI bus and kernel say of NVIDIA's GPUs and their driver."""

from __future__ import annotations

import glob
import os
import re

NVIDIA = "0x10de"
GPU_CLASSES = ("0x0300", "0x0302")


def text(path: str) -> str:
    """A file's content, '' where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return ""


class Machine:
    """A machine under a folder."""

    def __init__(self, root: str) -> None:
        self.root = root

    def at(self, path: str) -> str:
        """A path of the machine."""
        return os.path.join(self.root, path.lstrip("/"))

    def devices(self, *kinds: str) -> list[dict[str, str]]:
        """NVIDIA's devices of some classes on the PCI bus."""
        found = []
        for path in sorted(glob.glob(self.at("/sys/bus/pci/devices/*"))):
            kind, vendor = text(f"{path}/class"), text(f"{path}/vendor")
            if vendor == NVIDIA and kind.startswith(kinds):
                device = text(f"{path}/device")
                found.append({"address": os.path.basename(path), "device": device.replace("0x", "", 1)})
        return found

    def kernel(self) -> str:
        """Release of the running kernel."""
        return text(self.at("/proc/sys/kernel/osrelease"))

    def modules(self) -> set[str]:
        """Names of loaded modules."""
        return {line.split(" ", 1)[0] for line in text(self.at("/proc/modules")).splitlines()}

    def loaded(self) -> str:
        """Version of the driver in the kernel, '' where there is none."""
        match = re.search(r"\d+\.\d+(?:\.\d+)?", text(self.at("/proc/driver/nvidia/version")))
        return match[0] if match else ""

    def built(self) -> bool:
        """Whether the driver's module lies there for the running kernel."""
        folder = self.at(f"/lib/modules/{self.kernel()}")
        return any(
            re.match(r"nvidia(?:-current)?\.ko(?:\.\w+)?$", name)
            for _, _, names in os.walk(folder)
            for name in names
        )
