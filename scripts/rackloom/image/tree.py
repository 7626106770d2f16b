"""From the tar that a build leaves to the files of an image: nothing of the build's day or machine stays in.

What two builds of equal packages would differ in is taken out (logs, caches, keys, ids) or set (times, the day of
the last password change). What is left is sorted, so equal content gives equal bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rackloom.image.errors import ImageError

KERNEL, INITRD, ROOT = "vmlinuz", "initrd", "root.squashfs"
FILES = (INITRD, ROOT, KERNEL)
"""The files that make an image, sorted."""
CONTENTS = "contents.json.gz"
"""What is in root.squashfs, file by file; for `image diff` alone, nodes never ask for it."""

_FORMAT_MARK = ".rackloom"
_DROPPED = re.compile(
    r"""\.rackloom$ | boot/(vmlinu[xz]|initrd)[^/]*$ | (vmlinuz|initrd\.img)(\.old)?$
      | (run|tmp|var/tmp|var/cache/apt|var/lib/apt/lists)/.
      | etc/(hostname|resolv\.conf|passwd-|group-|shadow-|gshadow-|subuid-|subgid-|\.pwd\.lock)$
      | etc/ssh/ssh_host_ | etc/munge/munge\.key$ | etc/ssl/private/ssl-cert-snakeoil\.key$
      | etc/apt/auth\.conf\.d/.
      | var/lib/(dbus/machine-id|systemd/random-seed|systemd/credential\.secret|dpkg/(lock|lock-frontend|[a-z]+-old))$
      | var/lib/dpkg/triggers/Lock$ | var/lib/initramfs-tools/. | var/cache/ldconfig/aux-cache$
      | var/cache/debconf/[^/]*-old$ | var/cache/man/. | root/\.(wget-hsts|bash_history)$
    """,
    re.VERBOSE,
)
# Kept, but empty: their being there means something.
_EMPTIED = re.compile(r"etc/machine-id$|var/log/.*[^/]$")
_LAST_CHANGE = re.compile(r"^([^:\n]*:[^:\n]*):\d+:", re.MULTILINE)
_DAY = 86400


@dataclass
class Contents:
    """What was found on the way."""

    kernel: str = ""
    epoch: int = 0
    size: int = 0
    """Bytes that the files take when they are written to a disk of 4 KiB blocks."""
    packages: dict[str, str] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    entries: dict[str, list[str | int]] = field(default_factory=dict)
    """Path -> kind, mode, uid:gid, and the content's digest, link target or device number."""


def pack(archive: Path, folder: Path) -> Contents:
    """Write vmlinuz, initrd, root.squashfs and contents.json.gz into `folder`, out of a build's root.tar.

    Raises ImageError when the tar is not a whole root or squashfs-tools do not take it.
    """
    contents = Contents()
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            _look_around(tar, members, contents)
            _boot_files(tar, members, folder, contents)
            _squash(tar, members, folder, contents)
    except tarfile.TarError as error:
        raise ImageError(f"{archive} is no tar: {error}", "build again") from error
    _write_contents(folder / CONTENTS, contents)
    return contents


def plain(name: str) -> str:
    """A member's path without ./ and slashes around it; '' is the root."""
    return name.removeprefix("./").strip("/") if name != "." else ""


def _look_around(tar: tarfile.TarFile, members: list[tarfile.TarInfo], contents: Contents) -> None:
    """Read the mark that the build left, the packages and who owns which file."""
    for member in members:
        path = plain(member.name)
        if path == _FORMAT_MARK:
            epoch, contents.kernel = _text(tar, member).split()
            contents.epoch = int(epoch)
        elif path == "var/lib/dpkg/status":
            contents.packages = packages_of(_text(tar, member))
        elif path.startswith("var/lib/dpkg/info/") and path.endswith(".list"):
            package = Path(path).name.removesuffix(".list").partition(":")[0]
            for line in _text(tar, member).splitlines():
                contents.owners[line.strip("/")] = package
    if not contents.epoch or not contents.packages:
        raise ImageError("the build ended before its last step", "look at its log and build again")


def packages_of(status: str) -> dict[str, str]:
    """Name -> version of what is installed, out of dpkg's status file."""
    found = {}
    for stanza in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if re.match(r"[A-Z][\w-]*: ", line))
        if fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields["Version"]
    return dict(sorted(found.items()))


def _boot_files(
    tar: tarfile.TarFile, members: list[tarfile.TarInfo], folder: Path, contents: Contents
) -> None:
    """Lay kernel and initrd beside the root: nodes load them before it, and again to write them to a disk."""
    wanted = {f"boot/vmlinuz-{contents.kernel}": KERNEL, f"boot/initrd.img-{contents.kernel}": INITRD}
    for member in members:
        if (name := wanted.pop(plain(member.name), "")) and (stream := tar.extractfile(member)):
            with (folder / name).open("wb") as out:
                shutil.copyfileobj(stream, out)
    if wanted:
        raise ImageError(f"the build made no {' and no '.join(wanted)}", "build again; its log tells why")


def _squash(tar: tarfile.TarFile, members: list[tarfile.TarInfo], folder: Path, contents: Contents) -> None:
    """Pipe what stays, sorted, into mksquashfs."""
    argv = ["mksquashfs", "-", str(folder / ROOT), "-tar", "-quiet", "-no-progress"]
    # The tar's own entry for the root is not heeded. Version 4.5.1 forgets -root-time when it reads a tar and takes
    # today's; SOURCE_DATE_EPOCH dates the file system and caps every time in it, the root's too.
    argv += ["-root-mode", "755", "-root-uid", "0", "-root-gid", "0"]
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(contents.epoch)}
    # Half the time of the default level, and 3 % larger.
    argv += ["-comp", "zstd", "-Xcompression-level", "9"]
    log = folder / "mksquashfs.log"
    try:
        with log.open("wb") as words:
            packer = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=words, stderr=words, env=env)
    except FileNotFoundError as error:
        raise ImageError("mksquashfs is not installed", "install squashfs-tools 4.5 or later") from error
    broken = False
    with packer:
        assert packer.stdin is not None  # noqa: S101 - asked for above
        try:
            with tarfile.open(fileobj=packer.stdin, mode="w|", format=tarfile.PAX_FORMAT) as out:
                for member, stream in _kept(tar, members, contents):
                    out.addfile(member, stream)
        except BrokenPipeError:
            broken = True
        finally:
            try:
                packer.stdin.close()
            except BrokenPipeError:
                broken = True
    text = log.read_text(errors="replace").strip()
    if packer.returncode or broken:
        raise ImageError(
            f"packing the root ended with status {packer.returncode}: {text[-1000:]}", "is the disk full?"
        )
    log.unlink()


def _kept(
    tar: tarfile.TarFile, members: list[tarfile.TarInfo], contents: Contents
) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Every member that stays in the image, in order and without traces of the build."""
    for member in sorted(members, key=lambda one: plain(one.name)):
        path = plain(member.name)
        if not path or _DROPPED.match(path):
            continue
        member.uname = member.gname = ""
        member.mtime = min(int(member.mtime), contents.epoch)
        member.pax_headers = {
            key: value for key, value in member.pax_headers.items() if key.startswith("SCHILY.xattr.")
        }
        data = b""
        if member.isreg():
            stream = tar.extractfile(member)
            data = stream.read() if stream else b""
            if _EMPTIED.match(path):
                data = b""
            elif path == "etc/shadow":
                data = _LAST_CHANGE.sub(rf"\1:{contents.epoch // _DAY}:", data.decode()).encode()
            member.size = len(data)
            contents.size += -(-len(data) // 4096) * 4096
        contents.size += 512 if not member.isreg() else 256
        contents.entries[path] = _entry(member, data)
        yield member, io.BytesIO(data) if member.isreg() else None
    # Without these two, systemd takes every boot from memory for the first after an update and rebuilds its caches.
    for path in ("etc/.updated", "var/.updated"):
        stamp = tarfile.TarInfo(f"./{path}")
        stamp.mtime = contents.epoch
        contents.entries[path] = _entry(stamp, b"")
        yield stamp, io.BytesIO(b"")


def _entry(member: tarfile.TarInfo, data: bytes) -> list[str | int]:
    owner = f"{member.uid}:{member.gid}"
    if member.isreg():
        return ["file", member.mode, owner, hashlib.sha256(data).hexdigest()]
    if member.issym() or member.islnk():
        return ["link" if member.issym() else "hard link", member.mode, owner, member.linkname]
    if member.isdir():
        return ["folder", member.mode, owner, ""]
    return ["device", member.mode, owner, f"{member.devmajor}:{member.devminor}"]


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    stream = tar.extractfile(member)
    return stream.read().decode(errors="replace") if stream else ""


def _write_contents(path: Path, contents: Contents) -> None:
    owners = {entry: contents.owners[entry] for entry in contents.entries if entry in contents.owners}
    text = json.dumps({"entries": contents.entries, "owners": owners}, sort_keys=True)
    with path.open("wb") as out, gzip.GzipFile("", "wb", fileobj=out, mtime=0) as packed:
        packed.write(text.encode())


def read_contents(path: Path) -> tuple[Mapping[str, list[str | int]], Mapping[str, str]]:
    """Entries and owners of an image's root, as `pack` wrote them."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        data = json.load(stream)
    return data["entries"], data["owners"]
