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
