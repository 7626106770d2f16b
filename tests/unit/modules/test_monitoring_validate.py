"""What is told of Prometheus and Alertmanager, by servers that answer as those do."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.daemons import free_port

RunModule = Callable[..., dict[str, Any]]


def target(job: str, node: str, health: str = "up", error: str = "") -> dict[str, Any]:
    return {"scrapePool": job, "labels": {"node": node, "job": job}, "health": health, "lastError": error}


def value(number: str, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [0, number]}


class Cluster:
    """Both of them in one server, each under its own prefix."""

    def __init__(self) -> None:
        self.targets = [target("node", "m1"), target("node", "c1")]
        self.queries: dict[str, list[dict[str, Any]]] = {
            "probe_success": [value("1", service="dns", node="m1")]
        }
        self.rules: list[dict[str, Any]] = [{"name": "NodeDown", "health": "ok"}]
        self.alertmanagers = 1
        self.peers, self.status = 0, "disabled"
        self.alerts: list[dict[str, Any]] = [{"labels": {"alertname": "DeadMansSwitch"}}]
        self.forward_to = 0
        self.refused = ""
        self.posted: list[dict[str, Any]] = []
        self.passwords: set[str] = set()

    def answer(self, url: str) -> Any:
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        if path.endswith("/api/v1/targets"):
            return {"data": {"activeTargets": self.targets}}
        if path.endswith("/api/v1/query"):
            expression = query["query"][0]
            if expression == self.refused:
                return "refused"
            found = [rows for name, rows in self.queries.items() if expression.startswith(name)]
            return {"data": {"result": found[0] if found else []}}
        if path.endswith("/api/v1/rules"):
            return {"data": {"groups": [{"rules": self.rules}]}}
        if path.endswith("/api/v1/alertmanagers"):
            return {"data": {"activeAlertmanagers": [{"url": "x"}] * self.alertmanagers}}
        if path.endswith("/api/v2/status"):
            return {"cluster": {"status": self.status, "peers": [{}] * self.peers}}
        if path.endswith("/api/v2/alerts"):
            return self.alerts
        return None

    def take(self, alerts: list[dict[str, Any]]) -> None:
        self.posted += alerts
        if self.forward_to and len(self.posted) == 1:
            body = json.dumps({"alerts": alerts}).encode()
            request = urllib.request.Request(f"http://127.0.0.1:{self.forward_to}/", body)
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5).close()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def check_port() -> int:
    return free_port()


@pytest.fixture
def ask(run_module: RunModule, cluster: Cluster, check_port: int) -> Iterator[Callable[..., dict[str, Any]]]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cluster.passwords.add(self.headers["Authorization"])
            self.tell(cluster.answer(self.path))

        def do_POST(self) -> None:
            cluster.take(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.tell({})

        def tell(self, answer: Any) -> None:
            self.send_response(404 if answer is None else 400 if answer == "refused" else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def ask(*parts: str, **more: Any) -> dict[str, Any]:
            url = f"http://127.0.0.1:{server.server_address[1]}"
            given = {part: f"{url}/{part}" for part in parts}
            fixed = {
                "host": "m1",
                "user": "rackloom",
                "password": "word",
                "ca_file": "/nowhere",
                "timeout": 0,
            }
            wanted = {**fixed, "check_port": check_port, "alertmanagers": 1, **given, **more}
            return run_module("monitoring_validate", **wanted)

        yield ask
        server.shutdown()


def verdicts(told: dict[str, Any]) -> dict[str, tuple[bool, str]]:
    return {check["name"]: (check["ok"], check["detail"]) for check in told["rackloom_checks"]}


def test_all_is_well(ask: Any, cluster: Cluster) -> None:
    told = ask("prometheus", targets={"node": ["m1", "c1"], "blackbox": []})
    assert all(check["ok"] for check in told["rackloom_checks"]), told
    assert verdicts(told)["targets of node, seen by m1"] == (True, "2 of 2 up")
    assert len(cluster.passwords) == 1
    assert not told["changed"]


def test_what_does_not_answer_is_named(ask: Any, cluster: Cluster) -> None:
    cluster.targets[1] = target("node", "c1", "down", "connection refused")
    told = ask("prometheus", targets={"node": ["m1", "c1", "c2"]})
    assert verdicts(told)["targets of node, seen by m1"] == (
        False,
        "c1: connection refused, c2: no target",
    )


def test_a_target_of_no_node_is_known_by_its_address(ask: Any, cluster: Cluster) -> None:
    cluster.targets = [
        {"scrapePool": "ups", "labels": {"instance": "ups:1"}, "health": "up", "lastError": ""}
    ]
    assert verdicts(ask("prometheus", targets={"ups": ["ups:1"]}))["targets of ups, seen by m1"][0]


def test_a_thousand_that_are_down_fit_into_a_line(ask: Any, cluster: Cluster) -> None:
    cluster.targets = []
    told = ask("prometheus", targets={"node": [f"c{number:04}" for number in range(1000)]})
    detail = verdicts(told)["targets of node, seen by m1"][1]
    assert detail.endswith("and 992 more")
    assert len(detail) < 300


@pytest.mark.parametrize(
    ("change", "check", "says"),
    [
        ({"queries": {"probe_success": [value("0", service="dns", node="m1")]}}, "services", "dns on m1"),
        ({"queries": {"probe_success": []}}, "services", "nothing has been knocked at"),
        ({"rules": [{"name": "A", "health": "err", "lastError": "many"}]}, "rules", "A: many"),
        ({"rules": []}, "rules", "no rules"),
        (
            {"queries": {"probe_success": [value("1")], "prometheus_config_last": [value("0", node="m1")]}},
            "rules",
            "not taken",
        ),
        ({"alertmanagers": 0}, "alertmanagers", "0 of 1"),
        (
            {
                "queries": {
                    "probe_success": [value("1")],
                    "sum by (integration)": [value("2", integration="email")],
                }
            },
            "alertmanagers",
            "email failed",
        ),
    ],
)
def test_trouble_of_prometheus(
    ask: Any, cluster: Cluster, change: dict[str, Any], check: str, says: str
) -> None:
    for name, new in change.items():
        setattr(cluster, name, new)
    told = verdicts(ask("prometheus", targets={"ping": []}))
    bad = {name: detail for name, (ok, detail) in told.items() if not ok and name.startswith(check)}
    assert len(bad) == 1, told
    assert says in next(iter(bad.values()))


QUERY = {"name": "node: CPU", "expr": "node_cpu", "quiet": False}


def test_what_dashboards_ask(ask: Any, cluster: Cluster) -> None:
    cluster.queries["node_cpu"] = [value("1")]
    told = verdicts(ask("prometheus", queries=[QUERY, {"name": "x: Trouble", "expr": "bad", "quiet": True}]))
    assert told["dashboards, asked of m1"] == (True, "2 queries")


def test_a_dashboard_without_an_answer_is_named(ask: Any, cluster: Cluster) -> None:
    told = verdicts(ask("prometheus", queries=[QUERY, {**QUERY, "name": "node: Load"}]))
    assert told["dashboards, asked of m1"] == (False, "no answer: node: CPU, node: Load")


def test_a_query_that_is_refused_is_named_however_quiet(ask: Any, cluster: Cluster) -> None:
    cluster.queries["node_cpu"] = [value("1")]
    cluster.refused = "rate(up)"
    told = verdicts(ask("prometheus", queries=[QUERY, {"name": "x: Y", "expr": "rate(up)", "quiet": True}]))
    ok, detail = told["dashboards, asked of m1"]
    assert not ok
    assert "400" in detail
    assert "x: Y" in detail
    assert "node: CPU" not in detail


def test_an_alert_that_comes_out_again(ask: Any, cluster: Cluster, check_port: int) -> None:
    cluster.forward_to = check_port
    told = verdicts(ask("alertmanager"))
    assert all(ok for ok, _ in told.values()), told
    sent, ended = cluster.posted
    assert sent["labels"]["alertname"] == "RackloomCheck"
    assert sent["labels"] == ended["labels"]
    assert ended["endsAt"] < sent["endsAt"]


def test_an_alert_that_gets_lost(ask: Any, cluster: Cluster) -> None:
    ok, detail = verdicts(ask("alertmanager"))["an alert through m1"]
    assert not ok
    assert "did not arrive" in detail
    assert len(cluster.posted) == 2, "it is taken back all the same"


def test_a_port_that_is_taken(ask: Any, check_port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", check_port))
        taken.listen()
        ok, detail = verdicts(ask("alertmanager"))["an alert through m1"]
    assert not ok
    assert f"port {check_port}" in detail


def test_nothing_came_from_prometheus(ask: Any, cluster: Cluster) -> None:
    cluster.alerts = []
    assert not verdicts(ask("alertmanager"))["alerts from prometheus to m1"][0]


@pytest.mark.parametrize(
    ("peers", "status", "ok"), [(2, "ready", True), (1, "ready", False), (2, "settling", False)]
)
def test_peers(ask: Any, cluster: Cluster, peers: int, status: str, ok: bool) -> None:
    cluster.peers, cluster.status = peers, status
    assert verdicts(ask("alertmanager", alertmanagers=2))["peers of m1"][0] is ok


def test_strict_fails_with_all_that_is_bad(ask: Any, cluster: Cluster) -> None:
    cluster.rules, cluster.alertmanagers = [], 0
    told = ask("prometheus", strict=True)
    assert told["failed"]
    assert "no rules" in told["msg"]
    assert "0 of 1" in told["msg"]


def test_a_server_that_is_not_there(run_module: RunModule, check_port: int) -> None:
    told = run_module(
        "monitoring_validate",
        host="m1",
        prometheus=f"http://127.0.0.1:{check_port}/prometheus",
        user="u",
        password="p",
        ca_file="/nowhere",
        timeout=0,
    )
    assert all("refused" in check["detail"] for check in told["rackloom_checks"])
