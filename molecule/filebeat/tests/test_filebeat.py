"""What stands in a node's files is at the store, whatever stopped on the way, and says what it says."""

from __future__ import annotations

import json
import sys
import time

import pytest
import testinfra
from log_lines import Ask, asking
from testinfra.host import Host
from waits import until

LINES = 10_000


@pytest.fixture(scope="module", autouse=True)
def _from_the_store(host: Host) -> None:
    """All is looked at from where it arrives."""
    if host.backend.get_hostname() != "logs":
        pytest.skip("the sender")


@pytest.fixture(scope="module")
def sender(host: Host) -> Host:
    return testinfra.get_host("ansible://one", ansible_inventory=host.backend.ansible_inventory)


@pytest.fixture(scope="module")
def ask(host: Host) -> Ask:
    return asking(host)


def arrived(ask: Ask, mark: str) -> tuple[int, int]:
    """Lines, and how many of them differ."""
    [row] = ask(f"{mark} number | stats count() all, count_uniq(_msg) unique") or [{"all": 0, "unique": 0}]
    return int(row["all"]), int(row["unique"])


def test_nothing_is_lost_and_little_comes_twice(host: Host, sender: Host, ask: Ask) -> None:
    mark = f"run{time.time_ns()}"
    path = "/var/log/app/numbers.log"
    sender.check_output(
        "systemd-run --quiet --unit=numbers /srv/numbers.py %s %s %s 0.15", path, mark, str(LINES)
    )
    until(lambda: arrived(ask, mark)[1] > 1000, what="no line came through")
    sender.check_output("systemctl kill --signal=KILL rackloom-filebeat.service")
    until(lambda: arrived(ask, mark)[1] > 4000, what="no line comes after the first kill")
    host.check_output("systemctl stop rackloom-log-store.service")
    sender.check_output("systemctl kill --signal=KILL rackloom-filebeat.service")
    until(
        lambda: sender.run("systemctl is-active --quiet numbers.service").rc != 0,
        what="the writer does not end",
    )
    host.check_output("systemctl start rackloom-log-store.service")
    until(
        lambda: arrived(ask, mark)[1] == LINES,
        what=lambda: f"lines are missing: {arrived(ask, mark)}",
    )
    everything = arrived(ask, mark)[0]
    # A batch of 50 may be under way at the first kill, and one when the store stops.
    assert everything - LINES <= LINES // 100
    sys.stdout.write(
        f"of {LINES} lines none is missing; twice: {everything - LINES}\n"
    )  # shown by pytest -rP


def test_a_line_says_when_it_was_and_of_which_job(sender: Host, ask: Ask) -> None:
    mark = f"job{time.time_ns()}"
    now = sender.check_output("date -u +%Y-%m-%dT%H:%M:%S")
    sender.check_output("echo %s >> /var/log/app/app.log", f"[{now}.123] {mark} JobId=4711 began")
    [row] = until(lambda: ask(mark), what="no line")
    assert row["_msg"] == f"{mark} JobId=4711 began"
    assert row["_time"].startswith(f"{now}.123")
    assert (row["node"], row["unit"], row["job_id"]) == ("one", "app", "4711")
    assert row["file"] == "/var/log/app/app.log"
    assert not [
        name for name in row if name.startswith(("agent", "ecs", "host", "input", "log.", "rackloom"))
    ]


def test_containers_are_known_by_their_pod(sender: Host, ask: Ask) -> None:
    mark = f"pod{time.time_ns()}"
    folder = "/var/log/pods/training_train-0_0f0f0f0f-0000-4000-8000-00000000beef/main"
    now = sender.check_output("date -u +%Y-%m-%dT%H:%M:%S.5Z")
    sender.check_output(
        "mkdir -p %s; printf '%%s\\n' %s %s >> %s/0.log",
        folder,
        f"{now} stdout P {mark} first",
        f"{now} stdout F , last",
        folder,
    )
    [row] = until(lambda: ask(mark), what="no line of the container")
    assert row["_msg"] == f"{mark} first, last"
    assert (row["namespace"], row["pod"], row["container"]) == ("training", "train-0", "main")
    assert row["stream"] == "stdout"


def test_audit_events_are_fields(sender: Host, ask: Ask) -> None:
    name = f"pod{time.time_ns()}"
    now = sender.check_output("date -u +%Y-%m-%dT%H:%M:%S.000000Z")
    event = {
        "auditID": "1", "stage": "ResponseComplete", "verb": "delete", "requestURI": f"/api/v1/pods/{name}",
        "user": {"username": "ada"}, "objectRef": {"namespace": "n", "resource": "pods", "name": name},
        "responseStatus": {"code": 200}, "stageTimestamp": now,
    }  # fmt: skip
    sender.check_output("echo %s >> /var/log/audit.log", json.dumps(event))
    [row] = until(lambda: ask(f"name:{name}"), what="no event")
    assert row["_msg"] == f"delete /api/v1/pods/{name}"
    assert (row["user"], row["verb"], row["code"], row["namespace"]) == ("ada", "delete", "200", "n")


def test_its_password_is_its_own(sender: Host) -> None:
    assert sender.file("/etc/rackloom/filebeat/filebeat.yml").mode == 0o600
    assert "made-up-for-this-test" not in sender.check_output("ps -eo args")
