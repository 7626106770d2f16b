"""`rackloom version`."""

from __future__ import annotations

import typer

from rackloom import __version__
from rackloom.cli.options import JsonOption
from rackloom.result import Result


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("version")(version)


def version(_json: JsonOption = False) -> Result:
    """Tell the version."""
    return Result("version", data={"version": __version__}, view=(__version__,), raw=True)
