"""Lifecycle commands hand on what people wrote, and say how it ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rackloom.cli.main import run
from rackloom.lifecycle import plan_nodes, plan_reboot, plan_upgrade
from rackloom.lifecycle import run as commands
from rackloom.lifecycle.run import Done, Limits
from rackloom.result import ExitCode, Problem

COSTS = ("--timeout", "60", "--delete-unmanaged-pods", "--cancel-running-jobs", "--check")
DEAD = "--the-node-is-dead-and-stays-so"
LIMITS = Limits(60, cancel_jobs=True, delete_unmanaged=True)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was handed on, played to end with a verdict."""
    seen: list[tuple[Any, ...]] = []

    def played(name: str) -> Any:
        def command(config: Path, wish: Any, limits: Limits, _: Any, *, check: bool = False) -> Done:
            seen.append((name, str(config), wish, limits, check))
            return Done(ExitCode.VERDICT, (Problem("odd", "it is odd"),))

        return command

    for name in ("remove", "move", "reboot", "upgrade"):
        monkeypatch.setattr(commands, name, played(name))
    return seen


@pytest.mark.parametrize(
    ("words", "name", "wish"),
    [
        (
            ("nodes", "remove", "g[1-2]", "g1", DEAD, *COSTS),
            "remove",
            plan_nodes.Removal(("g1", "g2"), dead=True, delete_unmanaged=True),
        ),
        (
            ("nodes", "replace", "m1", "m4", *COSTS),
            "remove",
            plan_nodes.Removal(("m1",), by="m4", delete_unmanaged=True),
        ),
        (
            ("nodes", "move", "g1", "--to", "kubernetes", *COSTS),
            "move",
            plan_nodes.Move("g1", "kubernetes", delete_unmanaged=True),
        ),
        (
            ("nodes", "reboot", "g[1-2]", "--wave", "10%", *COSTS),
            "reboot",
            plan_reboot.Wish(("g1", "g2"), wave="10%", delete_unmanaged=True),
        ),
        (
            ("nodes", "reboot", "--needed", *COSTS),
            "reboot",
            plan_reboot.Wish((), needed=True, delete_unmanaged=True),
        ),
    ],
)
def test_what_people_write_is_handed_on(
    asked: list[tuple[Any, ...]],
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    name: str,
    wish: Any,
) -> None:
    assert run([*words, "--config", "site", "--json"]) == ExitCode.VERDICT
    assert asked == [(name, "site", wish, LIMITS, True)]
    answer = json.loads(capsys.readouterr().out)
    assert answer["command"] == " ".join(words[:2])
    assert [error["code"] for error in answer["errors"]] == ["odd"]
    assert answer["data"]["check"] is True


def test_an_upgrade_is_handed_on(asked: list[tuple[Any, ...]]) -> None:
    words = ["upgrade", "kubernetes", "--to", "v1.2.3", "--wave", "2", "--pause-after", "m1"]
    assert run([*words, "--config", "site", "--json"]) == ExitCode.VERDICT
    assert asked == [("upgrade", "site", plan_upgrade.Wish("1.2.3", "2", "m1"), Limits(), False)]


@pytest.mark.parametrize(
    "words",
    [
        ("remove", "g[1-"),
        ("reboot", "g[1-"),
        ("reboot",),
        ("move", "g1", "--to", "nowhere"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    asked: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(["nodes", *words, "--json"]) == ExitCode.MISTAKES
    assert asked == []
    [error] = json.loads(capsys.readouterr().out)["errors"]
    assert error["code"] == "usage" and error["cure"]
