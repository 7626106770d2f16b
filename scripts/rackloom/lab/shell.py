"""Run programs on this machine, and lock against other runs of ourselves."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rackloom.lab.errors import LabError


def run(
    argv: Sequence[str],
    *,
    check: bool = True,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    detached: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run `argv` (a list, never a shell line) and return its captured result.

    `detached` puts it into a session of its own: a Ctrl-C or a kill that ends us lets it finish.

    Raises LabError when the program is missing, runs past `timeout` seconds, or, with
    `check`, ends with another status than 0; the message carries the end of its stderr.
    """
    try:
        result = subprocess.run(
            list(argv),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            env=env,
            timeout=timeout,
            start_new_session=detached,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed", "run scripts/setup.sh --lab") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(argv[:4])} … did not end within {timeout:.0f} s") from error
    if check and result.returncode != 0:
        words = (result.stderr.strip() or result.stdout.strip())[-2000:]
        raise LabError(f"{' '.join(argv)} ended with status {result.returncode}: {words}")
    return result


def confined(argv: Sequence[str]) -> list[str]:
    """Return the call of `argv` with mounts that nobody else sees, and that is ended when we are. For root.

    A build that is killed then leaves neither processes nor mounts of this machine's /dev, /proc and /sys in a folder
    that somebody will remove.
    """
    return ["setpriv", "--pdeathsig", "TERM", "unshare", "--mount", "--propagation", "private", *argv]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` (made when missing); waits for another holder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
