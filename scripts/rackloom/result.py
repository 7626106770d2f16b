"""What every command hands back, and the one place that prints it.

A command returns a `Result`; `render` shows it to people or writes one JSON object:
`{rackloom_result_version, command, status, exit_code, data, errors: [{code, message, cure, …}]}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

RESULT_VERSION = "1"


class ExitCode(IntEnum):
    """Every way a command can end."""

    OK = 0
    """Done, and all is well."""
    FAILED = 1
    """Work was started and failed somewhere."""
    MISTAKES = 2
    """The configuration, the vault key or the command line is wrong; nothing was touched."""
    VERDICT = 3
    """The work ran, but a service did not do what it should."""
    UNREACHABLE = 4
    """Nothing failed, but some hosts could not be reached."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C (or SIGTERM); running again goes on."""


class Status(StrEnum):
    """The envelope's one-word answer."""

    SUCCESS = "success"
    PARTIAL = "partial"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that went wrong: a stable `code`, a sentence, and what to do about it.

    `details` holds more keys for the JSON answer (file, line, host, task, …).
    """

    code: str
    message: str
    cure: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data; code, message and cure are always there."""
        return {"code": self.code, "message": self.message, "cure": self.cure, **self.details}

    @property
    def where(self) -> str:
        """`file:line`, a host with its task, or nothing."""
        if file := self.details.get("file"):
            line = self.details.get("line")
            return f"{file}:{line}" if line else str(file)
        return str(self.details.get("host", ""))


@dataclass(frozen=True, slots=True)
class Table:
    """Rows for people. A cell of exactly `ok`, `failed`, … is coloured by its meaning."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""


Block = str | Table


@dataclass(frozen=True, slots=True)
class Result:
    """A finished command. `view` is what people read; `data` is what programs read."""

    command: str
    exit_code: ExitCode = ExitCode.OK
    data: Mapping[str, Any] = field(default_factory=dict)
    errors: Sequence[Problem] = ()
    view: Sequence[Block] = ()
    status: Status | None = None
    raw: bool = False
    """Text that is itself the answer (a schema, an inventory): printed as it is, without wrapping."""

    def envelope(self) -> dict[str, Any]:
        """The JSON answer as plain data."""
        status = self.status or (Status.SUCCESS if self.exit_code == ExitCode.OK else Status.ERROR)
        return {
            "rackloom_result_version": RESULT_VERSION,
            "command": self.command,
            "status": str(status),
            "exit_code": int(self.exit_code),
            "data": dict(self.data),
            "errors": [problem.as_dict() for problem in self.errors],
        }


@dataclass(frozen=True, slots=True)
class Handover:
    """Instead of a result: the process becomes this program (an interactive ssh, for one)."""

    argv: tuple[str, ...]


def refused(command: str, code: str, message: str, cure: str = "", **details: Any) -> Result:
    """A command that did nothing because its input is wrong."""
    return Result(command, ExitCode.MISTAKES, errors=(Problem(code, message, cure, details),))


_COLOURS = {
    "ok": "green", "yes": "green", "changed": "yellow", "failed": "bold red", "no": "bold red",
    "unreachable": "magenta", "skipped": "dim", "running": "green", "stopped": "dim",
}  # fmt: skip


def render(result: Result, *, as_json: bool, out: IO[str], err: IO[str]) -> None:
    """Print `result`: JSON to `out`, or its errors to `err` and then its view to `out`, so that the sum comes last."""
    if as_json:
        out.write(json.dumps(result.envelope(), indent=2, default=str, ensure_ascii=False) + "\n")
        return
    if result.errors:
        out.flush()
        _print_errors(result.errors, console(err))
        err.flush()
    if result.raw:
        out.write("".join(f"{block}\n" for block in result.view if isinstance(block, str)))
    elif result.view:
        _print_view(result.view, console(out))


def console(stream: IO[str]) -> Console:
    """A rich console on `stream`; honours NO_COLOR, keeps long lines whole when not on a terminal."""
    from rich.console import Console  # noqa: PLC0415 - slow to load

    terminal = stream.isatty()
    return Console(file=stream, highlight=False, soft_wrap=not terminal, width=None if terminal else 1000)


def _print_view(view: Sequence[Block], to: Console) -> None:
    from rich.text import Text  # noqa: PLC0415

    for block in view:
        if isinstance(block, str):
            to.print(Text.from_markup(block) if "[/" in block else Text(block))
        else:
            print_table(block, to)


def print_table(block: Table, to: Console) -> None:
    """A table without frame: readable on a terminal, and by `cut` and `awk`."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.table import Table as RichTable  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = RichTable(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, title=block.title or None)
    table.title_justify = "left"
    for column in block.columns:
        table.add_column(column, overflow="fold")
    for row in block.rows:
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    to.print(table, soft_wrap=False, crop=False)


def _print_errors(errors: Sequence[Problem], to: Console) -> None:
    from rich.text import Text  # noqa: PLC0415

    for problem in errors:
        line = Text("✗ ", style="bold red")
        if problem.where:
            line.append(f"{problem.where}: ", style="bold")
        line.append(problem.message)
        to.print(line)
        if problem.cure:
            to.print(Text(f"  → {problem.cure}", style="cyan"))
