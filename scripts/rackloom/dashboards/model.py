"""What a dashboard is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["stat", "timeseries", "table", "bars", "states"]
WIDTH = 24
"""Columns of a row, as Grafana counts."""


@dataclass(frozen=True, slots=True)
class Query:
    """One expression of PromQL and how its series are called. {{label}} stands for a label's value."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. limits: (from which value, colour), the first one's value is where everything begins."""

    title: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 7
    help: str = ""
    limits: tuple[tuple[float | None, str], ...] = ()
    stack: bool = False
    low: float | None = None
    high: float | None = None
    hide: tuple[str, ...] = ()
    """Columns of a table that nobody needs."""
    quiet: bool = False
    """Whether nothing to show is good news."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels beside each other under a title; what does not fit goes to the next line."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """Something that the reader chooses: the values that a label has on the series of a metric or selector."""

    name: str
    label: str
    metric: str
    title: str
    many: bool = True
    hidden: bool = False
    """Not shown: it has all values of a selector that another variable is part of, such as a job's nodes."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page. uid is what links point to, so it stays."""

    uid: str
    title: str
    rows: tuple[Row, ...]
    help: str = ""
    variables: tuple[Variable, ...] = ()
    needs: str = ""
    """The job without which it is empty; "" for what every site has."""
    since: str = "now-6h"
    refresh: str = "1m"
    tags: tuple[str, ...] = field(default=("rackloom",))

    def panels(self) -> Iterator[Panel]:
        """All of them, in order."""
        for row in self.rows:
            yield from row.panels

    def mistakes(self) -> list[str]:
        """What is wrong with it by itself, in sentences."""
        found: list[str] = []
        known = {variable.name for variable in self.variables}
        titles = [panel.title for panel in self.panels()]
        found += [
            f"{self.uid}: two panels are called {title}"
            for title in {t for t in titles if titles.count(t) > 1}
        ]
        for panel in self.panels():
            place = f"{self.uid}: {panel.title}"
            if not panel.queries:
                found.append(f"{place}: no query")
            if not 1 <= panel.width <= WIDTH:
                found.append(f"{place}: {panel.width} columns; a row has {WIDTH}")
            for query in panel.queries:
                used = set(re.findall(r"\$(?!__)(\w+)", query.expr))
                found += [
                    f"{place}: ${name} is no variable of this dashboard" for name in sorted(used - known)
                ]
        return found
