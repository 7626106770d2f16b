"""`rackloom lab`, with the lab itself played."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rackloom.cli.main import invoke, run
from rackloom.lab import manage
from rackloom.result import ExitCode, Handover, Problem
from rackloom.run.deploy import RunOutcome

HOST = {"ok": 1, "changed": 0, "skipped": 0, "failed": 0, "unreachable": 0, "rescued": 0, "ignored": 0}


def outcome(code: ExitCode = ExitCode.OK, *problems: Problem, **more: Any) -> RunOutcome:
    return RunOutcome(code, Path("/runs/1"), problems, {"login01": HOST}, **more)


def play_up(monkeypatch: pytest.MonkeyPatch, deploy: RunOutcome, validation: RunOutcome | None) -> list[Any]:
    asked: list[Any] = []

    def up(options: manage.LabOptions, progress: Any, **more: Any) -> manage.LabState:
        asked.append((options, more))
        progress("starting")
        return manage.LabState(
            options, Path("/lab"), "10.1.0.0/24", "image", (), (), (), deploy=deploy, validation=validation
        )

    monkeypatch.setattr(manage, "up", up)
    return asked


def test_up(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    checks = [{"service": "slurm", "name": "two_nodes", "ok": True, "detail": "", "seconds": 1}]
    asked = play_up(monkeypatch, outcome(), outcome(checks=checks))
    assert run(["lab", "up", "--compute", "6", "--gpus", "1", "--os", "debian-13", "--name", "x"]) == 0
    options, more = asked[0]
    assert (options.compute, options.gpus, options.os, options.name) == (6, 1, "debian-13", "x")
    assert more["deploy"] is True
    shown = capsys.readouterr().out
    assert "lab: starting" in shown
    assert "two_nodes" in shown
    assert "rackloom lab ssh login01 --name x" in shown


def test_up_ends_as_badly_as_what_it_did(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play_up(monkeypatch, outcome(), outcome(ExitCode.VERDICT, Problem("check_failed", "no")))
    assert run(["lab", "up", "--json"]) == 3
    shown = capsys.readouterr()
    assert json.loads(shown.out)["errors"][0]["code"] == "check_failed"
    assert "lab: starting" in shown.err


def test_ssh_hands_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manage, "ssh_command", lambda name, node, user: ["ssh", f"{user}@{name}-{node}"])
    assert invoke(["lab", "ssh", "gpu01"]) == Handover(("ssh", "root@lab-gpu01"))
    found = invoke(["lab", "ssh", "gpu01", "--user", "alice", "--", "srun", "-N2", "--json"])
    assert found == Handover(("ssh", "alice@lab-gpu01", "srun", "-N2", "--json"))


def test_power(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(manage, "power", lambda name, node, **how: asked.append((name, node, how)))
    assert run(["lab", "power", "gpu01", "off"]) == 0
    assert run(["lab", "power", "gpu01", "off", "--hard"]) == 0
    assert asked == [
        ("lab", "gpu01", {"on": False, "hard": False}),
        ("lab", "gpu01", {"on": False, "hard": True}),
    ]
    capsys.readouterr()
    assert run(["lab", "power", "gpu01", "sideways", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["errors"][0]["code"] == "usage"


def test_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    node = manage.NodeStatus("gpu01", "compute", "10.1.0.5", "running")
    found = manage.LabStatus(
        "lab", exists=True, subnet="10.1.0.0/24", os="debian-12", nodes=(node,), deployed=True
    )
    monkeypatch.setattr(manage, "status", lambda _name: found)
    assert run(["lab", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["nodes"][0]["state"] == "running"


def test_a_lab_error_keeps_its_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise manage.LabError("no engine", "install podman")

    monkeypatch.setattr(manage, "down", fail)
    assert run(["lab", "down", "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["errors"]
    assert (problem["message"], problem["cure"]) == ("no engine", "install podman")


def test_node_names_complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from types import SimpleNamespace  # noqa: PLC0415

    from rackloom.cli.lab import complete_node  # noqa: PLC0415

    monkeypatch.setenv("RACKLOOM_HOME", str(tmp_path))
    context: Any = SimpleNamespace(params={"name": "lab"})
    assert complete_node(context, "") == []
    (tmp_path / ".lab" / "lab").mkdir(parents=True)
    nodes = [{"name": "gpu01"}, {"name": "login01"}]
    (tmp_path / ".lab" / "lab" / "lab.json").write_text(json.dumps({"nodes": nodes}), encoding="utf-8")
    assert complete_node(context, "g") == ["gpu01"]
