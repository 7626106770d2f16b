"""Command reference from the command line's own definition."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from rackloom.docs_gen.markdown import code, page, table
from rackloom.docs_gen.tree import ROOT


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, child in sorted(getattr(command, "commands", {}).items()):
        if not child.hidden:
            yield from _walk(child, (*path, name))


def _default(option: Any) -> str:
    value = option.default
    if option.required:
        return "**required**"
    return "" if value in (None, False, (), []) or callable(value) else code(str(value))


def _blocks(path: tuple[str, ...], command: Any) -> list[str]:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    options = [each for each in options if not each.hidden and each.name != "help"]
    usage = [*path, "[OPTIONS]" if options else "", *(_metavar(each) for each in arguments)]
    usage.append("COMMAND" if getattr(command, "commands", {}) else "")
    rows = [(f"`{_metavar(each)}`", getattr(each, "help", "") or "", _default(each)) for each in arguments]
    for each in options:
        names = ", ".join(f"`{name}`" for name in (*each.opts, *each.secondary_opts))
        rows.append((names, each.help or "", _default(each)))
    return [
        f"## {' '.join(path)}",
        inspect.cleandoc(command.help or "").replace("\b", "").split("\f")[0],
        f"```\n{' '.join(part for part in usage if part)}\n```",
        table(("Argument or option", "Meaning", "Default"), rows),
    ]


def _metavar(argument: Any) -> str:
    name = (argument.metavar or argument.name or "").upper().strip("[]").removesuffix("...")
    text = name + ("…" if argument.nargs == -1 else "")
    return text if argument.required else f"[{text}]"


def _exit_codes() -> str:
    """The exit codes with the docstrings that stand under them in the source."""
    source = ROOT / "scripts" / "rackloom" / "result.py"
    classes = [node for node in ast.parse(source.read_text()).body if isinstance(node, ast.ClassDef)]
    body = next(node.body for node in classes if node.name == "ExitCode")
    rows = []
    for here, after in pairwise(body):
        if isinstance(here, ast.Assign) and isinstance(after, ast.Expr):
            rows.append((f"`{ast.literal_eval(here.value)}`", ast.literal_eval(after.value)))
    return page(
        "Exit codes",
        "Every `rackloom` command ends with one of these. `--json` repeats it as `exit_code`.",
        table(("Code", "Meaning"), rows),
    )


def pages() -> dict[str, str]:
    """One page with every command, and one with the exit codes."""
    import typer.main  # noqa: PLC0415 - slow to load

    from rackloom.cli.main import app  # noqa: PLC0415

    blocks: list[str] = []
    for path, command in _walk(typer.main.get_command(app), ("rackloom",)):
        blocks += _blocks(path, command)
    return {"cli.md": page("Commands", *blocks), "exit-codes.md": _exit_codes()}
