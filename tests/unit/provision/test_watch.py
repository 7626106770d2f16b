"""The boot server's events, told by the program that is sent there."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackloom.provision.watch import Watch
from rackloom.provision.watcher import DHCP

MAC = "02-00-0a-00-00-1f"


@pytest.fixture
def server(tmp_path: Path) -> Path:
    folder = tmp_path / "http/reports" / MAC / "t1"
    folder.mkdir(parents=True)
    (tmp_path / "http/nodes" / MAC).mkdir(parents=True)
    (tmp_path / "http/nodes" / MAC / "armed").symlink_to(f"../../reports/{MAC}/t1")
    (folder / "armed.json").write_text("{}")
    return tmp_path


@pytest.fixture
def watch(server: Path) -> Iterator[Watch]:
    watch = Watch(["env"], 60, path=str(server), log=str(server / "log"), unit="no-such.service")
    watch.start()
    yield watch
    watch.stop()


def collect(watch: Watch, kind: str) -> dict[str, Any]:
    """The next event of a kind."""
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        watch.drain(lambda event, _: found.append(dict(event)), 0.2)
        for event in found:
            if event["kind"] == kind:
                return event
        found.clear()
    pytest.fail(f"no {kind} within 90 s: {watch.trouble}")


def test_a_report_is_told_with_its_token_and_time(server: Path, watch: Watch) -> None:
    report = server / "http/reports" / MAC / "t1" / "installed.json"
    began = time.monotonic()
    report.write_text(json.dumps({"host_keys": ["k"]}))
    event = collect(watch, "report")
    assert (event["mac"], event["token"], event["stage"]) == (MAC.replace("-", ":"), "t1", "installed")
    assert event["data"] == {"host_keys": ["k"]}
    assert began - 5 < event["at"] < time.monotonic() + 5


def test_half_a_report_is_a_report(server: Path, watch: Watch) -> None:
    (server / "http/reports" / MAC / "t1" / "failed.json").write_text('{"mess')
    event = collect(watch, "report")
    assert event["stage"] == "failed" and event["data"] == {}


def test_old_lines_are_left_out_and_a_rotated_log_is_followed(server: Path, watch: Watch) -> None:
    log = server / "log"
    row = {"address": "10.0.0.31", "mac": "", "method": "GET", "status": 200, "bytes": 1, "seconds": 0.1}
    log.write_text(
        json.dumps({**row, "time": time.time() - 999, "uri": "/old"})
        + "\n"
        + json.dumps({**row, "time": time.time(), "uri": "/new"})
        + "\nno json\n"
    )
    assert collect(watch, "http")["uri"] == "/new"
    log.replace(server / "log.1")
    log.write_text(json.dumps({**row, "time": time.time(), "uri": "/newer"}) + "\n")
    assert collect(watch, "http")["uri"] == "/newer"


def test_it_says_when_it_has_caught_up(watch: Watch) -> None:
    assert collect(watch, "hello")["there"]
    collect(watch, "tick")
    assert watch.connected and watch.caught_up


def test_a_broken_connection_is_told() -> None:
    watch = Watch(["sh", "-c", "echo cannot connect >&2; exit 1"], 0)
    watch.start()
    deadline = time.monotonic() + 60
    while not watch.trouble and time.monotonic() < deadline:
        time.sleep(0.02)
    watch.stop()
    assert watch.trouble == "cannot connect"


@pytest.mark.parametrize(
    ("line", "what", "address"),
    [
        ("1234 DHCPDISCOVER(eth0) 02:00:0a:00:00:1f", "DHCPDISCOVER", None),
        ("1234 DHCPDISCOVER(eth0) 02:00:0a:00:00:1f no address available", "DHCPDISCOVER", None),
        ("1234 DHCPACK(eth0) 10.0.0.31 02:00:0a:00:00:1f gpu01", "DHCPACK", "10.0.0.31"),
        ("1234 DHCPNAK(eth0) 10.0.0.9 02:00:0a:00:00:1f wrong server-ID", "DHCPNAK", "10.0.0.9"),
    ],
)
def test_the_dhcp_servers_words_are_understood(line: str, what: str, address: str | None) -> None:
    match = DHCP.search(line)
    assert match is not None
    assert (match["what"], match["address"], match["mac"]) == (what, address, "02:00:0a:00:00:1f")
