"""`rackloom report`: a run as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rackloom.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from rackloom.result import Result, refused


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(report)


def complete_run(incomplete: str) -> list[str]:
    """Runs of the default site."""
    from rackloom.run.rundirs import list_runs  # noqa: PLC0415 - only when completing

    return [path.name for path in list_runs(DEFAULT_CONFIG) if path.name.startswith(incomplete)]


def report(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A run's name or folder; the last deploy when none.",
                       autocompletion=complete_run),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write; beside the run when none.")
    ] = None,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Ask Prometheus, and draw the cluster's last six hours too.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    _json: JsonOption = False,
) -> Result:  # fmt: skip
    """Write one self-contained HTML page about a run: nodes, versions, verdicts, and what took the time."""
    from rackloom.report.metrics import NoMetricsError, collect, sources  # noqa: PLC0415 - slow to load
    from rackloom.report.page import find_run, write_page  # noqa: PLC0415

    found = find_run(config, run)
    if found is None:
        what = f"there is no run {run}" if run else f"there is no run yet in {config}"
        return refused("report", "no_run", what, "`rackloom deploy` makes one")
    try:
        measured = collect(sources(config)) if metrics else []
    except NoMetricsError as error:
        return refused("report", "no_metrics", str(error))
    page = write_page(found, output or found / "report.html", measured)
    return Result("report", data={"run": str(found), "file": str(page)}, view=(str(page),))
