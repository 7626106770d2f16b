"""`rackloom init`: a new site's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rackloom.cli.options import JsonOption
from rackloom.result import Result


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(init)


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to make it.")] = Path("config"),
    _json: JsonOption = False,
) -> Result:
    """Make a site's folder with two commented files to edit. Never overwrites."""
    from rackloom.site import scaffold  # noqa: PLC0415 - slow to load

    written = [str(path) for path in scaffold.init(directory)]
    after = "Now edit cluster.yml and nodes.yml, then: rackloom secrets init; rackloom check; rackloom deploy"
    return Result("init", data={"directory": str(directory), "written": written}, view=(*written, "", after))
