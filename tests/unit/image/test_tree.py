"""From a build's tar to an image: traces go, content stays, equal content gives equal bytes."""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from rackloom.image import store, tree
from rackloom.image.errors import ImageError

pytestmark = pytest.mark.skipif(not shutil.which("mksquashfs"), reason="squashfs-tools are not installed")

EPOCH = 1_700_000_000
STATUS = (
    "Package: tool\nStatus: install ok installed\nVersion: 1.2\nDescription: a tool\n that: does\n\n"
    "Package: gone\nStatus: deinstall ok config-files\nVersion: 3\n"
)
FILES: Mapping[str, bytes] = {
    ".rackloom": f"{EPOCH} 6.1-x\n".encode(),
    "boot/initrd.img-6.1-x": b"the initrd",
    "boot/vmlinuz-6.1-x": b"the kernel",
    "etc/hostname": b"builder",
    "etc/machine-id": b"0123\n",
    "etc/munge/munge.key": b"secret",
    "etc/shadow": b"root:*:19876:0:99999:7:::\n",
    "etc/ssh/ssh_host_ed25519_key": b"secret",
    "usr/bin/tool": b"#!/bin/sh\n",
    "var/lib/dpkg/info/tool.list": b"/.\n/usr/bin/tool\n",
    "var/lib/dpkg/status": STATUS.encode(),
    "var/log/dpkg.log": b"2026-01-01 install",
}


def make(path: Path, files: Mapping[str, bytes] = FILES, seed: int = 0) -> Path:
    """A build's root.tar; its order and times are chance."""
    chance = random.Random(seed)  # noqa: S311 - for the order of files
    order = list(files)
    chance.shuffle(order)
    folders = sorted({str(parent) for name in files for parent in Path(name).parents} - {"."})
    with tarfile.open(path, "w") as archive:
        for name in folders:
            entry = tarfile.TarInfo(f"./{name}")
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, EPOCH + chance.randrange(10**6)
            archive.addfile(entry)
        for name in order:
            entry = tarfile.TarInfo(f"./{name}")
            entry.size, entry.mtime = len(files[name]), EPOCH + chance.randrange(10**6)
            entry.mode = 0o755 if "/bin/" in name else 0o644
            archive.addfile(entry, io.BytesIO(files[name]))
    return path


def pack(folder: Path, files: Mapping[str, bytes] = FILES, seed: int = 0) -> tree.Contents:
    folder.mkdir()
    return tree.pack(make(folder.with_suffix(".tar"), files, seed), folder)


def test_kernel_and_initrd_lie_beside_the_root(tmp_path: Path) -> None:
    found = pack(tmp_path / "a")
    assert (tmp_path / "a/vmlinuz").read_bytes() == b"the kernel"
    assert (tmp_path / "a/initrd").read_bytes() == b"the initrd"
    assert (found.kernel, found.epoch, found.packages) == ("6.1-x", EPOCH, {"tool": "1.2"})


def test_traces_of_the_build_are_gone(tmp_path: Path) -> None:
    found = pack(tmp_path / "a")
    gone = {
        ".rackloom",
        "boot/vmlinuz-6.1-x",
        "etc/hostname",
        "etc/munge/munge.key",
        "etc/ssh/ssh_host_ed25519_key",
    }
    assert not gone & set(found.entries)
    assert found.entries["etc/machine-id"] == found.entries["var/log/dpkg.log"]  # both empty


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    pack(tmp_path / "a", seed=1)
    later = {
        **FILES,
        "etc/shadow": b"root:*:20001:0:99999:7:::\n",
        "var/log/dpkg.log": b"other",
        "etc/hostname": b"x",
    }
    pack(tmp_path / "b", later, seed=2)
    assert store.file_records(tmp_path / "a") == store.file_records(tmp_path / "b")
    pack(tmp_path / "c", {**FILES, "usr/bin/tool": b"#!/bin/bash\n"})
    assert store.identify(store.file_records(tmp_path / "a")) != store.identify(
        store.file_records(tmp_path / "c")
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root: owners are unpacked")
def test_what_is_packed_can_be_unpacked(tmp_path: Path) -> None:
    pack(tmp_path / "a")
    argv = [
        "unsquashfs",
        "-quiet",
        "-no-progress",
        "-dest",
        str(tmp_path / "out"),
        str(tmp_path / "a/root.squashfs"),
    ]
    subprocess.run(argv, check=True)
    assert (tmp_path / "out/usr/bin/tool").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out").stat().st_mtime == EPOCH
    assert (tmp_path / "out/etc/.updated").stat().st_mtime >= (tmp_path / "out/usr").stat().st_mtime
    assert (tmp_path / "out/etc/shadow").read_text().split(":")[2] == str(EPOCH // 86400)


def test_half_a_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="last step"):
        pack(tmp_path / "a", {name: data for name, data in FILES.items() if name != ".rackloom"})
    with pytest.raises(ImageError, match="made no boot/vmlinuz"):
        pack(tmp_path / "b", {name: data for name, data in FILES.items() if "vmlinuz" not in name})
    (tmp_path / "c").mkdir()
    (tmp_path / "c.tar").write_bytes(b"no tar at all" * 1000)
    with pytest.raises(ImageError, match="no tar"):
        tree.pack(tmp_path / "c.tar", tmp_path / "c")


def test_contents_know_their_owner(tmp_path: Path) -> None:
    pack(tmp_path / "a")
    entries, owners = tree.read_contents(tmp_path / "a" / tree.CONTENTS)
    assert owners == {"usr/bin/tool": "tool"}
    assert entries["usr/bin/tool"][0] == "file"
