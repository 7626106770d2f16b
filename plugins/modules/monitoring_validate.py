#!/usr/bin/python
"""Whether what is measured arrives, and whether an alert reaches somebody."""

from __future__ import annotations

DOCUMENTATION = r"""
module: monitoring_validate
short_description: Ask Prometheus and Alertmanager to prove that they work
description:
  - Of Prometheus it wants every expected target of every node up, services that answer, rules that can be
    evaluated, an answer to what dashboards ask, and Alertmanagers that it found.
  - Of Alertmanager it wants its peers, the alert that always fires, and a test alert that comes out again at a port of
    this host, where the module listens. That alert is C(RackloomCheck); no person is told of it.
  - Changes nothing. Targets that have just been added are waited for.
options:
  prometheus:
    description: URL of Prometheus with its prefix; nothing is asked of it when empty.
    type: str
    default: ""
  alertmanager:
    description: URL of the Alertmanager on this host with its prefix; nothing is asked of it when empty.
    type: str
    default: ""
  host:
    description: The name under which this host is reported.
    type: str
    required: true
  user:
    description: User that both know.
    type: str
    required: true
  password:
    description: That user's password.
    type: str
    required: true
  ca_file:
    description: The authority of their certificates.
    type: path
    required: true
  targets:
    description: Nodes, or addresses of targets that are no nodes, that each job must have up.
    type: dict
    default: {}
  queries:
    description: What dashboards ask. Each has to be understood; those that are not quiet have to have an answer.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Where it is asked, for people.
        type: str
        required: true
      expr:
        description: The query.
        type: str
        required: true
      quiet:
        description: Whether no answer is good news.
        type: bool
        default: false
  alertmanagers:
    description: How many Alertmanagers there are.
    type: int
    default: 0
  check_port:
    description: Port of localhost to which Alertmanager sends the test alert.
    type: int
    default: 9799
  strict:
    description: Whether a bad verdict fails the task; else it is only returned.
    type: bool
    default: false
  timeout:
    description: Seconds for each check.
    type: int
    default: 90
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Ask Prometheus
  rackloom.cluster.monitoring_validate:
    host: "{{ inventory_hostname }}"
    prometheus: https://192.0.2.11:9090/prometheus
    user: rackloom
    password: "{{ rackloom_secrets.monitoring_web_password }}"
    ca_file: /etc/rackloom/ca.crt
    targets: {node: [mgmt01, cn001]}
"""

RETURN = r"""
rackloom_checks:
  description: One entry a check.
  returned: always
  type: list
  elements: dict
  sample: [{service: monitoring, name: targets of node, ok: true, skipped: "", detail: 4 of 4 up, seconds: 0.1}]
"""

import base64
import http.server
import json
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

SHOWN = 8
CHECK = "RackloomCheck"
DEAD_MAN = "DeadMansSwitch"

Verdict = tuple[bool, str]


class Refusal(Exception):
    """What a server said instead of an answer."""


class Server:
    """One of the two, asked over HTTP."""

    def __init__(self, url: str, user: str, password: str, ca_file: str) -> None:
        self.url = url.rstrip("/")
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if url.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file)))
        self.opener = urllib.request.build_opener(*handlers)

    def ask(self, path: str, body: Any = None, **query: str) -> Any:
        """Return the answer, read as JSON; raises Refusal."""
        url = f"{self.url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(url, data=data, headers=self.headers)  # noqa: S310 - a daemon of ours
            with self.opener.open(request, timeout=20) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode("utf-8", "replace").strip()[:200]
            raise Refusal(f"{url} said {error.code}: {said or error.reason}") from None
        except (OSError, ValueError) as error:
            raise Refusal(f"{url}: {getattr(error, 'reason', error)}") from None
        return json.loads(text) if text else None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return what a query of Prometheus gives now."""
        found: list[dict[str, Any]] = self.ask("/api/v1/query", query=expression)["data"]["result"]
        return found


def few(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def target_name(target: dict[str, Any]) -> str:
    """Return the node that a target is of, or its address."""
    labels = target["labels"]
    return str(labels.get("node") or labels.get("instance", ""))


def targets(prometheus: Server, job: str, expected: list[str]) -> Verdict:
    """Whether all that a job is to ask answers."""
    active = prometheus.ask("/api/v1/targets", state="active")["data"]["activeTargets"]
    ours = [target for target in active if target["scrapePool"] == job]
    seen = {target_name(target) for target in ours}
    bad = {
        target_name(target): str(target["lastError"] or f"not asked yet ({target['health']})")
        for target in ours
        if target["health"] != "up"
    }
    missing = sorted(set(expected) - seen)
    wrong = [f"{name}: {why}" for name, why in sorted(bad.items())]
    wrong += [f"{name}: no target" for name in missing]
    return not wrong, few(wrong) or f"{len(ours)} of {len(ours)} up"


def services(prometheus: Server) -> Verdict:
    """Whether all that is knocked at opens."""
    found = prometheus.query("probe_success")
    if not found:
        return False, "nothing has been knocked at yet"
    shut = sorted(
        f"{row['metric'].get('service', row['metric'].get('job', ''))} on {row['metric'].get('node', '')}"
        for row in found
        if row["value"][1] != "1"
    )
    return not shut, (f"no answer from {few(shut)}" if shut else f"{len(found)} answer")


def rules(prometheus: Server) -> Verdict:
    """Whether all rules can be evaluated, and the last change of them was taken."""
    groups = prometheus.ask("/api/v1/rules")["data"]["groups"]
    all_rules = [rule for group in groups for rule in group["rules"]]
    wrong = [
        f"{rule['name']}: {rule.get('lastError') or rule['health']}"
        for rule in all_rules
        if rule["health"] != "ok"
    ]
    if not all_rules:
        return False, "there are no rules"
    stale = [
        row for row in prometheus.query("prometheus_config_last_reload_successful") if row["value"][1] == "0"
    ]
    wrong += [f"{row['metric'].get('node', '')}: the last change was not taken" for row in stale]
    return not wrong, few(wrong) or f"{len(all_rules)} rules"


class Questions:
    """What dashboards ask; what has had an answer is not asked again."""

    def __init__(self, prometheus: Server, queries: list[dict[str, Any]]) -> None:
        self.prometheus = prometheus
        self.count = len(queries)
        self.left = list(queries)

    def look(self) -> Verdict:
        """Whether each is understood, and those that should be have an answer."""
        wrong: dict[str, list[str]] = {}
        left = []
        for query in self.left:
            try:
                trouble = "" if self.prometheus.query(query["expr"]) or query["quiet"] else "no answer"
            except Refusal as error:
                trouble = str(error)
            if trouble:
                left.append(query)
                wrong.setdefault(trouble, []).append(query["name"])
        self.left = left
        told = [f"{trouble}: {few(names)}" for trouble, names in wrong.items()]
        return not left, "; ".join(told) or f"{self.count} queries"


def receivers_of(prometheus: Server, expected: int) -> Verdict:
    """Whether Prometheus knows all Alertmanagers, and they could tell whom they had to."""
    active = prometheus.ask("/api/v1/alertmanagers")["data"]["activeAlertmanagers"]
    if len(active) < expected:
        return False, f"{len(active)} of {expected} known to Prometheus"
    failed = prometheus.query(
        "sum by (integration) (increase(alertmanager_notifications_failed_total[15m])) > 0"
    )
    wrong = [f"notifications by {row['metric']['integration']} failed" for row in failed]
    return not wrong, few(wrong) or f"{len(active)} known"


def peers(alertmanager: Server, expected: int) -> Verdict:
    """Whether all Alertmanagers found each other."""
    told = alertmanager.ask("/api/v2/status")["cluster"]
    if expected < 2:
        return True, "there is one"
    count = len(told.get("peers", []))
    return count == expected and told["status"] == "ready", f"{count} of {expected}, {told['status']}"


def dead_man(alertmanager: Server) -> Verdict:
    """Whether the alert that always fires has come from Prometheus."""
    found = alertmanager.ask("/api/v2/alerts", filter=f'alertname="{DEAD_MAN}"')
    return bool(found), f"{DEAD_MAN} is there" if found else f"{DEAD_MAN} has not come from Prometheus"


def moment(seconds: float) -> str:
    """Return a time from now on as Alertmanager reads it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def travel(alertmanager: Server, host: str, port: int, seconds: float) -> Verdict:
    """Send an alert in, and wait until it comes out."""
    mark = uuid.uuid4().hex
    arrived = threading.Event()

    class Catcher(http.server.BaseHTTPRequestHandler):
        """Stands where Alertmanager sends the test alert."""

        def do_POST(self) -> None:
            """Take one notification."""
            text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode("utf-8", "replace")
            self.send_response(200)
            self.end_headers()
            if mark in text:
                arrived.set()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    labels = {"alertname": CHECK, "node": host, "check": mark, "severity": "info"}
    alert = {"labels": labels, "annotations": {"summary": "A check of the way of alerts."}}
    try:
        catcher = http.server.ThreadingHTTPServer(("127.0.0.1", port), Catcher)
    except OSError as error:
        return False, f"port {port} of this host: {error.strerror}"
    with catcher:
        threading.Thread(target=catcher.serve_forever, daemon=True).start()
        began = time.monotonic()
        try:
            alertmanager.ask("/api/v2/alerts", [{**alert, "endsAt": moment(seconds + 60)}])
            came = arrived.wait(seconds)
        finally:
            catcher.shutdown()
    alertmanager.ask("/api/v2/alerts", [{**alert, "startsAt": moment(-2), "endsAt": moment(-1)}])
    took = time.monotonic() - began
    return came, f"arrived after {took:.1f} s" if came else f"did not arrive within {seconds:.0f} s"


def judge(name: str, look: Callable[[], Verdict], seconds: float) -> dict[str, Any]:
    """Look until it is well or time is over; return the verdict."""
    began = time.monotonic()
    while True:
        try:
            ok, detail = look()
        except Refusal as error:
            ok, detail = False, str(error)
        if ok or time.monotonic() - began > seconds:
            break
        time.sleep(1)
    return {
        "service": "monitoring",
        "name": name,
        "ok": ok,
        "skipped": "",
        "detail": detail,
        "seconds": round(time.monotonic() - began, 2),
    }


def main() -> None:
    """Ask whom there is to ask."""
    module = AnsibleModule(
        argument_spec={
            "prometheus": {"type": "str", "default": ""},
            "alertmanager": {"type": "str", "default": ""},
            "host": {"type": "str", "required": True},
            "user": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "ca_file": {"type": "path", "required": True},
            "targets": {"type": "dict", "default": {}},
            "queries": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "expr": {"type": "str", "required": True},
                    "quiet": {"type": "bool", "default": False},
                },
            },
            "alertmanagers": {"type": "int", "default": 0},
            "check_port": {"type": "int", "default": 9799},
            "strict": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    given = module.params
    if module.check_mode:
        module.exit_json(changed=False, rackloom_checks=[])
    access = (given["user"], given["password"], given["ca_file"])
    host, seconds, count = given["host"], given["timeout"], given["alertmanagers"]
    verdicts = []
    if given["prometheus"]:
        prometheus = Server(given["prometheus"], *access)
        for job, expected in given["targets"].items():
            verdicts.append(
                judge(
                    f"targets of {job}, seen by {host}",
                    lambda job=job, expected=expected: targets(prometheus, job, expected),  # type: ignore[misc]
                    seconds,
                )
            )
        if {"ping", "blackbox"} & set(given["targets"]):
            verdicts.append(judge(f"services, seen by {host}", lambda: services(prometheus), seconds))
        verdicts.append(judge(f"rules on {host}", lambda: rules(prometheus), seconds))
        if given["queries"]:
            asked = Questions(prometheus, given["queries"])
            verdicts.append(judge(f"dashboards, asked of {host}", asked.look, seconds))
        verdicts.append(
            judge(f"alertmanagers, seen by {host}", lambda: receivers_of(prometheus, count), seconds)
        )
    if given["alertmanager"]:
        alertmanager = Server(given["alertmanager"], *access)
        verdicts.append(judge(f"peers of {host}", lambda: peers(alertmanager, count), seconds))
        verdicts.append(judge(f"alerts from prometheus to {host}", lambda: dead_man(alertmanager), seconds))
        verdicts.append(
            judge(
                f"an alert through {host}",
                lambda: travel(alertmanager, host, given["check_port"], seconds),
                0,
            )
        )
    bad = [f"{verdict['name']}: {verdict['detail']}" for verdict in verdicts if not verdict["ok"]]
    if bad and given["strict"]:
        module.fail_json(msg="; ".join(bad), rackloom_checks=verdicts)
    module.exit_json(changed=False, rackloom_checks=verdicts)


if __name__ == "__main__":
    main()
