"""`rackloom nodes`: single nodes of a cluster that is already there."""

from __future__ import annotations

from typing import Annotated

import typer

from rackloom.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, progress_for
from rackloom.result import Result, refused

nodes_app = typer.Typer(help="Nodes of a running cluster.", no_args_is_help=True, rich_markup_mode=None)

CheckOption = Annotated[bool, typer.Option("--check", help="Only tell what would be done.")]
TimeoutOption = Annotated[
    int,
    typer.Option("--timeout", metavar="SECONDS", min=1, help="How long jobs and pods have to leave a node."),
]
UnmanagedOption = Annotated[
    bool,
    typer.Option("--delete-unmanaged-pods", help="Also delete pods that nothing makes anew. They are lost."),
]
JobsOption = Annotated[
    bool,
    typer.Option(
        "--cancel-running-jobs", help="Cancel jobs that still run when the time is over. They are lost."
    ),
]
DeadOption = Annotated[
    bool,
    typer.Option("--the-node-is-dead-and-stays-so", help="It is off, and will never come back as it was."),
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(nodes_app, name="nodes")


@nodes_app.callback()
def group() -> None:
    """Add, remove, replace, move and reboot nodes of a running cluster."""


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


@nodes_app.command("remove")
def remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Nodes, or ranges like gpu[007-008].")],
    check: CheckOption = False,
    timeout: TimeoutOption = 600,
    unmanaged: UnmanagedOption = False,
    cancel_jobs: JobsOption = False,
    dead: DeadOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Drain nodes, take them out of Slurm, Kubernetes and etcd, and out of the site's files."""
    from rackloom.cli.lifecycle import carried_out, expanded  # noqa: PLC0415
    from rackloom.lifecycle import plan_nodes, run  # noqa: PLC0415 - slow to load

    wanted = expanded("nodes remove", names)
    if isinstance(wanted, Result):
        return wanted
    wish = plan_nodes.Removal(wanted, dead=dead, delete_unmanaged=unmanaged)
    limits = run.Limits(timeout, cancel_jobs=cancel_jobs, delete_unmanaged=unmanaged)
    return carried_out("nodes remove", run.remove, config, wish, limits, check, as_json)


@nodes_app.command("replace")
def replace(  # noqa: PLR0913, PLR0917 - one argument an option
    old: Annotated[str, typer.Argument(metavar="OLD", help="The node that leaves.")],
    new: Annotated[
        str, typer.Argument(metavar="NEW", help="The node that joins; it is in nodes.yml already.")
    ],
    check: CheckOption = False,
    timeout: TimeoutOption = 600,
    unmanaged: UnmanagedOption = False,
    cancel_jobs: JobsOption = False,
    dead: DeadOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Put a node in the place of another one, which is drained and removed, or dead."""
    from rackloom.cli.lifecycle import carried_out  # noqa: PLC0415
    from rackloom.lifecycle import plan_nodes, run  # noqa: PLC0415 - slow to load

    wish = plan_nodes.Removal((old,), dead=dead, delete_unmanaged=unmanaged, by=new)
    limits = run.Limits(timeout, cancel_jobs=cancel_jobs, delete_unmanaged=unmanaged)
    return carried_out("nodes replace", run.remove, config, wish, limits, check, as_json)


@nodes_app.command("move")
def move(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One node.")],
    to: Annotated[str, typer.Option("--to", metavar="slurm|kubernetes", help="Whom it serves from now on.")],
    check: CheckOption = False,
    timeout: TimeoutOption = 600,
    unmanaged: UnmanagedOption = False,
    cancel_jobs: JobsOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Drain a node in one scheduler and let it serve the other. Running jobs end first. Run it again to go on."""
    from rackloom.cli.lifecycle import carried_out  # noqa: PLC0415
    from rackloom.lifecycle import plan_nodes, run  # noqa: PLC0415 - slow to load

    if to not in ("slurm", "kubernetes"):
        return refused("nodes move", "usage", f"{to} is none of slurm, kubernetes", "see --help")
    wish = plan_nodes.Move(name, to, delete_unmanaged=unmanaged)  # type: ignore[arg-type]
    limits = run.Limits(timeout, cancel_jobs=cancel_jobs, delete_unmanaged=unmanaged)
    return carried_out("nodes move", run.move, config, wish, limits, check, as_json)


@nodes_app.command("reboot")
def reboot(  # noqa: PLR0913, PLR0917 - one argument an option
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Nodes, or ranges like gpu[001-016]; with --needed, all when none."
        ),
    ] = None,
    needed: Annotated[
        bool,
        typer.Option("--needed", help="Only those that have to be: a new kernel or driver, a stopped run."),
    ] = False,
    wave: Annotated[
        str, typer.Option("--wave", metavar="N|N%", help="How many at a time, a number or a share.")
    ] = "1",
    check: CheckOption = False,
    timeout: TimeoutOption = 600,
    unmanaged: UnmanagedOption = False,
    cancel_jobs: JobsOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Drain nodes, reboot them, and let them serve again, wave by wave. It stops at the first that does not return."""
    from rackloom.cli.lifecycle import carried_out, expanded  # noqa: PLC0415
    from rackloom.lifecycle import plan_reboot, run  # noqa: PLC0415 - slow to load

    wanted = expanded("nodes reboot", names or ())
    if isinstance(wanted, Result):
        return wanted
    if not wanted and not needed:
        return refused("nodes reboot", "usage", "no node is named", "name nodes, or write --needed")
    wish = plan_reboot.Wish(wanted, needed=needed, wave=wave, delete_unmanaged=unmanaged)
    limits = run.Limits(timeout, cancel_jobs=cancel_jobs, delete_unmanaged=unmanaged)
    return carried_out("nodes reboot", run.reboot, config, wish, limits, check, as_json)
