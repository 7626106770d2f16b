"""Find and end the processes that a run started. Reads /proc; knows nothing where there is none."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

Known = dict[int, str]
"""Process id → start time, so that a reused id is never mistaken."""


def _stat(pid: str) -> tuple[int, str, str] | None:
    """Parent, start time and state of a process; None when it is gone."""
    try:
        text = Path("/proc", pid, "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return int(fields[1]), fields[19], fields[0]


def descendants(root: int) -> Known:
    """All living processes below `root`, and itself."""
    children: dict[int, list[tuple[int, str]]] = {}
    found: Known = {}
    with contextlib.suppress(OSError):
        for entry in os.scandir("/proc"):
            if entry.name.isdigit() and (stat := _stat(entry.name)) and stat[2] != "Z":
                children.setdefault(stat[0], []).append((int(entry.name), stat[1]))
                if int(entry.name) == root:
                    found[root] = stat[1]
    todo = [root]
    while todo:
        for pid, started in children.get(todo.pop(), []):
            found[pid] = started
            todo.append(pid)
    return found


def alive(known: Known) -> Known:
    """Those of `known` that still live."""
    return {
        pid: started
        for pid, started in known.items()
        if (stat := _stat(str(pid))) and stat[1] == started and stat[2] != "Z"
    }


def end(known: Known, grace: float = 2.0) -> None:
    """End what is left of `known`: SIGTERM, and after `grace` seconds SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in alive(known):
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        until = time.monotonic() + grace
        while alive(known) and time.monotonic() < until:
            time.sleep(0.02)
