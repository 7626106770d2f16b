#!/usr/bin/python3
"""Metrics of this node that no exporter has, written where the node exporter reads them.

Managed by Rackloom. Called with the path of a JSON file: folder, backups, volumes, local. What cannot be looked at
lacks in the answer, and alerts tell of what lacks; only a folder that cannot be written to is a failure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LONGEST = 10
MOST_BYTES = 16 * 1024 * 1024


def quoted(text: str) -> str:
    """Return a label's value."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def family(name: str, kind: str, about: str, rows: Sequence[tuple[Mapping[str, str], object]]) -> str:
    """Return one metric as text: rows are (labels, value)."""
    lines = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
    for labels, value in rows:
        inner = ",".join(f'{key}="{quoted(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{inner}}} {value}" if inner else f"{name} {value}")
    return "\n".join(lines) + "\n" if rows else ""


def newest(folder: str) -> tuple[float, int]:
    """Return (time of the newest file, number of files); files that are still being written do not count."""
    times = [
        entry.stat().st_mtime
        for entry in os.scandir(folder)
        if entry.is_file(follow_symlinks=False)
        and not entry.name.startswith(".")
        and ".part" not in entry.name
    ]
    return max(times, default=0), len(times)


def backups(wanted: Mapping[str, str]) -> str:
    """Return what there is to say of backups; a folder that is not there has none."""
    found: dict[str, tuple[float, int]] = {}
    for name, folder in wanted.items():
        try:
            found[name] = newest(folder)
        except FileNotFoundError:
            found[name] = (0, 0)
        except OSError as error:
            print(f"{folder}: {error.strerror}", file=sys.stderr)
    return family(
        "rackloom_backup_newest_timestamp_seconds",
        "gauge",
        "When the newest file of a backup was written; 0 where there is none.",
        [({"backup": name}, f"{when:.0f}") for name, (when, _) in found.items()],
    ) + family(
        "rackloom_backup_files",
        "gauge",
        "How many files a backup has.",
        [({"backup": name}, count) for name, (_, count) in found.items()],
    )


def volumes(wanted: Mapping[str, str]) -> str:
    """Return the room on named volumes."""
    found: dict[str, os.statvfs_result] = {}
    for name, folder in wanted.items():
        try:
            found[name] = os.statvfs(folder)
        except OSError as error:
            print(f"{folder}: {error.strerror}", file=sys.stderr)
    return family(
        "rackloom_volume_size_bytes",
        "gauge",
        "Size of a volume.",
        [({"volume": name}, at.f_blocks * at.f_frsize) for name, at in found.items()],
    ) + family(
        "rackloom_volume_free_bytes",
        "gauge",
        "Room on a volume for others than root.",
        [({"volume": name}, at.f_bavail * at.f_frsize) for name, at in found.items()],
    )


def failed_units() -> str:
    """Return the units of systemd that failed."""
    argv = ["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"]
    try:
        told = subprocess.run(argv, capture_output=True, text=True, timeout=LONGEST, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        print(f"systemctl: {error}", file=sys.stderr)
        return ""
    names = [line.split()[0] for line in told.splitlines() if line.strip()]
    return family(
        "rackloom_failed_unit",
        "gauge",
        "A unit of systemd that failed.",
        [({"unit": name}, 1) for name in sorted(set(names))],
    )


def passed_on(prefix: str, place: str) -> str:
    """Return a local daemon's metrics that begin with the prefix; raises OSError where it does not answer."""
    # An address of this host, with whatever proxy the environment names left aside.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url = urllib.parse.urlunsplit(("http", place, "/metrics", "", ""))
    with opener.open(url, timeout=LONGEST) as answer:
        text = answer.read(MOST_BYTES).decode("utf-8", "replace")
    kept = []
    for line in text.splitlines():
        words = line.split(None, 3)
        name = words[2] if line.startswith("# ") and len(words) > 2 else line
        if name.startswith(f"{prefix}_"):
            kept.append(line)
    return "\n".join(kept) + "\n"


def write(folder: Path, name: str, text: str) -> None:
    """Replace a file in one step, so that nobody reads half of it."""
    descriptor, temporary = tempfile.mkstemp(prefix=".rackloom-", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o644)
            stream.write(text)
        Path(temporary).replace(folder / name)
    except BaseException:
        Path(temporary).unlink()
        raise


def main() -> None:
    """Look once."""
    wanted: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(wanted["folder"])
    answered: dict[str, int] = {}
    for prefix, place in wanted["local"].items():
        file = f"rackloom_local_{prefix}.prom"
        try:
            write(folder, file, passed_on(prefix, place))
            answered[prefix] = 1
        except (OSError, urllib.error.URLError):
            # Old values would look like living ones.
            (folder / file).unlink(missing_ok=True)
            answered[prefix] = 0
    text = backups(wanted["backups"]) + volumes(wanted["volumes"]) + failed_units()
    text += family(
        "rackloom_local_up",
        "gauge",
        "Whether a daemon that listens on this host alone answered.",
        [({"local": name}, value) for name, value in answered.items()],
    )
    text += family(
        "rackloom_node_metrics_timestamp_seconds",
        "gauge",
        "When these metrics were written.",
        [({}, f"{time.time():.0f}")],
    )
    write(folder, "rackloom_node.prom", text)


if __name__ == "__main__":
    main()
