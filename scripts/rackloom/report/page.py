"""The report of one run: a page that needs nothing but itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rackloom import __version__
from rackloom.report import plots
from rackloom.report.data import RunData, load
from rackloom.report.metrics import Plot
from rackloom.result import ExitCode
from rackloom.run.progress import names
from rackloom.run.rundirs import list_runs

_TEMPLATE = Path(__file__).with_name("page.html.j2")

_VERDICTS = {
    ExitCode.OK: ("good", "All is well"),
    ExitCode.FAILED: ("bad", "Failed"),
    ExitCode.VERDICT: ("bad", "A service is not well"),
    ExitCode.UNREACHABLE: ("warn", "Some hosts were not reached"),
    ExitCode.INTERRUPTED: ("warn", "Stopped"),
}


def find_run(config_dir: Path, wanted: str | None = None) -> Path | None:
    """A run by its folder, its name or the end of it; the last deploy when none is named, else the last run."""
    if wanted:
        if (Path(wanted) / "summary.json").is_file():
            return Path(wanted)
        fitting = [run for run in list_runs(config_dir) if run.name == wanted or wanted in run.name]
        return fitting[-1] if fitting else None
    for kind in ("deploy", ""):
        complete = [run for run in list_runs(config_dir, kind) if (run / "summary.json").is_file()]
        if complete:
            return complete[-1]
    return None


def write_page(run_dir: Path, output: Path, measured: Sequence[Plot] = ()) -> Path:
    """Write the run's page to `output`; parent folders are made. Gives `output`."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(render_page(load(run_dir), measured), encoding="utf-8")
    return output


def render_page(data: RunData, measured: Sequence[Plot] = ()) -> str:
    """The page as text."""
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - slow to load
    from markupsafe import Markup  # noqa: PLC0415

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    stages, spans = data.stages, data.spans()
    stage_names = [stage["name"] for stage in stages]
    shown = "1 host" if len(spans) == 1 else f"{len(spans)} hosts"
    return template.render(
        **_facts(data),
        # The drawings escape what they take in; see plots.
        stage_bar=Markup(plots.stage_bar(stages, data.seconds)),  # noqa: S704
        task_bars=Markup(plots.task_bars(data.costs(), stage_names, data.seconds)),  # noqa: S704
        gantt=Markup(plots.gantt(spans, stages, data.seconds)),  # noqa: S704
        measured=[
            {
                "title": plot.title,
                "drawing": Markup(plots.curves(plot)),  # noqa: S704
                "lines": [(line.name, plots.amount(line.points[-1][1], plot.unit)) for line in plot.lines],
            }
            for plot in measured
        ],
        measured_hours=f"{(measured[0].end - measured[0].start) / 3600:g}" if measured else "",
        gantt_hosts=f"{len(spans)} of {len(data.hosts)} hosts" if len(spans) < len(data.hosts) else shown,
    )


def _facts(data: RunData) -> dict[str, Any]:
    """All words and numbers of the page."""
    summary = data.summary
    tone, verdict = _VERDICTS.get(summary.get("exit_code", 1), ("bad", "Failed"))
    counts = summary.get("counts", {})
    changed = counts.get("changed", 0)
    tiles = [
        ("took", plots.seconds(data.seconds), ""),
        ("hosts", str(len(data.hosts)), _host_words(data)),
        ("tasks", str(counts.get("tasks", 0)), f"{counts.get('evaluations', 0)} evaluations"),
        ("changes", str(changed), "nothing had to be done" if not changed else ""),
        ("skipped", f"{100 * counts.get('skipped_share', 0):.0f} %", "of all evaluations"),
        ("shell", f"{100 * counts.get('shell_share', 0):.0f} %", "of all tasks"),
    ]
    return {
        "name": data.site.get("name") or summary.get("config", "cluster"),
        "domain": data.site.get("domain", ""),
        "kind": summary.get("kind", "run"),
        "started": summary.get("started", ""),
        "command": summary.get("command", ""),
        "run": data.path.name,
        "tone": tone,
        "verdict": verdict + (" (check mode)" if summary.get("check") else ""),
        "tiles": tiles,
        "errors": summary.get("errors", []),
        "resume": summary.get("resume", ""),
        "checks": data.checks,
        "checks_good": sum(1 for check in data.checks if check.get("ok")),
        "checks_from": data.checks_from if data.checks_from != data.path.name else "",
        "stages": [{**stage, "took": plots.seconds(stage["end"] - stage["start"])} for stage in data.stages],
        "nodes": _nodes(data),
        "groups": [
            {"name": name, "count": len(hosts), "names": names(hosts, most=3)}
            for name, hosts in data.site.get("groups", {}).items()
        ],
        "versions": sorted(summary.get("versions", {}).items()),
        "version": __version__,
        "written": time.strftime("%Y-%m-%d %H:%M"),
    }


def _host_words(data: RunData) -> str:
    bad = sum(1 for counts in data.hosts.values() if counts.get("failed"))
    lost = sum(1 for counts in data.hosts.values() if counts.get("unreachable") and not counts.get("failed"))
    words = [f"{bad} failed"] * bool(bad) + [f"{lost} unreachable"] * bool(lost)
    return ", ".join(words) or "all reached"


def _nodes(data: RunData) -> list[dict[str, str]]:
    """Nodes that are alike in everything but name and address are one line."""
    facts, services = data.summary.get("facts", {}), data.services()
    found: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for name, node in data.site.get("nodes", {}).items():
        mine = facts.get(name, {})
        system = " ".join(str(mine[key]) for key in ("distribution", "distribution_version") if key in mine)
        key = (
            node.get("role", ""),
            node.get("profile", ""),
            ", ".join(services.get(name, [])),
            system,
            str(mine.get("kernel", "")),
            _state(data.hosts.get(name)),
        )
        found.setdefault(key, []).append((name, node.get("address", "")))
    return [
        {
            "names": names([name for name, _ in mine], most=3),
            "count": str(len(mine)),
            "addresses": mine[0][1] if len(mine) == 1 else f"{mine[0][1]} … {mine[-1][1]}",
            **dict(zip(("role", "profile", "services", "system", "kernel", "state"), key, strict=True)),
        }
        for key, mine in found.items()
    ]


def _state(counts: dict[str, int] | None) -> str:
    if counts is None:
        return "not in this run"
    if counts.get("failed"):
        return "failed"
    if counts.get("unreachable"):
        return "unreachable"
    return "changed" if counts.get("changed") else "ok"
