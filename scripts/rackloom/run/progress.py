"""What people see while a run is at work: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any, Protocol

from rackloom.run.record import Record

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.text import Text

_HEARTBEAT = 30.0
_SLOW = 5.0


class ProgressSink(Protocol):
    """Follows one run. Whatever it raises is noted and ignored; the run goes on."""

    def start(self, title: str, stages: Sequence[str], record: Record) -> None:
        """The run begins; `record` is alive and will be fed before each `update`."""

    def update(self) -> None:
        """The record took in an event."""

    def tick(self) -> None:
        """Time passed (about ten times a second) without an event."""

    def notice(self, text: str) -> None:
        """Something to tell now."""

    def stop(self) -> None:
        """The run is over."""


class Silent:
    """Shows nothing; the base of the others."""

    title = ""

    def start(self, title: str, stages: Sequence[str], record: Record) -> None:
        """See ProgressSink."""
        self.title, self.stages, self.record = title, list(stages), record
        self.began = time.monotonic()
        self._told: set[int] = set()

    def update(self) -> None:
        """See ProgressSink."""

    def tick(self) -> None:
        """See ProgressSink."""

    def notice(self, text: str) -> None:
        """See ProgressSink."""

    def stop(self) -> None:
        """See ProgressSink."""

    def elapsed(self) -> str:
        """Time since the start."""
        return clock(time.monotonic() - self.began)

    def new_failures(self) -> list[str]:
        """One line for each failure not told yet."""
        lines = []
        for number, failure in enumerate(self.record.failures):
            if number not in self._told:
                self._told.add(number)
                what = "unreachable" if failure.unreachable else "failed"
                lines.append(f"{what}: {failure.host}: {failure.task}: {_short(failure.message, 300)}")
        return lines


class Plain(Silent):
    """One line an event worth telling: stages, tasks that changed, failed or took long, a sign of life."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def start(self, title: str, stages: Sequence[str], record: Record) -> None:
        """See ProgressSink."""
        super().start(title, stages, record)
        self._stage, self._task, self._rows = "", -1, 0
        self._spoke = time.monotonic()
        self._say(title)

    def update(self) -> None:
        """See ProgressSink."""
        record = self.record
        if record.task and record.task.number != self._task:
            self._task_done()
            self._task, self._rows = record.task.number, len(record.rows)
            self._rows -= sum(
                1 for row in record.rows[-len(record.hosts) or None :] if row.task is record.task
            )
        if record.stage != self._stage:
            self._stage_done()
            self._stage = record.stage
            self._say(f"stage {record.stage}")
        for line in self.new_failures():
            self._say(line)

    def tick(self) -> None:
        """See ProgressSink."""
        if time.monotonic() - self._spoke > _HEARTBEAT:
            task = self.record.task
            self._say(
                f"still at {task.title}, waiting for {names(self.record.pending)}"
                if task
                else "still at work"
            )

    def notice(self, text: str) -> None:
        """See ProgressSink."""
        self._say(text)

    def stop(self) -> None:
        """See ProgressSink."""
        self._task_done()
        self._stage_done()

    def _task_done(self) -> None:
        if self._task < 0 or self._task >= len(self.record.tasks):
            return
        rows = [row for row in self.record.rows[max(0, self._rows) :] if row.task.number == self._task]
        changed = sum(1 for row in rows if row.status == "changed")
        seconds = max((row.end for row in rows), default=0.0) - min((row.start for row in rows), default=0.0)
        if changed or seconds > _SLOW:
            task = self.record.tasks[self._task]
            self._say(f"  {task.title}: {changed} of {len(rows)} changed, {seconds:.0f} s")

    def _stage_done(self) -> None:
        if stage := self.record.stages.get(self._stage):
            status = "done" if stage.status in ("ok", "running") else stage.status
            self._say(f"stage {stage.name} {status} in {clock(stage.end - stage.start)}")

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        self.stream.write(f"[{self.elapsed()}] {text}\n")
        self.stream.flush()


class Live(Silent):
    """A panel that redraws in place: stages, the running task and whom it waits for, hosts, time."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Any = None

    def start(self, title: str, stages: Sequence[str], record: Record) -> None:
        """See ProgressSink."""
        from rich.live import Live as RichLive  # noqa: PLC0415 - slow to load

        super().start(title, stages, record)
        self._drawn = 0.0
        self._live = RichLive(
            console=self.console, auto_refresh=False, transient=True, get_renderable=self._panel
        )
        self._live.start()

    def update(self) -> None:
        """See ProgressSink."""
        for line in self.new_failures():
            self.notice(line)
        self.tick()

    def tick(self) -> None:
        """See ProgressSink."""
        if self._live and time.monotonic() - self._drawn > 0.2:
            self._drawn = time.monotonic()
            self._live.refresh()

    def notice(self, text: str) -> None:
        """See ProgressSink."""
        from rich.text import Text  # noqa: PLC0415

        bad = text.startswith(("failed", "unreachable"))
        self.console.print(Text(text, style="red" if bad else "yellow"))

    def stop(self) -> None:
        """See ProgressSink. Leaves the stages' last state on the screen."""
        if self._live:
            self._live.stop()
            self._live = None
            self.console.print(self._stages_line())

    def _panel(self) -> Group:
        from rich.console import Group  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        record = self.record
        head = Text.assemble((self.title, "bold"), "  ", (self.elapsed(), "cyan"))
        lines = [head, self._stages_line()]
        if record.task:
            lines.append(
                Text.assemble(("▸ ", "green"), record.task.title, (f"  {record.play}", "dim"), no_wrap=True)
            )
            lines.append(
                Text(f"  waiting for {names(record.pending)}" if record.pending else "", style="dim")
            )
        else:
            lines.append(Text("reading the inventory …", style="dim"))
        lines.append(self._hosts_line())
        for line in lines:
            line.overflow = "ellipsis"
        return Group(*lines)

    def _stages_line(self) -> Text:
        from rich.text import Text  # noqa: PLC0415

        marks = {"ok": ("✓", "green"), "running": ("●", "yellow"), "interrupted": ("◌", "yellow")}
        text = Text()
        known = self.record.known_stages
        shown = dict.fromkeys([*self.stages, *self.record.stages])
        for name in sorted(shown, key=lambda name: known.index(name) if name in known else len(known)):
            stage = self.record.stages.get(name)
            if stage is None:
                text.append(f"· {name}   ", style="dim")
                continue
            mark, style = marks.get(stage.status, ("✗", "red"))
            until = time.time() if stage.status == "running" else stage.end
            text.append(f"{mark} {name} ", style=style)
            text.append(f"{clock(until - stage.start)}   ", style="dim")
        return text

    def _hosts_line(self) -> Text:
        from rich.text import Text  # noqa: PLC0415

        states = [tally.state for tally in self.record.hosts.values()]
        text = Text("hosts  ", style="dim")
        for state, style in (
            ("ok", "green"),
            ("changed", "yellow"),
            ("failed", "red"),
            ("unreachable", "magenta"),
        ):
            count = states.count(state)
            text.append(f"{count} {state}  ", style=style if count else "dim")
        text.append(f" tasks  {len(self.record.tasks)}", style="dim")
        return text


def for_stream(stream: IO[str], *, quiet: bool = False) -> ProgressSink:
    """The right progress for `stream`: live on a capable terminal, plain lines elsewhere. NO_COLOR is honoured."""
    if quiet:
        return Silent()
    if not stream.isatty() or os.environ.get("TERM") in (None, "", "dumb"):
        return Plain(stream)
    from rich.console import Console  # noqa: PLC0415 - slow to load

    return Live(Console(file=stream, highlight=False))


def clock(seconds: float) -> str:
    """`mm:ss`, or `h:mm:ss` from an hour on."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    text = f"{rest // 60:02d}:{rest % 60:02d}"
    return f"{hours}:{text}" if hours else text


def names(hosts: Iterable[str], most: int = 6) -> str:
    """Host names for people, folded to ranges where that is possible."""
    from rackloom.site.ranges import fold_sorted  # noqa: PLC0415

    hosts = list(hosts)
    if len(hosts) <= most:
        return ", ".join(hosts)
    return _short(f"{fold_sorted(hosts)} ({len(hosts)} hosts)", 200)


def _short(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
