"""How far Filebeat is: what its own numbers mean, and the real one before a store that is away and comes."""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from tests.daemons import free_port, program, running
from tests.loading import loaded

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "roles" / "filebeat" / "files" / "filebeat_metrics.py"
CONFIRMED = "rackloom_log_shipper_confirmed_timestamp_seconds"


@pytest.fixture(scope="module")
def metrics() -> ModuleType:
    return loaded(SOURCE, "filebeat_metrics")


def numbers(read: int, waiting: int) -> dict[str, Any]:
    events = {"published": read, "active": waiting}
    return {"libbeat": {"pipeline": {"events": events}, "output": {"events": {"acked": read - waiting}}}}


def looks(metrics: ModuleType, *rows: tuple[float, int, int]) -> list[float]:
    """When all was last confirmed, after each look at (time, lines read, lines that wait)."""
    kept: dict[str, Any] = {}
    found = []
    for now, read, waiting in rows:
        kept = metrics.judged(kept, numbers(read, waiting), now)
        found.append(kept["confirmed"])
    return found


def test_who_always_has_lines_on_the_way_is_not_late(metrics: ModuleType) -> None:
    assert looks(metrics, (100, 10, 0), (160, 500, 40), (220, 900, 40), (280, 1300, 40)) == [
        100,
        100,
        160,
        220,
    ]


def test_who_gets_rid_of_nothing_grows_old(metrics: ModuleType) -> None:
    assert looks(metrics, (100, 10, 0), (160, 50, 40), (220, 60, 50), (280, 60, 50)) == [100] * 4


def test_who_is_slow_is_late_by_as_much(metrics: ModuleType) -> None:
    found = looks(
        metrics, (100, 0, 0), (160, 1000, 900), (220, 2000, 1500), (280, 3000, 2000), (340, 3000, 1000)
    )
    assert found == [100, 100, 100, 160, 220]


def test_a_new_start_counts_from_nought(metrics: ModuleType) -> None:
    assert looks(metrics, (100, 10, 0), (160, 900, 500), (220, 20, 20), (280, 520, 0)) == [100, 100, 100, 280]


def test_what_is_remembered_does_not_grow_for_ever(metrics: ModuleType) -> None:
    kept: dict[str, Any] = {}
    for now in range(3 * int(metrics.MOST_MARKS)):
        kept = metrics.judged(kept, numbers(now + 1, now + 1), now)
    assert len(kept["marks"]) == metrics.MOST_MARKS
    assert metrics.judged(kept, numbers(9999, 0), 9999)["confirmed"] == 9999


def test_a_filebeat_that_is_not_there_grows_old(metrics: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "out" / "logs.prom"
    call = ["it", str(tmp_path / "none.sock"), str(tmp_path / "kept.json"), str(out)]
    metrics.main(call)
    assert not out.exists(), "nobody measures here"
    out.parent.mkdir()
    metrics.main(call)
    first = value(out)
    (tmp_path / "kept.json").write_text(
        json.dumps(json.loads((tmp_path / "kept.json").read_text()) | {"confirmed": 5})
    )
    metrics.main(call)
    assert (first > 5, value(out)) == (True, 5)


def value(path: Path, name: str = CONFIRMED) -> float:
    found = re.search(rf"^{name} (\S+)$", path.read_text(), re.MULTILINE)
    assert found
    return float(found[1])


# ------------------------------------------------------------ the real one


@contextmanager
def store(port: int) -> Iterator[list[str]]:
    """Takes what comes at Elasticsearch's bulk door."""
    taken: list[str] = []

    class Door(http.server.BaseHTTPRequestHandler):
        def answer(self, told: Any) -> None:
            body = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("X-Elastic-Product", "Elasticsearch")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer({"version": {"number": "7.17.29", "build_flavor": "default"}, "tagline": "You Know"})

        def do_POST(self) -> None:
            rows = self.rfile.read(int(self.headers["Content-Length"])).decode().splitlines()
            taken.extend(rows[1::2])
            self.answer({"errors": False, "items": [{"create": {"status": 201}} for _ in rows[1::2]]})

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Door) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield taken
        server.shutdown()


def await_that(what: str, done: Callable[[], Any]) -> None:
    end = time.monotonic() + 90
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def test_the_real_one_is_late_until_its_store_comes(metrics: ModuleType, tmp_path: Path) -> None:
    own = program("filebeat", "filebeat")
    if not own:
        pytest.skip("no Filebeat was built on this machine; the scenario of the role asks it in any case")
    port, door = free_port(), tmp_path / "s.sock"
    lines = tmp_path / "app.log"
    lines.write_text("".join(f"line {number}\n" for number in range(100)))
    told = {
        "filebeat.inputs": [{"type": "filestream", "id": "a", "paths": [str(lines)]}],
        "output.elasticsearch": {
            "hosts": [f"http://127.0.0.1:{port}"],
            "backoff.max": "1s",
            "compression_level": 0,
        },
        "setup.template.enabled": False,
        "setup.ilm.enabled": False,
        "logging.to_files": False,
        "http.enabled": True,
        "http.host": f"unix://{door}",
    }
    config = tmp_path / "filebeat.yml"
    config.write_text(yaml.safe_dump(told))
    config.chmod(0o600)
    kept, out = tmp_path / "kept.json", tmp_path / "logs.prom"

    def look() -> tuple[float, float]:
        metrics.main(["it", str(door), str(kept), str(out)])
        return value(out), value(out, "rackloom_log_shipper_waiting_lines")

    argv = [own, "-e", "--strict.perms=false", "-c", str(config), "--path.home", str(tmp_path)]
    with running([*argv, "--path.data", str(tmp_path / "data")], tmp_path / "log", door.exists):
        await_that("lines wait", lambda: look()[1] == 100)
        # As if that had been an hour ago.
        then = json.loads(kept.read_text())
        kept.write_text(json.dumps(then | {"confirmed": 1000.0, "marks": [[2000.0, 100]]}))
        assert look()[0] == 1000
        with store(port) as taken:
            await_that("lines are confirmed", lambda: look()[0] > time.time() - 60)
            assert len(taken) >= 100
            assert value(out, "rackloom_log_shipper_lines_total") >= 100
