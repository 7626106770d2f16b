"""`rackloom kubernetes`: snapshots of what it keeps, and its end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from rackloom.cli.nodes import CheckOption
from rackloom.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from rackloom.result import Result

kubernetes_app = typer.Typer(
    help="Kubernetes' snapshots, and its end.", no_args_is_help=True, rich_markup_mode=None
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(kubernetes_app, name="kubernetes")


@kubernetes_app.callback()
def group() -> None:
    """Save and restore what Kubernetes keeps, or take it off all nodes."""


@kubernetes_app.command("snapshot")
def snapshot(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Where to; left out: snapshots/ in the site's folder."),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Save everything that Kubernetes keeps into a file on this machine."""
    from rackloom.cli.lifecycle import result_of, sink  # noqa: PLC0415
    from rackloom.lifecycle.run import snapshot as run  # noqa: PLC0415 - slow to load

    path = file or config / "snapshots" / f"{time.strftime('%Y%m%d-%H%M%S')}.db"
    return result_of("kubernetes snapshot", run(config, path, sink(as_json=as_json)))


@kubernetes_app.command("restore")
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A snapshot on this machine.")],
    replace: Annotated[
        bool,
        typer.Option(
            "--replace-the-running-cluster", help="Though the API answers. What was written since is lost."
        ),
    ] = False,
    check: CheckOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Begin the control plane anew with a snapshot, on the nodes that the site names. Workers are not touched."""
    from rackloom.cli.lifecycle import result_of, sink  # noqa: PLC0415
    from rackloom.lifecycle.run import restore as run  # noqa: PLC0415 - slow to load

    done = run(config, file, sink(as_json=as_json), replace_running=replace, check=check)
    return result_of("kubernetes restore", done, check=check)


@kubernetes_app.command("reset")
def reset(
    erase: Annotated[
        bool,
        typer.Option("--erase-the-whole-cluster", help="Yes: all that Kubernetes keeps and runs is lost."),
    ] = False,
    check: CheckOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Take Kubernetes off all nodes of the site. A snapshot is saved before, where the API answers."""
    from rackloom.cli.lifecycle import result_of, sink  # noqa: PLC0415
    from rackloom.lifecycle.run import reset as run  # noqa: PLC0415 - slow to load

    return result_of(
        "kubernetes reset", run(config, sink(as_json=as_json), erase=erase, check=check), check=check
    )
