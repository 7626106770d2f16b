"""What people see while a bundle is made or checked: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import threading
import time
from typing import IO, Any

_EVERY = 5.0


class Progress:
    """Shows nothing; the base of the others. Its methods may be called from several threads."""

    def step(self, text: str) -> None:
        """A new step begins."""

    def start(self, what: str, things: int, size: int) -> None:
        """So many things, of so many bytes together, come next."""

    def moved(self, count: int) -> None:
        """So many more bytes are here; fewer than nothing when some had to be thrown away."""

    def finished(self, label: str) -> None:
        """One thing more is whole."""

    def notice(self, text: str) -> None:
        """Something to tell now."""

    def stop(self) -> None:
        """The step with bytes is over."""


class Plain(Progress):
    """Lines for a log."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self._lock = threading.Lock()
        self._what, self._things, self._size, self._done, self._here = "", 0, 0, 0, 0
        self._spoke = self._began = time.monotonic()

    def step(self, text: str) -> None:
        """See Progress."""
        self._say(text)

    def start(self, what: str, things: int, size: int) -> None:
        """See Progress."""
        with self._lock:
            self._what, self._things, self._size, self._done, self._here = what, things, size, 0, 0
            self._spoke = self._began = time.monotonic()
        self._say(f"{what}: {things} files, {human(size)}")

    def moved(self, count: int) -> None:
        """See Progress."""
        with self._lock:
            self._here += count
            late = time.monotonic() - self._spoke > _EVERY
            if late:
                self._spoke = time.monotonic()
        if late:
            self._say(
                f"{self._what}: {self._done} of {self._things} files, {human(self._here)} of {human(self._size)}"
            )

    def finished(self, label: str) -> None:  # noqa: ARG002 - the others say it
        """See Progress."""
        with self._lock:
            self._done += 1

    def notice(self, text: str) -> None:
        """See Progress."""
        self._say(text)

    def stop(self) -> None:
        """See Progress."""
        seconds = time.monotonic() - self._began
        files = f"{self._done} files, " if self._done else ""
        self._say(f"{self._what}: {files}{human(self._here)} in {seconds:.1f} s")

    def _say(self, text: str) -> None:
        self.stream.write(f"bundle: {text}\n")
        self.stream.flush()


class Live(Progress):
    """A bar that redraws in place."""

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console  # noqa: PLC0415 - slow to load

        self.console = Console(file=stream, highlight=False)
        self._bar: Any = None
        self._task: Any = None

    def step(self, text: str) -> None:
        """See Progress."""
        self.console.print(text, style="dim", markup=False)

    def start(self, what: str, things: int, size: int) -> None:
        """See Progress."""
        from rich import progress as rich  # noqa: PLC0415

        self._bar = rich.Progress(
            rich.TextColumn("{task.description}"),
            rich.BarColumn(),
            rich.DownloadColumn(),
            rich.TransferSpeedColumn(),
            rich.TimeRemainingColumn(),
            rich.TextColumn("{task.fields[done]}/{task.fields[things]}"),
            console=self.console,
            transient=True,
        )
        self._task = self._bar.add_task(what, total=max(size, 0) or None, done=0, things=things)
        self._done = 0
        self._bar.start()

    def moved(self, count: int) -> None:
        """See Progress."""
        if self._bar:
            self._bar.advance(self._task, count)

    def finished(self, label: str) -> None:  # noqa: ARG002 - the bar counts
        """See Progress."""
        self._done += 1
        if self._bar:
            self._bar.update(self._task, done=self._done)

    def notice(self, text: str) -> None:
        """See Progress."""
        self.console.print(text, style="yellow", markup=False)

    def stop(self) -> None:
        """See Progress."""
        if self._bar:
            self._bar.stop()
            self._bar = None


def for_stream(stream: IO[str]) -> Progress:
    """A bar on a capable terminal, lines elsewhere."""
    if not stream.isatty() or os.environ.get("TERM") in (None, "", "dumb"):
        return Plain(stream)
    return Live(stream)


def human(size: float) -> str:
    """A size for people: 1.4 GiB."""
    if size < 0:
        return "?"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit in ("B", "KiB") else f"{size:.1f} {unit}"
        size /= 1024
    return ""
