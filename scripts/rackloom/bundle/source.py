"""Rackloom itself with its documentation, as one archive: the same bytes for the same files."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
from pathlib import Path

from rackloom import __version__
from rackloom.bundle.items import ABOUT, LOCK
from rackloom.site.paths import home

NAME = f"rackloom-{__version__}"
# Where there is no git to ask: what a site keeps in the checkout, and what is made there.
_NOT_OURS = {"config", "runs", "site", "build", "dist"}


def archive(target: Path, without: Path | None = None) -> None:
    """Write the archive. A bundle that lies in the checkout (`without`, or any other) does not go into itself."""
    root = home()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(_files(root, without)):
            path = root / name
            entry = tarfile.TarInfo(f"{NAME}/{name}")
            if path.is_symlink():
                entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
                tar.addfile(entry)
                continue
            entry.size = path.stat().st_size
            entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            with path.open("rb") as stream:
                tar.addfile(entry, stream)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(buffer.getvalue(), compresslevel=6, mtime=0))


def _files(root: Path, without: Path | None) -> list[str]:
    """The checkout's files: those git knows or would take; without git, all but what a site adds."""
    argv = [
        "git",
        "-c",
        f"safe.directory={root}",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    names: list[str] = []
    if (root / ".git").exists():
        done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False)
        names = [name for name in done.stdout.split("\0") if name] if done.returncode == 0 else []
    if not names:
        names = list(_walk(root))
    bundles = [path.parent for path in _bundles(root, names)]
    if without is not None:
        bundles.append(without.resolve())
    kept = []
    for name in names:
        path = root / name
        if not path.is_symlink() and not path.is_file():
            continue
        if not any(path.is_relative_to(bundle) for bundle in bundles):
            kept.append(name)
    return kept


def _bundles(root: Path, names: list[str]) -> list[Path]:
    return [root / name for name in names if Path(name).name in (LOCK, ABOUT) and "/" in name]


def _walk(root: Path) -> list[str]:
    found = []
    for folder, folders, files in os.walk(root):
        at = Path(folder)
        top = at == root
        folders[:] = [
            name
            for name in folders
            if name != "__pycache__" and not (top and (name in _NOT_OURS or name.startswith(".")))
        ]
        found += [str((at / name).relative_to(root)) for name in files if not name.endswith(".pyc")]
    return found
