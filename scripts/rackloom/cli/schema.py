"""`rackloom schema`: JSON Schemas of the two files, for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rackloom.cli.options import JsonOption
from rackloom.result import Result

schema_app = typer.Typer(
    help="JSON Schemas of the configuration.", no_args_is_help=True, rich_markup_mode=None
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(schema_app, name="schema")


@schema_app.callback()
def group() -> None:
    """JSON Schemas of the configuration, for editors."""


@schema_app.command("export")
def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write them.")] = Path(
        "config/.schema"
    ),
    _json: JsonOption = False,
) -> Result:
    """Write cluster.schema.json and nodes.schema.json, with which editors complete and check."""
    from rackloom.site.models import export_schemas  # noqa: PLC0415 - slow to load

    written = [str(path) for path in export_schemas(directory)]
    return Result("schema export", data={"written": written}, view=tuple(written))
