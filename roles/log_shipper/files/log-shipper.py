#!/usr/bin/python3
# Managed by Rackloom.
"""
Sends a node's logs to the log store: its journal, and the text files that it is told of.

Lines go out in small batches, one after the other, each with a request that the store confirms. Only then is it
written down how far this node has come. So nothing is lost when either side or the network between them stops, and
what arrives twice is at most one batch for each such stop. The journal and the files themselves are the buffer.

What the store confirms is in its memory first. Each answer says which life the store is in: the same one after it was
stopped, another one after it was killed or lost power. Written down is therefore also the place up to which all is on
the store's disk, and when the store is in another life, everything from there on is sent again.

It says in the journal when the store goes away and when it is back, and nothing for each line that it sends.
"""

from __future__ import annotations

import calendar
import glob
import gzip
import http.client
import json
import os
import queue
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO
from urllib.parse import urlsplit

CONFIG = Path("/etc/rackloom/log_shipper/shipper.json")
STATE = Path(os.environ.get("STATE_DIRECTORY", "/var/lib/rackloom-log-shipper")) / "state.json"

INSERT = "/insert/jsonline?_stream_fields=node,unit&_time_field=_time&_msg_field=_msg"
LIFE = "Rackloom-Log-Life"
"""Header of the store's answers: the life that it is in."""
MARK_SECONDS = 1.0
"""How exactly it is known when a line was confirmed."""
LINGER = 1.0
"""Seconds that the first line of a batch waits for others, so that a quiet node makes one request a second at most."""
SYNC_SECONDS = 5.0
"""How often the position is forced to the disk; what a crash of the machine loses of it is sent again."""
SLOWEST_RETRY = 15.0
POLL = 1.0
GRACE = 5.0
"""Seconds that a rotated file is still read: its writer may not have been told yet."""
FORGET = 60.0
"""Seconds after which a file that is gone, and did not come back, is let go."""
LONGEST = 128 * 1024
"""Bytes of one message; the store refuses lines of 256 KiB."""
TOO_LARGE = 413

JOURNAL_FIELDS = (
    *("MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "_PID", "_UID", "_COMM", "_TRANSPORT"),
    *("_SYSTEMD_UNIT", "_SYSTEMD_USER_UNIT", "_SYSTEMD_CGROUP", "UNIT"),
)
LEVELS = ("emerg", "alert", "critical", "error", "warning", "notice", "info", "debug")
JOB = re.compile(r"(?:\b(?:JobId|JOB_ID|StepId)=|\b[Jj]ob(?:[Ii]d)?[ =])\[?(\d+)")
SLURM_LEVEL = re.compile(r"slurm\w+: (error|fatal|debug)\d?: ")
JOB_GROUP = re.compile(r"/job_(\d+)(?:/|$)")
POD_GROUP = re.compile(r"[-/]pod([0-9a-f]{8}[-_][0-9a-f_-]{27})")
# session-3.scope, cri-containerd-0a1b….scope: a stream for each of them would be a burden for the store.
SCOPE = re.compile(r"(?:[-_:@][0-9a-fr]+)+(?=\.scope$)")
STAMP = re.compile(r"\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(Z|[+-]\d\d:?\d\d)?\]?\s*")
POD_PATH = re.compile(
    r"/(?P<namespace>[a-z0-9.-]+)_(?P<pod>[a-z0-9.-]+)_[0-9a-f-]+/(?P<container>[a-z0-9.-]+)/\d+\.log"
)


def say(text: str) -> None:
    """Tell the journal."""
    print(text, flush=True)


# --- What a line is -----------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One line for the store, and how far its source has been read once it is there."""

    source: str
    position: Any
    data: bytes


def packed(fields: dict[str, Any]) -> bytes:
    """A line as the store wants it."""
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def shortened(text: str) -> str:
    """A message that the store takes."""
    if len(text) <= LONGEST // 4:
        return text
    data = text.encode("utf-8", "replace")
    if len(data) <= LONGEST:
        return text
    return data[:LONGEST].decode("utf-8", "ignore") + f" … ({len(data) - LONGEST} more bytes)"


class Users:
    """Names of the users of this node, out of its own file: asking a directory could take long."""

    def __init__(self, path: Path = Path("/etc/passwd")) -> None:
        self.path = path
        self.seen = -1
        self.names: dict[str, str] = {}

    def name(self, uid: str) -> str:
        """The name of a user, or '' where the file does not have it."""
        if uid not in self.names:
            with suppress(OSError):
                changed = self.path.stat().st_mtime_ns
                if changed != self.seen:
                    rows = (line.split(":") for line in self.path.read_text(errors="replace").splitlines())
                    self.names = {row[2]: row[0] for row in rows if len(row) > 2}
                    self.seen = changed
        return self.names.get(uid, "")


def entries(stream: IO[bytes]) -> Iterator[dict[str, bytes]]:
    """The journal's entries out of what `journalctl --output=export` writes; a torn one at the end is left out."""
    fields: dict[str, bytes] = {}
    while row := stream.readline():
        if row == b"\n":
            if fields:
                yield fields
                fields = {}
            continue
        name, equals, value = row[:-1].partition(b"=")
        if not equals:  # text with line breaks, or bytes: their length, then they themselves
            size = int.from_bytes(stream.read(8), "little")
            value = stream.read(size)
            stream.read(1)
        fields.setdefault(name.decode("ascii", "replace"), value)


def journal_fields(entry: dict[str, bytes], node: str, users: Users) -> dict[str, Any]:
    """One entry of the journal in the store's terms."""
    text = {name: value.decode("utf-8", "replace") for name, value in entry.items()}
    group = text.get("_SYSTEMD_CGROUP", "")
    program = text.get("SYSLOG_IDENTIFIER") or text.get("_COMM", "")
    transport = text.get("_TRANSPORT", "")
    unit = text.get("_SYSTEMD_UNIT", "")
    if unit == "init.scope" and "UNIT" in text:  # what systemd says about a unit belongs to it
        unit = text["UNIT"]
    message = text.get("MESSAGE", "")
    found: dict[str, Any] = {
        "_time": int(text.get("__REALTIME_TIMESTAMP", 0)) * 1000,
        "_msg": shortened(message) or "-",
        "node": node,
        "unit": SCOPE.sub("", unit) or ("kernel" if transport == "kernel" else program or transport),
    }
    priority = text.get("PRIORITY", "")
    if priority.isdigit() and int(priority) < len(LEVELS):
        found["level"] = LEVELS[int(priority)]
    more = {
        "program": program,
        "pid": text.get("_PID"),
        "uid": text.get("_UID"),
        "user": users.name(text["_UID"]) if "_UID" in text else "",
        "user_unit": text.get("_SYSTEMD_USER_UNIT"),
    }
    found.update({name: value for name, value in more.items() if value})
    if program.startswith("slurm") and (level := SLURM_LEVEL.match(message)):
        found["level"] = {"fatal": "critical"}.get(level[1], level[1])  # for the journal all of it is stderr
    job = JOB_GROUP.search(group) or (JOB.search(message) if program.startswith("slurm") else None)
    if job:
        found["job_id"] = job[1]
    if pod := POD_GROUP.search(group):
        found["pod_uid"] = pod[1].replace("_", "-")
    return found


def stamp(text: str) -> tuple[int, str]:
    """The time that a line begins with in nanoseconds, or 0, and the rest of the line."""
    found = STAMP.match(text)
    if found is None:
        return 0, text
    try:
        parts = time.strptime(found[1].replace(" ", "T"), "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return 0, text
    zone = found[3]
    if zone is None:
        seconds = int(time.mktime(parts))
    else:
        seconds = calendar.timegm(parts)
        if zone != "Z":
            minutes = int(zone[1:3]) * 60 + int(zone[-2:])
            seconds -= minutes * 60 if zone[0] == "+" else -minutes * 60
    return seconds * 1_000_000_000 + int((found[2] or "0").ljust(9, "0")), text[found.end() :]


def container_fields(path: str, text: str) -> dict[str, Any]:
    """A line of a container: when, which stream, whether it is whole, and what it says."""
    words = text.split(" ", 3)
    if len(words) < 3 or words[1] not in ("stdout", "stderr"):
        return {"_msg": text}
    when, _rest = stamp(words[0] + " ")
    found: dict[str, Any] = {"_time": when, "stream": words[1], "_msg": words[3] if len(words) > 3 else ""}
    if pod := POD_PATH.search(path):
        found.update(pod.groupdict())
    return found


def audit_fields(text: str) -> dict[str, Any]:
    """A line of the API server's audit log."""
    try:
        event = json.loads(text)
    except ValueError:
        return {"_msg": text}
    if not isinstance(event, dict):
        return {"_msg": text}
    about = event.get("objectRef") or {}
    when, _rest = stamp(str(event.get("stageTimestamp", "")))
    found = {
        "_time": when,
        "_msg": f"{event.get('verb', '')} {event.get('requestURI', '')}".strip() or text,
        "user": (event.get("user") or {}).get("username"),
        "verb": event.get("verb"),
        "stage": event.get("stage"),
        "code": (event.get("responseStatus") or {}).get("code"),
        "namespace": about.get("namespace"),
        "resource": about.get("resource"),
        "name": about.get("name"),
        "audit_id": event.get("auditID"),
    }
    return {name: value for name, value in found.items() if value not in (None, "")}


def file_fields(kind: str, unit: str, path: str, text: str, node: str) -> dict[str, Any]:
    """A line of a text file in the store's terms."""
    if kind == "container":
        found = container_fields(path, text)
    elif kind == "audit":
        found = audit_fields(text)
    else:
        when, rest = stamp(text)
        found = {"_time": when, "_msg": rest or text}
        if job := JOB.search(rest):
            found["job_id"] = job[1]
    found["_time"] = found.get("_time") or time.time_ns()
    found["_msg"] = shortened(str(found["_msg"])) or "-"
    return {**found, "node": node, "unit": unit, "file": path}


# --- Where lines come from ----------------------------------------------------------------


@dataclass
class Settings:
    """What the deploy has written."""

    server: str
    node: str
    ca: str
    certificate: str
    key: str
    batch: int = 50
    batch_bytes: int = 512 * 1024
    timeout: float = 15.0
    settle: float = 15.0
    life: str = LIFE
    metrics: str = ""
    journal: list[str] = field(default_factory=list)
    files: list[dict[str, str]] = field(default_factory=list)


class Source(threading.Thread):
    """Something that is read by a thread of its own. When it fails, the program ends and systemd starts it anew."""

    def __init__(self, name: str, out: queue.Queue[Line]) -> None:
        super().__init__(name=name, daemon=True)
        self.out = out

    def read(self) -> None:
        """Read for ever."""
        raise NotImplementedError

    def run(self) -> None:
        """Read until the program ends."""
        try:
            self.read()
        except BaseException as error:  # noqa: BLE001 - nobody would notice a thread that is gone
            say(f"reading {self.name} failed: {error!r}")
            os._exit(1)


class Journal(Source):
    """The node's journal, from where the store has it."""

    def __init__(self, settings: Settings, cursor: str, out: queue.Queue[Line]) -> None:
        super().__init__("journal", out)
        self.settings = settings
        self.cursor = cursor
        self.users = Users()

    def read(self) -> None:
        """Follow the journal; journalctl is started anew when it ends, from the last entry that it gave."""
        while True:
            argv = ["journalctl", "--quiet", "--no-pager", "--output=export", "--follow", "--no-tail"]
            argv += [f"--output-fields={','.join(JOURNAL_FIELDS)}", *self.settings.journal]
            argv += [f"--after-cursor={self.cursor}"] if self.cursor else []
            with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as reader:
                if reader.stdout is not None:
                    for entry in entries(reader.stdout):
                        self.cursor = entry["__CURSOR"].decode("ascii")
                        fields = journal_fields(entry, self.settings.node, self.users)
                        self.out.put(Line("journal", self.cursor, packed(fields)))
            say(f"journalctl ended with {reader.returncode}; it is started again")
            time.sleep(POLL)


class Tail:
    """One text file, followed through its rotation."""

    def __init__(self, path: str, kind: str, unit: str) -> None:
        self.path = path
        self.kind = kind
        self.unit = unit
        self.stream: BinaryIO | None = None
        self.inode = 0
        self.offset = 0
        self.moved = 0.0
        self.begun: dict[str, str] = {}

    def open(self, path: str, offset: int) -> None:
        """Read on in a file from a place; from its start where it is shorter than that."""
        self.close()
        stream = Path(path).open("rb")  # noqa: SIM115 - kept open while it is followed
        known = os.fstat(stream.fileno())
        self.inode = known.st_ino
        self.offset = offset if offset <= known.st_size else 0
        stream.seek(self.offset)
        self.stream = stream
        self.moved = 0.0

    def close(self) -> None:
        """Let go of the file."""
        if self.stream is not None:
            self.stream.close()
        self.stream = None

    def resume(self, inode: int, offset: int) -> None:
        """Go on where the program stopped: also in what was rotated away since."""
        own = Path(self.path)
        for path in (own, *sorted(own.parent.glob(glob.escape(own.name) + "*"))):
            with suppress(OSError):
                if path.stat().st_ino == inode:
                    self.open(str(path), offset)
                    return

    def lines(self) -> Iterator[str]:
        """Whole lines that are there and not yet read. A line that is being written waits for its end."""
        if self.stream is None:
            with suppress(FileNotFoundError):
                self.open(self.path, 0)
        while self.stream is not None:
            if os.fstat(self.stream.fileno()).st_size < self.offset:  # emptied in its place
                self.stream.seek(0)
                self.offset = 0
            for row in self.stream:
                if not row.endswith(b"\n"):
                    break
                self.offset += len(row)
                yield row[:-1].decode("utf-8", "replace").rstrip("\r")
            self.stream.seek(self.offset)
            if not self.rotated():
                return
            self.open(self.path, 0)

    def rotated(self) -> bool:
        """Whether another file has this one's name by now, and nobody writes to this one any more."""
        try:
            if Path(self.path).stat().st_ino == self.inode:
                self.moved = 0.0
                return False
            there = True
        except FileNotFoundError:
            there = False
        self.moved = self.moved or time.monotonic()
        return there and time.monotonic() - self.moved >= GRACE

    @property
    def gone(self) -> bool:
        """Whether the file is away for good."""
        return bool(self.moved) and time.monotonic() - self.moved > FORGET

    def fields(self, node: str) -> Iterator[dict[str, Any]]:
        """What the new lines say; parts of a container's long line are put together."""
        for text in self.lines():
            if not text:
                continue
            found = file_fields(self.kind, self.unit, self.path, text, node)
            if self.kind == "container":
                words = text.split(" ", 3)
                stream = words[1] if len(words) > 2 else ""
                if len(words) > 2 and words[2] == "P" and len(self.begun.get(stream, "")) < LONGEST:
                    self.begun[stream] = self.begun.get(stream, "") + found["_msg"]
                    continue
                found["_msg"] = shortened(self.begun.pop(stream, "") + found["_msg"])
            yield found


class Files(Source):
    """Text files that are no part of the journal."""

    def __init__(self, settings: Settings, positions: dict[str, Any], out: queue.Queue[Line]) -> None:
        super().__init__("files", out)
        self.settings = settings
        self.positions = positions
        self.tails: dict[str, Tail] = {}
        self.unreadable: set[str] = set()

    def look(self) -> None:
        """Find new files; forget those that are gone."""
        for wanted in self.settings.files:
            for path in glob.glob(wanted["path"]):  # noqa: PTH207 - the pattern is a whole path
                if path not in self.tails and Path(path).is_file():
                    self.tails[path] = tail = Tail(path, wanted.get("format", "text"), wanted.get("unit", ""))
                    if known := self.positions.get(path):
                        tail.resume(int(known[0]), int(known[1]))
        for path in [path for path, tail in self.tails.items() if tail.gone]:
            self.tails.pop(path).close()

    def once(self) -> None:
        """Send on what is new in all files."""
        self.look()
        for tail in list(self.tails.values()):
            try:
                for fields in tail.fields(self.settings.node):
                    # What is put together of parts has the position of its last one.
                    self.out.put(Line(f"file:{tail.path}", [tail.inode, tail.offset], packed(fields)))
            except OSError as error:  # one file that cannot be read keeps no other from being sent
                if tail.path not in self.unreadable:
                    say(f"{tail.path} cannot be read: {error.strerror or error}")
                self.unreadable.add(tail.path)

    def read(self) -> None:
        """Follow all files."""
        while True:
            self.once()
            time.sleep(POLL)


# --- Where they go ------------------------------------------------------------------------


class State:
    """
    How far the store has what this node has.

    `sent` is what it has confirmed, by source. `settled` is what it had confirmed `settle` seconds before it was last
    heard of in the same `life`, so that it has this on its disk.
    """

    def __init__(self, path: Path = STATE, settle: float = 0.0) -> None:
        self.path = path
        self.settle = settle
        self.sent: dict[str, Any] = {}
        self.settled: dict[str, Any] = {}
        self.life = ""
        self.synced = 0.0
        if path.exists():
            try:
                held = json.loads(path.read_text(encoding="utf-8"))
                self.sent, self.settled, self.life = dict(held["sent"]), dict(held["settled"]), held["life"]
            except (ValueError, KeyError, TypeError):
                say(f"{path} cannot be read; everything that this node has is sent again")
        for places in (self.sent, self.settled):
            for name in [name for name in places if name.startswith("file:") and not Path(name[5:]).exists()]:
                del places[name]
        # When it was confirmed is not written down: no later than now.
        self.marks = deque([(time.monotonic(), dict(self.sent))])

    def reached(self, lines: list[Line], life: str, asked: float) -> bool:
        """
        Write down that the store has these lines; False where it is in another life, and reading has to go back.

        asked: when it was asked. It was alive then, and nobody knows how long its answer was on the way.
        """
        if self.life and life and life != self.life:
            self.sent, self.life = dict(self.settled), life
            self.synced = 0.0
            self.write()
            return False
        self.life = life or self.life
        for line in lines:
            self.sent[line.source] = line.position
        now = time.monotonic()
        latest, known = self.marks[-1] if self.marks else (0.0, self.settled)
        if known != self.sent and now - latest >= MARK_SECONDS:
            self.marks.append((now, dict(self.sent)))
        while self.marks and asked - self.marks[0][0] >= self.settle:
            self.settled = self.marks.popleft()[1]
        self.write()
        return True

    def write(self) -> None:
        """Keep it on the disk."""
        new = self.path.with_suffix(".new")
        with new.open("w", encoding="utf-8") as stream:
            json.dump({"sent": self.sent, "settled": self.settled, "life": self.life}, stream)
            if time.monotonic() - self.synced > SYNC_SECONDS:
                stream.flush()
                os.fsync(stream.fileno())
                self.synced = time.monotonic()
        new.replace(self.path)

    def files(self) -> dict[str, Any]:
        """Positions in text files."""
        return {name[5:]: place for name, place in self.sent.items() if name.startswith("file:")}


class Store:
    """The log store."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.place = urlsplit(settings.server)
        self.connection: http.client.HTTPConnection | None = None
        self.away = ""
        self.life = ""
        self.asked = 0.0

    def open(self) -> http.client.HTTPConnection:
        """A connection to it, which is kept."""
        if self.connection is None:
            host, port = str(self.place.hostname), self.place.port
            if self.place.scheme == "https":
                # Made anew each time, so that a renewed certificate is taken without a restart.
                context = ssl.create_default_context(cafile=self.settings.ca)
                context.load_cert_chain(self.settings.certificate, self.settings.key)
                self.connection = http.client.HTTPSConnection(
                    host, port, timeout=self.settings.timeout, context=context
                )
            else:
                self.connection = http.client.HTTPConnection(host, port, timeout=self.settings.timeout)
        return self.connection

    def close(self) -> None:
        """End the connection."""
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def post(self, lines: list[Line]) -> int:
        """Send lines once; returns what the store answered, and raises OSError where it did not."""
        body = gzip.compress(b"".join(line.data + b"\n" for line in lines), compresslevel=1)
        headers = {"Content-Type": "application/stream+json", "Content-Encoding": "gzip"}
        self.asked = time.monotonic()
        try:
            connection = self.open()
            connection.request("POST", self.place.path.rstrip("/") + INSERT, body, headers)
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise OSError(f"{error!r}") from error
        if answer.status >= 300:
            self.close()
            if answer.status != TOO_LARGE:
                words = re.sub(r"<[^>]*>|\s+", " ", said[:400].decode("utf-8", "replace"))
                raise OSError(f"it answers {answer.status}: {' '.join(words.split())[:200]}")
        self.life = answer.headers.get(self.settings.life) or self.life
        return answer.status

    def deliver(self, lines: list[Line]) -> None:
        """Send lines until the store has them."""
        wait = 0.25
        while True:
            try:
                status = self.post(lines)
            except OSError as error:
                if not self.away:
                    say(
                        f"the log store {self.settings.server} takes nothing: {error}; lines wait in the journal"
                    )
                self.away = self.away or str(error)
                time.sleep(wait)
                wait = min(wait * 2, SLOWEST_RETRY)
                continue
            if self.away:
                say(f"the log store {self.settings.server} takes lines again")
                self.away = ""
            if status == TOO_LARGE and len(lines) > 1:
                self.deliver(lines[: len(lines) // 2])
                self.deliver(lines[len(lines) // 2 :])
            elif status == TOO_LARGE and lines:
                say(
                    f"the log store refuses a line of {len(lines[0].data)} bytes of {lines[0].source}; it is left out"
                )
            return


def batches(out: queue.Queue[Line], lines: int, size: int) -> Iterator[list[Line]]:
    """Lines in batches, in order; an empty one where there are none for a while."""
    while True:
        batch: list[Line] = []
        taken = 0
        end = time.monotonic() + LINGER
        while len(batch) < lines and taken < size:
            try:
                line = out.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            batch.append(line)
            taken += len(line.data)
        yield batch


def report(path: str, sent: int, last: float) -> None:
    """Leave numbers where the node exporter finds them."""
    place = Path(path)
    if not path or not place.parent.is_dir():
        return
    new = place.with_suffix(".tmp")
    new.write_text(
        "# HELP rackloom_log_shipper_lines_total Lines that the log store has confirmed since the shipper started.\n"
        "# TYPE rackloom_log_shipper_lines_total counter\n"
        f"rackloom_log_shipper_lines_total {sent}\n"
        "# HELP rackloom_log_shipper_confirmed_timestamp_seconds When everything read was last at the log store.\n"
        "# TYPE rackloom_log_shipper_confirmed_timestamp_seconds gauge\n"
        f"rackloom_log_shipper_confirmed_timestamp_seconds {last:.0f}\n",
        encoding="utf-8",
    )
    new.chmod(0o644)
    new.replace(place)


class Stop(Exception):
    """Somebody wants the program to end."""


class Shipper:
    """All of it."""

    def __init__(self, settings: Settings, state: State) -> None:
        self.settings = settings
        self.state = state
        self.store = Store(settings)
        self.busy = False
        self.stopping = False

    def stop(self, *_: object) -> None:
        """End at once where nothing is on its way, and otherwise once the store has confirmed it or failed to."""
        self.stopping = True
        if not self.busy or self.store.away:
            raise Stop

    def run(self) -> None:
        """Send until somebody stops it, or until it has to be started anew to go back."""
        out: queue.Queue[Line] = queue.Queue(self.settings.batch * 4)
        Journal(self.settings, str(self.state.sent.get("journal", "")), out).start()
        if self.settings.files:
            Files(self.settings, self.state.files(), out).start()
        sent, heard, reported = 0, 0.0, 0.0
        for batch in batches(out, self.settings.batch, self.settings.batch_bytes):
            # A node that says no more still has to hear that what it said is safe.
            if batch or (self.state.sent != self.state.settled and time.monotonic() - heard > SYNC_SECONDS):
                self.busy = True
                self.store.deliver(batch)
                heard = time.monotonic()
                there = self.state.reached(batch, self.store.life, self.store.asked)
                self.busy = False
                sent += len(batch)
                if not there:
                    say("the log store was not stopped but ended; what it may have lost is sent again")
                    return
            if self.stopping:
                return
            if time.monotonic() - reported > SLOWEST_RETRY:
                report(self.settings.metrics, sent, time.time())
                reported = time.monotonic()


def main(argv: list[str]) -> int:
    """Read the settings and send."""
    settings = Settings(**json.loads(Path(argv[1] if len(argv) > 1 else CONFIG).read_text(encoding="utf-8")))
    shipper = Shipper(settings, State(settle=settings.settle))
    signal.signal(signal.SIGTERM, shipper.stop)
    signal.signal(signal.SIGINT, shipper.stop)
    with suppress(Stop):
        shipper.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
