#!/usr/bin/env python3
"""
Tells whether a bundle is complete, unmodified and signed, and by whom.

A copy of this file lies in every bundle as verify.py: it needs Python 3.9 and ssh-keygen, and nothing else.

    python3 verify.py [DIR] [--signers FILE] [--fingerprint SHA256:…] [--accept-unsigned-bundle]
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

LOCK = "bundle.lock"
SIGNATURE = "bundle.lock.sig"
SIGNERS = "bundle.signers"
PARTIAL = ".partial"
NAMESPACE = "rackloom-bundle"

_CHUNK = 1 << 20
_FIELDS = {"path", "kind", "name", "version", "sha256", "size", "origin", "os", "arch"}

GOOD, UNSIGNED, WRONG, STRANGER = "good", "unsigned", "wrong", "stranger"


@dataclass
class Signature:
    """What the signature says."""

    state: str
    """good, unsigned, wrong (it does not fit the lock) or stranger (it fits, and the signer is not one of ours)."""
    signer: str = ""
    fingerprint: str = ""
    known: bool = False
    """Whether the signer's key was compared with one that did not come with the bundle."""
    message: str = ""
    blame: tuple[str, ...] = ()
    """The files of which one must be damaged, or lost, for the signature to be as it is."""

    @property
    def accepted(self) -> bool:
        """Whether the bundle may be used without the long flag."""
        return self.state == GOOD


@dataclass
class Report:
    """What is right and wrong with a bundle."""

    folder: str
    files: int = 0
    size: int = 0
    seconds: float = 0.0
    changed: list[str] = field(default_factory=list)
    """Files that hold something else than the lock says."""
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """What else is wrong: a lock that cannot be read, an unfinished bundle."""
    signature: Signature = field(default_factory=lambda: Signature(UNSIGNED))

    @property
    def whole(self) -> bool:
        """Whether everything is there, unmodified, and nothing else."""
        return not (self.changed or self.missing or self.extra or self.broken)

    def good(self, *, accept_unsigned: bool = False) -> bool:
        """Whether the bundle may be used; `accept_unsigned`: whoever signed it, or nobody."""
        return self.whole and (self.signature.accepted or accept_unsigned)

    @property
    def named(self) -> list[str]:
        """Every file that is wrong."""
        return sorted({*self.changed, *self.missing, *self.extra, *self.signature.blame})

    def lines(self) -> list[str]:
        """Everything that is wrong, one sentence each."""
        blame = " or ".join(self.signature.blame)
        return [
            *([f"{blame}: {self.signature.message}"] if blame else []),
            *self.broken,
            *(f"{name} is not what the lock says" for name in self.changed),
            *(f"{name} is missing" for name in self.missing),
            *(f"{name} does not belong to the bundle" for name in self.extra),
        ]


def verify(
    folder: Path,
    *,
    signers: Path | None = None,
    fingerprint: str = "",
    jobs: int = 0,
    moved: Callable[[int], None] | None = None,
) -> Report:
    """
    Check one bundle. Never raises for what is wrong with it.

    `signers` is an allowed_signers file that did not come with the bundle, `fingerprint` that of the key that is
    expected. Without either the signature is compared with nothing but the bundle's own word.
    """
    began = time.monotonic()
    report = Report(str(folder))
    if not folder.is_dir():
        report.broken.append(f"{folder} is no folder")
        report.signature = Signature(UNSIGNED, message=f"{folder} is no folder")
        return report
    there = _walk(folder, report)
    if PARTIAL in there:
        report.broken.append(f"{PARTIAL} is there: making the bundle was not finished")
    report.signature = check_signature(folder, signers=signers, fingerprint=fingerprint)
    entries = _entries(folder, there, report)
    here = {name: info for name, info in there.items() if name not in (LOCK, SIGNATURE, PARTIAL)}
    todo: list[tuple[int, str, str]] = []
    for entry in entries:
        name, size = entry["path"], entry["size"]
        info = here.pop(name, None)
        if info is None:
            report.missing.append(name)
        elif not stat.S_ISREG(info.st_mode) or info.st_size != size:
            report.changed.append(name)
        else:
            todo.append((size, name, entry["sha256"]))
    if entries:  # without the lock nobody knows what belongs here
        report.extra += sorted(here)
    report.changed += _differ(folder, todo, jobs or os.cpu_count() or 1, moved)
    report.changed.sort()
    report.missing.sort()
    report.files, report.size = len(entries), sum(entry["size"] for entry in entries)
    report.seconds = time.monotonic() - began
    return report


def _walk(folder: Path, report: Report) -> dict[str, os.stat_result]:
    """Every file below the folder by its path in it; .partial stands for all that it holds."""
    found: dict[str, os.stat_result] = {}
    todo = [""]
    while todo:
        at = todo.pop()
        try:
            entries = list(os.scandir(folder / at))
        except OSError as error:
            if at != "lost+found":  # of a disk that holds nothing but the bundle
                report.broken.append(f"{at or folder} cannot be read: {error.strerror}")
            continue
        for entry in entries:
            name = f"{at}/{entry.name}" if at else entry.name
            if entry.is_dir(follow_symlinks=False) and name != PARTIAL:
                todo.append(name)
            else:
                found[name] = entry.stat(follow_symlinks=False)
    return found


def _entries(folder: Path, there: dict[str, os.stat_result], report: Report) -> list[dict[str, Any]]:
    """The lock's entries; none, and why, where it cannot be read."""
    if LOCK not in there:
        report.missing.append(LOCK)
        return []
    try:
        entries = json.loads((folder / LOCK).read_bytes().decode("utf-8"))
        wrong = [str(entry["path"]) for entry in entries if not _is_entry(entry)]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        report.changed.append(LOCK)
        report.broken.append(f"{LOCK} cannot be read: {error}")
        return []
    if wrong:
        report.changed.append(LOCK)
        report.broken.append(f"{LOCK} has wrong entries: {', '.join(wrong)[:500]}")
        return []
    return list(entries)


def _is_entry(entry: dict[str, Any]) -> bool:
    """Whether an entry is whole, and names a file inside the bundle."""
    pure = PurePosixPath(entry["path"])
    return (
        set(entry) == _FIELDS
        and not pure.is_absolute()
        and ".." not in pure.parts
        and isinstance(entry["size"], int)
        and re.fullmatch(r"[0-9a-f]{64}", entry["sha256"]) is not None
    )


def _differ(
    folder: Path, todo: list[tuple[int, str, str]], jobs: int, moved: Callable[[int], None] | None
) -> list[str]:
    """Names of the files whose content has another digest; all cores read at once, the largest files first."""
    wrong: list[str] = []
    todo.sort()
    lock = threading.Lock()

    def loop() -> None:
        buffer = bytearray(_CHUNK)
        view = memoryview(buffer)
        while True:
            with lock:
                if not todo:
                    return
                _, name, wanted = todo.pop()
            try:
                with open(folder / name, "rb", buffering=0) as stream:  # noqa: PTH123 - unbuffered, 3.9
                    digest = hashlib.sha256()
                    while count := stream.readinto(buffer):
                        digest.update(view[:count])
                        if moved:
                            moved(count)
                good = digest.hexdigest() == wanted
            except OSError:
                good = False
            if not good:
                with lock:
                    wrong.append(name)

    threads = [threading.Thread(target=loop, daemon=True) for _ in range(max(1, min(jobs, len(todo))))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def check_signature(folder: Path, *, signers: Path | None = None, fingerprint: str = "") -> Signature:
    """Tell whose signature the lock bears."""
    lock, signature = folder / LOCK, folder / SIGNATURE
    if not signature.is_file() or not lock.is_file():
        return Signature(
            UNSIGNED, message="the bundle is not signed", blame=(SIGNATURE,) if lock.is_file() else (LOCK,)
        )
    if not _is_armoured(folder):
        return Signature(WRONG, message="it is damaged", blame=(SIGNATURE,))
    answer = _keygen(["-Y", "check-novalidate", "-n", NAMESPACE, "-s", str(signature)], lock)
    match = re.search(r"with \S+ key (SHA256:\S+)", answer or "")
    if not match:
        why = "ssh-keygen is not installed" if answer is None else "the signature does not fit the lock"
        return Signature(WRONG, message=why, blame=(LOCK, SIGNATURE))
    found = match[1]
    claimed = _principal(folder / SIGNERS, signature)
    if fingerprint or signers is not None:
        name = _principal(signers, signature) if signers is not None else ""
        if found == fingerprint or name:
            return Signature(GOOD, name or claimed, found, known=True)
        wanted = fingerprint or f"one of those in {signers}"
        return Signature(
            STRANGER,
            claimed,
            found,
            message=f"the bundle is signed with the key {found}, and not with {wanted}",
        )
    return Signature(GOOD, claimed, found, known=False)


def _principal(signers: Path | None, signature: Path) -> str:
    """The name that an allowed_signers file gives to the signature's key."""
    if signers is None or not signers.is_file():
        return ""
    answer = _keygen(["-Y", "find-principals", "-s", str(signature), "-f", str(signers)], None)
    return (answer or "").strip().splitlines()[0] if (answer or "").strip() else ""


def _keygen(words: Sequence[str], content: Path | None) -> str | None:
    """What ssh-keygen answers; '' where it refuses, None where it is not there."""
    argv = ["ssh-keygen", *words]
    try:
        if content is None:
            done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        else:
            with content.open("rb") as stream:
                done = subprocess.run(argv, capture_output=True, stdin=stream, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def _is_armoured(folder: Path) -> bool:
    """Whether the signature's file is as ssh-keygen writes it, to the last byte; it reads sloppier ones too."""
    begin, end = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
    try:
        text = (folder / SIGNATURE).read_bytes().decode("ascii")
        body = "".join(text.split("\n")[1:-2])
        packed = base64.b64encode(base64.b64decode(body, validate=True)).decode("ascii")
    except (OSError, ValueError):
        return False
    lines = [packed[start : start + 70] for start in range(0, len(packed), 70)]
    return text == "\n".join([begin, *lines, end, ""])


def describe(signature: Signature) -> str:
    """One sentence on who signed."""
    if signature.state == UNSIGNED:
        return "It is not signed."
    if signature.state != GOOD:
        return f"It is wrongly signed: {signature.message}."
    who = f"Signed by {signature.signer or 'somebody'} with the key {signature.fingerprint}"
    if signature.known:
        return f"{who}, which is one you named."
    return f"{who}. Only the bundle itself says so: compare the key with what you were told."


def main(argv: Sequence[str] | None = None) -> int:
    """Check one bundle and print what is wrong. Exit codes: 0 all is well, 1 it is not, 2 wrong call."""
    parser = argparse.ArgumentParser(description="Tells whether a bundle is complete, unmodified and signed.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--signers", type=Path, help="allowed_signers file with the keys to be trusted")
    parser.add_argument("--fingerprint", default="", help="of the key that must have signed: SHA256:…")
    parser.add_argument("--accept-unsigned-bundle", action="store_true", help="whoever signed, or nobody")
    wanted = parser.parse_args(argv)
    if wanted.signers is not None and not wanted.signers.is_file():
        parser.error(f"there is no file {wanted.signers}")
    report = verify(wanted.folder, signers=wanted.signers, fingerprint=wanted.fingerprint)
    for line in report.lines():
        sys.stderr.write(f"{line}\n")
    sys.stdout.write(f"{describe(report.signature)}\n")
    good = report.good(accept_unsigned=wanted.accept_unsigned_bundle)
    verdict = "complete and unmodified" if good else "NOT to be used"
    sys.stdout.write(
        f"{report.files} files, {report.size} bytes in {report.seconds:.1f} s: the bundle is {verdict}.\n"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
