"""The agent's writing path on loop devices: partitions, file systems, the image's files, identity, boot loader."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rackloom.image.agent import disks, install, order
from rackloom.image.agent.disks import Disk, Part, Plan
from rackloom.image.agent.trouble import TroubleError

PROGRAMS = (
    "losetup",
    "sgdisk",
    "wipefs",
    "mkfs.vfat",
    "mkfs.ext4",
    "mksquashfs",
    "unsquashfs",
    "ssh-keygen",
    "blkid",
)
KERNEL = "6.1.0-test"
MIB = 1 << 20
NODE: dict[str, Any] = {
    "name": "gpu001",
    "domain": "example.org",
    "address": "10.10.1.1",
    "prefix": 16,
    "router": "10.10.0.1",
    "mac": "52:54:00:00:00:01",
    "ssh_keys": ["ssh-ed25519 AAAA admin"],
    "console": "ttyS1,57600n8",
}
ORDER = order.Order(
    "install", "http://s", "52:54:00:00:00:01", "compute", "0123456789abcdef", "", "iommu=pt quiet"
)


def _missing() -> str:
    if os.geteuid() != 0:
        return "takes root: loop devices and mounts"
    gone = [program for program in PROGRAMS if not shutil.which(program)]
    if gone:
        return f"{', '.join(gone)} not installed"
    try:
        free = subprocess.run(
            ["losetup", "--find"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "no loop devices here"
    return "" if Path(free).exists() or Path("/dev/loop-control").exists() else "no loop devices here"


pytestmark = pytest.mark.skipif(bool(_missing()), reason=_missing() or "-")


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    """Disks of so many MiB, sparse files behind loop devices."""
    made: list[str] = []

    def make(mib: int) -> Disk:
        backing = tmp_path / f"disk{len(made)}"
        with backing.open("wb") as stream:
            stream.truncate(mib * MIB)
        argv = ["losetup", "--find", "--show", "--partscan", str(backing)]
        path = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
        made.append(path)
        return Disk(path, mib * MIB)

    yield make
    for path in made:
        subprocess.run(["losetup", "--detach", path], check=True)


def _knows(kind: str) -> bool:
    """Whether this machine's kernel can mount a kind of file system."""
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "--quiet", kind], check=False)
    return any(line.split()[-1] == kind for line in Path("/proc/filesystems").read_text().splitlines())


@pytest.fixture(autouse=True)
def system_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel has no vfat, a plain folder plays the EFI system partition."""
    mount = install._mount

    def play(device: str, point: Path, points: list[Path]) -> None:
        if blkid(device, "TYPE") == "vfat":
            point.mkdir(parents=True, exist_ok=True)
        else:
            mount(device, point, points)

    if not _knows("vfat"):
        monkeypatch.setattr(install, "_mount", play)


@pytest.fixture
def source(tmp_path: Path) -> install.Source:
    """An image in little: a few files with owners and modes, and as much of GRUB as this machine has."""
    tree = tmp_path / "tree"
    for folder in ("boot", "etc/ssh", "root", "usr/bin", "usr/share/zoneinfo", "var/lib"):
        (tree / folder).mkdir(parents=True)
    (tree / "usr/bin/tool").write_bytes(os.urandom(3 * MIB))
    (tree / "usr/bin/tool").chmod(0o4755)
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    if Path("/usr/lib/grub").is_dir():
        shutil.copytree("/usr/lib/grub", tree / "usr/lib/grub")
    packed = tmp_path / "root.squashfs"
    tar = subprocess.run(["tar", "-C", str(tree), "-c", "."], capture_output=True, check=True).stdout
    subprocess.run(["mksquashfs", "-", str(packed), "-tar", "-quiet", "-no-progress"], input=tar, check=True)
    for name in ("vmlinuz", "initrd"):
        (tmp_path / name).write_bytes(name.encode())
    return install.Source(
        packed, tmp_path / "vmlinuz", tmp_path / "initrd", {"kernel": KERNEL, "installed_size": 8 * MIB}
    )


def blkid(device: str, key: str) -> str:
    argv = ["blkid", "--probe", "--output", "value", "--match-tag", key, device]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()


def test_a_disk_becomes_a_node(
    make_disk: Callable[[int], Disk], source: install.Source, tmp_path: Path
) -> None:
    disk = make_disk(1500)
    plan = disks.plan(
        {
            "disks": [disk.path],
            "partitions": [
                {"mount": "/", "size": "rest", "filesystem": "ext4"},
                {"mount": "", "size": "64M", "filesystem": "swap"},
                {"mount": "/scratch", "size": "128M", "filesystem": "ext4"},
            ],
        },
        [disk],
        8 * MIB,
    )
    uuids = install.partition(plan)
    with install.mounted(plan, tmp_path / "root") as root:
        install.write(root, source)
        keys = install.personalize(root, NODE, plan, uuids)

        assert {key.split()[0] for key in keys} == {"ssh-ed25519", "ecdsa-sha2-nistp256"}
        assert (root / "usr/bin/tool").stat().st_mode & 0o7777 == 0o4755
        assert (root / f"boot/vmlinuz-{KERNEL}").read_text() == "vmlinuz"
        assert (root / "etc/hostname").read_text() == "gpu001\n"
        assert (root / "root/.ssh/authorized_keys").stat().st_mode & 0o777 == 0o600
        fstab = [line.split() for line in (root / "etc/fstab").read_text().splitlines()]
        assert not (root / install.MARKER).exists()
        assert not (root / "boot/grub/grub.cfg").exists()
    assert not os.path.ismount(tmp_path / "root")
    # What fstab names is what is on the disk.
    real = {f"UUID={blkid(device, 'UUID')}": blkid(device, "TYPE") for device in uuids}
    assert {(line[0], line[2]) for line in fstab} == set(real.items())
    assert [line[1] for line in fstab] == ["none", "/", "/scratch", "/boot/efi"]


def test_an_old_system_leaves_no_trace(make_disk: Callable[[int], Disk], tmp_path: Path) -> None:
    disk = make_disk(900)
    with open(disk.path, "r+b") as stream:  # noqa: PTH123 - a device
        stream.write(b"\xeb\x63\x90" + b"\x5a" * 437)  # boot code
    before = install.partition(Plan((disk,), False, (Part("/", "ext4", 300), Part("/old", "ext4", 0))))
    with install.mounted(Plan((disk,), False, (Part("/", "ext4", 300),)), tmp_path / "r") as root:
        (root / "old").write_text("system")
    plan = Plan((disk,), False, (Part("/", "ext4", 0),))
    after = install.partition(plan)
    assert not set(before.values()) & set(after.values())
    with install.mounted(plan, tmp_path / "r") as root:
        assert not (root / "old").exists()
    with open(disk.path, "rb") as stream:  # noqa: PTH123
        assert set(stream.read(440)) == {0}


def test_disk_full_says_so(make_disk: Callable[[int], Disk], source: install.Source, tmp_path: Path) -> None:
    disk = make_disk(400)
    plan = Plan((disk,), False, (Part("/", "ext4", 3),))
    install.partition(plan)
    with (
        pytest.raises(TroubleError, match="disk full") as caught,
        install.mounted(plan, tmp_path / "r") as root,
    ):
        install.write(root, source)
    assert "larger" in caught.value.cure
    assert not os.path.ismount(tmp_path / "r")


@pytest.mark.skipif(
    not Path("/usr/lib/grub/i386-pc").is_dir() or not Path("/usr/lib/grub/x86_64-efi").is_dir(),
    reason="GRUB for BIOS and UEFI is not installed (grub-pc-bin, grub-efi-amd64-bin)",
)
@pytest.mark.skipif(not _knows("vfat"), reason="this machine's kernel has no vfat, which GRUB insists on")
def test_the_boot_loader_comes_last(
    make_disk: Callable[[int], Disk], source: install.Source, tmp_path: Path
) -> None:
    disk = make_disk(900)
    plan = Plan((disk,), False, (Part("/", "ext4", 0),))
    uuids = install.partition(plan)
    with install.mounted(plan, tmp_path / "r") as root:
        install.write(root, source)
        install.make_bootable(root, NODE, plan, uuids, (KERNEL, ORDER))
        menu = (root / "boot/grub/grub.cfg").read_text()
        assert (root / "boot/efi/EFI/BOOT/BOOTX64.EFI").is_file()
        assert json.loads((root / install.MARKER).read_text())["image_id"] == ORDER.image_id
        checked = subprocess.run(["grub-script-check", str(root / "boot/grub/grub.cfg")], check=False)
        assert checked.returncode == 0
    linux = next(line for line in menu.splitlines() if line.strip().startswith("linux"))
    assert f"root=UUID={uuids[disk.partition(3)]}" in linux
    assert "iommu=pt quiet" in linux and "console=ttyS1,57600n8" in linux
    with open(disk.path, "rb") as stream:  # noqa: PTH123
        assert stream.read(440).strip(b"\0")
