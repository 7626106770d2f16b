"""`rackloom validate`: ask the services to prove that they work."""

from __future__ import annotations

from typing import Annotated

import typer

from rackloom.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, complete_service, progress_for
from rackloom.result import Block, Result


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("validate")(validate)


def validate(
    services: Annotated[
        list[str] | None,
        typer.Argument(metavar="SERVICE", help="Only these; all when none.", autocompletion=complete_service),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Have every service prove that it works: jobs run as a user, limits hold, records are kept."""
    from rackloom.cli.outcome import checks_table, status_of  # noqa: PLC0415
    from rackloom.run.ask import validate as ask  # noqa: PLC0415 - slow to load

    outcome = ask(config, services or (), progress_for(as_json=as_json))
    data = {
        "ok": int(outcome.exit_code) == 0,
        "checks": [dict(check) for check in outcome.checks],
        "run": str(outcome.run_dir) if outcome.run_dir else None,
        "seconds": round(outcome.seconds, 1),
    }
    view: list[Block] = []
    if outcome.run_dir:
        good = sum(1 for check in outcome.checks if check.get("ok"))
        view = [
            checks_table(outcome.checks),
            "",
            f"{good} of {len(outcome.checks)} checks ok, {outcome.seconds:.1f} s. {outcome.run_dir}",
        ]
    return Result("validate", outcome.exit_code, data, outcome.problems, view, status_of(outcome))
