"""The real log store with the programs that send to it: what arrives, what is left after a stop, and how fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from plugins.modules import logging_validate
from tests.daemons import free_port, running
from tests.render.test_elastic import Role

if TYPE_CHECKING:
    from tests.upstream.conftest import Built

    Build = Callable[[str], Built]

ROOT = Path(__file__).parents[2]
SHIPPER = ROOT / "roles/log_shipper/files/log-shipper.py"
LINES = 20_000


class Store:
    """VictoriaLogs in a folder; it can be stopped and started again."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/logs"

    @property
    def argv(self) -> list[str]:
        argv = [self.program, f"-httpListenAddr=127.0.0.1:{self.port}", "-http.pathPrefix=/logs"]
        return [*argv, f"-storageDataPath={self.folder / 'data'}", "-retentionPeriod=10y"]

    def answers(self) -> bool:
        return self.get("/health") == "OK"

    @contextmanager
    def up(self) -> Iterator[None]:
        with running(self.argv, self.folder / "store.log", self.answers):
            yield

    @contextmanager
    def alive(self, life: str) -> Iterator[None]:
        """Up until it is killed; its answers tell the life in the header that the door translates."""
        argv = [*self.argv, "-inmemoryDataFlushInterval=5s", f"-http.header.frameOptions={life}"]
        with (self.folder / "store.log").open("ab") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log)
            try:
                until(self.answers)
                yield
            finally:
                process.kill()
                process.wait()

    def get(self, path: str, **query: str) -> str:
        data = urllib.parse.urlencode(query).encode() if query else None
        with suppress(OSError), urllib.request.urlopen(self.url + path, data, timeout=20) as answer:  # noqa: S310
            return str(answer.read().decode())
        return ""

    def ask(self, query: str) -> list[dict[str, Any]]:
        return [json.loads(row) for row in self.get("/select/logsql/query", query=query).splitlines() if row]

    def counted(self, query: str) -> tuple[int, int]:
        [row] = self.ask(f"{query} | stats count() all, count_uniq(_msg) unique") or [{"all": 0, "unique": 0}]
        return int(row["all"]), int(row["unique"])


def until(check: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def store(built: Build, tmp_path: Path) -> Store:
    return Store(built("victoria-logs").program("victoria-logs"), tmp_path)


@pytest.fixture
def ship(tmp_path: Path, store: Store) -> Callable[[], subprocess.Popen[bytes]]:
    """Starts the shipper on a journal of LINES lines. (The real journal is molecule's part.)"""
    begun = int(time.time() * 1e6) - LINES * 1000
    binaries = tmp_path / "bin"
    binaries.mkdir()
    journal = binaries / "journalctl"
    journal.write_text(
        f"""#!{sys.executable}
import sys, time
after = [word.partition("=")[2] for word in sys.argv if word.startswith("--after-cursor=")]
for number in range(int(after[0]) + 1 if after else 0, {LINES}):
    sys.stdout.write(
        f"__CURSOR={{number}}\\n__REALTIME_TIMESTAMP={{{begun} + number * 1000}}\\n_SYSTEMD_UNIT=app.service\\n"
        f"SYSLOG_IDENTIFIER=app\\nPRIORITY=6\\nMESSAGE=line {{number}}\\n\\n"
    )
sys.stdout.flush()
time.sleep(60)
"""
    )
    journal.chmod(0o755)
    settings = {"server": store.url, "node": "n1", "ca": "", "certificate": "", "key": "", "timeout": 5}
    settings |= {"life": "X-Frame-Options", "settle": 15}
    config = tmp_path / "shipper.json"
    config.write_text(json.dumps(settings))
    env = {**os.environ, "STATE_DIRECTORY": str(tmp_path), "PATH": f"{binaries}:{os.environ['PATH']}"}

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "said").open("ab") as said:
            return subprocess.Popen([sys.executable, "-u", str(SHIPPER), str(config)], env=env, stdout=said)

    return start


def test_nothing_is_lost_when_both_sides_stop(
    store: Store, ship: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    with store.up():
        process = ship()
        until(lambda: store.counted("program:app")[1] > LINES // 10)
        process.kill()
        process.wait()
        process = ship()
    until(lambda: "takes nothing" in (tmp_path / "said").read_text())
    with store.up():
        until(lambda: store.counted("program:app")[1] == LINES)
        process.terminate()
        process.wait(timeout=20)
        everything, unique = store.counted("program:app node:n1 unit:app.service level:info")
    assert unique == LINES
    assert everything - unique <= LINES // 100


def test_a_store_that_is_killed_gets_again_what_it_lost(
    store: Store, ship: Callable[[], subprocess.Popen[bytes]]
) -> None:
    """Twice while lines flow, and once when all were confirmed a moment ago and nobody says any more."""
    process = ship()

    def lives() -> bool:  # as systemd does
        nonlocal process
        if process.poll() is not None:
            process = ship()
        return True

    try:
        for life, share in (("one", 0.3), ("two", 0.6), ("three", 1.0)):
            with store.alive(life):
                until(lambda share=share: lives() and store.counted("program:app")[1] >= LINES * share)  # type: ignore[misc]
        with store.alive("four"):
            assert store.counted("program:app")[1] < LINES, "nothing was lost, so nothing was tried"
            until(lambda: lives() and store.counted("program:app")[1] == LINES)
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_lines_are_found_by_what_validation_asks(store: Store, tmp_path: Path) -> None:
    with store.up():
        rows = [
            {"_time": time.time_ns(), "_msg": f"a line to look for: mark{name}", "node": name, "unit": "x"}
            for name in ("one", "two")
        ]
        body = "\n".join(json.dumps({**row, "program": "rackloom-check"}) for row in rows).encode()
        where = f"{store.url}/insert/jsonline?_stream_fields=node,unit"
        request = urllib.request.Request(where, body, {"Content-Type": "application/stream+json"})  # noqa: S310
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - our own store
        marks = {"one": "markone", "two": "marktwo", "three": "markthree", "four": ""}
        given = {
            "server": store.url,
            "user": "x",
            "password": "y",
            "ca_file": "",
            "marks": marks,
            "seconds": 10,
        }
        verdicts = {
            each["name"]: each for each in logging_validate.verdicts(given, *logging_validate.look(given))
        }
    assert [name for name, each in verdicts.items() if each["ok"]] == ["logs of one", "logs of two"]
    assert "is not at the log store" in verdicts["logs of three"]["detail"]
    assert "was not reached" in verdicts["logs of four"]["detail"]


@pytest.mark.long
def test_filebeat_ships_to_the_stores_bulk_interface(store: Store, built: Build, tmp_path: Path) -> None:
    """As Elasticsearch would be sent to; killed once on the way."""
    program = built("filebeat").program("filebeat")
    log = tmp_path / "app.log"
    log.write_text("".join(f"line {number}\n" for number in range(LINES)))
    config = tmp_path / "filebeat.json"
    settings = {
        "filebeat.inputs": [{"type": "filestream", "id": "app", "paths": [str(log)]}],
        "filebeat.registry.flush": "0s",
        "path.home": str(tmp_path / "beat"),
        "output.elasticsearch": {
            "hosts": [f"{store.url}/insert/elasticsearch/"],
            "parameters": {
                "_msg_field": "message",
                "_time_field": "@timestamp",
                "_stream_fields": "log.file.path",
            },
            "bulk_max_size": 50,
            "allow_older_versions": True,
        },
        "queue.mem": {"events": 256, "flush.min_events": 50, "flush.timeout": "0.5s"},
        "setup.ilm.enabled": False,
        "setup.template.enabled": False,
    }
    config.write_text(json.dumps(settings))
    config.chmod(0o600)
    argv = [program, "test", "config", "-c", str(config)]
    checked = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "Config OK" in checked.stdout, checked.stderr
    said = (tmp_path / "filebeat.log").open("wb")
    with store.up(), said:
        argv = [program, "-e", "-c", str(config)]
        process = subprocess.Popen(argv, stdout=said, stderr=said)
        until(lambda: store.counted("agent.type:filebeat")[1] > LINES // 10)
        process.kill()
        process.wait()
        process = subprocess.Popen(argv, stdout=said, stderr=said)
        try:
            until(lambda: store.counted("agent.type:filebeat")[1] == LINES)
        finally:
            process.terminate()
            process.wait(timeout=20)
        everything, unique = store.counted("agent.type:filebeat")
    assert unique == LINES
    assert everything - unique <= LINES // 100


JOURNAL: list[tuple[dict[str, Any], dict[str, str]]] = [
    (
        {"message": "hello", "syslog": {"identifier": "sshd"}, "log": {"syslog": {"priority": 4}},
         "systemd": {"unit": "session-31.scope"}, "journald": {"uid": 0, "pid": 7}},
        {"message": "hello", "program": "sshd", "level": "warning", "unit": "session.scope", "uid": "0",
         "user": "root", "pid": "7"},
    ),
    (
        {"message": "slurmctld: error: JobId=34 is gone", "syslog": {"identifier": "slurmctld", "priority": 6},
         "systemd": {"unit": "slurmctld.service"}, "journald": {"uid": 64030}},
        {"message": "slurmctld: error: JobId=34 is gone", "program": "slurmctld", "level": "error",
         "unit": "slurmctld.service", "job_id": "34", "uid": "64030"},
    ),
    (
        {"message": "out of the job", "syslog": {"identifier": "python3", "priority": 6},
         "systemd": {"unit": "slurmstepd.scope", "cgroup": "/system.slice/slurmstepd.scope/job_12/step_0/user"}},
        {"message": "out of the job", "program": "python3", "level": "info", "unit": "slurmstepd.scope",
         "job_id": "12"},
    ),
    (
        {"message": "NVRM: Xid", "systemd": {"transport": "kernel"}, "syslog": {"identifier": "kernel", "priority": 3}},
        {"message": "NVRM: Xid", "program": "kernel", "level": "error", "unit": "kernel"},
    ),
    (
        {"message": "in a pod", "process": {"name": "sh", "pid": 9}, "user": {"id": "2001"},
         "systemd": {"cgroup": "/kubepods/besteffort/pod0f0f0f0f_0000_4000_8000_00000000beef/x"}},
        {"message": "in a pod", "program": "sh", "unit": "sh", "pid": "9", "uid": "2001", "user": "ada",
         "pod_uid": "0f0f0f0f-0000-4000-8000-00000000beef"},
    ),
]  # fmt: skip
"""Events as Filebeat's journal input makes them (its fields by name), and what becomes of them."""


@pytest.mark.long
def test_what_filebeat_reads_in_the_journal_has_the_stores_own_fields(built: Build, tmp_path: Path) -> None:
    """The input itself cannot be had here; all that comes after it is the real program."""
    role = Role(
        "filebeat",
        filebeat_users={"0": "root", "2001": "ada"},
        __filebeat_etc=str(tmp_path),
        filebeat_settings={"output": {"file": {"path": str(tmp_path), "filename": "out"}}},
    )
    settings = role.settings("filebeat.yml.j2")
    del settings["output"]["elasticsearch"]
    events = tmp_path / "events.ndjson"
    events.write_text("".join(f"{json.dumps(event)}\n" for event, _ in JOURNAL))
    parsers = [{"ndjson": {"target": "", "overwrite_keys": True}}]
    settings["filebeat.inputs"] = [
        {"type": "filestream", "id": "events", "paths": [str(events)], "parsers": parsers}
    ]
    config = tmp_path / "filebeat.yml"
    config.write_text(json.dumps(settings))
    config.chmod(0o600)

    def lines() -> list[dict[str, Any]]:
        found = [*tmp_path.glob("out*")]
        return [json.loads(row) for row in found[0].read_text().splitlines()] if found else []

    argv = [
        built("filebeat").program("filebeat"),
        "-e",
        "-c",
        str(config),
        "--path.home",
        str(tmp_path / "home"),
    ]
    with running(argv, tmp_path / "filebeat.log", lambda: len(lines()) >= len(JOURNAL), 60):
        rows = {row["message"]: row for row in lines()}
    for _, wanted in JOURNAL:
        row = {key: value for key, value in rows[wanted["message"]].items() if key[0] != "@"}
        assert row == {**wanted, "node": "cn01"}
