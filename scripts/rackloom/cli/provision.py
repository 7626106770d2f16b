"""`rackloom provision`: from power-on to SSH."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from rackloom.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, progress_for
from rackloom.result import Block, ExitCode, Result, Status, Table

if TYPE_CHECKING:
    from rackloom.provision.run import Outcome


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("provision")(provision)


def provision(
    nodes: Annotated[
        list[str], typer.Argument(metavar="NODE…", help="Names, ranges like gpu[001-016], groups; or all.")
    ],
    reinstall: Annotated[
        bool,
        typer.Option(
            "--reinstall-and-erase-disks",
            help="Also install nodes that run an operating system. All that is on their disks is lost.",
        ),
    ] = False,
    power: Annotated[
        bool, typer.Option("--power/--no-power", help="Switch nodes on, or leave that to you.")
    ] = True,
    timeout: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", help="Give a node up that has not moved for so long."),
    ] = 900,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Install nodes over the network and follow them until they answer on SSH. Run it again to go on."""
    from rackloom.provision.run import Wish  # noqa: PLC0415 - slow to load
    from rackloom.provision.run import provision as run  # noqa: PLC0415
    from rackloom.provision.show import for_stream  # noqa: PLC0415

    wish = Wish(tuple(nodes), erase=reinstall, power=power, patience=timeout)
    display = for_stream(sys.stderr if as_json else sys.stdout)
    return as_result(run(config, wish, display, progress_for(as_json=as_json)))


def as_result(outcome: Outcome) -> Result:
    """The outcome as a command's result."""
    rows = [
        (
            str(node["name"]),
            str(node["state"]),
            str(node["stage"]),
            f"{node['seconds']:.0f} s" if node["seconds"] else "",
            str(node["image"]),
            str(node["address"]),
        )
        for node in outcome.nodes
    ]
    view: list[Block] = []
    if rows:
        view = [Table(("node", "state", "stage", "took", "image", "address"), rows), ""]
        up = sum(node["state"] in ("up", "kept") for node in outcome.nodes)
        view.append(f"{up} of {len(rows)} nodes are up after {outcome.seconds:.0f} s.")
    if outcome.resume:
        view.append(f"To go on: {outcome.resume}")
    status = Status.SUCCESS if outcome.exit_code is ExitCode.OK else Status.ERROR
    if status is Status.ERROR and any(node["state"] in ("up", "kept") for node in outcome.nodes):
        status = Status.PARTIAL
    return Result("provision", outcome.exit_code, outcome.as_dict(), outcome.problems, view, status)
