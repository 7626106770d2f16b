"""Programs that tests start as processes of this machine: where they are, a port for them, and their end."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

UPSTREAM = Path(__file__).parents[1] / ".cache" / "upstream"
PORTS = 8000
"""Among how many ports one is looked for."""
TAKEN: list[socket.socket] = []
"""Names, one a port, that the kernel gives to one process at a time, and takes back at its end."""


def program(name: str, project: str) -> str:
    """A program that the upstream tests have built, or one of this machine; "" where there is neither."""
    built = sorted((UPSTREAM / project).glob(f"**/bin/{name}"))
    found = next((str(path) for path in built if os.access(path, os.X_OK)), None)
    return found or shutil.which(name) or ""


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nobody listens at, nor will before whoever asked for it does.

    It is none of those that the kernel gives to connections, and as long as this process lives no other test gets it.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(max(lowest - PORTS, 1024), max(lowest, 1024 + PORTS)), PORTS):
        mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            mark.bind(f"\0rackloom-test-port-{port}")
            with socket.socket(socket.AF_INET, kind) as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            mark.close()
            continue
        TAKEN.append(mark)
        return port
    raise RuntimeError("no port is free")


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
