"""Programs that tests start as processes of this machine: where they are, a port for them, and their end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

UPSTREAM = Path(__file__).parents[1] / ".cache" / "upstream"


def program(name: str, project: str) -> str:
    """A program that the upstream tests have built, or one of this machine; "" where there is neither."""
    built = sorted((UPSTREAM / project).glob(f"**/bin/{name}"))
    found = next((str(path) for path in built if os.access(path, os.X_OK)), None)
    return found or shutil.which(name) or ""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    argv: Sequence[str], log: Path, ready: Callable[[], bool], seconds: float = 120
) -> Iterator[None]:
    """A daemon that answers."""
    with log.open("wb") as stream:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT)
        try:
            end = time.monotonic() + seconds
            while not ready():
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < end, log.read_text()[-3000:]
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
