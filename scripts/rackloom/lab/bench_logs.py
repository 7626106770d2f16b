"""How many lines a second get from nodes to the log store with nothing dropped, and what a million of them take.

    python -m rackloom.lab.bench_logs [--senders N,M] [--lines L] [--json]

The real store behind its own door (TLS, a certificate for each node) and real shippers, each with a journal of its own
to read; what arrived is counted at the store. Beside it as many lines in one request straight to the store. Not a test:
it judges nothing.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rackloom.lab.programs import BenchError, Watched, free_port, laid_out, load, role_template, said

ROOT = Path(__file__).resolve().parents[3]
SHIPPER = ROOT / "roles" / "log_shipper" / "files" / "log-shipper.py"
_ETC = "/etc/rackloom/log_store"
_WORDS = "made-up"
_LONG = 1800.0
_TEMPLATES = (
    ("slurmd.service", "slurmd", 6, "launch task StepId={a}.0 request from UID:{b} GID:{b} HOST:10.10.0.{c} PORT:{b}"),
    ("slurmd.service", "slurmd", 6, "[{a}.batch] done with job"),
    ("ssh.service", "sshd", 6, "Accepted publickey for user{c} from 10.10.{c}.{c} port {b} ssh2: ED25519 SHA256:{h}"),
    ("", "kernel", 4, "mlx5_core 0000:{c:02x}:00.0: Port module event: module 0, Cable plugged, cycle {a}"),
    ("cron.service", "CRON", 6, "(root) CMD (command -v debian-sa1 > /dev/null && debian-sa1 1 {c})"),
    ("kubelet.service", "kubelet", 6, 'I1122 14:0{d}:12.{b} reconciler.go:299] "Volume detached" volume="config-{h}"'),
    ("systemd-logind.service", "systemd-logind", 6, "New session {a} of user user{c}."),
    ("app.service", "python3", 6, "step {a} loss={x:.6f} lr={x:.3e} tokens/s={b} mem={c}GiB"),
)  # fmt: skip
_JOURNAL = """#!{python}
# Gives what is in a file, and waits until nobody reads any more.
import os, shutil, sys, time
parent = os.getppid()
if not any(word.startswith("--after-cursor=") for word in sys.argv):
    with open(os.environ["RACKLOOM_BENCH_JOURNAL"], "rb") as stream:
        shutil.copyfileobj(stream, sys.stdout.buffer, 1 << 20)
    sys.stdout.flush()
while os.getppid() == parent:
    time.sleep(0.5)
"""


@dataclass(frozen=True)
class Round:
    """So many senders at once. processors: of this machine's, by program."""

    senders: int
    sent: int
    stored: int
    different: int
    seconds: float
    shippers: float
    door: float
    store: float

    @property
    def rate(self) -> float:
        """Lines a second."""
        return self.different / self.seconds

    @property
    def lost(self) -> int:
        """Lines that never came."""
        return self.sent - self.different


@dataclass(frozen=True)
class Figures:
    """What was measured."""

    rounds: tuple[Round, ...]
    bare: float
    """Lines a second in one request straight to the store, without TLS."""
    line: float
    """Bytes of a line as it is sent, before it is packed."""
    disk: float
    """Bytes on the disk for a line."""
    memory: int
    """Bytes of RAM of the store at the end; peak: the most there were."""
    peak: int
    total: int
    machine: str


@dataclass
class Store:
    """The store and its door."""

    folder: Path
    local: str
    url: str
    store: Watched
    door: Watched

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Rows of an answer; none where it does not answer."""
        data = urllib.parse.urlencode({"query": query}).encode()
        url = f"{self.local}/select/logsql/query"
        request = urllib.request.Request(url, data, {"Authorization": _login()})  # noqa: S310 - our own
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with suppress(OSError), opener.open(request, timeout=120) as answer:
            return [json.loads(row) for row in answer.read().splitlines() if row]
        return []

    def count(self, nodes: str) -> int:
        """Lines of nodes whose names begin so."""
        rows = self.ask(f'node:"{nodes}"* | stats count() n')
        return int(rows[0]["n"]) if rows else 0

    def different(self, nodes: str) -> int:
        """Lines that are not there twice."""
        rows = self.ask(f'node:"{nodes}"* | stats by (node) count_uniq(_msg) n')
        return sum(int(row["n"]) for row in rows)


def _login() -> str:
    return "Basic " + base64.b64encode(f"rackloom:{_WORDS}".encode()).decode()


def program(folder: Path) -> str:
    """The store, built from its sources into a folder, or taken from what was built before."""
    build = ROOT / "tests" / "upstream" / "build.py"
    argv = [sys.executable, str(build), "build", "victoria-logs", "--output", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = list(folder.glob("bin/*/victoria-logs"))
    if done.returncode or not found:
        raise BenchError(f"the store cannot be built: {done.stderr[-1000:]}")
    return str(found[0])


@contextmanager
def serving(folder: Path, authority: tuple[str, str]) -> Iterator[Store]:
    """The store with the options of the role, and the role's nginx in front of it."""
    from rackloom.site.authority import issue  # noqa: PLC0415 - slow to load

    inner, outer = free_port(), free_port()
    room = folder / "store"
    room.mkdir()
    made = issue(*authority, "log store", ["127.0.0.1"])
    for name, text in (
        ("ca.crt", authority[1]),
        ("server.crt", made.certificate),
        ("server.key", made.key),
        ("password", _WORDS),
    ):
        (room / name).write_text(text, encoding="utf-8")
    told = {
        "log_store_address": "127.0.0.1",
        "log_store_port": outer,
        "log_store_local_port": inner,
        "log_store_path": str(room / "data"),
        "log_store_password": _WORDS,
        "log_store_scrape_password": _WORDS,
        "__log_store_os": {"http_user": "root" if os.getuid() == 0 else "www-data"},
    }
    unit = (
        role_template("log_store", "log-store.service.j2", told)
        .replace("\\\n", " ")
        .replace("${LIFE}", "bench")
    )
    [start] = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    argv = [program(folder / "programs"), *start.replace(_ETC, str(room)).split()[1:]]
    text = (
        role_template("log_store", "nginx.conf.j2", told)
        .replace(_ETC, str(room))
        .replace("/run/", f"{room}/")
    )
    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        text = text.replace("http {\n", f"http {{\n    {kind}_temp_path {room}/{kind};\n", 1)
    (room / "nginx.conf").write_text(text, encoding="utf-8")
    nginx = [laid_out("nginx", "nginx"), "-e", "stderr", "-c", str(room / "nginx.conf"), "-g", "daemon off;"]
    local = f"http://127.0.0.1:{inner}/logs"

    def open_() -> bool:
        with suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", outer, timeout=5)
            connection.request("GET", "/")
            return bool(connection.getresponse().status)
        return False

    with (
        Watched(argv, room / "store.log", lambda: said(f"{local}/health") == "OK") as store,
        Watched(nginx, room / "nginx.log", open_) as door,
    ):
        yield Store(folder, local, f"https://127.0.0.1:{outer}/logs", store, door)


def message(number: int, dice: random.Random) -> tuple[str, str, int, str]:
    """What some daemon may say: unit, program, priority, text. No two are the same."""
    unit, name, priority, text = _TEMPLATES[dice.randrange(len(_TEMPLATES))]
    values = {
        "a": dice.randrange(10**6),
        "b": dice.randrange(10**4, 10**5),
        "c": dice.randrange(256),
        "d": dice.randrange(10),
    }
    said = text.format(**values, h=f"{dice.getrandbits(160):040x}", x=dice.random())
    return unit, name, priority, f"{said} #{number}"


def journal(path: Path, lines: int, seed: int) -> None:
    """What `journalctl --output=export` would give."""
    dice = random.Random(seed)  # noqa: S311 - text to compress, no secret
    begun = int(time.time() * 1e6) - lines * 100
    with path.open("w", encoding="utf-8") as stream:
        for number in range(lines):
            unit, name, priority, text = message(number, dice)
            stream.write(
                f"__CURSOR=s=5f1c;i={number:x};b=77;m={number:x};t={number:x};x={number:x}\n"
                f"__REALTIME_TIMESTAMP={begun + number * 100}\n__MONOTONIC_TIMESTAMP={number}\n_BOOT_ID=77\n"
                f"PRIORITY={priority}\nSYSLOG_IDENTIFIER={name}\n_UID=0\n_PID={1000 + number % 64}\n_COMM={name}\n"
                + (
                    f"_SYSTEMD_UNIT={unit}\n_SYSTEMD_CGROUP=/system.slice/{unit}\n"
                    if unit
                    else "_TRANSPORT=kernel\n"
                )
                + f"MESSAGE={text}\n\n"
            )


def shipped(
    server: Store, authority: tuple[str, str], senders: int, lines: int, say: Callable[[str], None]
) -> Round:
    """Let so many nodes send at once, and count at the store."""
    from rackloom.site.authority import issue  # noqa: PLC0415

    room = server.folder / f"senders-{senders}"
    (room / "bin").mkdir(parents=True)
    stand_in = room / "bin" / "journalctl"
    stand_in.write_text(_JOURNAL.format(python=sys.executable), encoding="utf-8")
    stand_in.chmod(0o755)
    begin = []
    for number in range(senders):
        node = f"r{senders}n{number}"
        home = room / node
        home.mkdir()
        journal(home / "journal", lines, number)
        made = issue(*authority, f"log shipper {node}", [], purpose="client")
        for name, text in (
            ("ca.crt", authority[1]),
            ("client.crt", made.certificate),
            ("client.key", made.key),
        ):
            (home / name).write_text(text, encoding="utf-8")
        settings = {
            "server": server.url,
            "node": node,
            "ca": str(home / "ca.crt"),
            "certificate": str(home / "client.crt"),
            "key": str(home / "client.key"),
            "batch": _default("log_shipper_batch"),
            "timeout": _default("log_shipper_timeout"),
        }
        (home / "shipper.json").write_text(json.dumps(settings), encoding="utf-8")
        env = {
            "STATE_DIRECTORY": str(home),
            "RACKLOOM_BENCH_JOURNAL": str(home / "journal"),
            "PATH": f"{room / 'bin'}:{os.environ['PATH']}",
        }
        begin.append(
            Watched(
                [sys.executable, str(SHIPPER), str(home / "shipper.json")], home / "log", lambda: True, env
            )
        )
    say(f"{senders} sending {lines:,} lines each")
    wanted, names = senders * lines, f"r{senders}n"
    server.store.mark()
    server.door.mark()
    began = time.monotonic()
    with ExitStack() as stack:
        shippers = [stack.enter_context(each) for each in begin]
        end = began + _LONG
        while (there := server.count(names)) < wanted:
            if time.monotonic() > end or any(
                each.process and each.process.poll() is not None for each in shippers
            ):
                raise BenchError(f"only {there} of {wanted} lines are there: {shippers[0].tail()}")
            time.sleep(0.5)
        seconds = time.monotonic() - began
        processors = sum(each.processors() for each in shippers)
        door, store = server.door.processors(), server.store.processors()
    return Round(
        senders, wanted, server.count(names), server.different(names), seconds, processors, door, store
    )


def _default(name: str) -> Any:
    import yaml  # noqa: PLC0415

    return yaml.safe_load((ROOT / "roles/log_shipper/defaults/main.yml").read_text(encoding="utf-8"))[name]


def straight(server: Store, lines: int) -> tuple[float, float]:
    """Lines a second in one request to the store itself, and bytes of a line."""
    dice = random.Random(99)  # noqa: S311
    now = time.time_ns() - lines * 100_000
    path = server.folder / "bare.json"
    with path.open("w", encoding="utf-8") as stream:
        for number in range(lines):
            unit, name, _, text = message(number, dice)
            row = {"_time": now + number * 100_000, "_msg": text, "node": "bare", "unit": unit or "kernel"}
            row |= {
                "level": "info",
                "program": name,
                "pid": str(1000 + number % 64),
                "uid": "0",
                "user": "root",
            }
            stream.write(json.dumps(row, separators=(",", ":")) + "\n")
    place = urllib.parse.urlsplit(server.local)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=600)
    headers = {"Authorization": _login(), "Content-Type": "application/stream+json"}
    began = time.monotonic()
    with path.open("rb") as stream:
        connection.request("POST", f"{place.path}/insert/jsonline?_stream_fields=node,unit", stream, headers)
        answer = connection.getresponse()
        words = answer.read()
    if answer.status >= 300:
        raise BenchError(f"the store answers {answer.status}: {words[:200]!r}")
    end = time.monotonic() + 120
    while (there := server.count("bare")) < lines:
        if time.monotonic() > end:
            raise BenchError(f"only {there} of {lines} lines are there")
        time.sleep(0.1)
    return lines / (time.monotonic() - began), path.stat().st_size / lines


def measure(folder: Path, senders: Sequence[int], lines: int, say: Callable[[str], None]) -> Figures:
    """All of it. Raises BenchError."""
    from rackloom.site.authority import make_authority, make_key  # noqa: PLC0415

    key = make_key()
    authority = (key, make_authority(key))
    say("starting the store")
    with serving(folder, authority) as server:
        rounds = tuple(shipped(server, authority, number, lines, say) for number in senders)
        memory, peak = server.store.memory(), server.store.memory(peak=True)
        say("the same in one request")
        bare, line = straight(server, lines)
    total = sum(each.stored for each in rounds) + lines
    data = sum(path.stat().st_size for path in (folder / "store" / "data").rglob("*") if path.is_file())
    return Figures(rounds, bare, line, data / total, memory, peak, total, load())


def table(found: Figures) -> str:
    """Return the figures as lines."""
    lines = ["senders   lines a second   to one request   lost   twice   processors: shippers, door, store"]
    lines += [
        f"{row.senders:7}   {row.rate:14,.0f}   {row.rate / found.bare:14.2f}   {row.lost:4}   "
        f"{row.stored - row.different:5}   {row.shippers:20.2f}, {row.door:4.2f}, {row.store:5.2f}"
        for row in found.rounds
    ]
    ratio = found.line / found.disk
    lines += [
        f"one request without TLS: {found.bare:,.0f} lines a second",
        f"a million lines: {found.disk:.0f} MB on the disk, of {found.line:.0f} MB sent (1 to {ratio:.0f})",
        f"the store's memory: {found.memory / 1e6:.0f} MB in the end, at most {found.peak / 1e6:.0f} MB",
        f"{found.total:,} lines in all",
        found.machine,
    ]
    return "\n".join(lines)


def _stop(*_: object) -> None:
    """Told to end: what was started is ended first."""
    raise BenchError("stopped")


def main(argv: list[str] | None = None) -> int:
    """Measure and print. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench.sh logs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--senders", default="1,4", help="how many nodes send at once, one round each (1,4)")
    parser.add_argument("--lines", type=int, default=200_000, help="lines of each node (200000)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    wanted = parser.parse_args(argv)

    def say(line: str) -> None:
        sys.stderr.write(f"bench: {line}\n")

    signal.signal(signal.SIGTERM, _stop)
    with tempfile.TemporaryDirectory(prefix="rackloom-bench-") as scratch:
        try:
            found = measure(
                Path(scratch), [int(word) for word in wanted.senders.split(",")], wanted.lines, say
            )
        except BenchError as error:
            say(str(error))
            return 1
    if wanted.json:
        sys.stdout.write(json.dumps(asdict(found), indent=2) + "\n")
    else:
        sys.stdout.write(table(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
