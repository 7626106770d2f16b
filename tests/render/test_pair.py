"""A pair of Prometheus and Alertmanager, configured by the roles, loses one of each after the other.

All four are the real programs, with their certificates and passwords, as processes of this machine. Each of them is
killed and started again while alerts begin: together the pair has asked the exporter at every turn, and a receiver was
told of each alert once.
"""

from __future__ import annotations

import base64
import http.server
import json
import re
import ssl
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.daemons import free_port
from tests.tools import tool

from rackloom.site.authority import issue
from rackloom.site.secrets import SECRETS

from .test_monitoring import await_that, catching, render

HOST = "127.0.0.1"
INTERVAL = 3
"""Seconds between two scrapes: much longer than a busy machine keeps anybody waiting."""
ALERTS = ("All along", "One away", "Other away")
NAMES = ("one", "two")


@pytest.fixture(scope="module")
def site() -> dict[str, str]:
    """The secrets of a site."""
    made: dict[str, str] = {}
    for secret in SECRETS:
        made[secret.name] = secret.make(made)
    return made


@dataclass
class Thing:
    """An exporter of the state of things, each of which may be broken."""

    broken: set[str] = field(default_factory=set)
    address: str = ""

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answer Prometheus."""
        thing = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                rows = [f'broken{{thing="{name}"}} {int(name in thing.broken)}\n' for name in ALERTS]
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write("".join(rows).encode())

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        with http.server.ThreadingHTTPServer((HOST, 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.address = f"{HOST}:{server.server_address[1]}"
            yield
            server.shutdown()


@dataclass
class Daemon:
    """One of the four: it can be killed and started again."""

    url: str
    argv: Sequence[str]
    folder: Path
    password: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin; whether it answers is another question."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.argv, cwd=self.folder, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it as a machine without power does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=20)

    def ask(self, path: str, **query: str) -> Any:
        """What it answers to somebody who checks its certificate; None where it does not."""
        words = base64.b64encode(f"rackloom:{self.password}".encode()).decode()
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        opener = urllib.request.build_opener(*handlers)
        url = f"{self.url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        request = urllib.request.Request(url, headers={"Authorization": f"Basic {words}"})  # noqa: S310 - ours
        try:
            with opener.open(request, timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return None
        return text if path == "/metrics" else json.loads(text)

    def samples(self, series: str = "up") -> list[float]:
        """When it asked the exporter, of all that it knows."""
        told = self.ask("/api/v1/query", query=f"{series}[10m]") or {"data": {"result": []}}
        return sorted(float(moment) for row in told["data"]["result"] for moment, _ in row["values"])

    def looked(self) -> int:
        """How often it has looked what was told already, by itself or by the other one."""
        found = re.search(
            r"^alertmanager_nflog_queries_total (\S+)", self.ask("/metrics") or "", re.MULTILINE
        )
        return int(float(found[1])) if found else 0

    def members(self) -> int:
        """How many Alertmanagers it knows, once it is ready to tell anybody."""
        told = (self.ask("/api/v2/status") or {}).get("cluster") or {}
        return len(told.get("peers", [])) if told.get("status") == "ready" else 0


def words(text: str) -> list[str]:
    """What a drop-in has systemd run."""
    found: list[str] = []
    for line in text.partition("ExecStart=\nExecStart=")[2].splitlines():
        found += line.removesuffix("\\").split()
        if not line.endswith("\\"):
            break
    return found


def place(folder: Path, site: dict[str, str], name: str) -> None:
    """What the roles place beside the configuration."""
    folder.mkdir()
    authority = (site["ca_key"], site["ca_certificate"])
    server = issue(*authority, name, (HOST, name))
    peer = issue(*authority, f"{name} peer", purpose="client")
    texts = {"ca.crt": site["ca_certificate"], "web.password": site["monitoring_web_password"]}
    texts |= {"server.crt": server.certificate, "server.key": server.key}
    texts |= {"peer.crt": peer.certificate, "peer.key": peer.key}
    for file, text in texts.items():
        (folder / file).write_text(text)


@dataclass
class Pair:
    """Two of each, and whom they tell."""

    prometheus: list[Daemon]
    alertmanager: list[Daemon]
    thing: Thing
    caught: list[dict[str, Any]]

    def told(self, name: str, status: str = "firing") -> int:
        """How often somebody was told of an alert."""
        return sum((alert["labels"]["thing"], alert["status"]) == (name, status) for alert in self.caught)

    def breaks(self, name: str) -> None:
        """Something breaks, and somebody is told."""
        self.thing.broken.add(name)
        await_that(f"word of {name}", lambda: self.told(name))

    def mends(self, name: str) -> None:
        """It is well again, and somebody is told."""
        self.thing.broken.discard(name)
        await_that(f"word that {name} is over", lambda: self.told(name, "resolved"))

    def both_looked(self) -> None:
        """Either Alertmanager has had its turn, and looked whether there was anything left to tell."""
        looks = [it.looked() for it in self.alertmanager]
        await_that(
            "both looked what was told",
            lambda: all(it.looked() > seen for it, seen in zip(self.alertmanager, looks, strict=True)),
        )

    def whole(self) -> bool:
        """Whether all four are there and know each other."""
        known = [
            len(
                (it.ask("/api/v1/alertmanagers") or {"data": {"activeAlertmanagers": []}})["data"][
                    "activeAlertmanagers"
                ]
            )
            for it in self.prometheus
        ]
        return known == [2, 2] and [it.members() for it in self.alertmanager] == [2, 2]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, site: dict[str, str]) -> Iterator[Pair]:
    """All four, and alive."""
    folder = tmp_path_factory.mktemp("pair")
    programs = {
        "prometheus": tool("prometheus", "prometheus"),
        "alertmanager": tool("prometheus-alertmanager", "prometheus-alertmanager"),
    }
    ports = {(kind, name): free_port() for kind in (*programs, "peers") for name in NAMES}
    rules = [
        {
            "alert": name.title().replace(" ", ""),
            "expr": f'broken{{thing="{name}"}} == 1',
            "labels": {"severity": "critical"},
        }
        for name in ALERTS
    ]
    thing = Thing()
    with ExitStack() as stack:
        stack.enter_context(thing.serving())
        port, caught = stack.enter_context(catching())
        webhook = {"url": f"http://{HOST}:{port}/", "secret": "", "ca": ""}
        daemons: dict[str, list[Daemon]] = {"alertmanager": [], "prometheus": []}
        for name in NAMES:
            own = folder / f"alertmanager-{name}"
            place(own, site, f"alertmanager {name}")
            given: dict[str, Any] = {
                "__alertmanager_folder": str(own),
                "__alertmanager_os": {"program": str(programs["alertmanager"]), "state": str(own / "state")},
                "alertmanager_address": HOST,
                "alertmanager_name": name,
                "alertmanager_port": ports["alertmanager", name],
                "alertmanager_cluster_port": ports["peers", name],
                "alertmanager_peers": [f"{HOST}:{ports['peers', other]}" for other in NAMES],
                "alertmanager_receivers": [{"name": "catcher", "resolved": True, "webhook": webhook}],
                "alertmanager_receiver": "catcher",
                "alertmanager_routes": [
                    {"receiver": "catcher", "severity": ["critical"], "wait": "1s", "interval": "1s"}
                ],
                # A quarter of a minute is long for a test.
                "alertmanager_options": ["--cluster.peer-timeout=3s"],
                "alertmanager_web_password_hash": site["monitoring_web_hash"],
            }
            for file in ("alertmanager.yml", "cluster.yml", "web.yml"):
                (own / file).write_text(render("alertmanager", f"{file}.j2", given))
            argv = words(render("alertmanager", "alertmanager.conf.j2", given))
            url = f"https://{HOST}:{ports['alertmanager', name]}/alertmanager"
            daemons["alertmanager"].append(Daemon(url, argv, own, site["monitoring_web_password"]))
        for name in NAMES:
            own = folder / f"prometheus-{name}"
            place(own, site, f"prometheus {name}")
            (own / "rules").mkdir()
            (own / "rules.site").mkdir()
            (own / "rules.site" / "pair.yml").write_text(
                yaml.safe_dump({"groups": [{"name": "pair", "rules": rules}]})
            )
            (own / "targets").mkdir()
            row = {"targets": [thing.address], "labels": {"node": "n1"}}
            (own / "targets" / "thing.json").write_text(json.dumps([row]))
            given = {
                "__prometheus_folder": str(own),
                "__prometheus_os": {"program": str(programs["prometheus"])},
                "__prometheus_own_rules": [],
                "prometheus_address": HOST,
                "prometheus_name": name,
                "prometheus_port": ports["prometheus", name],
                "prometheus_cluster": "demo",
                "prometheus_path": str(own / "data"),
                "prometheus_scrape_interval": f"{INTERVAL}s",
                "prometheus_jobs": [{"name": "thing", "scheme": "http"}],
                "prometheus_rules": ["pair.yml"],
                "prometheus_alertmanagers": [f"{HOST}:{ports['alertmanager', each]}" for each in NAMES],
                "prometheus_web_password_hash": site["monitoring_web_hash"],
            }
            for file in ("prometheus.yml", "web.yml"):
                (own / file).write_text(render("prometheus", f"{file}.j2", given))
            argv = words(render("prometheus", "prometheus.conf.j2", given))
            url = f"https://{HOST}:{ports['prometheus', name]}/prometheus"
            daemons["prometheus"].append(Daemon(url, argv, own, site["monitoring_web_password"]))
        for daemon in (*daemons["alertmanager"], *daemons["prometheus"]):
            stack.callback(daemon.kill)
            daemon.start()
        it = Pair(daemons["prometheus"], daemons["alertmanager"], thing, caught)
        await_that("all four know each other", it.whole)
        yield it


def lost(pair: Pair, which: int, name: str) -> None:
    """One of each is killed. Something breaks meanwhile, and is mended while they come back."""
    gone = (pair.prometheus[which], pair.alertmanager[which])
    other = pair.prometheus[1 - which]
    for daemon in gone:
        daemon.kill()
    killed = time.time()
    pair.breaks(name)
    await_that("it was away for some scrapes", lambda: sum(when > killed for when in other.samples()) > 2)
    for daemon in gone:
        daemon.start()
    pair.mends(name)
    await_that("it asks again", lambda: any(when > killed for when in gone[0].samples()))
    await_that("all four know each other", pair.whole)
    # Whoever of them has told may be the next to be killed.
    pair.both_looked()


def test_one_of_each_is_enough(pair: Pair) -> None:
    began = time.time()
    before, one, other = ALERTS
    # What is told already is not told anew by who comes back and knows nothing of it.
    pair.breaks(before)
    # Who dies between telling and saying that it has told is followed by one who tells it again; nothing can be done
    # about that.
    pair.both_looked()
    lost(pair, 0, one)
    lost(pair, 1, other)
    # Whoever had anything to say of the others a second time has said it by now.
    pair.mends(before)
    ended = time.time()

    told = {(name, status): pair.told(name, status) for name in ALERTS for status in ("firing", "resolved")}
    assert set(told.values()) == {1}, told

    asked = [await_that("when it asked", it.samples) for it in pair.prometheus]
    each = [[moment for moment in moments if began < moment < ended] for moments in asked]
    holes = [max(after - before for before, after in pairwise(moments)) for moments in each]
    together = sorted([began, *each[0], *each[1], ended])
    gap = max(after - before for before, after in pairwise(together))
    print(
        f"\n    {ended - began:.0f} s; longest gaps alone {holes[0]:.1f} s, {holes[1]:.1f} s; together {gap:.1f} s"
    )
    assert min(holes) > 2 * INTERVAL, "each of them was away"
    assert gap < 2 * INTERVAL, "a scrape is missing in both"
