"""Programs of the distribution for tests: the machine's own, or out of its packages, unpacked and not installed.

Packages of daemons start them when they are installed, and nobody wants a Prometheus on his machine for a test.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[1] / ".cache" / "tools"


@cache
def tool(package: str, program: str) -> Path:
    """Return the path of a program; skips the test, with the reason, where it cannot be had."""
    own = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if own:
        return Path(own)
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        pytest.skip(f"{program} is not on this machine, nor is apt-get")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{package}.lock").open("w") as lock:
        # Several test processes may want it at the same time.
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = CACHE / package
        if not folder.is_dir():
            trouble = _unpack(package, folder)
            if trouble:
                pytest.skip(f"the package {package} cannot be had: {trouble}")
    for place in ("usr/bin", "usr/sbin", "bin", "sbin"):
        if os.access(folder / place / program, os.X_OK):
            return folder / place / program
    pytest.skip(f"the package {package} holds no {program}")


@cache
def unpacked(*packages: str, without: tuple[str, ...] = ()) -> Path:
    """Return a folder with these packages and what of others this machine lacks; skips the test where it cannot.

    without: packages that they name and that are not wanted, with all that those would bring.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        pytest.skip(f"{packages[0]} is not on this machine, nor is apt-get")
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / f"{packages[0]}-whole"
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            trouble = _unpack_whole(packages, without, folder)
            if trouble:
                pytest.skip(f"the package {packages[0]} cannot be had: {trouble}")
    return folder


def _unpack_whole(packages: tuple[str, ...], without: tuple[str, ...], folder: Path) -> str:
    """Have apt find out what is needed and fetch it, and install nothing; returns what went wrong."""
    with tempfile.TemporaryDirectory(dir=CACHE) as text:
        scratch = Path(text)
        (scratch / "archives" / "partial").mkdir(parents=True)
        kind = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True)
        status = Path("/var/lib/dpkg/status").read_text(encoding="utf-8", errors="replace").rstrip() + "\n"
        for name in without:
            status += f"\nPackage: {name}\nStatus: install ok installed\nVersion: 9999\n"
            status += f"Architecture: {kind.stdout.strip()}\nMaintainer: nobody\nDescription: not wanted\n"
        (scratch / "status").write_text(status, encoding="utf-8")
        argv = ["apt-get", "-q", "-y", "--no-install-recommends", "--reinstall", "--download-only"]
        argv += [
            "-o",
            f"Dir::State::status={scratch}/status",
            "-o",
            f"Dir::Cache::archives={scratch}/archives",
        ]
        argv += ["-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User="]
        got = subprocess.run([*argv, "install", *packages], capture_output=True, text=True, check=False)
        archives = list(scratch.glob("archives/*.deb"))
        if got.returncode != 0 or not archives:
            return got.stderr.strip()[-300:] or "apt-get gave nothing"
        laid_out = scratch / "files"
        for archive in archives:
            subprocess.run(["dpkg-deb", "-x", str(archive), str(laid_out)], check=True)
        laid_out.rename(folder)
    return ""


def _unpack(package: str, folder: Path) -> str:
    """Fetch a package and lay out its files; returns what went wrong."""
    with tempfile.TemporaryDirectory(dir=CACHE) as text:
        scratch = Path(text)
        got = subprocess.run(
            ["apt-get", "download", package], cwd=scratch, capture_output=True, text=True, check=False
        )
        archives = list(scratch.glob("*.deb"))
        if got.returncode != 0 or not archives:
            return got.stderr.strip()[-300:] or "apt-get gave nothing"
        laid_out = scratch / "files"
        for archive in archives:
            subprocess.run(["dpkg-deb", "-x", str(archive), str(laid_out)], check=True)
        laid_out.rename(folder)
    return ""
