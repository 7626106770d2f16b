"""Commands that run playbooks, as people and programs see them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from rackloom.cli.main import run

KEYS = {"rackloom_result_version", "command", "status", "exit_code", "data", "errors"}
PLAY = """\
---
- name: Site
  hosts: all
  gather_facts: false
  tags: [base]
  tasks:
    - name: Do something
      ansible.builtin.{module}:
        msg: words
      {more}
"""


def answer(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    code = run([*argv, "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert set(found) == KEYS
    assert found["exit_code"] == code
    return found


def test_deploy_in_plain_lines(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    world.playbook(PLAY.format(module="debug", more="changed_when: true"))
    assert run(["deploy", "--config", str(world.config)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[00:00] deploy demo" in out
    assert re.search(r"stage base done in \d\d:\d\d$", out, re.MULTILINE)
    assert "Do something: 4 of 4 changed" in out
    assert "Done in" in out
    assert out.count("cpu01") == 1


def test_deploy_as_json(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    world.playbook(PLAY.format(module="debug", more=""))
    found = answer(capsys, "deploy", "base", "--config", str(world.config))
    assert (found["status"], found["command"]) == ("success", "deploy")
    assert found["data"]["hosts"]["cpu01"]["ok"] == 1


def test_a_partial_failure(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    world.playbook(PLAY.format(module="fail", more="when: inventory_hostname == 'cpu01'"))
    found = answer(capsys, "deploy", "--config", str(world.config))
    assert (found["status"], found["exit_code"]) == ("partial", 1)
    assert {"code", "message", "cure", "host", "task", "task_path"} <= set(found["errors"][0])
    assert run(["deploy", "--config", str(world.config)]) == 1
    shown = capsys.readouterr()
    assert "failed: cpu01: Do something: words" in shown.out
    assert f"To go on: rackloom deploy --config {world.config} --limit cpu01" in shown.out
    assert "✗ cpu01: Do something (playbooks/site.yml:7): words" in shown.err


def test_validate(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    checks = "rackloom_checks: [{service: slurm, name: job, ok: false, detail: stuck, seconds: 3}]"
    world.playbook(
        "---\n- name: V\n  hosts: login\n  gather_facts: false\n  tags: [slurm]\n  tasks:\n"
        f"    - name: Ask\n      ansible.builtin.set_fact:\n        {checks}\n",
        "validate.yml",
    )
    found = answer(capsys, "validate", "slurm", "--config", str(world.config))
    assert found["exit_code"] == 3
    assert found["data"]["ok"] is False
    assert found["data"]["checks"][0]["detail"] == "stuck"
    assert run(["validate", "--config", str(world.config)]) == 3
    shown = capsys.readouterr()
    assert "0 of 1 checks ok" in shown.out
    assert "slurm/job: stuck" in shown.err
    found = answer(capsys, "validate", "slrm", "--config", str(world.config))
    assert "did you mean slurm?" in found["errors"][0]["cure"]


def test_status(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    row = "{service: sshd, host: '{{ inventory_hostname }}', ok: true, detail: active}"
    world.playbook(
        "---\n- name: S\n  hosts: all\n  gather_facts: false\n  tasks:\n"
        f'    - name: Ask\n      ansible.builtin.set_fact:\n        rackloom_status: ["{{{{ row }}}}"]\n'
        f"      vars:\n        row: {row}\n",
        "status.yml",
    )
    found = answer(capsys, "status", "--config", str(world.config))
    assert found["data"]["ok"] is True
    assert {row["host"] for row in found["data"]["services"]} == {"mgmt01", "login01", "cpu01", "cpu02"}


def test_nodes_add_reaches_the_node_and_who_must_know(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    world.hosts("[slurm_controller]\nmgmt01\n[name_server]\nmgmt01\n")
    world.playbook(PLAY.format(module="debug", more=""))
    found = answer(capsys, "nodes", "add", "cpu02", "--config", str(world.config))
    assert set(found["data"]["hosts"]) == {"cpu02", "mgmt01"}
    found = answer(capsys, "nodes", "add", "cpu03", "--config", str(world.config))
    assert (found["exit_code"], found["errors"][0]["code"]) == (2, "unknown_node")


def test_report_of_the_last_deploy(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "report", "--config", str(world.config))
    assert (found["exit_code"], found["errors"][0]["code"]) == (2, "no_run")
    world.playbook(PLAY.format(module="debug", more=""))
    assert run(["deploy", "--config", str(world.config)]) == 0
    capsys.readouterr()
    page = world.config.parent / "page.html"
    found = answer(capsys, "report", "-o", str(page), "--config", str(world.config))
    assert found["data"]["file"] == str(page)
    assert "Do something" in page.read_text(encoding="utf-8")
