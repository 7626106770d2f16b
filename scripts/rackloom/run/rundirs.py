"""Where runs are kept: `<config>/.runs/<time>-<kind>/`, readable by their owner only; and the lock on a site."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

KEPT = 50
"""Older runs are removed when a new one starts."""


class BusyError(RuntimeError):
    """Another run holds the site. `str()` says who, since when and with which process."""


def runs_dir(config_dir: Path) -> Path:
    """The directory of all runs of a site; made with mode 0700. Inventory skips names with a leading dot."""
    path = config_dir / ".runs"
    path.mkdir(mode=0o700, exist_ok=True)
    path.chmod(0o700)
    return path


def new_run(config_dir: Path, kind: str) -> Path:
    """A fresh directory for one run. `kind` is the command: deploy, validate and so on."""
    runs = runs_dir(config_dir)
    for old in list_runs(config_dir)[: -KEPT + 1 or None]:
        shutil.rmtree(old, ignore_errors=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = runs / f"{stamp}-{kind}"
    number = 1
    while True:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            return path
        number += 1
        path = runs / f"{stamp}.{number}-{kind}"


def list_runs(config_dir: Path, kind: str = "") -> list[Path]:
    """All runs, oldest first; of one kind when named."""
    runs = config_dir / ".runs"
    if not runs.is_dir():
        return []
    ending = f"-{kind}" if kind else ""
    return sorted(path for path in runs.iterdir() if path.is_dir() and path.name.endswith(ending))


def write_json(path: Path, data: Any) -> None:
    """Write whole or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(json.dumps(data, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    fresh.replace(path)


def read_json(path: Path) -> Any:
    """The file's data, or None when there is none or it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextmanager
def site_lock(config_dir: Path, command: str) -> Iterator[None]:
    """Hold the site for one run that changes it. Raises BusyError at once when another does.

    The lock is the kernel's (flock): it cannot be left behind by a killed process.
    """
    path = runs_dir(config_dir) / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _try_lock(descriptor):
            raise BusyError(_holder(path))
        who = {
            "command": command,
            "pid": os.getpid(),
            "user": getpass.getuser(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(who).encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _holder(path: Path) -> str:
    who = read_json(path)
    if not isinstance(who, dict):
        return "another run of this site is at work"
    return (
        f"`{who.get('command')}` of {who.get('user')} on {who.get('host')} is at work on this site "
        f"(process {who.get('pid')}, since {who.get('since')})"
    )


def ansible_lock(config_dir: Path) -> Path:
    """The file that Ansible itself locks while it lives."""
    return runs_dir(config_dir) / "ansible.lock"


def await_ansible(config_dir: Path, patience: float = 30.0) -> None:
    """Wait for the Ansible of a run that was killed: it is still stopping.

    Raises BusyError when it does not end within `patience` seconds.
    """
    descriptor = os.open(ansible_lock(config_dir), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + patience
    try:
        while not _try_lock(descriptor):
            if time.monotonic() > until:
                raise BusyError("the ansible-playbook of an earlier run of this site is still at work")
            time.sleep(0.1)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
