#!/usr/bin/python3
"""How far Filebeat is, written where the node exporter reads it, under the names that the log shipper's metrics have.

Managed by Rackloom. Called with three paths: Filebeat's socket, a file for what is kept between two calls, and the
file of metrics. Each call notes how many lines Filebeat had read; once it has as many confirmed, all that was read by
then is at the store. Where Filebeat does not answer, the time of the last confirmation stays as it is, and grows old.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

LONGEST = 10
MOST_MARKS = 1000


class Local(http.client.HTTPConnection):
    """HTTP through a socket of this host."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=LONGEST)
        self.path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(LONGEST)
        self.sock.connect(self.path)


def asked(path: str) -> dict[str, Any]:
    """Return Filebeat's own numbers; raises OSError where it does not answer."""
    connection = Local(path)
    try:
        connection.request("GET", "/stats")
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != http.client.OK:
            raise OSError(f"it answers {answer.status}")
        told: dict[str, Any] = json.loads(text)
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"{error!r}") from error
    finally:
        connection.close()
    return told


def judged(kept: dict[str, Any], told: dict[str, Any], now: float) -> dict[str, Any]:
    """Return what is to be kept: confirmed (when), marks (when, and how many had been read), read, sent, waiting."""
    events = told.get("libbeat", {}).get("pipeline", {}).get("events", {})
    read, waiting = int(events.get("published", 0)), int(events.get("active", 0))
    sent = int(told.get("libbeat", {}).get("output", {}).get("events", {}).get("acked", 0))
    # It counts from nought when it was started anew, and reads again what was not confirmed.
    marks = [] if read < kept.get("read", 0) else list(kept.get("marks", []))
    marks = [*marks[: MOST_MARKS - 1], [now, read]]
    confirmed = kept.get("confirmed", now)
    left = []
    for when, until in marks:
        if read - waiting >= until:
            confirmed = max(confirmed, when)
        else:
            left.append([when, until])
    return {"confirmed": confirmed, "marks": left, "read": read, "sent": sent, "waiting": waiting}


def told(kept: dict[str, Any]) -> str:
    """Return the metrics as text."""
    rows = [
        (
            "lines_total",
            "counter",
            "Lines that the log store has confirmed since the shipper started.",
            kept["sent"],
        ),
        ("waiting_lines", "gauge", "Lines that are read and not confirmed.", kept["waiting"]),
        (
            "confirmed_timestamp_seconds",
            "gauge",
            "When everything read was last at the log store.",
            int(kept["confirmed"]),
        ),
    ]
    return "".join(
        f"# HELP rackloom_log_shipper_{name} {about}\n# TYPE rackloom_log_shipper_{name} {kind}\n"
        f"rackloom_log_shipper_{name} {value}\n"
        for name, kind, about, value in rows
    )


def replace(path: Path, text: str) -> None:
    """Write a file in one step, so that nobody reads half of it."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.chmod(0o644)
    new.replace(path)


def main(argv: list[str]) -> None:
    """Look once."""
    door, memory, metrics = argv[1], Path(argv[2]), Path(argv[3])
    try:
        kept: dict[str, Any] = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = {}
    now = time.time()
    try:
        kept = judged(kept, asked(door), now)
    except OSError as error:
        print(f"Filebeat does not say how far it is: {error}", file=sys.stderr)
        kept = {"confirmed": now, "marks": [], "read": 0, "sent": 0, "waiting": 0} | kept
    replace(memory, json.dumps(kept))
    if metrics.parent.is_dir():
        replace(metrics, told(kept))


if __name__ == "__main__":
    main(sys.argv)
