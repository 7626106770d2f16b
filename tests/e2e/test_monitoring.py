"""What is measured and what is logged, on a closed site out of one bundle. The tests run in this order, on one lab."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackloom.site import secrets

from .conftest import ROOT, Lab

STAGES = "mirror,base,gpu,slurm,monitoring,logging"
PORT = 8099
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


class SeenLab(Lab):
    """A closed lab with everything that looks at it."""

    name = "seen"
    config = ROOT / ".lab" / "seen" / "config"
    os = "debian-12"

    def ask(self, path: str, **words: str) -> Any:
        """What Prometheus answers."""
        address = self.addresses["mgmt01"]
        password = secrets.load(self.config)["monitoring_web_password"]
        whole = f"https://{address}:9090/prometheus/api/v1/{path}?{urllib.parse.urlencode(words)}"
        word = base64.b64encode(f"rackloom:{password}".encode()).decode()
        context = ssl.create_default_context(cadata=secrets.load(self.config)["ca_certificate"])
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        request = urllib.request.Request(whole, headers={"Authorization": f"Basic {word}"})
        with opener.open(request, timeout=30) as answer:
            return json.load(answer)["data"]

    @property
    def addresses(self) -> dict[str, str]:
        """Of the nodes."""
        nodes = self.call("lab", "status", "--name", self.name).must().data["nodes"]
        return {node["name"]: node["address"] for node in nodes}

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
def quick_versions() -> Path:
    """The real programs that are no packages."""
    argv = [str(ROOT / "tests/upstream/build.py"), "build", "victoria-logs"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return Path(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def seen(quick_versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeenLab]:
    """A site with all of it, deployed."""
    lab = SeenLab()
    try:
        lab.up("--closed", "--compute", "2", "--no-deploy").must()
        path = lab.config / "cluster.yml"
        data = yaml.safe_load(path.read_text())
        data["monitoring"] = {
            "scrape_interval": "10s",
            "receivers": [{"name": "oncall", "webhook": {"url": f"http://login01:{PORT}/"}}],
        }
        data["logging"] = {"retention": {"time": "7d"}}
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        folder = tmp_path_factory.mktemp("disk") / "bundle"
        words = ("-o", str(folder), "--os", lab.os, "--stages", STAGES, "--versions", str(quick_versions))
        lab.call("bundle", "create", *words).must()
        lab.call("bundle", "install", str(folder)).must()
        lab.ssh("login01", f"systemd-run --unit=catcher python3 -c '{CATCHER}'")
        answer = lab.call("deploy").must()
        say(f"deployed in {answer.seconds:.0f} s: {answer.data['counts']}")
        yield lab
    finally:
        lab.call("lab", "down", "--name", lab.name)


def test_everything_that_should_be_measured_is(seen: SeenLab) -> None:
    answer = seen.call("validate", "monitoring").must()
    for check in answer.data["checks"]:
        say(f"{check['name']}: {check['detail']}")
        assert check["ok"], check
    jobs = {target["labels"]["job"] for target in seen.ask("targets")["activeTargets"]}
    assert {"node", "slurm", "prometheus", "alertmanager"} <= jobs


def test_a_line_of_every_node_is_found(seen: SeenLab) -> None:
    answer = seen.call("validate", "logging").must()
    for check in answer.data["checks"]:
        say(f"{check['name']}: {check['detail']}")
        assert check["ok"] and not check["skipped"], check


def test_a_second_deploy_changes_nothing(seen: SeenLab) -> None:
    answer = seen.call("deploy").must()
    assert not any(counts["changed"] for counts in answer.data["hosts"].values()), answer.said
    assert seen.call("lab", "status", "--name", seen.name).must().data["escapes"]["packets"] == 0


def test_a_dead_node_is_one_page_and_its_return_another(seen: SeenLab) -> None:
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
