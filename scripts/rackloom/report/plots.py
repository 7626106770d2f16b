"""Drawings as inline SVG. Colours are CSS classes, so that the page decides on light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import floor, log10
from typing import Any

from rackloom.report.data import Span, TaskCost
from rackloom.report.metrics import Plot
from rackloom.run.progress import clock

WIDTH = 1000
_TIMES = (30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800)
_NICE = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)


def seconds(value: float) -> str:
    """`0.4 s`, `12 s`, `3:05 min`."""
    if value < 10:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 120 else f"{clock(value)} min"


def ticks(total: float, most: int = 8) -> list[float]:
    """Round positions on a time axis, from 0 on."""
    step = next((step for step in _NICE if total / step <= most), _NICE[-1])
    return [step * number for number in range(int(total / step) + 1)]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _svg(height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">'
        + "".join(parts)
        + "</svg>"
    )


def _axis(total: float, left: float, width: float, top: float, bottom: float) -> list[str]:
    parts = []
    for tick in ticks(total):
        x = left + width * tick / total
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>')
        label = f"{tick:g} s" if total < 120 else clock(tick)
        parts.append(f'<text class="axis" x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{label}</text>')
    return parts


def stage_bar(stages: Sequence[Mapping[str, Any]], total: float) -> str:
    """All stages on one line of time, each with its name and length."""
    if not stages:
        return ""
    left, wide = 14.0, WIDTH - 40.0
    parts = _axis(total, left, wide, 0, 46)
    for number, stage in enumerate(stages):
        x = left + wide * stage["start"] / total
        width = max(1.5, wide * (stage["end"] - stage["start"]) / total - 1.5)
        took = seconds(stage["end"] - stage["start"])
        title = escape(f"{stage['name']}: {took}, {stage['hosts']} hosts, {stage['status']}")
        bad = "" if stage["status"] == "ok" else " bad"
        parts.append(f'<g><title>{title}</title><rect class="stage s{number % 8}{bad}" x="{x:.1f}" y="4" '
                     f'width="{width:.1f}" height="38" rx="4"/>')  # fmt: skip
        if width > 11 + 7.4 * len(stage["name"]):
            parts.append(f'<text class="on" x="{x + 9:.1f}" y="20">{escape(stage["name"])}</text>')
            parts.append(f'<text class="on small" x="{x + 9:.1f}" y="35">{took}</text>')
        parts.append("</g>")
    return _svg(64, "Stages over time", parts)


def task_bars(costs: Sequence[TaskCost], stages: Sequence[str], total: float) -> str:
    """The longest tasks as bars, in the colour of their stage."""
    if not costs:
        return ""
    row, left = 25.0, 400.0
    most = max(0.1, *(cost.seconds for cost in costs))
    parts = []
    for number, cost in enumerate(costs):
        y = number * row
        width = max(2.0, (WIDTH - left - 130) * cost.seconds / most)
        colour = stages.index(cost.stage) % 8 if cost.stage in stages else 0
        hosts = "1 host" if cost.hosts == 1 else f"{cost.hosts} hosts"
        title = escape(f"{cost.title}\n{hosts}, {cost.changed} changed, longest on {cost.slowest}")
        share = f"{100 * cost.seconds / total:.0f} %"
        parts.append(
            f"<g><title>{title}</title>"
            f'<text class="label" x="{left - 12}" y="{y + 16}" text-anchor="end">{escape(_cut(cost.title, 57))}</text>'
            f'<rect class="stage s{colour}" x="{left}" y="{y + 4}" width="{width:.1f}" height="16" rx="3"/>'
            f'<text class="value" x="{left + width + 8:.1f}" y="{y + 16}">{seconds(cost.seconds)}'
            f'<tspan class="faint" dx="7">{share}</tspan></text></g>'
        )
    return _svg(len(costs) * row + 4, "Longest tasks", parts)


def amount(value: float, unit: str) -> str:
    """`35 %`, `1.2 GB/s`, `4 min`: a value in as few letters as say it."""
    if unit == "percent":
        return f"{value:.3g} %"
    if unit == "s":
        long, name = next((each for each in ((3600, "h"), (60, "min")) if value >= 2 * each[0]), (1, "s"))
        return f"{value / long:.3g} {name}"
    size, sign = abs(value), ""
    for name, least in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= least:
            value, sign = value / least, name
            break
    said = {"Bps": "B/s", "watt": "W", "bytes": "B"}.get(unit, "")
    return f"{value:.3g} {sign}{said}".strip()


def heights(most: float, unit: str) -> list[float]:
    """Round values up to one that is not less than `most`, from 0 on."""
    if unit == "percent" and 40 < most <= 100:
        return [0, 25, 50, 75, 100]
    rough = max(most, 1e-9) / 4
    if unit == "s" and 15 < rough <= _TIMES[-1]:
        step = float(next(each for each in _TIMES if each >= rough))
        return [step * number for number in range(5)]
    power = 10.0 ** floor(log10(rough))
    step = next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= rough * 0.999)
    return [step * number for number in range(5)]


def curves(plot: Plot) -> str:
    """Lines over time, from 0 up; where nothing was measured there is a gap."""
    from time import localtime, strftime  # noqa: PLC0415

    wide, high, left, top = 480.0, 190.0, 66.0, 10.0
    span = plot.end - plot.start
    values = [value for line in plot.lines for _, value in line.points]
    levels = heights(max(values, default=1), plot.unit)
    right, bottom = wide - 12, high - 26
    parts = []
    for level in levels:
        y = bottom - (bottom - top) * level / levels[-1]
        parts.append(f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="axis" x="{left - 7}" y="{y + 4:.1f}" text-anchor="end">{amount(level, plot.unit)}</text>'
        )
    for number in range(4):
        x = left + (right - left) * number / 3
        anchor = ("start", "middle", "middle", "end")[number]
        clock_ = strftime("%H:%M", localtime(plot.start + span * number / 3))
        parts.append(
            f'<text class="axis" x="{x:.1f}" y="{bottom + 17}" text-anchor="{anchor}">{clock_}</text>'
        )
    for number, line in enumerate(plot.lines):
        path, last = "", float("-inf")
        for when, value in line.points:
            x = left + (right - left) * (when - plot.start) / span
            y = bottom - (bottom - top) * max(0.0, value) / levels[-1]
            # A point alone is a dot, by its round ends.
            path += f"{'L' if when - last < 3 * plot.step else 'M'}{x:.1f} {y:.1f}" + ("" if path else "h0")
            last = when
        title = escape(f"{plot.title}: {line.name}")
        parts.append(f'<path class="curve c{number}" d="{path}"><title>{title}</title></path>')
    return (
        f'<svg class="plot" viewBox="0 0 {wide:.0f} {high:.0f}" role="img" aria-label="{escape(plot.title)}">'
        + "".join(parts)
        + "</svg>"
    )


def gantt(spans: Mapping[str, Sequence[Span]], stages: Sequence[Mapping[str, Any]], total: float) -> str:
    """One line a host, over the stages: when it worked, and how that ended."""
    if not spans:
        return ""
    row, left = (22.0, 130.0) if len(spans) <= 24 else (15.0, 130.0)
    tight = "label" if row > 20 else "tight"
    width, top = WIDTH - left - 20, 24.0
    bottom = top + row * len(spans) + 4
    parts = []
    for number, stage in enumerate(stages):
        x, wide = left + width * stage["start"] / total, width * (stage["end"] - stage["start"]) / total
        parts.append(f'<rect class="band s{number % 8}" x="{x:.1f}" y="{top - 4}" width="{max(wide, 1):.1f}" '
                     f'height="{bottom - top + 4:.0f}"/>')  # fmt: skip
        if wide > 7.4 * len(stage["name"]):
            parts.append(f'<text class="axis" x="{x + 3:.1f}" y="{top - 9}">{escape(stage["name"])}</text>')
    parts += _axis(total, left, width, top - 4, bottom)
    for number, (host, mine) in enumerate(spans.items()):
        y = top + number * row
        parts.append(f'<text class="{tight}" x="{left - 10}" y="{y + row / 2 + 4:.1f}" text-anchor="end">'
                     f"{escape(_cut(host, 17))}</text>")  # fmt: skip
        for span in mine:
            x, wide = left + width * span.start / total, max(0.8, width * (span.end - span.start) / total)
            title = escape(f"{host}: {span.title}\n{span.status}, {seconds(span.end - span.start)}")
            parts.append(f'<rect class="{escape(span.status)}" x="{x:.1f}" y="{y + 2:.1f}" width="{wide:.1f}" '
                         f'height="{row - 5:.1f}" rx="1.5"><title>{title}</title></rect>')  # fmt: skip
    return _svg(bottom + 20, "Each host's time", parts)
