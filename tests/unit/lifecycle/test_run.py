"""Lifecycle commands end at the first part that is not well, say so, and touch nothing before all is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rackloom.lifecycle import files, plan_reboot, plan_upgrade
from rackloom.lifecycle import run as commands
from rackloom.lifecycle.look import Looked
from rackloom.lifecycle.plan_nodes import Move, Removal
from rackloom.lifecycle.run import Done, Limits
from rackloom.lifecycle.seen import Seen
from rackloom.result import ExitCode, Problem
from rackloom.run.deploy import Job, RunOutcome

from . import test_plan_nodes, test_plan_upgrade

SITE = SimpleNamespace(groups=test_plan_nodes.GROUPS, nodes=dict.fromkeys(test_plan_nodes.NODES))
RELEASES = SimpleNamespace(groups=test_plan_upgrade.GROUPS, nodes=dict.fromkeys(test_plan_upgrade.GROUPS))
Command = Callable[..., Done]


class World:
    """What commands ask and what they do, played."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "a.db"
        self.looked = [Looked(site=SITE, seen=test_plan_nodes.seen())]  # type: ignore[arg-type]
        self.did: list[str] = []
        self.bad = ""
        self.facts: dict[str, dict[str, Any]] = {}
        self.variables: list[dict[str, Any]] = []
        self.modes: list[int] = []
        self.unwritable = False

    def look(self, *_: Any) -> Looked:
        """The next look, the last one again and again."""
        return self.looked.pop(0) if len(self.looked) > 1 else self.looked[0]

    def run(self, _: Path, job: Job, __: Any) -> RunOutcome:
        self.variables.append(dict(job.extra_vars))
        if file := job.extra_vars.get("snapshot_file"):
            self.modes.append(Path(file).stat().st_mode & 0o777)
            Path(file).write_text("new")
        return self.part(" ".join([Path(job.playbook).stem, *job.stages]))

    def deploy(self, _: Path, **more: Any) -> RunOutcome:
        return self.part(" ".join(["deploy", more["limit"], *more["stages"]]))

    def part(self, what: str) -> RunOutcome:
        """One playbook."""
        self.did.append(what)
        if what == self.bad:
            return RunOutcome(ExitCode.FAILED, self.folder, (Problem("bad", "it broke"),))
        return RunOutcome(ExitCode.OK, self.folder, facts=self.facts)

    def rehearse(self, *_: Any) -> tuple[Problem, ...]:
        return (Problem("edit", "it cannot be written"),) if self.unwritable else ()

    def apply(self, *_: Any) -> tuple[Problem, ...]:
        self.did.append("write")
        return ()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    for name in ("look", "run", "deploy"):
        monkeypatch.setattr(commands, name, getattr(made, name))
    monkeypatch.setattr(commands, "_site", lambda _: None)
    monkeypatch.setattr(commands, "records", lambda *_: test_plan_upgrade.RECORDS)
    monkeypatch.setattr(files, "rehearse", made.rehearse)
    monkeypatch.setattr(files, "apply", made.apply)
    monkeypatch.setattr(files, "removal", lambda *_: files.nothing)
    return made


def remove(world: World, *names: str, check: bool = False, **more: Any) -> Done:
    return commands.remove(world.folder, Removal(names or ("w2",), **more), Limits(), SINK, check=check)


def move(world: World, name: str = "w2", check: bool = False) -> Done:
    return commands.move(world.folder, Move(name, "slurm"), Limits(60), SINK, check=check)


def reboot(world: World, *names: str, check: bool = False, **more: Any) -> Done:
    wish = plan_reboot.Wish(names or ("g1", "g2"), **more)
    return commands.reboot(world.folder, wish, Limits(), SINK, check=check)


def upgrade(world: World, to: str = test_plan_upgrade.NEW, check: bool = False) -> Done:
    return commands.upgrade(world.folder, plan_upgrade.Wish(to), Limits(), SINK, check=check)


def snapshot(world: World) -> Done:
    return commands.snapshot(world.folder, world.file, SINK)


def restore(world: World, check: bool = False, replace: bool = True) -> Done:
    world.file.touch()
    return commands.restore(world.folder, world.file, SINK, replace_running=replace, check=check)


def reset(world: World, check: bool = False, erase: bool = True) -> Done:
    return commands.reset(world.folder, SINK, erase=erase, check=check)


def SINK(_: bool) -> Any:  # noqa: N802 - stands for a constant
    return None


def of_releases(world: World, *states: Seen) -> None:
    """A site whose Kubernetes is looked at once for each of these."""
    world.looked = [Looked(site=RELEASES, seen=state) for state in states]  # type: ignore[arg-type]


ALL: list[Command] = [remove, move, reboot, upgrade, snapshot, restore, reset]


@pytest.mark.parametrize("command", ALL)
def test_where_nobody_can_look_nothing_is_done(world: World, command: Command) -> None:
    world.looked = [Looked(problems=(Problem("config", "a typing error"),))]
    done = command(world)
    assert done.exit_code is ExitCode.MISTAKES
    assert [problem.code for problem in done.problems] == ["config"]
    assert not done.begun and not done.resume and world.did == []


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (lambda world: remove(world, "w9"), "unknown_node"),
        (lambda world: move(world, "w9"), "unknown_node"),
        (lambda world: reboot(world, "w9"), "unknown_node"),
        (lambda world: upgrade(world, "1.2.3"), "unknown_release"),
        (lambda world: restore(world, replace=False), "cluster_alive"),
        (lambda world: reset(world, erase=False), "flag"),
    ],
)
def test_what_may_not_be_is_refused(world: World, command: Command, code: str) -> None:
    done = command(world)
    assert done.exit_code is ExitCode.MISTAKES
    assert code in [problem.code for problem in done.problems]
    assert not done.plan.steps and not done.resume and world.did == []


@pytest.mark.parametrize("command", [remove, move, upgrade])
def test_files_that_cannot_be_changed_are_known_before(world: World, command: Command) -> None:
    if command is upgrade:
        of_releases(world, test_plan_upgrade.seen())
    world.unwritable = True
    done = command(world)
    assert (done.exit_code, [problem.code for problem in done.problems]) == (ExitCode.MISTAKES, ["edit"])
    assert world.did == []


@pytest.mark.parametrize("command", [remove, move, reboot, upgrade, restore, reset])
def test_somebody_who_only_asks_is_told_the_steps(world: World, command: Command) -> None:
    if command is upgrade:
        of_releases(world, test_plan_upgrade.seen())
    done = command(world, check=True)
    assert done.exit_code is ExitCode.OK
    assert done.plan.steps and not done.problems and world.did == []


@pytest.mark.parametrize(
    ("command", "parts", "resume"),
    [
        (remove, ["leave", "write"], "nodes remove w2"),
        (lambda world: remove(world, "m1", by="m4"), ["leave", "write"], "nodes replace m1 m4"),
        (move, ["leave", "write", "leave"], "nodes move w2 --to slurm --timeout 60"),
        (reboot, ["reboot note", "reboot waves"], "nodes reboot g1 g2 --needed"),
        (restore, ["restore"], "kubernetes restore {file} --replace-the-running-cluster"),
        (reset, ["snapshot", "reset"], "kubernetes reset --erase-the-whole-cluster"),
    ],
)
def test_parts_follow_each_other_and_the_first_bad_one_is_the_last(
    world: World, command: Command, parts: list[str], resume: str
) -> None:
    good = command(world)
    assert world.did[: len(parts)] == parts
    assert good.exit_code is (ExitCode.VERDICT if command is move else ExitCode.OK), good.problems
    world.did.clear()
    world.bad = parts[-1] if parts[-1] != "write" else parts[0]
    done = command(world)
    assert done.exit_code is ExitCode.FAILED and done.begun
    assert [problem.code for problem in done.problems] == ["bad"]
    assert world.did == parts[: parts.index(world.bad) + 1]
    assert done.resume == "rackloom " + resume.format(file=world.file)


def test_a_node_that_is_gone_from_the_files_is_gone_on_with_by_a_deploy(world: World) -> None:
    remove(world)
    world.bad = world.did[-1]
    assert world.bad.startswith("deploy ")
    done = remove(world)
    assert done.exit_code is ExitCode.FAILED
    assert done.resume == f"rackloom deploy --limit {world.bad.partition(' ')[2]}"


def test_an_upgrade_ends_when_all_nodes_say_that_they_have_it(world: World) -> None:
    new = test_plan_upgrade.NEW
    names = (*test_plan_upgrade.MASTERS, *test_plan_upgrade.WORKERS)
    before = test_plan_upgrade.seen()
    after = test_plan_upgrade.seen(
        kubelets=dict.fromkeys(names, new), static=dict.fromkeys(names, new), release=new
    )
    of_releases(world, before, after)
    done = upgrade(world)
    assert done.exit_code is ExitCode.OK, done.problems
    book = "upgrade_kubernetes"
    parts = [f"{book} prepare", "write", f"{book} control_plane", f"{book} workers"]
    assert world.did == [*parts, "deploy kube_control_plane kubernetes"]
    of_releases(world, before)
    assert upgrade(world).problems[0].code == "not_upgraded"
    of_releases(world, after)
    world.did.clear()
    assert upgrade(world).exit_code is ExitCode.OK
    assert world.did == ["write"]


def test_a_snapshot_needs_somebody_who_answers(world: World) -> None:
    done = snapshot(world)
    assert (done.exit_code, world.did) == (ExitCode.OK, ["snapshot"])
    assert done.data["snapshot"]["path"] == str(world.file)
    assert world.file.stat().st_mode & 0o777 == 0o600
    world.looked = [Looked(site=SITE, seen=test_plan_nodes.seen(off=test_plan_nodes.MASTERS))]  # type: ignore[arg-type]
    assert [problem.code for problem in snapshot(world).problems] == ["no_api"]


def test_a_snapshot_is_nobody_else_s_from_the_first_byte(world: World) -> None:
    world.file.write_text("old")
    world.file.chmod(0o644)
    world.bad = "snapshot"
    assert snapshot(world).exit_code is ExitCode.FAILED
    assert world.file.read_text() == "old" and list(world.folder.iterdir()) == [world.file]
    world.bad = ""
    assert snapshot(world).exit_code is ExitCode.OK
    assert world.modes == [0o600, 0o600] and world.file.stat().st_mode & 0o777 == 0o600
    assert world.file.read_text() == "new" and list(world.folder.iterdir()) == [world.file]


def test_a_snapshot_cannot_become_a_folder(world: World) -> None:
    for place in (world.folder, world.folder / "file" / "a.db"):
        (world.folder / "file").touch()
        done = commands.snapshot(world.folder, place, SINK)
        assert [problem.code for problem in done.problems] == ["no_file"]
        assert not done.begun and world.did == []


@pytest.mark.parametrize("command", [remove, reset])
def test_copies_that_stay_on_a_node_are_told(world: World, command: Command) -> None:
    copies = ["/var/lib/rackloom/etcd/a.db", "/var/lib/rackloom/etcd/before-1"]
    world.facts = {"w2": {"copies": copies}, "w1": {"copies": []}}
    done = command(world)
    assert done.data["copies"] == {"w2": copies}
    [said] = [line for line in done.told if "w2" in line]
    assert "copies" in said and "/var/lib/rackloom/etcd:" in said


@pytest.mark.parametrize(
    ("state", "begun"),
    [
        ({}, False),
        ({"static": {"m1": test_plan_upgrade.NEW}}, True),
        ({"release": test_plan_upgrade.NEW}, True),
    ],
)
def test_an_upgrade_that_is_gone_on_with_says_so(world: World, state: dict[str, Any], begun: bool) -> None:
    of_releases(world, test_plan_upgrade.seen(**state))
    upgrade(world)
    assert world.variables[0]["upgrade_begun"] is begun


def test_a_file_that_is_not_there_is_named(world: World) -> None:
    done = commands.restore(world.folder, world.folder / "none.db", SINK)
    assert [problem.code for problem in done.problems] == ["no_file"]
