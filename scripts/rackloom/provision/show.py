"""What people see while nodes are on their way: a table that redraws in place, or a line for each step."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, Protocol

from rackloom.provision.model import Board, Progress, Stage, State, counts
from rackloom.run.progress import clock

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_HEARTBEAT = 30.0
_MOST_ROWS = 30
_MARKS = {
    State.UP: ("✓", "green"),
    State.KEPT: ("✓", "green"),
    State.MOVING: ("●", "yellow"),
    State.QUEUED: ("·", "dim"),
}


class Display(Protocol):
    """Follows one run."""

    def start(self, title: str, board: Board) -> None:
        """The nodes are armed and known."""

    def step(self, node: Progress) -> None:
        """A node moved on."""

    def notice(self, text: str) -> None:
        """Something to tell now."""

    def tick(self) -> None:
        """Time passed."""

    def stop(self) -> None:
        """The run is over."""


def line(node: Progress, now: float) -> str:
    """One node in one line, for displays that cannot go back."""
    what = {
        State.UP: "SSH, it is up",
        State.KEPT: f"left alone: {node.message}",
        State.REFUSED: f"refused: {node.message}",
        State.FAILED: f"failed: {node.message}",
        State.LOST: f"given up: {node.message}",
    }.get(node.state, node.stage.word + (f" ({node.detail})" if node.detail else ""))
    return f"{node.name}: {what}" + ("" if node.began is None else f" [{clock(node.seconds(now))}]")


class Plain:
    """One line a step, and a sign of life."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.began = self.spoke = time.monotonic()
        self.board = Board()

    def start(self, title: str, board: Board) -> None:
        """See Display."""
        self.board = board
        self._say(title)

    def step(self, node: Progress) -> None:
        """See Display."""
        self._say(line(node, time.monotonic()))

    def notice(self, text: str) -> None:
        """See Display."""
        self._say(text)

    def tick(self) -> None:
        """See Display."""
        now = time.monotonic()
        if now - self.spoke > _HEARTBEAT:
            waiting = [node for node in self.board.nodes.values() if not node.over]
            told = ", ".join(f"{node.name} {node.stage.word}" for node in waiting[:6])
            more = f" and {len(waiting) - 6} more" if len(waiting) > 6 else ""
            self._say(f"waiting for {told}{more}")

    def stop(self) -> None:
        """See Display."""

    def _say(self, text: str) -> None:
        self.spoke = time.monotonic()
        self.stream.write(f"[{clock(self.spoke - self.began)}] {text}\n")
        self.stream.flush()


class Live:
    """A table that redraws in place."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.began = time.monotonic()
        self.drawn = 0.0
        self.title, self.board = "", Board()
        self._live: Any = None

    def start(self, title: str, board: Board) -> None:
        """See Display."""
        from rich.live import Live as RichLive  # noqa: PLC0415 - slow to load

        self.title, self.board = title, board
        self._live = RichLive(
            console=self.console, auto_refresh=False, transient=True, get_renderable=self.table
        )
        self._live.start()

    def step(self, node: Progress) -> None:
        """See Display."""
        if node.state in (State.FAILED, State.LOST, State.REFUSED):
            self.notice(line(node, time.monotonic()))
        self.tick()

    def notice(self, text: str) -> None:
        """See Display."""
        from rich.text import Text  # noqa: PLC0415

        self.console.print(Text(text, style="yellow"))

    def tick(self) -> None:
        """See Display."""
        if self._live and time.monotonic() - self.drawn > 0.25:
            self.drawn = time.monotonic()
            self._live.refresh()

    def stop(self) -> None:
        """See Display."""
        if self._live:
            self._live.stop()
            self._live = None

    def table(self) -> RenderableType:
        """The nodes, those that still move first."""
        from rich.console import Group  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        now = time.monotonic()
        found = counts(self.board.nodes.values())
        head = Text.assemble((self.title, "bold"), "  ", (clock(now - self.began), "cyan"), "   ")
        head.append("  ".join(f"{number} {state}" for state, number in found.items()), style="dim")
        grid = Table.grid(padding=(0, 2))
        for node in shown(list(self.board.nodes.values())):
            mark, style = _MARKS.get(node.state, ("✗", "red"))
            track = Text()
            for stage in Stage:
                if stage is Stage.ARMED or (stage is Stage.WRITING and node.mode == "memory"):
                    continue
                done = stage < node.stage or node.state is State.UP
                here = stage is node.stage and not node.over
                track.append(f"{stage.word} ", style="green" if done else "bold yellow" if here else "dim")
            grid.add_row(
                Text(mark, style=style),
                node.name,
                clock(node.seconds(now)) if node.began is not None else "",
                track,
                Text(
                    node.message or node.detail,
                    style="dim" if not node.message else style,
                    overflow="ellipsis",
                ),
            )
        return Group(head, grid)


def shown(nodes: Sequence[Progress]) -> list[Progress]:
    """The nodes that fit on a screen: those that stand still first, then those that move, then the rest."""
    order = {State.LOST: 0, State.FAILED: 0, State.MOVING: 1, State.QUEUED: 2}
    ranked = sorted(nodes, key=lambda node: (order.get(node.state, 3), node.moved))
    kept = {node.name for node in ranked[:_MOST_ROWS]}
    return [node for node in nodes if node.name in kept]


def for_stream(stream: IO[str]) -> Display:
    """The right display for a stream: live on a capable terminal, plain lines elsewhere."""
    if not stream.isatty() or os.environ.get("TERM") in (None, "", "dumb"):
        return Plain(stream)
    from rich.console import Console  # noqa: PLC0415 - slow to load

    return Live(Console(file=stream, highlight=False))
