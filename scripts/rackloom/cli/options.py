"""Options that several commands share, and what they have in common."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rackloom.run.progress import ProgressSink

DEFAULT_CONFIG = Path("config")


def complete_stage(incomplete: str) -> list[str]:
    """Stage names, read from the playbook when the shell asks."""
    from rackloom.run.stages import stages_of  # noqa: PLC0415 - only when completing
    from rackloom.site.paths import home  # noqa: PLC0415

    return [name for name in stages_of(home() / "playbooks" / "site.yml") if name.startswith(incomplete)]


def complete_service(incomplete: str) -> list[str]:
    """Services that can be validated."""
    from rackloom.run.stages import stages_of  # noqa: PLC0415
    from rackloom.site.paths import home  # noqa: PLC0415

    return [name for name in stages_of(home() / "playbooks" / "validate.yml") if name.startswith(incomplete)]


ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        envvar="RACKLOOM_CONFIG",
        help="The folder with cluster.yml and nodes.yml.",
        metavar="DIR",
        show_default=True,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer with one JSON object on standard output.")]
LimitOption = Annotated[
    str | None,
    typer.Option(
        "--limit", "-l", metavar="HOSTS", help="Only these hosts: names, ranges like gpu[001-016], groups."
    ),
]


def progress_for(*, as_json: bool, quick: bool = False) -> ProgressSink:
    """Progress for this invocation: on standard error when standard output is for a program.

    A `quick` run is followed on a terminal only.
    """
    from rackloom.run.progress import Live, Plain, Silent, for_stream  # noqa: PLC0415 - slow to load

    sink = Plain(sys.stderr) if as_json else for_stream(sys.stdout)
    return Silent() if quick and not isinstance(sink, Live) else sink
