"""`rackloom lab`: a cluster of containers on this machine."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rackloom.cli.options import JsonOption, progress_for
from rackloom.result import Block, ExitCode, Handover, Result, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from rackloom.lab.manage import LabState

lab_app = typer.Typer(
    help="A cluster of containers on this machine.", no_args_is_help=True, rich_markup_mode=None
)


class Switch(StrEnum):
    """What to do with a node's power."""

    ON = "on"
    OFF = "off"


def complete_node(ctx: typer.Context, incomplete: str) -> list[str]:
    """Nodes of the lab, as lab.json has them."""
    import json  # noqa: PLC0415 - only when completing

    from rackloom.site.paths import home  # noqa: PLC0415

    try:
        text = (home() / ".lab" / str(ctx.params.get("name") or "lab") / "lab.json").read_text(
            encoding="utf-8"
        )
        names = [str(node["name"]) for node in json.loads(text)["nodes"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [name for name in names if name.startswith(incomplete)]


NameOption = Annotated[
    str, typer.Option("--name", metavar="NAME", help="Which lab; several can live side by side.")
]
NodeArgument = Annotated[
    str, typer.Argument(metavar="NODE", help="A node's name.", autocompletion=complete_node)
]


vm_app = typer.Typer(
    help="Virtual machines on the lab's network.", no_args_is_help=True, rich_markup_mode=None
)


class Firmware(StrEnum):
    """What a virtual machine boots with."""

    UEFI = "uefi"
    BIOS = "bios"


def register(app: typer.Typer) -> None:
    """Add the group."""
    lab_app.add_typer(vm_app, name="vm")
    app.add_typer(lab_app, name="lab")


@lab_app.callback()
def group() -> None:
    """A cluster of systemd containers on this machine, deployed like a real one."""


@lab_app.command("up")
def up(  # noqa: PLR0913, PLR0917 - each is an option of the command
    name: NameOption = "lab",
    compute: Annotated[
        int | None, typer.Option("--compute", metavar="N", help="Compute nodes; 2 in a new lab.")
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option("--gpus", metavar="G", help="Played GPUs in each compute node; 2 in a new lab."),
    ] = None,
    os: Annotated[
        str | None, typer.Option("--os", metavar="OS", help="debian-12 (a new lab's) or debian-13.")
    ] = None,
    management: Annotated[
        int | None, typer.Option("--management", metavar="N", help="Management nodes; 1 in a new lab.")
    ] = None,
    closed: Annotated[
        bool | None,
        typer.Option(
            "--closed/--open", help="Nothing gets out of a closed lab; it wants a bundle. A new lab is open."
        ),
    ] = None,
    kubernetes: Annotated[
        bool | None,
        typer.Option(
            "--kubernetes/--no-kubernetes",
            help="Kubernetes on the management nodes and the first compute node, Slurm on the others.",
        ),
    ] = None,
    deploy: Annotated[
        bool, typer.Option("--deploy/--no-deploy", help="Deploy to the nodes when they are up.")
    ] = True,
    as_json: JsonOption = False,
) -> Result:
    """Boot a lab and deploy the cluster to it. More nodes than before are added; run it again to go on."""
    from rackloom.lab import manage  # noqa: PLC0415 - slow to load

    began = time.monotonic()
    display = progress_for(as_json=as_json)
    old = manage.recorded(name) or manage.LabOptions(name=name)
    options = replace(
        old,
        compute=old.compute if compute is None else compute,
        gpus=old.gpus if gpus is None else gpus,
        os=os or old.os,
        management=old.management if management is None else management,
        closed=old.closed if closed is None else closed,
        kubernetes=old.kubernetes if kubernetes is None else kubernetes,
    )
    state = manage.up(options, _tell(as_json=as_json), display=display, deploy=deploy)
    return _up_result(state, time.monotonic() - began)


@lab_app.command("down")
def down(
    name: NameOption = "lab",
    images: Annotated[bool, typer.Option("--images", help="Also node images that no lab uses.")] = False,
    as_json: JsonOption = False,
) -> Result:
    """Remove everything the lab made, and nothing else."""
    from rackloom.lab import manage  # noqa: PLC0415 - slow to load

    removed = manage.down(name, images=images, progress=_tell(as_json=as_json))
    said = f"The lab {name} is gone." if removed else f"There was no lab {name}."
    return Result("lab down", data={"name": name, "removed": removed}, view=(said,))


@lab_app.command("status")
def status(name: NameOption = "lab", _json: JsonOption = False) -> Result:
    """Tell which nodes there are and whether they run."""
    from rackloom.lab import manage  # noqa: PLC0415 - slow to load

    found = manage.status(name)
    if not found.exists:
        others = [other for other in manage.labs() if other != name]
        more = f" There is: {', '.join(others)}." if others else ""
        return Result(
            "lab status", data={"name": name, "exists": False}, view=(f"There is no lab {name}.{more}",)
        )
    data = {
        "name": name,
        "exists": True,
        "os": found.os,
        "subnet": found.subnet,
        "config": str(found.config_dir),
        "deployed": found.deployed,
        "escapes": asdict(found.escapes) if found.escapes else None,
        "nodes": [asdict(node) for node in found.nodes],
    }
    rows = [(node.name, node.role, node.address, node.state) for node in found.nodes]
    view: list[Block] = [Table(("node", "role", "address", "state"), rows), ""]
    view.append(f"{found.os}, {found.subnet}, {'deployed' if found.deployed else 'not deployed yet'}.")
    view.append(f"Its site: {found.config_dir}")
    if found.escapes:
        view.append(f"Closed: {found.escapes.packets} packets tried to leave.")
        view += [f"  {attempt}" for attempt in found.escapes.attempts[:20]]
    return Result("lab status", data=data, view=view)


@lab_app.command("ssh", context_settings={"ignore_unknown_options": True})
def ssh(
    node: NodeArgument,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND", help="Run this instead of a shell.")
    ] = None,
    name: NameOption = "lab",
    user: Annotated[str, typer.Option("--user", metavar="USER", help="root, alice or bob.")] = "root",
) -> Handover:
    """Log in to a node of the lab, or run a command there."""
    from rackloom.lab import manage  # noqa: PLC0415 - slow to load

    return Handover((*manage.ssh_command(name, node, user), *(command or ())))


@lab_app.command("power")
def power(
    node: NodeArgument,
    switch: Switch,
    name: NameOption = "lab",
    hard: Annotated[
        bool, typer.Option("--hard", help="Cut the power: nothing on the node ends in good order.")
    ] = False,
    _json: JsonOption = False,
) -> Result:
    """Switch a node on or off."""
    from rackloom.lab import manage  # noqa: PLC0415 - slow to load

    manage.power(name, node, on=switch is Switch.ON, hard=hard)
    return Result(
        "lab power", data={"name": name, "node": node, "power": str(switch)}, view=(f"{node} is {switch}.",)
    )


@vm_app.callback()
def vm_group() -> None:
    """Bare virtual machines on the lab's network: they boot by PXE and are switched through Redfish."""


@vm_app.command("add")
def vm_add(
    machines: Annotated[list[str], typer.Argument(metavar="MACHINE…", help="Names of the new machines.")],
    firmware: Annotated[Firmware, typer.Option("--firmware", help="uefi or bios.")] = Firmware.UEFI,
    memory: Annotated[int, typer.Option("--memory", metavar="MIB", help="Memory of each.")] = 2560,
    disk: Annotated[float, typer.Option("--disk", metavar="GIB", help="Disk of each.")] = 8,
    cpus: Annotated[int, typer.Option("--cpus", metavar="N", help="Processors of each.")] = 2,
    image: Annotated[
        str, typer.Option("--image", metavar="IMAGE", help="compute (onto the disk), stateless (in memory).")
    ] = "compute",
    name: NameOption = "lab",
    as_json: JsonOption = False,
) -> Result:
    """Add virtual machines, off and empty, to the lab and its site. `rackloom provision` installs them."""
    from rackloom.lab import manage, vms  # noqa: PLC0415 - slow to load

    wanted = [vms.VmSpec(machine, "", str(firmware), memory, disk, cpus, image) for machine in machines]
    state = manage.vm_add(name, wanted, _tell(as_json=as_json))
    rows = [(vm.name, vm.firmware, vm.address, vm.mac) for vm in state.machines]
    view: list[Block] = [Table(("machine", "firmware", "address", "mac"), rows), ""]
    view.append(f"Install them: rackloom provision {' '.join(machines)} --config {state.config_dir}")
    return Result("lab vm add", data=_machines(state), view=view)


@vm_app.command("list")
def vm_list(name: NameOption = "lab", _json: JsonOption = False) -> Result:
    """Tell which machines there are and whether they run."""
    from rackloom.lab import manage  # noqa: PLC0415 - slow to load

    state, room = manage.vm_room(name)
    states = room.states() if state.machines else {}
    data = _machines(state)
    for row in data["machines"]:
        row["state"] = states.get(row["name"], "missing")
    rows = [
        (row["name"], row["firmware"], row["address"], row["mac"], row["state"]) for row in data["machines"]
    ]
    columns = ("machine", "firmware", "address", "mac", "state")
    return Result("lab vm list", data=data, view=[Table(columns, rows)])


@vm_app.command("remove")
def vm_remove(
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="A machine's name.")],
    name: NameOption = "lab",
    _json: JsonOption = False,
) -> Result:
    """Take a machine and its disk away."""
    from rackloom.lab import manage  # noqa: PLC0415 - slow to load

    state = manage.vm_remove(name, machine)
    return Result("lab vm remove", data=_machines(state), view=(f"{machine} is gone.",))


@vm_app.command("log")
def vm_log(
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="A machine's name.")],
    name: NameOption = "lab",
    _json: JsonOption = False,
) -> Result:
    """Show what a machine wrote to its serial console."""
    from rackloom.lab import manage  # noqa: PLC0415 - slow to load

    said = manage.vm_room(name)[1].said(machine)
    return Result("lab vm log", data={"machine": machine, "log": said}, view=(said,), raw=True)


@vm_app.command("console")
def vm_console(
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="A machine's name.")],
    name: NameOption = "lab",
) -> Handover:
    """Join a machine's serial console; Ctrl-] leaves it."""
    from rackloom.lab import manage  # noqa: PLC0415 - slow to load

    return Handover(tuple(manage.vm_room(name)[1].console(machine)))


def _machines(state: LabState) -> dict[str, Any]:
    """The machines of a lab as plain data."""
    rows: list[dict[str, Any]] = [{**asdict(vm), "uuid": vm.uuid} for vm in state.machines]
    return {"name": state.options.name, "config": str(state.config_dir), "machines": rows}


def _tell(*, as_json: bool) -> Callable[[str], None]:
    """Where the lab's own steps are told: beside the deployment's progress."""
    stream = sys.stderr if as_json else sys.stdout

    def tell(text: str) -> None:
        stream.write(f"lab: {text}\n")
        stream.flush()

    return tell


def _up_result(state: LabState, seconds: float) -> Result:
    """The worst of deployment and validation, and the table of what works."""
    from rackloom.cli.outcome import as_result, checks_table, status_of  # noqa: PLC0415

    name = state.options.name
    data = {
        "name": name,
        "config": str(state.config_dir),
        "subnet": state.subnet,
        "nodes": [{"name": node.name, "role": node.role, "address": node.address} for node in state.nodes],
        "seconds": round(seconds, 1),
        "deploy": state.deploy.as_dict() if state.deploy else None,
        "validation": state.validation.as_dict() if state.validation else None,
    }
    bad = next(
        (run for run in (state.deploy, state.validation) if run and run.exit_code != ExitCode.OK), None
    )
    view: list[Block] = []
    if state.deploy:
        view += as_result("deploy", state.deploy).view
    if state.validation and state.validation.checks:
        view += ["", checks_table(state.validation.checks)]
    ssh_hint = "rackloom lab ssh login01" + (f" --name {name}" if name != "lab" else "")
    view += [
        "",
        f"The lab {name} is up after {seconds:.0f} s. Its site: {state.config_dir}. Look around: {ssh_hint}",
    ]
    if bad:
        return Result("lab up", bad.exit_code, data, bad.problems, view, status_of(bad))
    return Result("lab up", data=data, view=view)
