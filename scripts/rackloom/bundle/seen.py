"""Digests of files that have been checked, so that a second run need not read them again.

A digest counts as long as size, inode and both times of the file are what they were. The table lies in
Rackloom's cache and not in the bundle; without it everything is read once more.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from pathlib import Path

from rackloom.site.paths import home

CHUNK = 1 << 20


def cache_dir() -> Path:
    """Where Rackloom keeps what it can make again."""
    named = os.environ.get("RACKLOOM_CACHE")
    return (Path(named) if named else home() / ".cache") / "bundle"


def digest_of(path: Path) -> str:
    """A file's sha256."""
    with path.open("rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Seen:
    """The digests of the files below one folder. Safe to be used by several threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:24]
        self._file = cache_dir() / "seen" / f"{name}.json"
        self._lock = threading.Lock()
        self._known: dict[str, list[int | str]] = {}
        with contextlib.suppress(OSError, ValueError):
            self._known = dict(json.loads(self._file.read_text(encoding="utf-8")))

    @staticmethod
    def _marks(path: Path) -> list[int | str] | None:
        try:
            info = path.lstat()
        except OSError:
            return None
        return [info.st_size, info.st_ino, info.st_mtime_ns, info.st_ctime_ns]

    def digest(self, relative: str) -> str:
        """The sha256 of a file below the folder; reads it only when it may have changed. '' if it is not there."""
        path = self.root / relative
        if path.is_symlink() or not path.is_file():
            return ""
        marks = self._marks(path)
        with self._lock:
            known = self._known.get(relative)
        if known and known[:-1] == marks:
            return str(known[-1])
        found = digest_of(path)
        self.note(relative, found)
        return found

    def note(self, relative: str, sha256: str) -> None:
        """Remember what has just been checked."""
        marks = self._marks(self.root / relative)
        with self._lock:
            if marks is not None:
                self._known[relative] = [*marks, sha256]

    def save(self) -> None:
        """Write the table down; a cache that cannot be written is no error."""
        with self._lock:
            text = json.dumps(self._known)
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._file.with_suffix(f".{os.getpid()}")
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(self._file)
