"""What happens on the boot server, as lines of JSON: reports of nodes, what they asked DHCP and HTTP for.

It is sent over SSH to the boot server's own Python and imports nothing of Rackloom. WANTED, a JSON object
{path, log, unit, ago}, is filled in before that. It ends when nobody reads any more. Each line it writes has `t`,
the time by this machine's clock, and `kind`: hello, report, http, dhcp or tick.
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

TICK = 1.0
MOST = 65536
LOG_TAIL = 8 * 2**20
DHCP = re.compile(
    r"(?P<what>DHCP[A-Z]+|PXE|BOOTP)\((?P<on>[^)]+)\) (?:(?P<address>\d+(?:\.\d+){3}) )?"
    r"(?P<mac>[0-9a-f]{2}(?::[0-9a-f]{2}){5})(?: (?P<rest>.*))?$"
)


def say(kind: str, at: float, **more: Any) -> None:
    """Write one line; a reader that is gone ends us."""
    try:
        sys.stdout.write(json.dumps({"kind": kind, "t": round(at, 3), **more}) + "\n")
        sys.stdout.flush()
    except OSError:
        os._exit(0)


class Reports:
    """Files that nodes have put into their folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seen: dict[str, float] = {}

    def look(self) -> None:
        """Tell what is new; only the tokens in force count."""
        for link in sorted((self.root / "nodes").glob("*/armed")):
            mac = link.parent.name.replace("-", ":")
            folder = link.resolve()
            try:
                found = sorted((path.stat().st_mtime, path) for path in folder.glob("*.json"))
            except OSError:
                continue
            for changed, path in found:
                if self.seen.get(str(path)) == changed or path.stem == "armed":
                    continue
                self.seen[str(path)] = changed
                say("report", changed, mac=mac, token=folder.name, stage=path.stem, data=read(path))


def read(path: Path) -> Any:
    """A report's content; what is no JSON counts as an empty one."""
    try:
        return json.loads(path.read_bytes()[:MOST])
    except (OSError, ValueError):
        return {}


class Log:
    """The HTTP server's log, followed through rotations."""

    def __init__(self, path: Path, since: float) -> None:
        self.path, self.since = path, since
        self.stream: IO[bytes] | None = None
        self.inode = 0
        self.rest = b""

    def look(self) -> None:
        """Tell the lines that are new."""
        try:
            now = self.path.stat()
        except OSError:
            return
        if self.stream is None or now.st_ino != self.inode or now.st_size < self.stream.tell():
            first = self.stream is None
            if self.stream is not None:
                self.stream.close()
            self.stream, self.inode, self.rest = self.path.open("rb"), now.st_ino, b""
            if first and now.st_size > LOG_TAIL:
                self.stream.seek(now.st_size - LOG_TAIL)
                self.stream.readline()
        *lines, self.rest = (self.rest + self.stream.read()).split(b"\n")
        for line in lines:
            self.tell(line)

    def tell(self, line: bytes) -> None:
        """Tell one line of the log."""
        try:
            row = json.loads(line)
            at = float(row["time"])
        except (ValueError, KeyError, TypeError):
            return
        if at >= self.since:
            kept = {
                key: row.get(key) for key in ("mac", "address", "method", "uri", "status", "bytes", "seconds")
            }
            say("http", at, **kept)


class Journal:
    """The DHCP server's words."""

    def __init__(self, unit: str, since: float) -> None:
        argv = [
            "journalctl",
            "--follow",
            "--output=json",
            "--quiet",
            f"--unit={unit}",
            f"--since=@{int(since)}",
        ]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.rest = b""

    def look(self, patience: float) -> None:
        """Wait up to `patience` seconds for words, and tell them."""
        stream = self.process.stdout
        if stream is None or self.process.poll() is not None:
            time.sleep(patience)
            return
        if not select.select([stream], [], [], patience)[0]:
            return
        *lines, self.rest = (self.rest + os.read(stream.fileno(), MOST)).split(b"\n")
        for line in lines:
            try:
                row = json.loads(line)
                at, text = int(row["__REALTIME_TIMESTAMP"]) / 1e6, str(row["MESSAGE"])
            except (ValueError, KeyError, TypeError):
                continue
            if match := DHCP.search(text):
                say("dhcp", at, **{key: value or "" for key, value in match.groupdict().items()})


def main() -> None:
    """Follow all three until the reader leaves."""
    wanted = json.loads(WANTED)
    root, since = Path(wanted["path"]) / "http", time.time() - float(wanted["ago"])
    say("hello", time.time(), there=root.is_dir())
    reports, log = Reports(root), Log(Path(wanted["log"]), since)
    journal = Journal(wanted["unit"], since)
    parent, told = os.getppid(), time.monotonic()
    try:
        while os.getppid() == parent:
            journal.look(0.25)
            log.look()
            reports.look()
            if time.monotonic() - told >= TICK:
                told = time.monotonic()
                say("tick", time.time())
    finally:
        journal.process.terminate()


WANTED = "{}"

if __name__ == "__main__":
    main()
