"""Programs that benchmarks run as processes of this machine: where they are, and what they take of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[3]
_TOOLS = ROOT / ".cache" / "tools"


class BenchError(Exception):
    """Something that was to be measured did not work."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def laid_out(package: str, program: str) -> str:
    """A program of this machine, or out of the distribution's package, which is unpacked and not installed."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found:
        return found
    folder = _TOOLS / package
    if not folder.is_dir():
        _TOOLS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_TOOLS) as text:
            scratch = Path(text)
            try:
                subprocess.run(
                    ["apt-get", "-q", "download", package], cwd=scratch, check=True, capture_output=True
                )
                [archive] = scratch.glob("*.deb")
                subprocess.run(["dpkg-deb", "-x", str(archive), str(scratch / "files")], check=True)
            except (OSError, ValueError, subprocess.CalledProcessError) as error:
                raise BenchError(
                    f"{program} is not installed, and its package cannot be had: {error}"
                ) from None
            (scratch / "files").rename(folder)
    for place in ("usr/bin", "usr/sbin"):
        if os.access(folder / place / program, os.X_OK):
            return str(folder / place / program)
    raise BenchError(f"the package {package} holds no {program}")


def said(url: str) -> str:
    """What a page says; "" where nobody answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=20) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def load() -> str:
    """What this machine is, and what else it did."""
    one, five, _ = os.getloadavg()
    return f"{os.cpu_count()} processors; load at the end {one:.1f}, over five minutes {five:.1f}, with this run's own"


@cache
def _find_collections() -> None:
    """Ansible looks for ours in the checkout; it may be told so once."""
    from ansible.plugins.loader import init_plugin_loader  # noqa: PLC0415 - slow to load

    init_plugin_loader([str(ROOT / ".venv" / "collections")])


def role_template(role: str, template: str, variables: Mapping[str, Any]) -> str:
    """A template of a role as the role would write it, with its defaults and its own variables."""
    from ansible.parsing.dataloader import DataLoader  # noqa: PLC0415 - slow to load
    from ansible.template import Templar, trust_as_template  # noqa: PLC0415

    _find_collections()
    folder = ROOT / "roles" / role
    loader = DataLoader()
    known: dict[str, Any] = {"role_path": str(folder), "ansible_facts": {"os_family": "Debian"}}
    for part in ("defaults", "vars"):
        known |= loader.load_from_file(str(folder / part / "main.yml"), trusted_as_template=True) or {}
    source = (folder / "templates" / template).read_text(encoding="utf-8")
    templar = Templar(loader=loader, variables={**known, **variables})
    return str(
        templar.template(trust_as_template(source), overrides={"trim_blocks": True, "lstrip_blocks": True})
    )


class Watched:
    """A daemon that answers, and what it takes. Ends with the block."""

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        seconds: float = 120,
    ) -> None:
        self.argv = list(argv)
        self.log = log
        self.ready = ready
        self.env = {**os.environ, **(env or {})}
        self.seconds = seconds
        self.process: subprocess.Popen[bytes] | None = None
        self.marked = (0.0, 0.0)

    def __enter__(self) -> Self:
        """Start it and wait until it answers. Raises BenchError."""
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=self.env
            )
        end = time.monotonic() + self.seconds
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > end:
                self.end()
                raise BenchError(f"{self.argv[0]} does not answer: {self.tail()}")
            time.sleep(0.1)
        self.mark()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.end()

    def end(self) -> None:
        """Have it end, and wait for that."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def tail(self) -> str:
        """The end of what it said."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-1500:]

    @property
    def pids(self) -> list[int]:
        """It, and its children: nginx works in those."""
        if self.process is None:
            return []
        own = self.process.pid
        try:
            children = Path(f"/proc/{own}/task/{own}/children").read_text(encoding="ascii").split()
        except OSError:
            children = []
        return [own, *map(int, children)]

    def spent(self) -> float:
        """Seconds of processors so far."""
        ticks = 0
        for pid in self.pids:
            try:
                words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            except OSError:
                continue
            ticks += int(words[11]) + int(words[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def mark(self) -> None:
        """From here on `processors` counts."""
        self.marked = (time.monotonic(), self.spent())

    def processors(self) -> float:
        """How many of the machine's it kept busy since the mark."""
        return (self.spent() - self.marked[1]) / max(0.001, time.monotonic() - self.marked[0])

    def memory(self, *, peak: bool = False) -> int:
        """Bytes of RAM that are its own now, or the most there were."""
        name = "VmHWM:" if peak else "RssAnon:"
        total = 0
        for pid in self.pids:
            try:
                lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
        return total
