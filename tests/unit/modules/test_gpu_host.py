from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rackloom.cluster.plugins.modules import gpu_host

PLATFORMS: list[dict[str, Any]] = [
    {"name": "hgx", "devices": ["2330"], "switches": ["22a3"], "services": ["fabric_manager"]},
    {"name": "plain", "devices": [], "switches": [], "services": []},
]


def _device(root: Path, address: str, kind: str, device: str, vendor: str = "0x10de") -> None:
    folder = root / "sys/bus/pci/devices" / address
    folder.mkdir(parents=True)
    for name, content in (("class", kind), ("vendor", vendor), ("device", f"0x{device}")):
        (folder / name).write_text(f"{content}\n")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    _device(tmp_path, "0000:00:02.0", "0x030000", "2000", "0x1a03")
    _device(tmp_path, "0000:1a:00.0", "0x030200", "2330")
    _device(tmp_path, "0000:05:00.0", "0x068000", "22a3")
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/osrelease").write_text("6.1.0-1-amd64\n")
    (tmp_path / "proc/modules").write_text("ext4 1 1 - Live 0x0\n")
    (tmp_path / "lib/modules/6.1.0-1-amd64").mkdir(parents=True)
    return tmp_path


def _troubles(root: Path, branch: str = "") -> str:
    host = gpu_host.Host(str(root))
    return "; ".join(gpu_host.troubles(host, branch, host.loaded(), host.modules()))


def _load(root: Path, version: str) -> None:
    (root / "proc/driver/nvidia").mkdir(parents=True)
    (root / "proc/driver/nvidia/version").write_text(
        f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}\n"
    )


def test_a_machine_is_known_by_its_bus(machine: Path) -> None:
    host = gpu_host.Host(str(machine))
    gpus, switches = host.devices("0x0300", "0x0302"), host.devices("0x0680")
    assert gpus == [{"address": "0000:1a:00.0", "device": "2330"}]
    assert gpu_host.platform(PLATFORMS, gpus, switches)["name"] == "hgx"
    assert gpu_host.platform(PLATFORMS, gpus, [])["name"] == "plain"


def test_no_driver_is_said(machine: Path) -> None:
    assert _troubles(machine) == "there is no driver for the kernel 6.1.0-1-amd64"


def test_dkms_without_headers_is_said(machine: Path) -> None:
    (machine / "usr/src/nvidia-current-535.309.01").mkdir(parents=True)
    (machine / "usr/src/nvidia-current-535.309.01/dkms.conf").touch()
    assert "535.309.01: the headers of the kernel 6.1.0-1-amd64 are not there" in _troubles(machine)
    (machine / "lib/modules/6.1.0-1-amd64/build").mkdir()
    assert "see dkms status" in _troubles(machine)


@pytest.mark.parametrize("name", ["nvidia.ko", "nvidia-current.ko.xz"])
def test_a_driver_that_is_not_loaded_is_said(machine: Path, name: str) -> None:
    folder = machine / "lib/modules/6.1.0-1-amd64/updates/dkms"
    folder.mkdir(parents=True)
    (folder / "nvidia-drm.ko").touch()
    assert "no driver" in _troubles(machine)
    (folder / name).touch()
    assert "not loaded" in _troubles(machine)


def test_nouveau_is_said(machine: Path) -> None:
    (machine / "proc/modules").write_text("nouveau 1 1 - Live 0x0\n")
    assert _troubles(machine) == gpu_host.NOUVEAU


def test_another_branch_in_the_kernel_is_said(machine: Path) -> None:
    _load(machine, "535.309.01")
    assert _troubles(machine) == "" and _troubles(machine, "535") == ""
    assert "535.309.01, and branch 580 is wanted" in _troubles(machine, "580")


def test_programs_on_a_gpu_are_found_and_the_drivers_own_are_not(machine: Path) -> None:
    for number, name in ((4711, "python3"), (12, "nvidia-persistenced"), (13, "bash")):
        folder = machine / "proc" / str(number) / "fd"
        folder.mkdir(parents=True)
        (folder.parent / "comm").write_text(f"{name}\n")
        (folder / "3").symlink_to("/dev/null" if name == "bash" else "/dev/nvidia0")
    assert gpu_host.Host(str(machine)).users() == ["python3 (4711)"]
