"""The program that sends logs: what it makes of lines, and that none is lost whatever is stopped on the way."""

from __future__ import annotations

import gzip
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.loading import loaded

PROGRAM = Path(__file__).parents[3] / "roles/log_shipper/files/log-shipper.py"
LINES = 2000
BATCH = 20
SETTLE = 3


shipper = loaded(PROGRAM, "log_shipper")


def fields(**entry: str) -> dict[str, Any]:
    made: dict[str, Any] = shipper.journal_fields(
        {name: value.encode() for name, value in entry.items()}, "gpu1", shipper.Users(Path("/nonexistent"))
    )
    return made


# --- what a line is -----------------------------------------------------------------------


def test_entries_of_all_kinds_are_read() -> None:
    text = b"two\nlines = of text"
    export = (
        b"__CURSOR=a\nMESSAGE=one\n\n"
        b"__CURSOR=b\nMESSAGE\n"
        + len(text).to_bytes(8, "little")
        + text
        + b"\nPRIORITY=3\n\n__CURSOR=c\nMESSA"
    )
    found = list(shipper.entries(io.BytesIO(export)))
    assert [entry["__CURSOR"] for entry in found] == [b"a", b"b"], "a torn entry is no entry"
    assert found[1]["MESSAGE"] == text
    assert found[1]["PRIORITY"] == b"3"


def test_an_entry_tells_where_it_is_from() -> None:
    found = fields(
        MESSAGE="hello", PRIORITY="4", SYSLOG_IDENTIFIER="sshd", _SYSTEMD_UNIT="ssh.service",
        __REALTIME_TIMESTAMP="1700000000000001",
    )  # fmt: skip
    assert found["_time"] == 1700000000000001000
    assert (found["node"], found["unit"], found["level"]) == ("gpu1", "ssh.service", "warning")


@pytest.mark.parametrize(
    ("entry", "unit"),
    [
        ({"_SYSTEMD_UNIT": "session-31.scope"}, "session.scope"),
        ({"_SYSTEMD_UNIT": "cri-containerd-0a1b2c3d4e5f.scope"}, "cri-containerd.scope"),
        ({"_SYSTEMD_UNIT": "init.scope", "UNIT": "slurmd.service"}, "slurmd.service"),
        ({"_TRANSPORT": "kernel", "SYSLOG_IDENTIFIER": "kernel"}, "kernel"),
        ({"SYSLOG_IDENTIFIER": "cron"}, "cron"),
    ],
)
def test_streams_are_few(entry: dict[str, str], unit: str) -> None:
    assert fields(MESSAGE="x", **entry)["unit"] == unit


@pytest.mark.parametrize(
    ("entry", "job"),
    [
        (
            {"MESSAGE": "x", "_SYSTEMD_CGROUP": "/system.slice/slurmstepd.scope/job_12/step_0/user/task_0"},
            "12",
        ),
        ({"MESSAGE": "sched: Allocate JobId=34 NodeList=gpu1", "SYSLOG_IDENTIFIER": "slurmctld"}, "34"),
        ({"MESSAGE": "launch task StepId=56.0 request from UID:1000", "_COMM": "slurmd"}, "56"),
        ({"MESSAGE": "JobId=78 of somebody else", "SYSLOG_IDENTIFIER": "sshd"}, None),
        ({"MESSAGE": "slurmd started", "SYSLOG_IDENTIFIER": "slurmd"}, None),
    ],
)
def test_jobs_of_slurm_are_found(entry: dict[str, str], job: str | None) -> None:
    assert fields(**entry).get("job_id") == job


@pytest.mark.parametrize(
    ("message", "level"),
    [
        ("slurmd: error: no gres", "error"),
        ("slurmctld: fatal: x", "critical"),
        ("slurmd: debug3: x", "debug"),
        ("x", "info"),
    ],
)
def test_slurms_own_levels_count(message: str, level: str) -> None:
    assert fields(MESSAGE=message, SYSLOG_IDENTIFIER="slurmd", PRIORITY="6")["level"] == level


def test_users_come_from_the_nodes_own_file(tmp_path: Path) -> None:
    passwd = tmp_path / "passwd"
    passwd.write_text("root:x:0:0::/root:/bin/sh\n")
    users = shipper.Users(passwd)
    assert users.name("0") == "root"
    assert users.name("1000") == ""
    passwd.write_text("root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n")
    os.utime(passwd, ns=(1, 1))
    assert users.name("1000") == "ada"


@pytest.mark.parametrize(
    ("text", "when", "rest"),
    [
        ("2026-01-02T03:04:05.5Z hello", 1767323045_500000000, "hello"),
        ("2026-01-02T03:04:05+01:00 hello", 1767319445_000000000, "hello"),
        ("2026-01-02T03:04:05-0130 hello", 1767328445_000000000, "hello"),
        ("2026-13-02T03:04:05Z hello", 0, "2026-13-02T03:04:05Z hello"),
        ("hello", 0, "hello"),
    ],
)
def test_times_of_lines_are_read(text: str, when: int, rest: str) -> None:
    assert shipper.stamp(text) == (when, rest)


def test_a_time_without_a_zone_is_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Etc/GMT-2")
    time.tzset()
    try:
        assert shipper.stamp("[2026-01-02T03:04:05.123] x") == (1767315845_123000000, "x")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_audit_events_become_fields() -> None:
    event = {
        "auditID": "1", "stage": "ResponseComplete", "verb": "delete", "requestURI": "/api/v1/pods/x",
        "user": {"username": "ada"}, "objectRef": {"namespace": "n", "resource": "pods", "name": "x"},
        "responseStatus": {"code": 200}, "stageTimestamp": "2026-01-02T03:04:05.000000Z",
    }  # fmt: skip
    found = shipper.file_fields("audit", "kube-audit", "/a", json.dumps(event), "cp1")
    assert found["_msg"] == "delete /api/v1/pods/x"
    assert (found["user"], found["code"], found["namespace"], found["name"]) == ("ada", 200, "n", "x")
    assert found["_time"] == 1767323045_000000000
    assert shipper.file_fields("audit", "kube-audit", "/a", "[torn", "cp1")["_msg"] == "[torn"


def test_a_message_is_never_longer_than_the_store_takes() -> None:
    assert shipper.shortened("x" * 1000) == "x" * 1000
    assert len(shipper.shortened("ä" * 200_000).encode()) < 150_000


# --- text files ---------------------------------------------------------------------------


def texts(tail: Any) -> list[str]:
    return [found["_msg"] for found in tail.fields("n")]


def test_a_file_is_followed_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("one\ntw")
    tail = shipper.Tail(str(path), "text", "a")
    assert texts(tail) == ["one"]
    with path.open("a") as stream:
        stream.write("o\nthree\n")
    assert texts(tail) == ["two", "three"]
    path.write_text("new\n")
    assert texts(tail) == ["new"], "a file that was emptied is read from its start"


def test_a_rotated_file_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.log"
    path.write_text("one\n")
    tail = shipper.Tail(str(path), "text", "a")
    assert texts(tail) == ["one"]
    path.rename(tmp_path / "a.log.1")
    assert texts(tail) == []
    path.write_text("three\n")
    with (tmp_path / "a.log.1").open("a") as stream:  # its writer does not know yet
        stream.write("two\n")
    assert texts(tail) == ["two"]
    monkeypatch.setattr(shipper, "GRACE", 0)
    assert texts(tail) == ["three"]


def test_reading_goes_on_in_what_was_rotated_away(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("one\ntwo\n")
    first = shipper.Tail(str(path), "text", "a")
    seen = first.fields("n")
    assert next(seen)["_msg"] == "one"
    path.rename(tmp_path / "a.log.1")
    path.write_text("three\n")
    again = shipper.Tail(str(path), "text", "a")
    again.resume(first.inode, first.offset)
    assert texts(again) == ["two"]


def test_parts_of_a_containers_line_are_put_together(tmp_path: Path) -> None:
    folder = tmp_path / "team_train-0_0f0f/main"
    folder.mkdir(parents=True)
    path = folder / "0.log"
    now = "2026-01-02T03:04:05.5Z"
    path.write_text(f"{now} stdout P a \n{now} stderr F other\n{now} stdout F b\n")
    found = list(shipper.Tail(str(path), "container", "container").fields("n"))
    assert [(one["stream"], one["_msg"]) for one in found] == [("stderr", "other"), ("stdout", "a b")]
    assert (found[0]["namespace"], found[0]["pod"], found[0]["container"]) == ("team", "train-0", "main")


def test_what_is_no_file_or_cannot_be_read_keeps_no_other_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.log").mkdir()
    os.mkfifo(tmp_path / "b.log")
    for name in ("c", "d"):
        (tmp_path / f"{name}.log").write_text(f"{name}\n")
    own = shipper.Tail.lines

    def broken(tail: Any) -> Any:
        if tail.path.endswith("c.log"):
            raise PermissionError(13, "not for you")
        return own(tail)

    monkeypatch.setattr(shipper.Tail, "lines", broken)
    wanted = [{"path": f"{tmp_path}/*.log", "unit": "x"}]
    settings = shipper.Settings("http://x", "n", "", "", "", files=wanted)
    out: Any = shipper.queue.Queue()
    files = shipper.Files(settings, {}, out)
    files.once()
    files.once()
    assert [json.loads(out.get_nowait().data)["_msg"] for _ in range(out.qsize())] == ["d"]
    assert capsys.readouterr().out.count("c.log cannot be read: not for you") == 1


# --- nothing is lost ----------------------------------------------------------------------


class Store:
    """A log store that can be told to misbehave."""

    def __init__(self) -> None:
        self.lines: Counter[str] = Counter()
        self.life = "first"
        self.memory: list[tuple[float, list[str]]] = []
        self.lock = threading.Lock()
        self.requests = 0
        self.answer: Callable[[int, list[str]], int] = lambda _number, _lines: 200
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
                rows = [json.loads(row)["_msg"] for row in body.splitlines()]
                store.requests += 1
                status = store.answer(store.requests, rows)
                if status in (200, 0):
                    with store.lock:
                        store.lines.update(rows)
                        store.memory.append((time.monotonic(), rows))
                if status == 0:  # taken, and the answer is lost
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                if status == 200:
                    self.send_header(shipper.LIFE, store.life)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/logs"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def die(self, seconds: float) -> None:
        """Lose what was confirmed within so many seconds, as a store does that is killed."""
        with self.lock:  # the node goes on sending
            self.life += "-next"
            since = time.monotonic() - seconds
            for when, rows in self.memory:
                if when > since:
                    self.lines -= Counter(rows)
            self.memory.clear()


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()
    yield made
    made.server.shutdown()


@pytest.fixture
def node(tmp_path: Path, store: Store) -> Callable[[], subprocess.Popen[str]]:
    """Starts the program on a node whose journal holds LINES lines."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    fake = binaries / "journalctl"
    fake.write_text(
        f"""#!{sys.executable}
import sys, time
after = [word.partition("=")[2] for word in sys.argv if word.startswith("--after-cursor=")]
for number in range(int(after[0]) + 1 if after else 0, {LINES}):
    sys.stdout.write(f"__CURSOR={{number}}\\n__REALTIME_TIMESTAMP=1700000000000000\\nMESSAGE=line {{number}}\\n\\n")
sys.stdout.flush()
time.sleep(60)
"""
    )
    fake.chmod(0o755)
    settings = {"server": store.url, "node": "n", "ca": "", "certificate": "", "key": "", "batch": BATCH}
    config = tmp_path / "shipper.json"
    more = {"timeout": 5, "settle": SETTLE, "metrics": str(tmp_path / "logs.prom")}
    config.write_text(json.dumps({**settings, **more}))
    env = {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "STATE_DIRECTORY": str(tmp_path),
        "PYTHONUNBUFFERED": "1",
    }

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), str(config)], env=env, stdout=subprocess.PIPE, text=True
        )

    return start


def until(check: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.02)


def end(process: subprocess.Popen[str]) -> str:
    process.terminate()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return said


def all_there(store: Store) -> Callable[[], bool]:
    return lambda: len(store.lines) == LINES


def test_every_line_arrives_once(
    store: Store, node: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = node()
    until(all_there(store))
    until((tmp_path / "logs.prom").exists)
    assert end(process) == ""
    assert store.lines.total() == LINES
    assert "rackloom_log_shipper_lines_total" in (tmp_path / "logs.prom").read_text()


def test_killing_it_sends_one_batch_twice_at_most(
    store: Store, node: Callable[[], subprocess.Popen[str]]
) -> None:
    for share in (0.2, 0.5, 0.8):
        process = node()
        until(lambda share=share: len(store.lines) > LINES * share)  # type: ignore[misc]
        process.kill()
        process.communicate()
    process = node()
    until(all_there(store))
    end(process)
    assert store.lines.total() - LINES <= 3 * BATCH


def test_stopping_it_sends_nothing_twice(store: Store, node: Callable[[], subprocess.Popen[str]]) -> None:
    process = node()
    until(lambda: len(store.lines) > LINES // 3)
    end(process)
    process = node()
    until(all_there(store))
    end(process)
    assert store.lines.total() == LINES


def test_a_store_that_is_away_is_waited_for(store: Store, node: Callable[[], subprocess.Popen[str]]) -> None:
    store.answer = lambda number, _lines: 503 if 5 <= number < 9 else 200
    process = node()
    until(all_there(store))
    said = end(process)
    assert store.lines.total() == LINES
    assert said.count("takes nothing") == 1, "it is said once, not for each try"
    assert said.count("takes lines again") == 1


def test_an_answer_that_is_lost_costs_one_batch(
    store: Store, node: Callable[[], subprocess.Popen[str]]
) -> None:
    store.answer = lambda number, _lines: 0 if number == 5 else 200
    process = node()
    until(all_there(store))
    end(process)
    assert store.lines.total() == LINES + BATCH


def test_a_line_that_the_store_refuses_holds_up_no_other(
    store: Store, node: Callable[[], subprocess.Popen[str]]
) -> None:
    store.answer = lambda _number, lines: 413 if "line 777" in lines else 200
    process = node()
    until(lambda: len(store.lines) == LINES - 1)
    said = end(process)
    assert "line 777" not in store.lines
    assert "refuses a line" in said


# --- a store that is killed ---------------------------------------------------------------


def line(name: str, place: Any) -> Any:
    return shipper.Line(name, place, b"{}")


def test_what_a_killed_store_lost_is_sent_again(
    store: Store, node: Callable[[], subprocess.Popen[str]]
) -> None:
    process = node()
    until(lambda: len(store.lines) > LINES // 2)
    store.die(SETTLE)
    assert len(store.lines) < LINES
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, "systemd starts it again"
    assert "what it may have lost is sent again" in said
    process = node()
    until(all_there(store))
    end(process)


def test_it_is_sent_again_also_by_a_node_that_says_no_more(
    store: Store, node: Callable[[], subprocess.Popen[str]]
) -> None:
    process = node()
    until(all_there(store))
    store.die(SETTLE)
    assert len(store.lines) < LINES
    process.communicate(timeout=60)
    process = node()
    until(all_there(store))
    end(process)


def test_a_store_is_remembered_over_a_restart_of_the_node(
    store: Store, node: Callable[[], subprocess.Popen[str]]
) -> None:
    process = node()
    until(lambda: len(store.lines) > LINES // 2)
    process.kill()
    process.communicate()
    store.die(SETTLE)
    process = node()
    process.communicate(timeout=60)
    process = node()
    until(all_there(store))
    end(process)


def test_only_what_may_be_lost_is_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(shipper.time, "monotonic", lambda: now[0])
    state = shipper.State(tmp_path / "state.json", settle=10)
    for second in range(30):
        now[0] = 100.0 + second
        assert state.reached([line("journal", second)], "a", shipper.time.monotonic())
    assert state.sent == {"journal": 29}
    assert state.settled == {"journal": 19}
    assert not state.reached([line("journal", 30)], "b", shipper.time.monotonic())
    again = shipper.State(tmp_path / "state.json", settle=10)
    assert (again.sent, again.life) == ({"journal": 19}, "b")


def test_a_store_that_was_stopped_has_everything(tmp_path: Path) -> None:
    state = shipper.State(tmp_path / "state.json", settle=10)
    assert state.reached([line("journal", 1)], "a", shipper.time.monotonic())
    again = shipper.State(tmp_path / "state.json", settle=10)
    assert again.reached([line("journal", 2)], "a", shipper.time.monotonic())
    assert again.sent == {"journal": 2}


def test_a_store_that_tells_no_life_is_believed(tmp_path: Path) -> None:
    state = shipper.State(tmp_path / "state.json", settle=10)
    assert state.reached([line("journal", 1)], "", shipper.time.monotonic())
    assert state.reached([line("journal", 2)], "a", shipper.time.monotonic())
    assert state.reached([line("journal", 3)], "", shipper.time.monotonic())


def test_everything_settles_once_a_node_is_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(shipper.time, "monotonic", lambda: now[0])
    state = shipper.State(tmp_path / "state.json", settle=10)
    state.reached([line("journal", 1)], "a", shipper.time.monotonic())
    now[0] += 0.2
    state.reached([line("journal", 2)], "a", shipper.time.monotonic())
    now[0] += 5
    state.reached([], "a", shipper.time.monotonic())
    assert state.sent != state.settled
    now[0] += 10
    state.reached([], "a", shipper.time.monotonic())
    assert state.sent == state.settled


def test_an_answer_that_was_long_on_its_way_says_nothing_of_that_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(shipper.time, "monotonic", lambda: now[0])
    state = shipper.State(tmp_path / "state.json", settle=10)
    now[0] = 102.0
    state.reached([line("journal", 1)], "a", 101.0)
    now[0] = 113.0
    state.reached([line("journal", 2)], "a", 103.0)
    assert state.settled == {}
    state.reached([line("journal", 3)], "a", 113.0)
    assert state.settled == {"journal": 1}
