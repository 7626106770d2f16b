"""`rackloom deploy`: make the nodes what the site says."""

from __future__ import annotations

from typing import Annotated

import typer

from rackloom.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    LimitOption,
    complete_stage,
    progress_for,
)
from rackloom.result import Result


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("deploy")(deploy)


def deploy(
    stages: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STAGE", help="Only these stages; all when none.", autocompletion=complete_stage
        ),
    ] = None,
    limit: LimitOption = None,
    check: Annotated[bool, typer.Option("--check", help="Only tell what would change.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Bring the nodes to what the configuration says. May be run again at any time."""
    from rackloom.cli.outcome import as_result  # noqa: PLC0415
    from rackloom.run.deploy import deploy as run  # noqa: PLC0415 - slow to load

    progress = progress_for(as_json=as_json)
    return as_result("deploy", run(config, stages=stages or (), limit=limit, check=check, progress=progress))
