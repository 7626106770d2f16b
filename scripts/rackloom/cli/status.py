"""`rackloom status`: what runs where."""

from __future__ import annotations

import typer

from rackloom.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, LimitOption, progress_for
from rackloom.result import Block, Result, Table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(
    limit: LimitOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Tell which services run where. Quick, and changes nothing."""
    from rackloom.cli.outcome import status_of  # noqa: PLC0415
    from rackloom.run.ask import fold_status  # noqa: PLC0415 - slow to load
    from rackloom.run.ask import status as ask  # noqa: PLC0415

    outcome = ask(config, limit, progress_for(as_json=as_json, quick=True))
    data = {
        "ok": int(outcome.exit_code) == 0,
        "services": [dict(row) for row in outcome.statuses],
        "unreachable": sorted(name for name, counts in outcome.hosts.items() if counts["unreachable"]),
        "seconds": round(outcome.seconds, 1),
    }
    view: list[Block] = []
    if outcome.run_dir:
        rows = [(service, hosts, "ok" if ok else "failed", detail) for service, hosts, ok, detail in
                fold_status(outcome.statuses)]  # fmt: skip
        view = [Table(("service", "hosts", "state", "detail"), rows)]
    return Result("status", outcome.exit_code, data, outcome.problems, view, status_of(outcome))
