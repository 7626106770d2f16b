"""What is measured and what is logged, on a closed site with Slurm and Kubernetes out of one bundle.

The tests run in this order, on one lab. One management node is the control plane, behind an address of its own so that
HAProxy is there too; gpu01 serves Kubernetes and gpu02 Slurm.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import re
import ssl
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackloom.dashboards import DASHBOARDS, Dashboard
from rackloom.site import secrets

from .conftest import ROOT
from .test_kubernetes import KubeLab

STAGES = "mirror,base,gpu,slurm,kubernetes,monitoring,logging"
PORT = 8099
ENDPOINT = 10
"""The address of the cluster's network that no node of a lab has."""
RECORDED = ROOT / "tests" / "data" / "metrics"
REPLAYED = "/var/lib/prometheus/node-exporter/replayed.prom"
HEALTH = "/var/lib/prometheus/node-exporter/rackloom_gpu.prom"
PATIENCE = 300
CATCHER = f"""
import http.server
class Catcher(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open("/var/tmp/pages", "ab") as file:
            file.write(body + b"\\n")
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("", {PORT}), Catcher).serve_forever()
"""


class SeenLab(KubeLab):
    """A closed lab with everything that looks at it."""

    name = "seen"
    config = ROOT / ".lab" / "seen" / "config"
    os = "debian-12"

    @cached_property
    def prometheus(self) -> tuple[str, dict[str, str], urllib.request.OpenerDirector]:
        """Where it is, what opens it, and who trusts the site's authority alone."""
        kept = secrets.load(self.config)
        nodes = self.call("lab", "status", "--name", self.name).must().data["nodes"]
        [address] = [node["address"] for node in nodes if node["name"] == "mgmt01"]
        word = base64.b64encode(f"rackloom:{kept['monitoring_web_password']}".encode()).decode()
        context = ssl.create_default_context(cadata=kept["ca_certificate"])
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        return f"https://{address}:9090/prometheus/api/v1", {"Authorization": f"Basic {word}"}, opener

    def told_by_prometheus(self, path: str, **words: str) -> Any:
        """What Prometheus answers."""
        url, headers, opener = self.prometheus
        place = f"{url}/{path}?{urllib.parse.urlencode(words)}"
        request = urllib.request.Request(place, headers=headers)  # noqa: S310 - a daemon of the lab
        with opener.open(request, timeout=30) as answer:
            return json.load(answer)["data"]

    def rows(self, expr: str) -> list[dict[str, Any]]:
        """What it knows now."""
        found: list[dict[str, Any]] = self.told_by_prometheus("query", query=expr)["result"]
        return found

    def pages(self) -> list[dict[str, Any]]:
        """What the receiver was told."""
        said = self.ssh("login01", "cat /var/tmp/pages 2>/dev/null || true")
        return [json.loads(line) for line in said.splitlines() if line.startswith("{") and line.endswith("}")]

    def told(self, name: str, status: str) -> list[dict[str, Any]]:
        """Messages about an alert."""
        return [
            alert
            for page in self.pages()
            for alert in page["alerts"]
            if alert["labels"]["alertname"] == name and alert["status"] == status
        ]


def say(text: str) -> None:
    """A figure for who reads the log."""
    print(f"\n    {text}", flush=True)


@pytest.fixture(scope="module")
def seen(versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeenLab]:
    """A site with all of it, deployed."""
    lab = SeenLab()
    try:
        lab.fresh("--closed", "--kubernetes", "--management", "1", "--compute", "2", "--no-deploy")
        path = lab.config / "cluster.yml"
        data = yaml.safe_load(path.read_text())
        data["monitoring"] = {
            "scrape_interval": "10s",
            "receivers": [{"name": "oncall", "webhook": {"url": f"http://login01:{PORT}/"}}],
            # Word that something is over would come after five minutes.
            "routes": [{"receiver": "oncall", "wait": "5s", "interval": "10s"}],
        }
        data["logging"] = {"retention": {"time": "7d"}}
        network = ipaddress.ip_network(data["networks"]["cluster"]["cidr"])
        data["kubernetes"]["endpoint"] = {"address": str(network[ENDPOINT])}
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        folder = tmp_path_factory.mktemp("disk") / "bundle"
        words = ("-o", str(folder), "--os", lab.os, "--stages", STAGES, "--versions", str(versions))
        lab.call("bundle", "create", *words).must()
        lab.call("bundle", "install", str(folder)).must()
        lab.ssh("login01", f"systemd-run --unit=catcher python3 -c '{CATCHER}'")
        answer = lab.call("deploy").must()
        say(f"deployed in {answer.seconds:.0f} s: {answer.data['counts']}")
        yield lab
    finally:
        if not os.environ.get("RACKLOOM_E2E_KEEP"):
            lab.call("lab", "down", "--name", lab.name)


def test_everything_that_should_be_measured_is(seen: SeenLab) -> None:
    answer = seen.call("validate", "monitoring").must()
    for check in answer.data["checks"]:
        say(f"{check['name']}: {check['detail']}")
        assert check["ok"], check
    jobs = {target["labels"]["job"] for target in seen.told_by_prometheus("targets")["activeTargets"]}
    assert {"node", "process", "slurm", "prometheus", "alertmanager"} <= jobs
    assert {"apiserver", "kubelet", "cadvisor", "kube_state"} <= jobs


def filled(expr: str, dashboard: Dashboard, jobs: list[str]) -> list[str]:
    """A panel's query as Grafana would ask it: of all nodes, and of each of these jobs."""
    expr = expr.replace("$__rate_interval", "1m").replace("$__range", "15m")
    for variable in dashboard.variables:
        if variable.many:
            expr = re.sub(rf"\${variable.name}\b", ".*", expr)
    return [re.sub(r"\$jobid\b", job, expr) for job in jobs] if "$jobid" in expr else [expr]


@contextmanager
def busy(seen: SeenLab) -> Iterator[list[str]]:
    """Slurm has a job that has ended and one that has a GPU, and the GPUs say what GPUs once said elsewhere."""
    submit = "cd /tmp && sbatch --parsable -o /dev/null"
    work = 'timeout 3 sh -c "while :; do :; done" || true'
    ended = seen.as_user(f"{submit} --wrap '{work}'").split(";")[0]
    running = seen.as_user(f"{submit} -w gpu02 --gres=gpu:1 --wrap 'sleep 900'").split(";")[0]
    texts = [(RECORDED / "dcgm.prom").read_text()]
    # Those that are well: the others are alerts' business.
    hardware = (RECORDED / "hardware.prom").read_text().splitlines()
    texts += [line for line in hardware if not re.search(r'"(/dev/sdb|nvme1n1)"', line)]
    # The health check itself knows nothing of GPUs that are played; what it says of all of them it says here of each.
    health = seen.ssh("gpu02", f"grep -w rackloom_gpu_healthy {HEALTH}").splitlines()
    texts += [line.replace('gpu="all"', 'gpu="0"') for line in health]
    recorded = "\n".join(texts)
    try:
        seen.ssh("gpu02", f"cat > {REPLAYED} <<'END'\n{recorded}\nEND")
        state = f"sacct -n -X -P -j {ended} -o State"
        seen.await_that("the job ends", lambda: seen.ssh("login01", state) == "COMPLETED")
        seen.ssh("mgmt01", "systemctl start rackloom-slurm-metrics@accounting.service")
        yield [ended, running]
    finally:
        seen.ssh("gpu02", f"rm -f {REPLAYED}")
        seen.as_user(f"scancel {running}")


def test_every_panel_has_an_answer(seen: SeenLab) -> None:
    """Of every dashboard, GPUs and jobs among them; a panel whose silence is good news has to be understood."""
    with busy(seen) as jobs:
        asked = [
            (f"{dashboard.title}: {panel.title} {number}", filled(query.expr, dashboard, jobs), panel.quiet)
            for dashboard in DASHBOARDS
            for panel in dashboard.panels()
            for number, query in enumerate(panel.queries, 1)
        ]
        loud = sum(not quiet for _, _, quiet in asked)
        began, left = time.monotonic(), asked
        while left and time.monotonic() - began < PATIENCE:
            # Prometheus refuses what it does not understand, and that raises.
            answers = [(one, [seen.rows(expr) for expr in one[1]]) for one in left]
            left = [one for one, found in answers if not one[2] and not any(found)]
            time.sleep(0.5)
        say(f"{len(asked)} queries of {len(DASHBOARDS)} dashboards, {loud} of which must have an answer")
        assert not [(name, exprs) for name, exprs, _ in left]


def test_kubernetes_and_its_door_are_measured(seen: SeenLab) -> None:
    """Numbers that agree with what Kubernetes itself says."""

    def counted() -> list[int]:
        return [int(row["value"][1]) for row in seen.rows("sum(kube_pod_status_phase == 1)")]

    def nodes(expr: str) -> list[str]:
        return sorted(row["metric"]["node"] for row in seen.rows(expr))

    # Pods come and go, and are counted once in a while.
    seen.await_that("as many pods", lambda: counted() == [len(seen.ask("get pods -A")["items"])])
    ready = 'kube_node_status_condition{condition="Ready", status="true"} == 1'
    seen.await_that("both nodes", lambda: nodes(ready) == ["gpu01", "mgmt01"])
    for expr in ("etcd_server_has_leader == 1", 'haproxy_backend_active_servers{proxy="kubernetes"} == 1'):
        seen.await_that(expr, partial(lambda expr: nodes(expr) == ["mgmt01"], expr))


def test_a_line_of_every_node_is_found(seen: SeenLab) -> None:
    answer = seen.call("validate", "logging").must()
    for check in answer.data["checks"]:
        say(f"{check['name']}: {check['detail']}")
        assert check["ok"] and not check["skipped"], check


def test_a_second_deploy_changes_nothing(seen: SeenLab) -> None:
    answer = seen.call("deploy").must()
    assert not any(counts["changed"] for counts in answer.data["hosts"].values()), answer.said
    seen.nothing_left()


def test_a_dead_node_is_one_page_and_its_return_another(seen: SeenLab) -> None:
    # What the replayed GPUs had to say is nobody's business here.
    seen.ssh("login01", "rm -f /var/tmp/pages")
    seen.call("lab", "power", "--name", seen.name, "gpu02", "off", "--hard").must()
    try:
        [page] = seen.await_that("a page about the node", lambda: seen.told("NodeDown", "firing"), 300)
        assert page["labels"]["node"] == "gpu02"
        assert page["annotations"]["runbook_url"].endswith("/node-down.md")
        # what follows from it is held back
        assert {
            alert["labels"]["alertname"]
            for message in seen.pages()
            for alert in message["alerts"]
            if alert["labels"].get("node") == "gpu02" and alert["status"] == "firing"
        } == {"NodeDown"}
    finally:
        seen.power("gpu02", on=True)
    seen.await_that("word that it is back", lambda: seen.told("NodeDown", "resolved"), 300)
    assert len(seen.told("NodeDown", "firing")) == 1
