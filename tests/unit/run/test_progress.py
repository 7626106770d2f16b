"""What people see."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from rackloom.run.progress import Live, Plain, ProgressSink, Silent, clock, for_stream, names
from rackloom.run.record import Record


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def events() -> list[dict[str, Any]]:
    play = {"name": "Play", "hosts": ["a", "b"], "tags": ["base"], "path": "/x.yml:1"}
    task = {"task_uuid": "1", "task": "Install | Packages", "role": "chrony"}
    ok = {"host": "a", "task_uuid": "1", "res": {"changed": True}}
    bad = {"host": "b", "task_uuid": "1", "res": {"msg": "no\nway"}}
    return [
        {"event": "playbook_on_play_start", "created": "2026-01-01T00:00:00+00:00", "event_data": play},
        {"event": "playbook_on_task_start", "created": "2026-01-01T00:00:01+00:00", "event_data": task},
        {"event": "runner_on_ok", "created": "2026-01-01T00:00:08+00:00", "event_data": ok},
        {"event": "runner_on_failed", "created": "2026-01-01T00:00:09+00:00", "event_data": bad},
    ]


def follow(sink: ProgressSink) -> None:
    record = Record(["base"])
    sink.start("deploy demo", ["base", "slurm"], record)
    for event in events():
        record.see(event)
        sink.update()
        sink.tick()
    record.finish(interrupted=False)
    sink.stop()


def test_plain_lines() -> None:
    stream = io.StringIO()
    follow(Plain(stream))
    lines = [line.partition("] ")[2] for line in stream.getvalue().splitlines()]
    assert lines == [
        "deploy demo",
        "stage base",
        "failed: b: chrony : Install | Packages: no way",
        "  chrony : Install | Packages: 1 of 2 changed, 8 s",
        "stage base failed in 00:08",
    ]


@pytest.mark.parametrize("width", [40, 200])
def test_live_panel(width: int) -> None:
    stream = io.StringIO()
    live = Live(Console(file=stream, force_terminal=True, width=width, color_system=None))
    follow(live)
    shown = stream.getvalue()
    assert "failed: b" in shown
    assert "· slurm" in shown
    assert "1 changed" in shown


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    follow(for_stream(stream))
    assert "\x1b[3" not in stream.getvalue()  # colours; moving the cursor is fine


def test_the_right_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(for_stream(io.StringIO()), Plain)
    assert isinstance(for_stream(Terminal()), Live)
    assert type(for_stream(Terminal(), quiet=True)) is Silent
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(for_stream(Terminal()), Plain)


def test_words() -> None:
    assert clock(59.9) == "00:59"
    assert clock(3661) == "1:01:01"
    assert names(["b", "a"]) == "b, a"
    assert names([f"gpu{number:03d}" for number in range(1, 101)]) == "gpu[001-100] (100 hosts)"
