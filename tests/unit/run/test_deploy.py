"""Whole runs: real ansible-runner, real ansible-playbook, tiny playbooks."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rackloom.result import ExitCode
from rackloom.run.deploy import Job, RunOutcome, deploy, expand_limit, fold_failures, run
from rackloom.run.progress import Silent
from rackloom.run.record import Failure

SITE = """\
---
- name: One
  ansible.builtin.import_playbook: one.yml
  tags: [one, always]
- name: Two
  ansible.builtin.import_playbook: two.yml
  tags: [two]
- name: Three
  ansible.builtin.import_playbook: three.yml
  tags: [three]
"""


def play(hosts: str, tasks: str, more: str = "") -> str:
    """A playbook of one play."""
    return f"---\n- name: A play\n  hosts: {hosts}\n  gather_facts: false\n{more}  tasks:\n{tasks}"


GREET = """\
    - name: Greet
      ansible.builtin.debug:
        msg: hello
"""
SKIP = """\
    - name: Never
      ansible.builtin.debug:
        msg: hello
      when: false
"""
CHANGE = """\
    - name: Write
      ansible.builtin.copy:
        content: x
        dest: "{{ lookup('env', 'RACKLOOM_CONFIG') }}/.out-{{ inventory_hostname }}"
        mode: "0644"
"""
BREAK = """\
    - name: Break
      ansible.builtin.fail:
        msg: "E: Could not get lock /var/lib/dpkg/lock-frontend"
      when: inventory_hostname == 'cpu02'
"""


def read(outcome: RunOutcome, name: str) -> Any:
    assert outcome.run_dir
    return json.loads((outcome.run_dir / name).read_text(encoding="utf-8"))


def three(world: Any, one: str, two: str, last: str) -> None:
    world.playbook(SITE)
    world.playbook(one, "one.yml")
    world.playbook(two, "two.yml")
    world.playbook(last, "three.yml")


def test_a_good_run_leaves_its_story(world: Any) -> None:
    three(world, play("all", GREET + SKIP), play("compute", CHANGE), play("login", GREET))
    outcome = deploy(world.config)
    assert (outcome.exit_code, outcome.problems, outcome.resume) == (ExitCode.OK, (), "")
    assert set(outcome.hosts) == {"mgmt01", "login01", "cpu01", "cpu02"}
    assert outcome.hosts["cpu01"]["changed"] == 1
    assert [(stage["name"], stage["status"]) for stage in outcome.stages] == [
        ("one", "ok"),
        ("two", "ok"),
        ("three", "ok"),
    ]
    timeline = read(outcome, "timeline.json")
    assert {row[4] for row in timeline["rows"]} == {"ok", "skipped", "changed"}
    assert all(0 <= row[2] <= row[3] <= timeline["seconds"] for row in timeline["rows"])
    assert outcome.counts["evaluations"] == len(timeline["rows"]) == 11
    assert outcome.counts["skipped_share"] == round(4 / 11, 4)
    assert outcome.run_dir
    log = (outcome.run_dir / "log.txt").read_text(encoding="utf-8")
    assert "TASK [Greet]" in log
    assert "\x1b" not in log
    assert "\r" not in log
    assert read(outcome, "summary.json")["exit_code"] == 0
    assert set(read(outcome, "site.json")["nodes"]) == set(outcome.hosts)
    assert stat.S_IMODE((world.config / ".runs").stat().st_mode) == 0o700
    assert stat.S_IMODE(outcome.run_dir.stat().st_mode) == 0o700


def test_only_the_stages_asked_for(world: Any) -> None:
    three(world, play("all", GREET), play("compute", CHANGE), play("login", GREET))
    outcome = deploy(world.config, stages=["three"])
    assert [stage["name"] for stage in outcome.stages] == ["one", "three"]


def test_check_mode_and_limit_with_ranges(world: Any) -> None:
    three(world, play("all", GREET), play("compute", CHANGE), play("login", GREET))
    outcome = deploy(world.config, check=True, limit="cpu[01-02]")
    assert outcome.exit_code == ExitCode.OK
    assert set(outcome.hosts) == {"cpu01", "cpu02"}
    assert outcome.counts["changed"] == 2
    assert not list(world.config.glob(".out-*"))


def test_a_failure_is_told_with_its_cure_and_the_way_on(world: Any) -> None:
    three(world, play("all", GREET), play("compute", BREAK), play("all", GREET))
    outcome = deploy(world.config)
    assert outcome.exit_code == ExitCode.FAILED
    (problem,) = outcome.problems
    assert problem.code == "package_lock"
    assert problem.details["host"] == "cpu02"
    assert problem.details["task_path"] == "playbooks/two.yml:6"
    assert "Could not get lock" in problem.message
    assert "cpu02" in problem.cure
    assert outcome.resume == f"rackloom deploy two three --config {world.config} --limit cpu02"
    assert outcome.hosts["cpu01"]["failed"] == 0
    assert [stage["status"] for stage in outcome.stages] == ["ok", "failed", "ok"]


def test_rescued_and_ignored_failures_are_no_failures(world: Any) -> None:
    world.playbook(
        play(
            "login",
            """\
    - name: Try
      block:
        - name: Fail and be rescued
          ansible.builtin.fail:
            msg: once
      rescue:
        - name: Rescue
          ansible.builtin.debug:
            msg: fine
    - name: Fail and be ignored
      ansible.builtin.fail:
        msg: twice
      ignore_errors: true
""",
        )
    )
    outcome = deploy(world.config)
    assert (outcome.exit_code, outcome.problems) == (ExitCode.OK, ())
    assert outcome.hosts["login01"]["rescued"] == 1
    assert outcome.hosts["login01"]["ignored"] == 1
    assert {stage["status"] for stage in outcome.stages} == {"ok"}


def test_unreachable_hosts_are_their_own_exit_code(world: Any) -> None:
    world.hosts("[login:vars]\nansible_connection=ssh\nansible_host=127.0.0.1\nansible_port=1\n")
    ping = "    - name: Ping\n      ansible.builtin.ping:\n"
    world.playbook(play("all", ping))
    outcome = deploy(world.config)
    assert outcome.exit_code == ExitCode.UNREACHABLE
    (problem,) = outcome.problems
    assert problem.code == "connection_refused"
    assert problem.details["host"] == "login01"
    assert outcome.hosts["login01"]["unreachable"] == 1
    assert outcome.hosts["cpu01"]["ok"] == 1
    assert outcome.resume.endswith("--limit login01")


def test_the_same_failure_on_many_hosts_is_told_once() -> None:
    failures = [
        Failure(host, "base", "T", "a.yml:1", f"ssh to {address} ({host}) refused", "x", f"see {host}")
        for host, address in (("gpu1", "10.0.0.1"), ("gpu2", "10.0.0.12"), ("mgmt", "10.0.0.3"))
    ]
    ((first, hosts),) = fold_failures(failures)
    assert first is failures[0]
    assert hosts == ["gpu1", "gpu2", "mgmt"]


def test_hidden_results_stay_hidden(world: Any) -> None:
    secret = "    - name: Hide\n      ansible.builtin.fail:\n        msg: hunter2\n      no_log: true\n"
    world.playbook(play("login", secret))
    outcome = deploy(world.config)
    assert outcome.exit_code == ExitCode.FAILED
    assert "hidden" in outcome.problems[0].message
    assert outcome.run_dir
    for file in outcome.run_dir.iterdir():
        assert "hunter2" not in file.read_text(encoding="utf-8")


def test_a_playbook_that_ansible_refuses(world: Any) -> None:
    world.playbook("---\n- name: Broken\n  hosts: all\n  tasks:\n    - no_such_module_at_all: {}\n")
    outcome = deploy(world.config)
    assert outcome.exit_code == ExitCode.FAILED
    assert "no_such_module_at_all" in outcome.problems[0].message


def test_a_limit_that_fits_no_host(world: Any) -> None:
    world.playbook(play("all", GREET))
    outcome = deploy(world.config, limit="nobody")
    assert outcome.exit_code == ExitCode.FAILED
    assert outcome.problems[0].code == "empty_limit"


def test_mistakes_refuse_and_touch_nothing(world: Any) -> None:
    world.playbook(play("all", CHANGE))
    nodes = world.config / "nodes.yml"
    nodes.write_text(
        nodes.read_text(encoding="utf-8").replace("profile: cpu}", "profile: cpuu}"), encoding="utf-8"
    )
    outcome = deploy(world.config)
    assert outcome.exit_code == ExitCode.MISTAKES
    assert outcome.run_dir is None
    assert outcome.problems[0].details["file"].endswith("nodes.yml")
    assert outcome.problems[0].details["line"]
    assert not (world.config / ".runs").exists()


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda key: key.unlink(), "vault_key_missing"),
        (lambda key: key.write_text("other\n", encoding="utf-8"), "vault_key_wrong"),
    ],
)
def test_without_the_right_key_nothing_starts(world: Any, spoil: Callable[[Path], object], code: str) -> None:
    world.playbook(play("all", CHANGE))
    spoil(world.config / "vault.key")
    outcome = deploy(world.config)
    assert outcome.exit_code == ExitCode.MISTAKES
    assert outcome.problems[0].code == code
    assert not (world.config / ".runs").exists()


def test_a_key_elsewhere(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.playbook(
        play(
            "login",
            "    - name: Use\n      ansible.builtin.assert:\n        that: rackloom_secrets.munge_key | length > 0\n",
        )
    )
    (world.config / "vault.key").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("RACKLOOM_VAULT_KEY_FILE", str(tmp_path / "elsewhere"))
    assert deploy(world.config).exit_code == ExitCode.OK


def test_an_unknown_stage_gets_a_suggestion(world: Any) -> None:
    three(world, play("all", GREET), play("all", GREET), play("all", GREET))
    outcome = deploy(world.config, stages=["thre"])
    assert outcome.exit_code == ExitCode.MISTAKES
    assert "did you mean three?" in outcome.problems[0].cure


CHECKS = """\
    - name: Ask
      ansible.builtin.set_fact:
        rackloom_checks:
          - {{service: slurm, name: two_nodes, ok: true, detail: fine, seconds: 1.5}}
          - {{service: slurm, name: memory, ok: {ok}, detail: not killed, seconds: 2}}
"""


@pytest.mark.parametrize(("ok", "code"), [("true", ExitCode.OK), ("false", ExitCode.VERDICT)])
def test_verdicts_are_collected(world: Any, ok: str, code: ExitCode) -> None:
    world.playbook(play("login", CHECKS.format(ok=ok)), "validate.yml")
    outcome = run(world.config, Job("validate", "playbooks/validate.yml"))
    assert outcome.exit_code == code
    assert [check["name"] for check in outcome.checks] == ["two_nodes", "memory"]
    assert read(outcome, "validation.json")["ok"] is (ok == "true")


def test_a_sink_that_raises_does_not_disturb_the_run(world: Any) -> None:
    class Bad(Silent):
        def update(self) -> None:
            raise BrokenPipeError

    world.playbook(play("all", GREET))
    outcome = deploy(world.config, progress=Bad())
    assert outcome.exit_code == ExitCode.OK
    assert len(outcome.hosts) == 4


def test_old_runs_go(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rackloom.run.rundirs.KEPT", 2)
    world.playbook(play("login", GREET))
    kept = [deploy(world.config).run_dir for _ in range(3)]
    assert sorted(path for path in (world.config / ".runs").iterdir() if path.is_dir()) == kept[1:]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, None),
        ("gpu01", "gpu01"),
        ("gpu[01-02],mgmt01", "gpu01,gpu02,mgmt01"),
        ("compute:!gpu[1:2]", "compute:!gpu[1:2]"),
        ("slurm_controller[0]", "slurm_controller[0]"),
    ],
)
def test_limits(given: str | None, wanted: str | None) -> None:
    assert expand_limit(given) == wanted
