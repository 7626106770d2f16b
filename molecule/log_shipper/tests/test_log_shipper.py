"""What nodes log is at the store, whatever stopped on the way."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import testinfra
from log_lines import Ask, Rows, asking
from testinfra.host import Host
from waits import until

LINES = 10_000
SENDERS = ("one", "two", "three", "four")
OUTAGE = float(os.environ.get("RACKLOOM_LOG_OUTAGE", "6"))
"""Seconds that the store is stopped, and that the network is cut."""


def other(host: Host, name: str) -> Host:
    """A node beside the one that a test is about."""
    backend = host.backend
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=backend.ansible_inventory)


@pytest.fixture(scope="module", autouse=True)
def _from_the_store(host: Host) -> None:
    """All is looked at from where it arrives."""
    if host.backend.get_hostname() != "logs":
        pytest.skip("a sender")


@pytest.fixture(scope="module")
def senders(host: Host) -> dict[str, Host]:
    return {name: other(host, name) for name in SENDERS}


@pytest.fixture(scope="module")
def ask(host: Host) -> Ask:
    return asking(host)


def start(node: Host, mark: str, pause: float, word: str = "") -> None:
    """Begin to write numbered lines into the journal of a node; the last fifth only when a file is there."""
    node.check_output(
        "systemd-run --quiet --unit=%s /srv/numbers.py %s %s %s %s",
        f"numbers-{mark}",
        mark,
        str(LINES),
        str(pause),
        word,
    )


def done(node: Host, mark: str) -> bool:
    return node.run("systemctl is-active --quiet %s", f"numbers-{mark}.service").rc != 0


def said(node: Host) -> str:
    return str(node.check_output("journalctl -u rackloom-log-shipper.service -o cat --no-pager"))


def told_away(node: Host) -> int:
    """How often the shipper has said that the store takes nothing."""
    return said(node).count("takes nothing")


def well_again(node: Host) -> bool:
    """Whether all that it missed is over."""
    words = said(node)
    return words.rfind("takes lines again") > words.rfind("takes nothing")


def missed(node: Host, before: int) -> bool:
    return told_away(node) > before


def kill(node: Host, *, away: bool = False) -> None:
    """End the shipper as a crash would; where the store is away, wait until the next one has noticed."""
    before = told_away(node)
    node.check_output("systemctl kill --signal=KILL rackloom-log-shipper.service")
    if away:
        until(partial(missed, node, before), what="the next shipper misses no store")


@pytest.fixture
def cut(senders: dict[str, Host], host: Host) -> Iterator[Callable[[bool], None]]:
    """Cut all senders off from the store, and let them back."""
    address = host.ansible.get_variables()["rackloom_address"]
    device = senders["one"].check_output("ip route get %s", address).split(" dev ")[1].split()[0]

    def switch(off: bool) -> None:
        # What is sent goes nowhere, as with a dead switch between: nobody says so.
        for node in senders.values():
            node.run("ip neigh del %s dev %s", address, device)
            if off:
                node.check_output(
                    "ip neigh replace %s lladdr 02:00:00:00:00:99 dev %s nud permanent", address, device
                )

    yield switch
    switch(False)


def test_a_line_is_found_within_seconds(senders: dict[str, Host], ask: Ask) -> None:
    mark = f"mark{time.time_ns()}"
    for node in senders.values():
        node.check_output("logger -t probe %s", mark)
    rows: Rows = until(lambda: found if len(found := ask(mark)) >= len(SENDERS) else [], what="no line")
    assert sorted(row["node"] for row in rows) == sorted(SENDERS)
    assert {row["unit"] for row in rows} == {"probe"} or all(row["program"] == "probe" for row in rows)
    assert {row["user"] for row in rows} == {"root"}


def counted(ask: Ask, mark: str, senders: dict[str, Host]) -> dict[str, int]:
    """How many lines of each node came twice; fails where one has not come."""
    for node in senders.values():
        until(partial(done, node, mark), 300, "the writer does not end")
    # The word keeps out what systemd says about the unit.
    query = f"{mark} number | stats by (node) count() all, count_uniq(_msg) unique"
    wanted = dict.fromkeys(senders, LINES)
    rows: dict[str, dict[str, Any]] = {}

    def all_there() -> bool:
        rows.update({row["node"]: row for row in ask(query)})
        return {name: int(row["unique"]) for name, row in rows.items()} == wanted

    until(all_there, 240, lambda: f"lines are missing: {rows}")
    return {name: int(row["all"]) - LINES for name, row in rows.items()}


def test_nothing_is_lost_and_little_comes_twice(
    host: Host, senders: dict[str, Host], ask: Ask, cut: Callable[[bool], None]
) -> None:
    mark = f"run{time.time_ns()}"
    for node in senders.values():
        start(node, mark, (2 * OUTAGE + 40) / 100, f"/run/{mark}")
    seen = f"{mark} number | stats by (node) count() n"
    until(lambda: len(ask(seen)) == len(SENDERS), what="no line came through")

    kill(senders["one"])
    before = {name: told_away(node) for name, node in senders.items()}
    began = time.monotonic()
    host.check_output("systemctl stop rackloom-log-store.service")
    for name, node in senders.items():
        until(partial(missed, node, before[name]), what=f"{name} misses no store")
    kill(senders["two"], away=True)
    time.sleep(max(0.0, began + OUTAGE - time.monotonic()))
    host.check_output("systemctl start rackloom-log-store.service")
    for name, node in senders.items():
        until(partial(well_again, node), what=f"{name} does not come back")

    before = {name: told_away(node) for name, node in senders.items()}
    began = time.monotonic()
    cut(True)
    for name, node in senders.items():
        until(partial(missed, node, before[name]), what=f"{name} is not cut off")
    kill(senders["three"], away=True)
    time.sleep(max(0.0, began + OUTAGE - time.monotonic()))
    cut(False)
    for name, node in senders.items():
        until(partial(well_again, node), what=f"{name} does not come back")
    senders["four"].check_output("touch %s", f"/run/{mark}")
    assert not done(senders["four"], mark), "all was written before the shipper is killed"
    kill(senders["four"])
    for node in senders.values():
        node.check_output("touch %s", f"/run/{mark}")

    twice = counted(ask, mark, senders)
    assert sum(twice.values()) < LINES * len(SENDERS) // 100, twice
    sys.stdout.write(
        f"of {LINES * len(SENDERS)} lines none is missing; twice: {twice}\n"
    )  # shown by pytest -rP


def test_a_store_that_is_killed_gets_again_what_it_lost(
    host: Host, senders: dict[str, Host], ask: Ask
) -> None:
    mark = f"dead{time.time_ns()}"
    two = {name: senders[name] for name in ("one", "two")}
    seconds = 20
    for node in two.values():
        start(node, mark, seconds / 100)
    arrived = f"{mark} number | stats count() n"

    def there() -> int:
        rows = ask(arrived)
        return int(rows[0]["n"]) if rows else 0

    for share in (0.2, 0.6):
        enough = LINES * len(two) * share
        until(lambda: there() > enough, what="lines do not flow")  # noqa: B023 - called in this very round
        host.check_output("systemctl kill --signal=KILL rackloom-log-store.service")
    twice = counted(ask, mark, two)
    settle = json.loads(two["one"].file("/etc/rackloom/log_shipper/shipper.json").content_string)["settle"]
    most = 2 * (settle + 2) * LINES // seconds + 100
    assert all(count <= most for count in twice.values()), twice
    sys.stdout.write(f"of {LINES * len(two)} lines none is missing; twice: {twice}\n")  # shown by pytest -rP


def test_files_are_read_through_rotation_and_restart(senders: dict[str, Host], ask: Ask) -> None:
    node = senders["three"]
    mark = f"file{time.time_ns()}"
    log = "/var/log/app/app.log"
    node.check_output("for n in 1 2 3; do echo %s line $n JobId=77 >> %s; done", mark, log)
    until(lambda: len(ask(f"{mark} unit:app")) == 3, what="the file is not read")
    node.check_output("systemctl stop rackloom-log-shipper.service")
    node.check_output(
        "echo %s line 4 >> %s; mv %s %s.1; echo %s line 5 >> %s", mark, log, log, log, mark, log
    )
    node.check_output("systemctl start rackloom-log-shipper.service")
    rows: Rows = until(
        lambda: found if len(found := ask(f"{mark} unit:app")) == 5 else [],
        what="what was rotated away is lost",
    )
    assert len({row["_msg"] for row in rows}) == 5
    assert sum(row.get("job_id") == "77" for row in rows) == 3


def test_containers_are_known_by_their_pod(senders: dict[str, Host], ask: Ask) -> None:
    mark = f"pod{time.time_ns()}"
    folder = "/var/log/pods/training_train-0_0f0f0f0f-0000-4000-8000-00000000beef/main"
    line = "2026-01-02T03:04:05.5Z stdout"
    node = senders["one"]
    now = node.check_output("date -u +%Y-%m-%dT%H:%M:%S.5Z")
    line = f"{now} stdout"
    node.check_output(
        "mkdir -p %s; printf '%%s\\n' %s %s >> %s/0.log",
        folder,
        f"{line} P {mark} first",
        f"{line} F , last",
        folder,
    )
    [row] = until(lambda: ask(mark), what="no line of the container")
    assert row["_msg"] == f"{mark} first, last"
    assert (row["namespace"], row["pod"], row["container"], row["stream"]) == (
        "training",
        "train-0",
        "main",
        "stdout",
    )


def test_the_journal_is_kept(senders: dict[str, Host]) -> None:
    """It is the buffer, so it must not be in memory, nor drop what comes fast."""
    for node in senders.values():
        assert node.run("ls /var/log/journal/*/system.journal").rc == 0
        assert "Suppressed" not in node.check_output("journalctl -b -u systemd-journald --no-pager")
