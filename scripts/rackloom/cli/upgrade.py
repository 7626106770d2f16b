"""`rackloom upgrade`: another release of what runs."""

from __future__ import annotations

from typing import Annotated

import typer

from rackloom.cli.nodes import TimeoutOption, UnmanagedOption
from rackloom.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from rackloom.result import Result

upgrade_app = typer.Typer(help="Other releases of what runs.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(upgrade_app, name="upgrade")


@upgrade_app.callback()
def group() -> None:
    """Bring a part of the cluster to another release."""


@upgrade_app.command("kubernetes")
def kubernetes(
    to: Annotated[
        str,
        typer.Option("--to", metavar="RELEASE", help="X.Y.Z, of which the versions file holds the records."),
    ],
    wave: Annotated[
        str, typer.Option("--wave", metavar="N", help="Workers at a time: a number, or a share like 10%.")
    ] = "1",
    pause_after: Annotated[
        str,
        typer.Option(
            "--pause-after",
            metavar="NODE",
            help="Stop after this node and its wave, or after `control-plane`.",
        ),
    ] = "",
    check: Annotated[bool, typer.Option("--check", help="Only show the plan.")] = False,
    timeout: TimeoutOption = 600,
    unmanaged: UnmanagedOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Upgrade Kubernetes, the control plane node by node, then workers in waves. Run it again to go on."""
    from rackloom.cli.lifecycle import carried_out  # noqa: PLC0415
    from rackloom.lifecycle import plan_upgrade, run  # noqa: PLC0415 - slow to load

    wish = plan_upgrade.Wish(to.strip().removeprefix("v"), wave, pause_after, delete_unmanaged=unmanaged)
    limits = run.Limits(timeout, delete_unmanaged=unmanaged)
    return carried_out("upgrade kubernetes", run.upgrade, config, wish, limits, check, as_json)
