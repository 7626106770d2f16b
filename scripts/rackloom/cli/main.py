"""The entry point: runs one command, prints its result, and is the only place that exits."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from rackloom.cli import (
    bundle,
    bundle_install,
    check,
    deploy,
    image,
    init,
    inventory,
    kubernetes,
    lab,
    node,
    nodes,
    provision,
    report,
    schema,
    secrets,
    status,
    upgrade,
    validate,
    version,
)
from rackloom.result import ExitCode, Handover, Problem, Result, render

app = typer.Typer(
    name="rackloom",
    help="From bare racks to a running GPU cluster.\n\n"
    "Exit codes: 0 done, 1 work failed, 2 configuration or usage wrong (nothing touched), "
    "3 a service is not well, 4 hosts unreachable, 130 stopped by Ctrl-C.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: loading rich would double the time to the first line
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (init, check, provision, deploy, validate, status, report, inventory, version):
    module.register(app)
for group in (secrets, schema, image, node, nodes, upgrade, kubernetes, lab, bundle, bundle_install):
    group.register(app)

GROUPS = ("secrets", "schema", "image", "node", "nodes", "upgrade", "kubernetes", "lab", "bundle")
"""Words that are followed by a second one."""


def entry() -> None:
    """`rackloom …`. Ends the process with the command's exit code."""
    outcome = run(sys.argv[1:])
    if isinstance(outcome, Handover):
        sys.stdout.flush()
        os.execvp(outcome.argv[0], outcome.argv)  # noqa: S606 - a list, no shell
    sys.exit(outcome)


def run(argv: Sequence[str]) -> int | Handover:
    """Run one command line, print its result, and give the exit code. Does not exit (but for completion)."""
    as_json = wants_json(argv)
    outcome = invoke(argv)
    if not isinstance(outcome, Result):
        return outcome
    try:
        render(outcome, as_json=as_json, out=sys.stdout, err=sys.stderr)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) left; the work is done all the same. Keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(outcome.exit_code)


def wants_json(argv: Sequence[str]) -> bool:
    """Known before parsing, so that a mistyped option is answered in JSON too."""
    own = argv[: argv.index("--")] if "--" in argv else argv
    return "--json" in own


def invoke(argv: Sequence[str]) -> Result | Handover | int:
    """Parse and call. Every error becomes a Result."""
    try:
        outcome = app(args=list(argv), prog_name="rackloom", standalone_mode=False)
    except KeyboardInterrupt:
        return Result(_name(argv), ExitCode.INTERRUPTED, errors=(Problem("interrupted", "stopped"),))
    except Exception as error:  # noqa: BLE001 - the last place where anything can be said
        return from_error(argv, error)
    if isinstance(outcome, (Result, Handover)):
        return outcome
    return outcome if isinstance(outcome, int) else 0


def from_error(argv: Sequence[str], error: Exception) -> Result:
    """What a raised error says to people: its own words, with its own cure where it has one."""
    if isinstance(error, (typer.Abort, typer.Exit)):
        code = ExitCode.INTERRUPTED if isinstance(error, typer.Abort) else ExitCode(error.exit_code)
        return Result(_name(argv), code, errors=(Problem("stopped", "stopped"),) if code else ())
    if (say := getattr(error, "format_message", None)) is not None:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "rackloom"
        if type(error).__name__ == "NoArgsIsHelpError":
            return Result(_name(argv), ExitCode.MISTAKES, view=(str(say()),), raw=True)
        return Result(
            _name(argv), ExitCode.MISTAKES, errors=(Problem("usage", say(), f"see `{path} --help`"),)
        )
    cure = str(getattr(error, "hint", "") or getattr(error, "cure", ""))
    if cure or type(error).__module__.startswith("rackloom."):
        code = ExitCode.MISTAKES if isinstance(error, ValueError) else ExitCode.FAILED
        return Result(_name(argv), code, errors=(Problem(_code(error), str(error), cure),))
    if isinstance(error, OSError) and error.filename:
        message = f"{error.filename}: {error.strerror}"
        return Result(
            _name(argv), ExitCode.FAILED, errors=(Problem("file", message, "see that it is there and yours"),)
        )
    if os.environ.get("RACKLOOM_DEBUG"):
        import traceback  # noqa: PLC0415

        traceback.print_exception(error)
    message = f"{type(error).__name__}: {error}"
    cure = "this is a bug of Rackloom's; RACKLOOM_DEBUG=1 shows where"
    return Result(_name(argv), ExitCode.FAILED, errors=(Problem("internal", message, cure),))


def _code(error: Exception) -> str:
    """`LabError` → `lab`."""
    return type(error).__name__.removesuffix("Error").lower() or "error"


def _name(argv: Sequence[str]) -> str:
    """The command's words, as far as they can be told apart from its arguments."""
    words = [word for word in argv if not word.startswith("-")]
    return " ".join(words[:2] if words and words[0] in GROUPS else words[:1])


if __name__ == "__main__":
    entry()
