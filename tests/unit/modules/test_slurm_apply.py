"""Putting a controller's configuration into force, with stand-ins for systemd and Slurm."""

from __future__ import annotations

import importlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plugins.module_utils.slurm_trial import NotTriedError

CONF = "ClusterName=demo\nKillWait=30\nNodeName=n1\n"


class Machine:
    """A node with systemd and Slurm; `said` is what was asked of them that changes something."""

    def __init__(self) -> None:
        self.active = False
        self.enabled = True
        self.version = "slurm-wlm 22.05.8"
        self.refused = ""  # a word in slurm.conf that the running controller dies of
        self.conf: Path = Path()
        self.said: list[str] = []

    def run(self, command: list[str]) -> tuple[int, str]:
        if command[0] == "slurmctld":
            return 0, self.version
        if command[0] == "journalctl":
            return 0, "fatal: it is written here"
        if command[:2] == ["scontrol", "ping"]:
            name = socket.gethostname().split(".")[0]
            return 0, f"Slurmctld(primary) at {name} is {'UP' if self.active else 'DOWN'}"
        if command[:2] == ["systemctl", "show"]:
            state = "active" if self.active else "failed" if self.said else "inactive"
            return 0, f"ActiveState={state}\nUnitFileState={'enabled' if self.enabled else 'disabled'}"
        if "reset-failed" not in command:
            self.said.append(" ".join(command[:2]))
        if command[1] in ("restart", "reconfigure"):
            self.active = not self.refused or self.refused not in self.conf.read_text()
        return 0, ""


Apply = Callable[..., dict[str, Any]]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    module = importlib.import_module("plugins.modules.slurm_apply")
    machine = Machine()
    machine.conf = tmp_path / "slurm" / "slurm.conf"
    monkeypatch.setattr(module.Apply, "run", lambda _self, command: machine.run(command))
    monkeypatch.setattr(module, "RECORD", tmp_path / "applied.json")
    monkeypatch.setattr(module, "try_start", lambda _files, **_more: [])
    monkeypatch.setattr(module.shutil, "which", lambda _name: "/usr/sbin/slurmctld")
    return machine


@pytest.fixture
def apply(run_module: Apply, machine: Machine) -> Apply:
    def run(text: str = CONF, **more: Any) -> dict[str, Any]:
        machine.said.clear()
        folder = str(machine.conf.parent)
        return run_module(
            "slurm_apply", files={"slurm.conf": text, "topology.conf": ""}, folder=folder, **more
        )

    return run


def test_the_first_run_starts_it(apply: Apply, machine: Machine) -> None:
    machine.enabled = False
    result = apply()
    assert (result["action"], result["changed"], result["changed_files"]) == ("start", True, ["slurm.conf"])
    assert machine.conf.read_text() == CONF
    assert machine.said == ["systemctl daemon-reload", "systemctl enable", "systemctl restart"]


def test_the_second_run_does_nothing(apply: Apply, machine: Machine) -> None:
    apply()
    result = apply()
    assert (result["action"], result["changed"], machine.said) == ("none", False, [])


@pytest.mark.parametrize(
    ("version", "text", "action", "said"),
    [
        ("22.05.8", CONF.replace("30", "31"), "reconfigure", ["scontrol reconfigure"]),
        ("22.05.8", CONF + "NodeName=n2\n", "restart", ["systemctl restart", "scontrol reconfigure"]),
        ("24.11.5", CONF + "NodeName=n2\n", "reconfigure", ["scontrol reconfigure"]),
        ("22.05.8", CONF + "# a word\n", "none", []),
    ],
)
def test_the_least_that_is_needed(
    apply: Apply, machine: Machine, version: str, text: str, action: str, said: list[str]
) -> None:
    machine.version = f"slurm-wlm {version}"
    apply()
    assert apply(text, check=True)["action"] == action
    assert machine.said == []
    result = apply(text)
    assert (result["action"], result["changed"]) == (action, True)
    assert machine.said == said
    assert not apply(text)["changed"]


def test_a_backup_is_restarted_and_tells_nobody(apply: Apply, machine: Machine) -> None:
    apply(primary=False)
    result = apply(CONF.replace("30", "31"), primary=False)
    assert result["action"] == "restart"
    assert machine.said == ["systemctl restart"]


def test_nodes_are_told_what_changed_while_it_was_down(apply: Apply, machine: Machine) -> None:
    apply()
    machine.active = False
    assert apply()["action"] == "start"
    assert machine.said == ["systemctl restart"]
    machine.active = False
    assert apply(CONF + "NodeName=n2\n")["action"] == "start"
    assert machine.said == ["systemctl restart", "scontrol reconfigure"]


def test_a_run_killed_before_the_end_is_made_good(apply: Apply, machine: Machine) -> None:
    apply()
    text = CONF.replace("30", "31")
    machine.conf.write_text(text)
    assert apply(text)["reasons"] == ["slurm.conf: killwait"]
    assert machine.said == ["scontrol reconfigure"]


def test_a_running_controller_of_unknown_files_is_restarted(apply: Apply, machine: Machine) -> None:
    machine.active = True
    assert apply()["action"] == "restart"


def test_a_changed_unit_restarts(apply: Apply, machine: Machine, tmp_path: Path) -> None:
    unit = tmp_path / "drop-in.conf"
    unit.write_text("[Service]\n")
    apply(restart_on=[str(unit)])
    assert not apply(restart_on=[str(unit)])["changed"]
    unit.write_text("[Service]\nRestartSec=1\n")
    assert apply(restart_on=[str(unit)])["action"] == "restart"
    assert machine.said[0] == "systemctl daemon-reload"


def test_what_the_trial_refuses_replaces_nothing(
    apply: Apply, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply()
    module = importlib.import_module("plugins.modules.slurm_apply")
    monkeypatch.setattr(module, "try_start", lambda _files, **_more: ["no such key: Bogus"])
    result = apply(CONF + "Bogus=1\n")
    assert result["failed"]
    assert "Bogus" in result["msg"]
    assert machine.conf.read_text() == CONF
    assert machine.said == []


def test_a_trial_that_cannot_be_made_is_told(
    apply: Apply, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_files: object, **_more: object) -> list[str]:
        raise NotTriedError("no namespaces here")

    module = importlib.import_module("plugins.modules.slurm_apply")
    monkeypatch.setattr(module, "try_start", refuse)
    result = apply()
    assert result["action"] == "start"
    assert result["trial"] == "no namespaces here"


def test_what_it_dies_of_is_taken_back(apply: Apply, machine: Machine, tmp_path: Path) -> None:
    apply()
    machine.refused = "Poison"
    result = apply(CONF + "Poison=1\n")
    assert result["failed"]
    assert "back in force" in result["msg"]
    assert result["journal"] == ["fatal: it is written here"]
    assert machine.conf.read_text() == CONF
    assert machine.active
    assert json.loads((tmp_path / "applied.json").read_text())["files"]["slurm.conf"] == CONF


def test_there_may_be_nothing_to_go_back_to(apply: Apply, machine: Machine) -> None:
    machine.refused = "demo"
    assert "none to go back to" in apply()["msg"]


def test_a_dry_run_on_a_bare_node(apply: Apply, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("plugins.modules.slurm_apply")
    monkeypatch.setattr(module.shutil, "which", lambda _name: None)
    result = apply(check=True)
    assert (result["action"], result["changed"]) == ("start", True)
    assert not machine.conf.exists()
    assert "not installed" in apply()["msg"]
