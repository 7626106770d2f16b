"""`rackloom nodes`: single nodes of a cluster that is already there."""

from __future__ import annotations

from typing import Annotated

import typer

from rackloom.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, progress_for
from rackloom.result import Result, refused

nodes_app = typer.Typer(help="Nodes of a running cluster.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(nodes_app, name="nodes")


@nodes_app.callback()
def group() -> None:
    """Add nodes to a running cluster."""


@nodes_app.command("add")
def add(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", help="Nodes already written into nodes.yml, or ranges.")
    ],
    check: Annotated[bool, typer.Option("--check", help="Only tell what would change.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Deploy new nodes, and tell the hosts whose files list all nodes. No other node is touched."""
    from rackloom.cli.outcome import as_result  # noqa: PLC0415
    from rackloom.run.deploy import deploy  # noqa: PLC0415 - slow to load
    from rackloom.run.join import NotANodeError, limit_for  # noqa: PLC0415

    try:
        limit = limit_for(config, names)
    except NotANodeError as error:
        return refused("nodes add", "unknown_node", str(error), error.cure)
    return as_result(
        "nodes add", deploy(config, limit=limit, check=check, progress=progress_for(as_json=as_json))
    )
