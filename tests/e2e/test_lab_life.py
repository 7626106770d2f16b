"""A lab's own life, without a deployment: made, made again, interrupted, side by side with another, removed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackloom.lab.machine import detect
from rackloom.lab.podman import Podman

from .conftest import ROOT

ONE, TWO = "life-one", "life-two"
SIZE = ("--compute", "1", "--no-deploy")


def lab(*words: str) -> Any:
    """Run `rackloom lab WORDS --json` and return the envelope's data."""
    done = subprocess.run(
        [str(ROOT / ".venv/bin/rackloom"), "lab", *words, "--json"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)["data"]


def left_of(name: str) -> dict[str, Any]:
    """What this machine still has of a lab."""
    podman = Podman(detect())
    return {
        "containers": [found.name for found in podman.containers(lab=name)],
        "networks": [row["name"] for row in podman.networks() if row["name"] == f"rackloom-{name}"],
        "folder": (ROOT / ".lab" / name).exists(),
        "connections": subprocess.run(
            ["pgrep", "-f", f"ssh.*{ROOT}/.lab/{name}/cp"], capture_output=True, text=True, check=False
        ).stdout.split(),
    }


NOTHING: dict[str, Any] = {"containers": [], "networks": [], "folder": False, "connections": []}


def assert_gone(name: str) -> None:
    """Nothing is left. A connection that was told to end takes a moment."""
    end = time.monotonic() + 60
    while (left := left_of(name)) != NOTHING:
        assert time.monotonic() < end, left
        time.sleep(0.2)


@pytest.fixture(autouse=True)
def removed() -> Iterator[None]:
    """Nothing is there at the beginning, whatever a run that was ended has left, and nothing at the end."""
    for name in (ONE, TWO):
        lab("down", "--name", name)
    yield
    for name in (ONE, TWO):
        lab("down", "--name", name)


def boot_ids(name: str, nodes: list[str]) -> list[str]:
    """When each node's first process started; a node that was touched has another time.

    The process tells it itself: the times of its folder are those at which the kernel last made that up.
    """
    podman = Podman(detect())
    return [
        podman.exec(f"rackloom-{name}-{node}", "cut", "-d", " ", "-f", "22", "/proc/1/stat") for node in nodes
    ]


def test_two_labs_live_side_by_side_and_one_goes_alone() -> None:
    both = [lab("up", "--name", name, *SIZE) for name in (ONE, TWO)]
    assert both[0]["subnet"] != both[1]["subnet"]
    names = [node["name"] for node in both[0]["nodes"]]
    assert names == ["mgmt01", "login01", "gpu01"]
    before = boot_ids(TWO, names)
    site = ROOT / ".lab" / TWO / "config"
    subprocess.run(
        [str(ROOT / ".venv/bin/ansible"), "all", "-i", str(site), "-m", "ansible.builtin.ping"],
        cwd=ROOT,
        env={**os.environ, "RACKLOOM_VAULT_KEY_FILE": str(site / "vault.key")},
        check=True,
        capture_output=True,
    )

    lab("down", "--name", ONE)
    assert_gone(ONE)
    assert [node["state"] for node in lab("status", "--name", TWO)["nodes"]] == ["running"] * 3
    assert boot_ids(TWO, names) == before
    lab("down", "--name", TWO)
    assert_gone(TWO)


def test_up_again_touches_nothing_and_grows_by_new_nodes_only() -> None:
    first = lab("up", "--name", ONE, *SIZE)
    names = [node["name"] for node in first["nodes"]]
    before = boot_ids(ONE, names)
    known = Path(first["config"], "known_hosts").read_text()
    again = lab("up", "--name", ONE, *SIZE)
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    assert boot_ids(ONE, names) == before

    lab("power", "gpu01", "off", "--name", ONE)
    grown = lab("up", "--name", ONE, "--compute", "2", "--no-deploy")
    assert [node["name"] for node in grown["nodes"]] == [*names, "gpu02"]
    states = {node["name"]: node["state"] for node in lab("status", "--name", ONE)["nodes"]}
    assert states == {"mgmt01": "running", "login01": "running", "gpu01": "exited", "gpu02": "running"}
    assert set(known.splitlines()) < set(Path(first["config"], "known_hosts").read_text().splitlines())
    lab("power", "gpu01", "on", "--name", ONE)
    assert Podman(detect()).exec(f"rackloom-{ONE}-gpu01", "sh", "-c", "ls /dev/nvidia?").split() == [
        "/dev/nvidia0",
        "/dev/nvidia1",
    ]


@pytest.mark.parametrize("seconds", [0.6, 1.5, 3.0])
def test_a_killed_up_is_made_good_by_the_next(seconds: float) -> None:
    process = subprocess.Popen(
        [str(ROOT / ".venv/bin/rackloom"), "lab", "up", "--name", ONE, *SIZE],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)  # the point where it is cut off
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    lab("up", "--name", ONE, *SIZE)
    assert [node["state"] for node in lab("status", "--name", ONE)["nodes"]] == ["running"] * 3
    known = (ROOT / ".lab" / ONE / "config/known_hosts").read_text()
    assert all(f",{node} " in known for node in ("mgmt01", "login01", "gpu01"))


def test_nodes_come_back_after_the_machine_was_off() -> None:
    lab("up", "--name", ONE, *SIZE)
    podman = Podman(detect())
    podman.call("stop", "--time", "1", *(found.name for found in podman.containers(lab=ONE)))
    lab("up", "--name", ONE, *SIZE)
    assert [node["state"] for node in lab("status", "--name", ONE)["nodes"]] == ["running"] * 3
