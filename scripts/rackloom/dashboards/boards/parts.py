"""Panels that many dashboards have, in short."""

from __future__ import annotations

from rackloom.dashboards.model import Kind, Panel, Query, Variable

GOOD, WARN, BAD = "green", "orange", "red"
Limits = tuple[tuple[float | None, str], ...]
PLAIN: Limits = ((None, "text"),)
ZERO_IS_GOOD: Limits = ((None, GOOD), (1, BAD))
ONE_IS_GOOD: Limits = ((None, BAD), (1, GOOD))
FULL: Limits = ((None, GOOD), (80, WARN), (90, BAD))
PHYSICAL = 'device!~"lo|veth.*|docker.*|cni.*|flannel.*|cali.*|br-.*|podman.*"'
"""Network interfaces that are wires."""
DISKS = 'device!~"loop.*|ram.*|dm-.*|sr.*"'
FILES = 'fstype!~"tmpfs|ramfs|overlay|squashfs|nsfs|devtmpfs|fuse.*"'
LOGS_BEHIND = "time() - rackloom_log_shipper_confirmed_timestamp_seconds"
"""How long a node has had lines that the log store has not confirmed."""

NODE = Variable("node", "node", "node_uname_info", "Node")


def stat(
    title: str,
    expr: str,
    unit: str = "short",
    *,
    limits: Limits = PLAIN,
    width: int = 3,
    help: str = "",  # noqa: A002
) -> Panel:
    """One number of now."""
    return Panel(title, (Query(expr),), "stat", unit, width, 4, help, limits)


def lines(
    title: str,
    *queries: tuple[str, str],
    unit: str = "short",
    width: int = 8,
    stack: bool = False,
    low: float | None = 0,
    high: float | None = None,
    help: str = "",  # noqa: A002
    quiet: bool = False,
) -> Panel:
    """Lines over time; queries are (expression, legend)."""
    return Panel(
        title,
        tuple(Query(*query) for query in queries),
        "timeseries",
        unit,
        width,
        8,
        help,
        stack=stack,
        low=low,
        high=high,
        quiet=quiet,
    )


def table(
    title: str,
    *exprs: str,
    unit: str = "short",
    width: int = 12,
    hide: tuple[str, ...] = (),
    help: str = "",  # noqa: A002
    quiet: bool = False,
) -> Panel:
    """Series of now, a row each."""
    queries = tuple(Query(expr) for expr in exprs)
    return Panel(title, queries, "table", unit, width, 9, help, PLAIN, hide=hide, quiet=quiet)


def bars(
    title: str,
    expr: str,
    legend: str,
    unit: str = "percent",
    *,
    width: int = 8,
    limits: Limits = FULL,
    high: float | None = 100,
    kind: Kind = "bars",
) -> Panel:
    """A bar for each series of now."""
    return Panel(title, (Query(expr, legend),), kind, unit, width, 8, "", limits, low=0, high=high)
