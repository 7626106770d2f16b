"""`rackloom node`: machines by their BMCs, and machines that nobody knows yet."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rackloom.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, progress_for
from rackloom.result import Block, ExitCode, Problem, Result, Status, Table, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rackloom.hardware import Bmc, BmcResult
    from rackloom.hardware.adopt import Change, Wanted
    from rackloom.hardware.discovery import Match
    from rackloom.site import Site

node_app = typer.Typer(
    help="Machines: power, boot order, console, discovery.", no_args_is_help=True, rich_markup_mode=None
)
NamesArgument = Annotated[
    list[str], typer.Argument(metavar="NAME", help="Nodes, ranges like gpu[001-016], groups, or all.")
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(node_app, name="node")


@node_app.callback()
def group() -> None:
    """Switch machines on and off, choose what they boot, and find those that are not in nodes.yml."""


@node_app.command("power")
def power(
    action: Annotated[
        str, typer.Argument(metavar="on|off|cycle|status", help="off is hard: like the button.")
    ],
    names: NamesArgument,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Switch machines through their BMCs, or tell whether they are on. Waits until each is what it should be."""
    from rackloom.hardware import switch  # noqa: PLC0415 - slow to load

    command = f"node power {action}"
    if action not in ("on", "off", "cycle", "status"):
        return refused("node power", "usage", f"{action} is none of on, off, cycle, status", "see --help")

    def work(bmc: Bmc) -> str:
        return bmc.power() if action == "status" else switch(bmc, action)  # type: ignore[arg-type]

    return _each(command, "node power", config, names, work, "power", quiet=as_json)


@node_app.command("boot")
def boot(
    device: Annotated[str, typer.Argument(metavar="pxe|disk", help="What the machine boots.")],
    names: NamesArgument,
    once: Annotated[
        bool, typer.Option("--once", help="At its next boot, and only then; there is no other way.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Choose what machines boot next. Nothing is switched on or off, and no node is armed for an installation."""
    if device not in ("pxe", "disk"):
        return refused("node boot", "usage", f"{device} is none of pxe, disk", "see --help")
    if not once:
        message = "a boot order for good is the firmware's own; here it is for one boot"
        return refused("node boot", "usage", message, "add --once")

    def work(bmc: Bmc) -> str:
        bmc.boot_once(device)  # type: ignore[arg-type]
        return f"{device} once"

    return _each(f"node boot {device}", "node boot", config, names, work, "next boot", quiet=as_json)


@node_app.command("console")
def console(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One node.")],
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Tell how to get to a machine's screen or serial line."""
    return _each(
        "node console",
        "node console",
        config,
        [name],
        lambda bmc: bmc.console_hint(),
        "console",
        quiet=as_json,
    )


def _each(
    command: str,
    short: str,
    config: Path,
    names: Sequence[str],
    work: Callable[[Bmc], str],
    column: str,
    *,
    quiet: bool,
) -> Result:
    """Do something with the BMC of each node, a wave at a time."""
    from rackloom.hardware import BmcError, run_wave, select, targets  # noqa: PLC0415 - slow to load
    from rackloom.hardware.targets import UnknownNodeError  # noqa: PLC0415
    from rackloom.run.preflight import mistakes_as_problems  # noqa: PLC0415
    from rackloom.site import check_site, secrets  # noqa: PLC0415

    checked = check_site(config)
    site = checked.site
    if site is None:
        return Result(short, ExitCode.MISTAKES, errors=mistakes_as_problems(config, checked.mistakes))
    try:
        chosen = select(site, names)
        wanted = targets(site, secrets.load(config), chosen)
    except UnknownNodeError as error:
        return refused(short, "unknown_node", str(error), error.cure)
    except BmcError as error:
        return refused(short, "no_secrets", error.message, error.cure)
    except secrets.SecretsError as error:
        return refused(short, "no_secrets", str(error), "see `rackloom secrets --help`")
    follow = not quiet and sys.stderr.isatty() and len(wanted) > 1
    results = run_wave(wanted, work, site.cluster.provision.wave.power, _tell if follow else None)
    return _results(command, results, column)


def _tell(result: BmcResult) -> None:
    """A line for who waits; the table comes at the end."""
    said = result.value if result.error is None else result.error.message
    sys.stderr.write(f"{result.node}: {said}\n")


def _results(command: str, results: Sequence[BmcResult], column: str) -> Result:
    problems = [
        Problem("bmc", result.error.message, result.error.cure, {"host": result.node})
        for result in results
        if result.error is not None
    ]
    rows = [
        (result.node, str(result.value) if result.ok else "failed", f"{result.seconds:.1f} s")
        for result in results
    ]
    good = sum(result.ok for result in results)
    view: list[Block] = [Table(("node", column, "time"), rows)]
    if len(results) > 1:
        view += ["", f"{good} of {len(results)} nodes."]
    data = {
        "nodes": [
            {
                "name": result.node,
                "ok": result.ok,
                "value": result.value,
                "seconds": round(result.seconds, 2),
                "error": result.error.message if result.error else "",
            }
            for result in results
        ]
    }
    status = (Status.PARTIAL if good else Status.ERROR) if problems else None
    return Result(command, ExitCode.FAILED if problems else ExitCode.OK, data, problems, view, status)


@node_app.command("discover")
def discover(
    macs: Annotated[
        list[str] | None, typer.Argument(metavar="MAC", help="Only these machines; left out: all.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write them into nodes.yml; its comments stay.")
    ] = False,
    name: Annotated[
        str,
        typer.Option(
            metavar="NAMES", help="Names of the new machines, in the order of the table: cn[005-008]."
        ),
    ] = "",
    address: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address of the first; the others count up.")
    ] = "",
    part: Annotated[
        str, typer.Option("--list", metavar="LIST", help="management, login or compute.")
    ] = "compute",
    profile: Annotated[
        str,
        typer.Option(metavar="NAME", help="Their hardware profile; left out: one that fits, or a new one."),
    ] = "",
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Show machines that booted in discovery, and write them into nodes.yml on request.

    A machine whose serial number or switch port is that of a node is that node: with --write it gets the machine's MAC.
    """
    from rackloom.hardware import discovery  # noqa: PLC0415 - slow to load
    from rackloom.hardware.adopt import Wanted  # noqa: PLC0415
    from rackloom.site import check_site  # noqa: PLC0415
    from rackloom.site.fields import read_mac  # noqa: PLC0415

    command = "node discover"
    if part not in ("management", "login", "compute"):
        return refused(command, "usage", f"{part} is none of management, login, compute", "see --help")
    if (name or address or profile) and not write:
        return refused(command, "usage", "names and addresses are of use with --write only", "add --write")
    wrong = [text for text in macs or () if read_mac(text) is None]
    if wrong:
        return refused(command, "usage", f"{wrong[0]} is no MAC", "write one like 52:54:00:12:34:56")
    read = _reports(config, as_json=as_json)
    if isinstance(read, Result):
        return read
    site = check_site(config).site
    if site is None:  # it was there a moment ago
        return refused(command, "changed", "the configuration was changed meanwhile", "run it again")
    found = discovery.match(site, discovery.machines(read))
    if macs:
        chosen = {read_mac(text) for text in macs}
        found = [match for match in found if chosen & set(match.machine.macs)]
    if write:
        return _write(config, site, found, Wanted(name, address, part, profile))
    return _shown(site, found)


def _reports(config: Path, *, as_json: bool) -> list[dict[str, Any]] | Result:
    """What the boot server holds. A Result where it could not be asked."""
    from rackloom.cli.outcome import as_result  # noqa: PLC0415
    from rackloom.run.deploy import Job, run  # noqa: PLC0415
    from rackloom.run.preflight import look  # noqa: PLC0415

    site = look(config).site
    if site is not None and not site.groups["provisioner"]:
        cure = "add `services: {provisioner: [<management node>]}` to cluster.yml"
        return refused("node discover", "no_provisioner", "this site has no boot server", cure)
    outcome = run(config, Job("discover", "playbooks/discovered.yml", exclusive=False),
                  progress_for(as_json=as_json, quick=True))  # fmt: skip
    if outcome.exit_code != ExitCode.OK:
        return as_result("node discover", outcome)
    return [
        report
        for facts in outcome.facts.values()
        for report in facts.get("machines", [])
        if isinstance(report, dict)
    ]


def _size(number: int) -> str:
    return f"{number / 10**12:.1f}T" if number >= 10**12 else f"{number / 10**9:.0f}G"


def _row(number: int, match: Match) -> tuple[str, ...]:
    one = match.machine
    shape = f"{one.sockets}x{one.cores}x{one.threads}" if one.whole else "?"
    gpus = ", ".join(f"{count}x{kind}" for kind, count in one.gpus)
    ago = max(0, int(time.time() - one.seen))
    age = f"{ago} s" if ago < 120 else f"{ago // 60} min" if ago < 7200 else f"{ago // 3600} h"
    disks = ", ".join(_size(size) for size in one.disks[:4]) + (", …" if len(one.disks) > 4 else "")
    return (
        str(number), one.mac, age, match.state, f"{match.node} ({match.by})" if match.node else "", one.serial,
        one.model, shape, f"{one.memory_mb / 1024:.0f}G", gpus, disks, one.bmc, one.switch_port,
    )  # fmt: skip


COLUMNS = (
    "", "mac", "seen", "state", "node", "serial", "model", "cpus", "memory", "gpus", "disks", "bmc", "switch port",
)  # fmt: skip


def _data(found: Sequence[Match]) -> list[dict[str, Any]]:
    return [
        {
            "state": match.state,
            "node": match.node,
            "by": match.by,
            "missing": dict(match.missing),
            **{name: getattr(match.machine, name) for name in type(match.machine).__slots__},
        }
        for match in found
    ]


def _shown(site: Site, found: Sequence[Match]) -> Result:
    from rackloom.hardware.adopt import suggestion  # noqa: PLC0415

    hint = suggestion(site, found)
    view: list[Block] = [Table(COLUMNS, [_row(number, match) for number, match in enumerate(found, 1)])]
    if not found:
        view = ["No machine has reported itself."]
        if site.cluster.provision.unknown != "discover":
            view.append("Unknown machines are ignored: see provision.unknown in cluster.yml.")
    if hint:
        view += ["", f"To take the new ones in: {hint}"]
    if any(match.state in ("moved", "incomplete") for match in found):
        view += ["", "To write what has changed into nodes.yml: rackloom node discover --write"]
    return Result("node discover", data={"machines": _data(found), "suggestion": hint}, view=view)


def _write(config: Path, site: Site, found: Sequence[Match], wanted: Wanted) -> Result:
    from rackloom.hardware import nodes_file  # noqa: PLC0415
    from rackloom.hardware.adopt import AdoptError, adopt, suggestion  # noqa: PLC0415
    from rackloom.run.preflight import mistakes_as_problems  # noqa: PLC0415
    from rackloom.site.ranges import RangeError  # noqa: PLC0415
    from rackloom.site.yaml_text import EditError  # noqa: PLC0415

    command = "node discover"
    try:
        text = nodes_file.read(config)
        changes: list[Change] = adopt(site, found, wanted, text)
    except (AdoptError, EditError) as error:
        return refused(command, "not_written", str(error), error.cure)
    except RangeError as error:
        return refused(command, "not_written", str(error), "write names or ranges like cn[005-008]")
    mistakes = nodes_file.write(config, text.text) if changes else []
    if mistakes:
        problems = mistakes_as_problems(config, mistakes)
        view: tuple[Block, ...] = ("Nothing was written: with these machines nodes.yml would have mistakes.",)
        return Result(command, ExitCode.MISTAKES, {"changes": []}, problems, view)
    data = {
        "machines": _data(found),
        "changes": [{"name": one.name, "field": one.field, "value": one.value} for one in changes],
    }
    shown: list[Block] = ["Nothing to write: nodes.yml knows all of it."]
    if changes:
        shown = [Table(("name", "field", "value"), [(one.name, one.field, one.value) for one in changes]), ""]
        shown.append(
            f"Written to {config / nodes_file.FILE}. Look at it (git diff), then: rackloom provision NODE…"
        )
    left = suggestion(site, found) if not wanted.names else ""
    if left:
        shown += ["", f"The new ones want names: {left}"]
    return Result(command, data=data, view=shown)
