"""Ctrl-C, kill, and two at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rackloom.run.runner import _memory_dir

REPO = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")

# A name that nothing else on the machine runs, so that what is left over can be found.
SLOW = """\
---
- name: Slow
  hosts: compute
  gather_facts: false
  tags: [slow]
  tasks:
    - name: Note
      ansible.builtin.debug:
        msg: before
    - name: Sleep
      ansible.builtin.command:
        argv: [{program}, "600"]
      changed_when: false
"""


@pytest.fixture
def slow(world: Any, tmp_path: Path) -> Path:
    """A site whose deploy takes ten minutes; gives the path of the program that sleeps."""
    program = tmp_path / "sleeper"
    program.write_text(
        f"#!{sys.executable}\nimport sys, time\ntime.sleep(float(sys.argv[1]))\n", encoding="utf-8"
    )
    program.chmod(0o755)
    world.playbook(SLOW.format(program=program))
    return program


def processes(word: str) -> dict[int, str]:
    """Living processes with a word on their command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            except OSError:
                continue
            if word in line and state != "Z":
                found[int(entry.name)] = line
    return found


def start(world: Any, *more: str) -> subprocess.Popen[str]:
    """`rackloom deploy` as a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(REPO / "scripts")}
    argv = [sys.executable, "-m", "rackloom.cli.main", "deploy", "--config", str(world.config), *more]
    return subprocess.Popen(argv, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(word: str, count: int, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while len(processes(word)) < count:
        assert time.monotonic() < until, f"{word} did not start"
        time.sleep(0.1)


def assert_gone(word: str, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while left := processes(word):
        assert time.monotonic() < until, f"left over: {left}"
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_leaves_no_process_and_the_story(world: Any, slow: Path, number: signal.Signals) -> None:
    child = start(world, "--json")
    wait_for(f"{slow} 600", 2)
    child.send_signal(number)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 130
    assert_gone(str(slow.parent))
    assert "stopping" in err
    answer = json.loads(out)
    assert answer["exit_code"] == 130
    assert answer["errors"][-1]["code"] == "interrupted"
    run = Path(answer["data"]["run"])
    timeline = json.loads((run / "timeline.json").read_text(encoding="utf-8"))
    assert timeline["interrupted"] is True
    assert {row[4] for row in timeline["rows"]} == {"ok", "interrupted"}
    assert timeline["stages"][0]["status"] == "interrupted"
    assert answer["data"]["resume"] == f"rackloom deploy --config {world.config}"


def test_a_run_killed_outright_takes_ansible_with_it(world: Any, slow: Path) -> None:
    child = start(world)
    wait_for(f"{slow} 600", 2)
    child.kill()
    child.communicate(timeout=60)
    assert_gone(str(slow.parent))
    private = list(Path(_memory_dir() or "/tmp").glob(f"rackloom-run-{child.pid}-*"))
    assert private
    # And the next one is free to go.
    world.playbook(SLOW.format(program="/bin/true"))
    again = start(world)
    out, _ = again.communicate(timeout=180)
    assert again.returncode == 0, out
    assert not any(path.exists() for path in private)


def test_one_deploy_at_a_time(world: Any, slow: Path) -> None:
    first = start(world)
    try:
        wait_for(f"{slow} 600", 2)
        second = start(world, "--json")
        out, _ = second.communicate(timeout=120)
        assert second.returncode == 2
        (problem,) = json.loads(out)["errors"]
        assert problem["code"] == "busy"
        assert str(first.pid) in problem["message"]
        assert "rackloom deploy" in problem["message"]
    finally:
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=120)
    assert_gone(str(slow.parent))


def test_stopping_before_ansible_is_up(world: Any, slow: Path) -> None:
    child = start(world)
    runs = world.config / ".runs"
    until = time.monotonic() + 120
    while not (runs.is_dir() and any(path.is_dir() for path in runs.iterdir())):
        assert time.monotonic() < until
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=120)
    assert child.returncode == 130
    assert_gone(str(slow.parent))
