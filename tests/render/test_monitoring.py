"""What Prometheus, Alertmanager and the prober are given follows from the site, and the programs themselves take it."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from tests.daemons import free_port
from tests.tools import tool

from rackloom.site import load_site
from rackloom.site.inventory import build

ROOT = Path(__file__).parents[2]
CLUSTER = """
name: demo
domain: demo.example
networks:
  cluster: {cidr: 192.168.0.0/16}
services: {prometheus: [m1, m2], kube_control_plane: [m1], kube_node: [c2]}
monitoring:
  retention: {time: 30d, size: 50G}
  address: https://door.example
  scrape_interval: 15s
  smtp: {host: "mail.example:587", sender: alerts@site.example, user: us, secret: alert_mail}
  receivers:
    - {name: oncall, pagerduty: {secret: alert_pagerduty}}
    - name: team
      slack: {channel: "#cluster", secret: alert_slack}
      email: {to: [a@site.example, b@site.example]}
    - {name: program, webhook: {url: "https://hook.example/x"}, resolved: false}
    - {name: hidden, webhook: {secret: alert_hook, ca: /etc/ssl/own.pem}}
    - {name: watch, webhook: {url: "https://watch.example/"}}
  receiver: team
  dead_man: watch
  routes:
    - {receiver: oncall, severity: critical, wait: 10s, repeat: 1h, go_on: true}
    - {receiver: program, match: {service: slurmctld}}
    - {receiver: hidden, severity: [warning, info], match: {role: "odd \\"role\\""}}
  jobs:
    - {name: ups, targets: "ups.example:9199", labels: {room: a}}
    - name: chiller
      targets: ["[2001:db8::1]:80"]
      scheme: https
      path: /m
      user: me
      secret: alert_chiller
      interval: 5s
    - {name: cloud, targets: "cloud.example:443", scheme: https, secret: alert_token, ca: /etc/ssl/own.pem}
  remote_write:
    - {url: "https://far.example/write", user: us, secret: alert_store}
    - {url: "https://farther.example/write", secret: alert_store, ca: /etc/ssl/own.pem}
    - {url: "http://near.example/write"}
"""
NODES = """
profiles: {cpu: {cores: 2, memory: 4000}}
management: [{name: "m[1-2]", address: 192.168.0.11}]
login: [{name: l1, address: 192.168.0.21}]
compute: [{name: "c[1-2]", address: 192.168.1.1, profile: cpu}]
"""
SMALL = """
name: demo
domain: demo.example
networks:
  cluster: {cidr: 192.168.0.0/16}
monitoring: {}
"""
SECRETS = {name: f"made-up-{name}" for name in ("alert_mail", "alert_pagerduty")} | {
    name: f"https://{name}.example/token" for name in ("alert_slack", "alert_hook")
}
Render = Callable[..., str]


@pytest.fixture
def given(tmp_path: Path) -> Callable[[str, str], dict[str, Any]]:
    """Inputs of a role on one host, as the inventory lays them over each other."""

    # Charts of Kubernetes with digests, which the toolkit's own records lack.
    shutil.copy(ROOT / "tests" / "unit" / "site" / "good" / "versions.yml", tmp_path)

    def given(cluster: str, host: str = "m1") -> dict[str, Any]:
        (tmp_path / "cluster.yml").write_text(cluster)
        (tmp_path / "nodes.yml").write_text(NODES)
        inventory = build(load_site(tmp_path))
        told = dict(inventory.vars["all"])
        for group in inventory.hostvars[host]["rackloom_roles"]:
            told |= inventory.vars.get(group, {})
        return told | inventory.hostvars[host]

    return given


def render(role: str, template: str, variables: dict[str, Any]) -> str:
    """A template of a role with its defaults and its own variables, as the role would."""
    folder = ROOT / "roles" / role
    loader = DataLoader()
    known: dict[str, Any] = {"role_path": str(folder), "ansible_facts": {"os_family": "Debian"}}
    for part in ("defaults", "vars"):
        known |= loader.load_from_file(str(folder / part / "main.yml"), trusted_as_template=True) or {}
    templar = Templar(loader=loader, variables={**known, **variables})
    text = (folder / "templates" / template).read_text()
    blocks = {"trim_blocks": True, "lstrip_blocks": True}
    return str(templar.template(trust_as_template(text), overrides=blocks))


def prometheus(given: dict[str, Any]) -> str:
    own = {"prometheus_address": given["rackloom_address"], "prometheus_name": "m1"}
    return render("prometheus", "prometheus.yml.j2", {**given, **own})


def alertmanager(given: dict[str, Any], **more: Any) -> str:
    own = {"alertmanager_address": given["rackloom_address"], "alertmanager_name": "m1"}
    return render(
        "alertmanager", "alertmanager.yml.j2", {**given, **own, "alertmanager_secrets": SECRETS, **more}
    )


def complaint(*argv: object) -> str:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("cluster", [CLUSTER, SMALL])
def test_prometheus_takes_it(given: Any, tmp_path: Path, cluster: str) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(prometheus(given(cluster)))
    check = (tool("prometheus", "promtool"), "check", "config", "--syntax-only")
    assert complaint(*check, file) == ""
    file.write_text(file.read_text().replace("external_labels", "eternal_labels"))
    assert "eternal_labels" in complaint(*check, file)


def test_jobs_are_asked_as_the_site_says(given: Any) -> None:
    told = yaml.safe_load(prometheus(given(CLUSTER)))
    jobs = {job["job_name"]: job for job in told["scrape_configs"]}
    assert jobs["node"]["basic_auth"]["username"] == "prometheus"
    assert jobs["prometheus"]["basic_auth"]["username"] == "rackloom"
    assert jobs["kubelet"]["tls_config"]["cert_file"].endswith("kubernetes.crt")
    assert "basic_auth" not in jobs["kubelet"]
    assert jobs["slurm"]["honor_labels"] is True
    assert jobs["ups"]["scheme"] == "http"
    assert "tls_config" not in jobs["ups"]
    assert jobs["chiller"]["scrape_timeout"] == jobs["chiller"]["scrape_interval"] == "5s"
    assert jobs["cloud"]["authorization"]["credentials_file"].endswith("secrets/alert_token")
    assert jobs["ping"]["params"] == {"module": ["icmp"]}
    assert "params" not in jobs["blackbox"]
    assert told["global"]["external_labels"] == {"cluster": "demo", "replica": "m1"}
    [alerts] = told["alerting"]["alertmanagers"]
    assert alerts["static_configs"] == [{"targets": ["192.168.0.11:9093", "192.168.0.12:9093"]}]
    assert set(told["rule_files"]) == {
        f"/etc/prometheus/rackloom/rules/{path.name}"
        for path in (ROOT / "roles" / "prometheus" / "files" / "rules").glob("*.yml")
    }
    assert "made-up" not in json.dumps(told)


@pytest.mark.parametrize("cluster", [CLUSTER, SMALL])
def test_alertmanager_takes_it(given: Any, tmp_path: Path, cluster: str) -> None:
    file = tmp_path / "alertmanager.yml"
    file.write_text(alertmanager(given(cluster)))
    assert complaint(tool("prometheus-alertmanager", "amtool"), "check-config", file) == ""
    file.write_text(
        file.read_text().replace("receiver: nobody", "receiver: anybody").replace("name: team", "name: tame")
    )
    assert "undefined receiver" in complaint(tool("prometheus-alertmanager", "amtool"), "check-config", file)


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ({"alertname": "NodeDown", "severity": "critical"}, "oncall"),
        ({"alertname": "X", "severity": "critical", "service": "slurmctld"}, "oncall,program"),
        ({"alertname": "X", "severity": "warning"}, "team"),
        ({"alertname": "X", "severity": "info", "role": 'odd "role"'}, "hidden"),
        ({"alertname": "DeadMansSwitch", "severity": "none"}, "watch"),
        ({"alertname": "RackloomCheck", "severity": "info"}, "rackloom-check"),
    ],
)
def test_alerts_go_where_the_site_says(
    given: Any, tmp_path: Path, labels: dict[str, str], receivers: str
) -> None:
    file = tmp_path / "alertmanager.yml"
    file.write_text(alertmanager(given(CLUSTER)))
    words = [f"{key}={json.dumps(value)}" for key, value in labels.items()]
    argv = [tool("prometheus-alertmanager", "amtool"), "config", "routes", "test", f"--config.file={file}"]
    assert complaint(*argv, f"--verify.receivers={receivers}", *words) == ""
    assert complaint(*argv, "--verify.receivers=nobody", *words) != ""


def test_the_prober_takes_it(tmp_path: Path) -> None:
    modules = yaml.safe_load((ROOT / "roles/blackbox_exporter/vars/main.yml").read_text())
    file = tmp_path / "blackbox.yml"
    file.write_text(yaml.safe_dump({"modules": modules["__blackbox_exporter_modules"]}))
    program = tool("prometheus-blackbox-exporter", "prometheus-blackbox-exporter")
    check = (program, "--config.check", f"--config.file={file}")
    assert complaint(*check) == ""
    file.write_text(file.read_text().replace("prober: icmp", "probe: icmp"))
    assert complaint(*check) != ""


def test_kubernetes_takes_what_prometheus_may_see(api: Any) -> None:
    text = render("prometheus", "kubernetes.yml.j2", {})
    objects = list(yaml.safe_load_all(text))
    assert [each["kind"] for each in objects] == ["ClusterRole", "ClusterRoleBinding"]
    assert [api.trouble(each) for each in objects] == ["", ""]
    role, binding = objects
    # Whoever has Prometheus' certificate can read numbers, and change nothing.
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get"}
    told = yaml.safe_load((ROOT / "roles/prometheus/vars/main.yml").read_text())
    assert f"'{binding['subjects'][0]['name']}'" in told["__prometheus_kubernetes_identity"]


# ------------------------------------------------------------ a real Alertmanager


def await_that(what: str, done: Callable[[], Any], seconds: float = 180) -> Any:
    end = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return found


@contextmanager
def catching() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """A receiver of webhooks, and all alerts that it was told."""
    caught: list[dict[str, Any]] = []

    class Catcher(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            caught.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Catcher) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1]), caught
        server.shutdown()


class Alertmanager:
    """A living one, without a cluster."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", data, headers)  # noqa: S310 - our own
        with self.opener.open(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def lives(self) -> bool:
        try:
            return bool(self.ask("/api/v2/status"))
        except OSError:
            return False

    def fire(self, *alerts: dict[str, str]) -> None:
        self.ask("/api/v2/alerts", [{"labels": {"cluster": "demo", **labels}} for labels in alerts])

    def states(self) -> dict[str, str]:
        return {
            f"{alert['labels']['alertname']} {alert['labels'].get('node', '')}".strip(): alert["status"][
                "state"
            ]
            for alert in self.ask("/api/v2/alerts")
        }


@contextmanager
def living(folder: Path, text: str) -> Iterator[Alertmanager]:
    (folder / "alertmanager.yml").write_text(text)
    program = tool("prometheus-alertmanager", "prometheus-alertmanager")
    port = free_port()
    argv = [str(program), f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/state"]
    argv += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            it = Alertmanager(f"http://127.0.0.1:{port}")
            await_that("Alertmanager answers", it.lives)
            yield it
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.fixture
def site_alertmanager(given: Any, tmp_path: Path) -> Iterator[tuple[Alertmanager, list[dict[str, Any]]]]:
    with catching() as (port, caught):
        told = given(SMALL)
        told["alertmanager_receivers"] = [
            {
                "name": "catcher",
                "resolved": True,
                "webhook": {"url": f"http://127.0.0.1:{port}/", "secret": "", "ca": ""},
            }
        ]
        told["alertmanager_receiver"] = "catcher"
        told["alertmanager_routes"] = [
            {"receiver": "catcher", "severity": ["critical", "warning"], "wait": "1s", "interval": "1s"}
        ]
        with living(tmp_path, alertmanager(told)) as it:
            yield it, caught


def names(caught: list[dict[str, Any]]) -> list[str]:
    return sorted(
        f"{told['labels']['alertname']} {told['labels'].get('node', '')}".strip() for told in caught
    )


def node(name: str, alert: str, severity: str = "critical", **labels: str) -> dict[str, str]:
    return {"alertname": alert, "node": name, "severity": severity, **labels}


def test_a_dead_node_is_one_page(site_alertmanager: tuple[Alertmanager, list[dict[str, Any]]]) -> None:
    it, caught = site_alertmanager
    it.fire(
        node("c1", "NodeDown"),
        node("c1", "ExporterSilent", "warning"),
        node("c1", "SlurmNodeDown", "warning"),
        node("c2", "DiskFull"),
    )
    await_that("two are told", lambda: len(caught) >= 2)
    assert it.states() == {
        "NodeDown c1": "active",
        "ExporterSilent c1": "suppressed",
        "SlurmNodeDown c1": "suppressed",
        "DiskFull c2": "active",
    }
    assert names(caught) == ["DiskFull c2", "NodeDown c1"]


def test_a_dead_switch_is_one_page(site_alertmanager: tuple[Alertmanager, list[dict[str, Any]]]) -> None:
    it, caught = site_alertmanager
    dead = [node(f"c{number}", "NodeDown", switch="leaf1") for number in range(1, 41)]
    it.fire(
        {"alertname": "SwitchDown", "severity": "critical", "switch": "leaf1"},
        *dead,
        node("c1", "UnitFailed", "warning", switch="leaf1"),
        node("c50", "NodeDown", switch="leaf2"),
    )
    await_that("two are told", lambda: len(caught) >= 2)
    assert names(caught) == ["NodeDown c50", "SwitchDown"]
    assert sorted(it.states().values()) == ["active"] * 2 + ["suppressed"] * 41


def test_what_is_critical_is_not_warned_of(
    site_alertmanager: tuple[Alertmanager, list[dict[str, Any]]],
) -> None:
    it, caught = site_alertmanager
    it.fire(
        node("c1", "DiskFull", mountpoint="/", about="disk"),
        node("c1", "DiskWillFill", "warning", mountpoint="/", about="disk"),
        node("c1", "DiskWillFill", "warning", mountpoint="/scratch", about="disk"),
    )
    await_that("two are told", lambda: len(caught) >= 2)
    assert sorted(told["labels"]["mountpoint"] for told in caught) == ["/", "/scratch"]
    assert names(caught) == ["DiskFull c1", "DiskWillFill c1"]
