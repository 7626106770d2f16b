"""Why a node has to be rebooted, read from files of a machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plugins.modules.node_reboot import SLICES, VERDICT, WANTED, Node, flavour, order

from .conftest import RunModule


def machine(root: Path, files: dict[str, str]) -> Node:
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return Node(str(root))


GPU = {
    "/sys/bus/pci/devices/0000:3b:00.0/vendor": "0x10de\n",
    "/sys/bus/pci/devices/0000:3b:00.0/class": "0x030200\n",
}
LOADED = {"/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue\n"}
BUILT = {
    "/proc/sys/kernel/osrelease": "6.1.0-9-amd64",
    "/lib/modules/6.1.0-9-amd64/updates/dkms/nvidia.ko.xz": "",
}
LIES = {"/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.126.20": ""}
DEBIAN = {"/proc/sys/kernel/osrelease": "6.1.0-9-amd64\n", "/boot/vmlinuz-6.1.0-9-amd64": ""}


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, ""),
        (DEBIAN, ""),
        (
            {**DEBIAN, "/boot/vmlinuz-6.1.0-31-amd64": ""},
            "kernel 6.1.0-31-amd64 is installed, 6.1.0-9-amd64 runs",
        ),
        ({**DEBIAN, "/boot/vmlinuz-6.1.0-8-amd64": "", "/boot/vmlinuz-6.12.1-cloud-amd64": ""}, ""),
        # Started from the network: what lies in /boot is not what would be started.
        ({"/proc/sys/kernel/osrelease": "6.1.0-9-amd64", "/boot/vmlinuz-6.1.0-31-amd64": ""}, ""),
        (
            {
                "/proc/sys/kernel/osrelease": "5.14.0-503.el9_5.x86_64",
                "/boot/vmlinuz-5.14.0-503.el9_5.x86_64": "",
                "/boot/vmlinuz-5.14.0-570.12.1.el9_6.x86_64": "",
                "/boot/vmlinuz-0-rescue-0f3c8e6d5b4a4d1c": "",
            },
            "kernel 5.14.0-570.12.1.el9_6.x86_64 is installed, 5.14.0-503.el9_5.x86_64 runs",
        ),
        ({"/run/reboot-required": "*** System restart required ***"}, "asked for by the distribution"),
        (
            {
                "/run/reboot-required": "",
                "/run/reboot-required.pkgs": "libc6\nsystemd\nlibc6\ndbus\nlinux-base\n",
            },
            "asked for by dbus, libc6, linux-base and 1 more",
        ),
        ({WANTED: ""}, "asked for"),
        ({**LOADED, **LIES}, ""),  # no GPU: what lies there is of an image
        ({**GPU, **LOADED}, ""),
        ({**GPU, **LOADED, **LIES}, "NVIDIA's driver 580.126.20 is installed, 580.95.05 is loaded"),
        ({**GPU, **LIES}, ""),  # DKMS could not build it; another start would not either
        ({**GPU, **LIES, **BUILT}, "NVIDIA's driver 580.126.20 is installed and not loaded"),
        (
            {**GPU, **LIES, **BUILT, "/proc/modules": "ttm 1 0\nnouveau 2 0 - Live\n"},
            "nouveau holds the GPUs, and NVIDIA's driver is installed",
        ),
        (
            {**GPU, **LOADED, SLICES: "", VERDICT: json.dumps({"codes": ["mig"]})},
            "its GPUs are to be cut into other slices",
        ),
        ({**GPU, **LOADED, SLICES: "", VERDICT: json.dumps({"codes": ["pcie"]})}, ""),
        ({**GPU, **LOADED, VERDICT: json.dumps({"codes": ["mig"]})}, ""),  # nobody would cut them
        ({**GPU, **LOADED, SLICES: "", VERDICT: "{"}, ""),
    ],
)
def test_a_need_has_a_reason(tmp_path: Path, files: dict[str, str], why: str) -> None:
    assert machine(tmp_path, files).why() == ([why] if why else [])


def test_kernels_are_in_the_order_of_their_numbers() -> None:
    assert order("6.1.0-9-amd64") < order("6.1.0-31-amd64") < order("6.12.0-1-amd64")
    assert flavour("6.8.0-31-generic") == "generic" != flavour("6.8.0-31-nvidia")
    assert flavour("5.14.0-503.el9_5.x86_64") == flavour("5.14.0-570.12.1.el9_6.x86_64")


def test_a_note_is_made_once_and_never_in_check_mode(tmp_path: Path, run_module: RunModule) -> None:
    def noted(*, check: bool = False) -> tuple[bool, list[str]]:
        result = run_module("node_reboot", check=check, state="wanted", root=str(tmp_path))
        return result["changed"], result["rackloom_facts"]["reboot"]["why"]

    assert noted(check=True) == (False, [])
    assert noted() == (True, ["asked for"])
    assert noted() == (False, ["asked for"])


def test_another_start_has_another_name(tmp_path: Path) -> None:
    def started(ticks: int) -> str:
        stat = f"1 (a b) c) S {' '.join(['0'] * 18)} {ticks} 0\n"
        return machine(tmp_path, {"/proc/1/stat": stat, "/proc/sys/kernel/random/boot_id": "x"}).started()

    assert started(5) != started(900)
