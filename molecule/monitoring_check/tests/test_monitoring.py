"""A pair that watches a third node is asked for what it saw, and a real receiver for what it was told."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

SCRATCH = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
HERE = Path(__file__).parents[1]
SITE = json.loads((SCRATCH / "secrets.json").read_text())
PATIENCE = 180


def await_that(what: str, done: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := done()):
        assert time.monotonic() < end, f"not within {PATIENCE} s: {what}"
        time.sleep(0.2)
    return found


def machine(request: pytest.FixtureRequest, name: str) -> Host:
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=request.config.option.ansible_inventory)


@pytest.fixture
def one(request: pytest.FixtureRequest) -> Host:
    return machine(request, "one")


@pytest.fixture
def two(request: pytest.FixtureRequest) -> Host:
    return machine(request, "two")


@pytest.fixture
def cn1(request: pytest.FixtureRequest) -> Host:
    return machine(request, "cn1")


def address(host: Host) -> str:
    return str(host.ansible.get_variables()["rackloom_address"])


def ask(url: str, user: str = "rackloom", password: str = SITE["monitoring_web_password"]) -> Any:
    """What a service answers to this machine, which trusts the site's authority and nobody else."""
    context = ssl.create_default_context(cadata=SITE["ca_certificate"])
    request = urllib.request.Request(url)  # noqa: S310 - a daemon of the scenario
    if user:
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    with opener.open(request, timeout=60) as answer:
        return answer.read().decode()


def query(host: Host, expression: str) -> list[dict[str, Any]]:
    given = urllib.request.quote(expression)  # type: ignore[attr-defined]
    text = ask(f"https://{address(host)}:9090/prometheus/api/v1/query?query={given}")
    found: list[dict[str, Any]] = json.loads(text)["data"]["result"]
    return found


def ready(host: Host) -> bool:
    try:
        return "Ready" in ask(f"https://{address(host)}:9090/prometheus/-/ready")
    except OSError:
        return False


def loaded_at(host: Host) -> str:
    """When it read its configuration, as it says itself: what it has kept may be of an earlier process."""
    name = "prometheus_config_last_reload_success_timestamp_seconds "
    said = ask(f"https://{address(host)}:9090/prometheus/metrics").splitlines()
    return str(next(line.removeprefix(name) for line in said if line.startswith(name)))


def caught(cn1: Host, name: str = "QuickDown") -> list[dict[str, Any]]:
    text = cn1.run("cat /root/caught").stdout
    return [told for told in map(json.loads, text.splitlines()) if told["labels"]["alertname"] == name]


@contextmanager
def silent(cn1: Host) -> Iterator[None]:
    cn1.check_output("systemctl stop prometheus-node-exporter")
    try:
        yield
    finally:
        cn1.check_output("systemctl start prometheus-node-exporter")


def apply(host: str, **more: object) -> subprocess.CompletedProcess[str]:
    argv = ["ansible-playbook", "-i", str(SCRATCH / "inventory"), str(HERE / "converge.yml"), "--limit", host]
    return subprocess.run([*argv, "-e", json.dumps(more)], check=False, capture_output=True, text=True)


def pid(host: Host) -> str:
    return host.check_output("systemctl show -p MainPID --value prometheus")


def test_nobody_gets_in_without_a_password(one: Host, cn1: Host) -> None:
    ports = {
        f"https://{address(cn1)}:9100/metrics": ("prometheus", SITE["monitoring_scrape_password"]),
        f"https://{address(cn1)}:9256/metrics": ("prometheus", SITE["monitoring_scrape_password"]),
        f"https://{address(one)}:9090/prometheus/metrics": ("rackloom", SITE["monitoring_web_password"]),
        f"https://{address(one)}:9093/alertmanager/metrics": ("rackloom", SITE["monitoring_web_password"]),
    }
    for url, known in ports.items():
        assert "# HELP" in ask(url, *known)
        for user, word in (
            ("", ""),
            ("prometheus", SITE["monitoring_web_password"]),
            ("rackloom", SITE["monitoring_scrape_password"]),
        ):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                ask(url, user, word)
    assert one.run(f"timeout 5 bash -c '</dev/tcp/{address(one)}/9115'").rc != 0, "the prober listens outside"


def test_members_talk_with_certificates(one: Host, cn1: Host) -> None:
    """Without one of the site's, nobody joins the Alertmanagers."""
    script = (
        "import ssl,socket;"
        "c=ssl.create_default_context(cafile='/etc/rackloom/exporter.crt');c.check_hostname=False;"
        "c.verify_mode=ssl.CERT_NONE;"
        f"s=c.wrap_socket(socket.create_connection(('{address(one)}',9094),60));"
        "s.send(b'x'*64);s.settimeout(60);print(s.recv(1))"
    )
    said = cn1.run(f'python3 -c "{script}"')
    assert said.rc != 0
    assert "certificate" in said.stderr, said.stderr


def test_programs_are_counted_and_nothing_else_is_seen(one: Host, cn1: Host) -> None:
    """Their files too, though they are another's; and the one who counts sees neither disks nor secrets."""
    name = 'namedprocess_namegroup_open_filedesc{node="one", groupname="alertmanager"}'
    [files] = await_that("files of Alertmanager", lambda: query(one, f"{name} > 5"))
    limit = one.check_output("systemctl show -P LimitNOFILESoft prometheus-alertmanager")
    [share] = query(one, name.replace("open_filedesc", "worst_fd_ratio"))
    assert 0 < float(share["value"][1]) <= 2 * float(files["value"][1]) / int(limit)
    counted = {row["metric"]["groupname"] for row in query(one, "namedprocess_namegroup_num_procs > 0")}
    assert {"sshd", "prometheus", "alertmanager", "exporters", "system"} <= counted
    [system] = query(one, 'namedprocess_namegroup_open_filedesc{node="one", groupname="system"}')
    assert float(system["value"][1]) > 0, "files of root's programs are not counted"
    assert not query(one, 'go_goroutines{job="process"}'), "it is dropped"
    who = cn1.check_output("systemctl show -P MainPID prometheus-process-exporter")
    seen = cn1.check_output(
        "ls /proc/%s/root /proc/%s/root/etc /proc/%s/root/etc/rackloom", who, who, who
    ).split()
    assert "processes.yml" in seen
    assert not {"root", "home", "var", "passwd", "shadow", "node-metrics.json"} & set(seen), seen
    assert cn1.check_output("ps -o euser= -p %s", who).strip() == "prometheus"
    told = cn1.check_output("grep CapBnd /proc/%s/status", who).split()[1]
    assert int(told, 16) == 1 << 2, "it may look into folders, and nothing else"


def test_peoples_programs_are_one_group(one: Host, cn1: Host) -> None:
    cn1.check_output("useradd -M -u 2001 somebody")
    cn1.check_output("systemd-run --uid=2001 --unit=work sleep 600")
    try:
        wanted = 'namedprocess_namegroup_num_procs{node="cn1", groupname="users"} >= 1'
        await_that("the user's program", lambda: query(one, wanted))
    finally:
        cn1.check_output("systemctl stop work; userdel somebody")


def test_collectors_wait_for_hardware_that_is_not_there(cn1: Host) -> None:
    """A machine without NVMe, or whose BMC is not seen yet, is none where something failed."""
    names = [f"prometheus-node-exporter-{name}" for name in ("smartmon", "nvme", "ipmitool-sensor")]
    for name in names:
        assert cn1.check_output("systemctl show -P ActiveState %s.timer", name) == "active"
    # A container sees this machine's devices: what there is of it is looked at.
    cn1.check_output("systemctl start " + " ".join(f"{name}.service" for name in names))
    failed = cn1.check_output("systemctl list-units --state=failed --plain --no-legend")
    assert not [name for name in names if name in failed]


def test_what_a_timer_writes_is_asked_too(one: Host) -> None:
    backups = 'rackloom_backup_newest_timestamp_seconds{backup="etcd"}'

    def all_three() -> list[dict[str, Any]]:
        rows = query(one, backups)
        return rows if {row["metric"]["node"] for row in rows} == {"one", "two", "cn1"} else []

    rows = await_that("backups of all three", all_three)
    assert {row["value"][1] for row in rows} == {"0"}
    size = 'rackloom_volume_size_bytes{node="cn1",volume="metrics"}'
    [told] = await_that("the size of a volume", lambda: query(one, size))
    assert int(told["value"][1]) > 0


def test_a_silent_node_is_told_once_and_so_is_its_return(one: Host, two: Host, cn1: Host) -> None:
    cn1.run("rm -f /root/caught")

    def statuses() -> list[str]:
        return [told["status"] for told in caught(cn1)]

    for _ in range(2):
        seen = statuses().count("firing")
        with silent(cn1):
            await_that("told of it", partial(lambda seen: statuses().count("firing") > seen, seen))
            for host in (one, two):
                await_that("the alert", partial(query, host, 'ALERTS{alertname="QuickDown"}'))
        await_that("told of its return", lambda: statuses()[-1] == "resolved")
    told = caught(cn1)
    # What a second Alertmanager had to say of the first time would be here since the second: never twice the same. A
    # busy machine's exporter may be slow to come back and be missed once more.
    assert len(told) >= 4
    assert [alert["status"] for alert in told] == ["firing", "resolved"] * (len(told) // 2)
    assert {alert["labels"]["node"] for alert in told} == {"cn1"}
    assert all("replica" not in alert["labels"] for alert in told)
    assert told[0]["annotations"] == {
        "summary": "cn1 does not answer",
        "runbook_url": "https://127.0.0.1/runbooks/node-down.md",
    }
    assert told[0]["path"] == "/token"


def test_one_of_the_pair_is_enough(one: Host, two: Host, cn1: Host) -> None:
    cn1.run("rm -f /root/caught")
    units = "prometheus prometheus-alertmanager"
    one.check_output(f"systemctl kill --signal=KILL {units}; systemctl stop {units}")

    def heard() -> list[str]:
        # Who is killed after telling, and before saying so to the other, leaves it to tell again: the return of an
        # alert that was before this one may be heard late.
        told = [alert["status"] for alert in caught(cn1)]
        return told[told.index("firing") :] if "firing" in told else []

    try:
        with silent(cn1):
            await_that("told of it", heard)
            assert heard() == ["firing"]
        await_that("told of its return", lambda: heard()[-1] == "resolved")
        # never twice the same; a busy machine's exporter may be slow to come back and be missed once more
        assert heard() == ["firing", "resolved"] * (len(heard()) // 2)
    finally:
        one.check_output(f"systemctl start {units}")
    await_that("it reads what it has kept", lambda: ready(one))
    await_that("both are back", lambda: len(query(two, 'up{job="prometheus"} == 1')) == 2)
    await_that("it asks again", lambda: len(query(one, 'up{job="prometheus"} == 1')) == 2)


def test_a_new_target_needs_no_reload(one: Host) -> None:
    before = pid(one)
    loaded = loaded_at(one)
    variables = one.ansible.get_variables()
    targets = {
        **variables["prometheus_targets"],
        "ping": [{"targets": ["127.0.0.1"], "labels": {"node": "new"}}],
    }
    expected = {**variables["monitoring_check_targets"], "ping": ["new"]}
    done = apply("one", prometheus_targets=targets, monitoring_check_targets=expected)
    assert done.returncode == 0, done.stdout
    await_that("it answers", lambda: query(one, 'probe_success{job="ping",node="new"} == 1'))
    assert pid(one) == before
    after = loaded_at(one)
    assert after == loaded


def test_a_rule_that_is_wrong_changes_nothing(one: Host) -> None:
    before = (pid(one), one.check_output("find /etc/prometheus -type f -exec sha256sum {} + | sort"))
    done = apply("one", prometheus_rules=[str(HERE / "files" / "broken.yml")])
    assert done.returncode != 0
    assert "broken.yml" in done.stdout
    assert "refused" in done.stdout
    assert before == (pid(one), one.check_output("find /etc/prometheus -type f -exec sha256sum {} + | sort"))


def test_no_room_is_said_before_anything_is_done(one: Host) -> None:
    before = pid(one)
    done = apply("one", prometheus_port=22, prometheus_retention={"time": "15d", "size": "900T"})
    assert done.returncode != 0
    assert "Port 22 is taken by sshd" in done.stdout
    assert "900T" in done.stdout
    assert pid(one) == before
