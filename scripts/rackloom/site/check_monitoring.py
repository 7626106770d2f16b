"""Checks of the section `monitoring:` of cluster.yml, and where metrics and alerts are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from . import secrets
from .context import Context
from .fields_monitoring import disk_mb, span_seconds
from .mistakes import Path as Where
from .mistakes import suggest
from .models_monitoring import KINDS, Monitoring, Receiver, SiteJob
from .monitoring_vars import JOBS, MONITORED

TOP = "monitoring"
PROMETHEUS = "prometheus"
ALERTMANAGER = "alertmanager"

MOST_SIZE_MB = 64 * 1024 * 1024
"""64 TiB: one Prometheus neither reads nor compacts more in any useful time."""
LEAST_SIZE_MB = 512
"""Less than the blocks of a few hours: whatever was measured would be gone before anybody looks."""
MOST_TIME = 10 * 31536000
LEAST_TIME = 2 * 3600
MOST_INTERVAL = 120
"""Prometheus takes a series for gone after five minutes; with two failed scrapes nothing may be lost."""
RESERVED_LABELS = ("job", "instance", "cluster", "replica", "__name__")


def place_monitoring(ctx: Context, lists: dict[str, list[str]]) -> None:
    """The section alone puts metrics and alerts on the first management node; all nodes are watched then."""
    named = ctx.cluster_file.services
    if PROMETHEUS not in named and _written(ctx):
        ctx.groups[PROMETHEUS] = lists["management"][:1]
    if ALERTMANAGER not in named and ctx.groups[PROMETHEUS]:
        ctx.groups[ALERTMANAGER] = list(ctx.groups[PROMETHEUS])
    if MONITORED not in named and ctx.groups[PROMETHEUS]:
        ctx.groups[MONITORED] = [name for names in lists.values() for name in names]


def _written(ctx: Context) -> bool:
    data = ctx.cluster.source.data
    return isinstance(data, dict) and TOP in data


class MonitoringCheck:
    """All checks of the section; mistakes are put at what the site wrote."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.say = ctx.cluster
        self.monitoring: Monitoring = ctx.cluster_file.monitoring

    def run(self) -> None:
        """Look at everything."""
        self._groups()
        self._retention()
        self._receivers()
        self._routes()
        self._jobs()
        self._remote_write()
        self._rules()
        if self.ctx.groups[PROMETHEUS]:
            self._vault()

    # ------------------------------------------------------------ hosts

    def _groups(self) -> None:
        hosts = self.ctx.groups[PROMETHEUS]
        if len(hosts) > 2:
            message = f"{PROMETHEUS} has {len(hosts)} hosts, and each of them asks every node for everything."
            cure = "Name one, or two as a pair."
            self.say(("services", PROMETHEUS), hosts, message, cure, "too-many-hosts")
        if hosts or not _written(self.ctx):
            return
        if PROMETHEUS in self.ctx.cluster_file.services:
            message = f"There is a section {TOP}, and {PROMETHEUS} is switched off."
            cure = f"Remove the section, or `{PROMETHEUS}: []`."
            self.say(("services", PROMETHEUS), "[]", message, cure, "missing-service")

    # ------------------------------------------------------------ how much and how often

    def _retention(self) -> None:
        where = (TOP, "retention")
        retention = self.monitoring.retention
        seconds = span_seconds(retention.time)
        if seconds > MOST_TIME:
            message = f"{retention.time} is more than ten years."
            cure = "Write up to 10y; what is to be kept for longer belongs into a store that `remote_write` names."
            self.say((*where, "time"), retention.time, message, cure, "retention-too-large")
        if seconds < LEAST_TIME:
            message = f"{retention.time} is less than the two hours that Prometheus writes to disk at a time."
            self.say((*where, "time"), retention.time, message, "Write 1d or more.", "retention-too-small")
        if retention.size:
            size = disk_mb(retention.size)
            if size > MOST_SIZE_MB:
                message = f"{retention.size} is more than one Prometheus can serve (64T)."
                cure = "Write less, or keep it in a store that `remote_write` names."
                self.say((*where, "size"), retention.size, message, cure, "retention-too-large")
            if size < LEAST_SIZE_MB:
                message = f"{retention.size} holds less than some hours of a small cluster."
                self.say(
                    (*where, "size"), retention.size, message, "Write 1G or more.", "retention-too-small"
                )
        interval = span_seconds(self.monitoring.scrape_interval)
        if interval > MOST_INTERVAL:
            message = f"{self.monitoring.scrape_interval} is too long: after five minutes of silence a node is gone."
            cure = f"Write {MOST_INTERVAL}s or less."
            self.say((TOP, "scrape_interval"), self.monitoring.scrape_interval, message, cure, "bad-duration")

    # ------------------------------------------------------------ who is told

    def _receivers(self) -> None:
        seen: dict[str, int] = {}
        for receiver in self.monitoring.receivers:
            where = (*receiver.where, "name")
            if receiver.name in seen:
                message = f"Receiver {receiver.name} is already in line {seen[receiver.name]}."
                self.say(where, receiver.name, message, "Name each receiver once.", "duplicate-name")
            elif receiver.name in ("nobody", "rackloom-check"):
                message = f"{receiver.name} is a receiver of Rackloom's own."
                self.say(where, receiver.name, message, "Choose another name.", "reserved-name")
            seen.setdefault(receiver.name, self.say.line(where))
            if not receiver.ways:
                message = f"Receiver {receiver.name} is told in no way."
                cure = f"Add one of {', '.join(KINDS)}."
                self.say(receiver.where, receiver.name, message, cure, "no-way")
            for way in receiver.ways:
                self._way(receiver, way)
        smtp = self.monitoring.smtp
        if any("email" in receiver.ways for receiver in self.monitoring.receivers):
            lacking = [name for name in ("host", "sender") if not getattr(smtp, name)]
            if lacking:
                first = next(each for each in self.monitoring.receivers if "email" in each.ways)
                message = (
                    f"Receiver {first.name} gets mail, and monitoring.smtp lacks {' and '.join(lacking)}."
                )
                cure = "Write `smtp: {host: mail.site.example:587, sender: alerts@site.example}`."
                self.say((*first.where, "email"), first.name, message, cure, "no-mail-server", key=True)
        if smtp.user and not smtp.secret:
            message = f"The mail server wants {smtp.user}, and no secret holds the password."
            self._no_secret((TOP, "smtp", "user"), smtp.user, message)

    def _way(self, receiver: Receiver, way: str) -> None:
        where = (*receiver.where, way)
        told = getattr(receiver, way)
        what = {"slack": "the URL of its webhook", "pagerduty": "its integration key"}
        if way in what and not told.secret:
            message = f"{way} of receiver {receiver.name} has no secret with {what[way]}."
            self._no_secret(where, receiver.name, message, key=True)
        if way == "slack" and not told.channel:
            message = f"slack of receiver {receiver.name} lacks the channel."
            self.say(where, receiver.name, message, "Write `channel: '#cluster'`.", "missing-key", key=True)
        if way == "email" and not told.to:
            message = f"email of receiver {receiver.name} lacks to."
            cure = "Write `to: oncall@site.example`."
            self.say(where, receiver.name, message, cure, "missing-key", key=True)
        if way == "webhook" and bool(told.url) == bool(told.secret):
            how = "both a url and a secret" if told.url else "neither a url nor a secret"
            message = f"webhook of receiver {receiver.name} has {how}."
            cure = "Give the url, or the secret that holds it."
            self.say(where, receiver.name, message, cure, "no-secret", key=True)

    def _no_secret(self, where: Where, value: str, message: str, *, key: bool = False) -> None:
        cure = "Write `secret: alert_NAME`, and type its value in with `rackloom secrets set alert_NAME`."
        self.say(where, value, message, cure, "no-secret", key=key)

    def _routes(self) -> None:
        known = self.ctx.declared(self.say, TOP, "receivers")
        for key in ("receiver", "dead_man"):
            named = getattr(self.monitoring, key)
            if named and named not in known:
                self._unknown((TOP, key), named, known)
        for route in self.monitoring.routes:
            if route.receiver not in known:
                self._unknown((*route.where, "receiver"), route.receiver, known)
            if "severity" in route.match and route.severity:
                message = "severity is asked for twice, as severity and under match."
                self.say(
                    (*route.where, "match"), "severity", message, "Remove one.", "duplicate-name", key=True
                )

    def _unknown(self, where: Where, named: str, known: set[str]) -> None:
        cure = suggest(named, known) or "Add it to monitoring.receivers."
        self.say(where, named, f"There is no receiver {named}.", cure, "unknown-receiver")

    # ------------------------------------------------------------ what else is asked, and where it goes

    def _jobs(self) -> None:
        own = {job.name for job in JOBS}
        seen: dict[str, int] = {}
        interval = span_seconds(self.monitoring.scrape_interval)
        for job in self.monitoring.jobs:
            where = (*job.where, "name")
            if job.name in own:
                message = f"{job.name} is the name of a job that Rackloom makes itself."
                self.say(where, job.name, message, "Choose another.", "reserved-name")
            elif job.name in seen:
                message = f"Job {job.name} is already in line {seen[job.name]}."
                self.say(where, job.name, message, "Name each job once.", "duplicate-name")
            seen.setdefault(job.name, self.say.line(where))
            self._job(job, interval)

    def _job(self, job: SiteJob, interval: int) -> None:
        for label in job.labels:
            if label in RESERVED_LABELS or label.startswith("__"):
                message = f"{label} is a label that Prometheus gives itself."
                self.say(
                    (*job.where, "labels", label), label, message, "Choose another.", "bad-label", key=True
                )
        if job.user and not job.secret:
            message = f"Job {job.name} comes as {job.user}, and no secret holds the password."
            self._no_secret((*job.where, "user"), job.user, message)
        if not job.path.startswith("/"):
            message = f"The path of job {job.name} does not start with /."
            self.say((*job.where, "path"), job.path, message, f"Write /{job.path}.", "bad-path")
        if job.interval and span_seconds(job.interval) > max(MOST_INTERVAL, interval):
            message = f"{job.interval} is too long: after five minutes without news a target counts as gone."
            cure = f"Write {MOST_INTERVAL}s or less."
            self.say((*job.where, "interval"), job.interval, message, cure, "bad-duration")
        for target in job.targets:
            port = int(target.rpartition(":")[2])
            if not 0 < port < 65536:
                message = f"{port} is no port."
                self.say((*job.where, "targets"), target, message, "Write 1 to 65535.", "out-of-range")

    def _remote_write(self) -> None:
        for write in self.monitoring.remote_write:
            if write.user and not write.secret:
                message = f"{write.url} is written to as {write.user}, and no secret holds the password."
                self._no_secret((*write.where, "user"), write.user, message)

    # ------------------------------------------------------------ rules of the site

    def _rules(self) -> None:
        names: dict[str, str] = {}
        for index, name in enumerate(self.monitoring.rules):
            where: Where = (TOP, "rules", index) if isinstance(self._raw_rules(), list) else (TOP, "rules")
            text = self._text(where, name)
            base = Path(name).name
            if base in names:
                message = f"{name} has the same name as {names[base]}."
                self.say(where, name, message, "Call one of them differently.", "duplicate-name")
            names.setdefault(base, name)
            if text is not None and (trouble := rules_trouble(text)):
                message = f"{name} is no file of rules: {trouble}."
                cure = "Correct it; `promtool check rules` says more."
                self.say(where, name, message, cure, "bad-rules")

    def _raw_rules(self) -> Any:
        return self.ctx.raw(self.say, TOP, "rules")

    def _text(self, where: Where, name: str) -> str | None:
        path = self.ctx.config_dir / name
        if Path(name).suffix not in (".yml", ".yaml"):
            message = f"{name} does not end in .yml."
            self.say(where, name, message, "Name a file of YAML.", "bad-rules")
            return None
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            message = f"There is no readable file {name} in this folder."
            cure = "Put it there, or write its path from this folder on."
            self.say(where, name, message, cure, "missing-file")
            return None

    # ------------------------------------------------------------ secrets

    def _vault(self) -> None:
        """Those that are named are in the vault. Without a vault, or its key, that is said where it is needed."""
        used = self.monitoring.used_secrets
        if not used or not secrets.secrets_file(self.ctx.config_dir).exists():
            return
        try:
            kept = secrets.load(self.ctx.config_dir)
        except secrets.SecretsError:
            return
        for name in used:
            if not kept.get(name):
                message = f"The vault holds no {name}."
                cure = f"Run `rackloom secrets set {name}`."
                self.say(self._place(name), name, message, cure, "no-secret")

    def _place(self, name: str) -> Where:
        """Where a secret is named first."""
        told = self.monitoring
        for receiver in told.receivers:
            for way in receiver.ways:
                if getattr(getattr(receiver, way), "secret", "") == name:
                    return (*receiver.where, way, "secret")
        named = [(each.where, each.secret) for each in told.remote_write]
        named += [(each.where, each.secret) for each in told.jobs] + [(told.smtp.where, told.smtp.secret)]
        return next(((*where, "secret") for where, secret in named if secret == name), (TOP,))


_QUOTED = re.compile(r""" "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | `[^`]*` """, re.VERBOSE | re.DOTALL)
_DURATION = re.compile(r"(?:[0-9]+(?:ms|[smhdwy]))+")


def rules_trouble(text: str) -> str:
    """What keeps a text from being a file of rules, as far as can be told without Prometheus; '' = nothing."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return f"line {mark.line + 1} cannot be read" if mark else "it cannot be read"
    groups = data.get("groups") if isinstance(data, dict) else None
    if not isinstance(groups, list) or set(data) != {"groups"}:
        return "it has to be one mapping with a list `groups` and nothing else"
    seen: set[str] = set()
    for number, group in enumerate(groups, 1):
        if not isinstance(group, dict) or not isinstance(group.get("name"), str):
            return f"group {number} has no name"
        if group["name"] in seen:
            return f"there are two groups {group['name']}"
        seen.add(group["name"])
        rules = group.get("rules")
        if not isinstance(rules, list):
            return f"group {group['name']} has no list of rules"
        for place, rule in enumerate(rules, 1):
            if trouble := _rule_trouble(rule):
                return f"rule {place} of group {group['name']} {trouble}"
    return ""


def _rule_trouble(rule: Any) -> str:
    if not isinstance(rule, dict):
        return "is no mapping"
    kinds = [kind for kind in ("alert", "record") if kind in rule]
    known = {"alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations"}
    if len(kinds) != 1:
        return "has to have either alert or record"
    if unknown := sorted(str(key) for key in set(rule) - known):
        return f"has the unknown key {unknown[0]}"
    if not isinstance(rule.get("expr"), (str, int, float)) or not str(rule["expr"]).strip():
        return "has no expr"
    bare = _QUOTED.sub("", str(rule["expr"]))
    if any(bare.count(one) != bare.count(other) for one, other in ("()", "[]", "{}")):
        return "has an expr whose brackets do not match"
    if "for" in rule and _DURATION.fullmatch(str(rule["for"])) is None:
        return f"has {rule['for']!r} as its `for`"
    return ""


def check_monitoring(ctx: Context) -> None:
    """Everything about monitoring; the groups are known."""
    if _written(ctx) or ctx.groups[PROMETHEUS]:
        MonitoringCheck(ctx).run()
