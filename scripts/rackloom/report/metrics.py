"""The main plots of the last hours, for people without Grafana: what the cluster's dashboard draws over time."""

from __future__ import annotations

import base64
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

_POINTS = 240
_MOST = 8
"""Lines of a plot; more of them nobody can tell apart."""
_SECONDS = 20.0


class NoMetricsError(Exception):
    """There are none to be had. `str()` says why, in one sentence."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line: (seconds since 1970, value) in order."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture. unit: as Grafana calls it. step: seconds between two points; a longer gap is a gap."""

    title: str
    unit: str
    start: float
    end: float
    step: float
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A Prometheus: https://host:port/prefix, and who may ask it. authority: PEM, "" where there is no TLS."""

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    authority: str = ""

    def ask(self, path: str, **told: object) -> Any:
        """One answer of its API. Raises OSError, or ValueError where it is no Prometheus."""
        words = urllib.parse.urlencode({name: str(value) for name, value in told.items()}).encode()
        request = urllib.request.Request(f"{self.url}/api/v1/{path}", words)  # noqa: S310 - out of our own inventory
        if self.user:
            login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            request.add_header("Authorization", f"Basic {login}")
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if self.authority:
            context = ssl.create_default_context(cadata=self.authority)
            handlers.append(urllib.request.HTTPSHandler(context=context))
        with urllib.request.build_opener(*handlers).open(request, timeout=_SECONDS) as answer:
            return json.load(answer)["data"]


def sources(config_dir: Path) -> list[Source]:
    """The site's own. Raises NoMetricsError."""
    from rackloom.site import load_site, secrets  # noqa: PLC0415 - slow to load
    from rackloom.site.check import SiteError  # noqa: PLC0415
    from rackloom.site.monitoring_vars import PROMETHEUS, PROMETHEUS_PORT, PROMETHEUS_PREFIX  # noqa: PLC0415

    try:
        hosts = load_site(config_dir).group(PROMETHEUS)
        known = secrets.load(config_dir, [PROMETHEUS]) if hosts else {}
    except (SiteError, secrets.SecretsError) as error:
        raise NoMetricsError(str(error)) from None
    if not hosts:
        raise NoMetricsError("This site has no Prometheus; `monitoring: {}` in cluster.yml adds it.")
    found = []
    for node in hosts:
        host = f"[{node.address}]" if ":" in node.address else node.address
        url = f"https://{host}:{PROMETHEUS_PORT}{PROMETHEUS_PREFIX}"
        found.append(Source(url, "rackloom", known["monitoring_web_password"], known["ca_certificate"]))
    return found


def collect(places: Sequence[Source], hours: float = 6, now: float | None = None) -> list[Plot]:
    """What the first of them that answers has to draw. Raises NoMetricsError where none does."""
    end = time.time() if now is None else now
    trouble = "there is no Prometheus"
    for place in places:
        try:
            return _plots(place, end - hours * 3600, end)
        except (OSError, ValueError, KeyError) as error:
            reason = getattr(error, "reason", None) or error
            trouble = f"{place.url}: {reason}"
    raise NoMetricsError(f"No Prometheus answers ({trouble}); `rackloom validate monitoring` tells more.")


def _plots(place: Source, start: float, end: float) -> list[Plot]:
    from rackloom.dashboards import DASHBOARDS  # noqa: PLC0415 - this module is loaded without need of them

    step = max(15.0, (end - start) / _POINTS)
    found = []
    board = next(board for board in DASHBOARDS if board.uid == "rackloom-cluster")
    for panel in board.panels():
        if panel.kind != "timeseries":
            continue
        lines: list[Line] = []
        for query in panel.queries:
            expr = query.expr.replace("$__rate_interval", "5m")
            rows = place.ask("query_range", query=expr, start=start, end=end, step=step)["result"]
            lines += [_line(query.legend, row) for row in rows]
        if lines:
            # The largest, where there are too many.
            lines = sorted(lines, key=lambda line: -max(value for _, value in line.points))[:_MOST]
            found.append(Plot(panel.title, panel.unit, start, end, step, tuple(lines)))
    return found


def _line(legend: str, row: dict[str, Any]) -> Line:
    name = legend
    for label, value in row["metric"].items():
        name = name.replace(f"{{{{{label}}}}}", str(value))
    points = [(float(when), float(value)) for when, value in row["values"]]
    return Line(name, tuple((when, value) for when, value in points if isfinite(value)))
