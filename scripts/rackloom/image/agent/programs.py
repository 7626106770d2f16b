"""Run programs of the image."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from .trouble import TroubleError

if TYPE_CHECKING:
    from collections.abc import Sequence


class ProgramError(TroubleError):
    """A program ended badly; `said` is what it wrote."""

    def __init__(self, argv: Sequence[str], said: str) -> None:
        last = said.strip()[-600:] or "it said nothing"
        super().__init__(
            f"{' '.join(argv[:3])} failed: {last}", "look at the node's console; try again, or check its disk"
        )
        self.said = said


def run(*argv: str, stdin: str = "") -> str:
    """Run a program and return what it wrote. Raises ProgramError when it ends with another status than 0."""
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise ProgramError(argv, str(error)) from error
    if done.returncode:
        raise ProgramError(argv, done.stderr or done.stdout)
    return done.stdout
