"""Laws for tasks that no linter knows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rackloom.docs_gen.tree import ROOT, load, roles

if TYPE_CHECKING:
    from tests.unit.house.conftest import Task

SHELLS = {f"ansible.builtin.{name}" for name in ("shell", "command", "raw", "script", "expect")}
STRUCTURE = {
    f"ansible.builtin.{name}"
    for name in (
        "import_tasks",
        "include_tasks",
        "import_role",
        "include_role",
        "import_playbook",
        "include_vars",
    )
}
URL = re.compile(r"\b(?:https?|ftp|oci|docker)://", re.IGNORECASE)
SHARE = 0.05


def strings(value: Any) -> list[str]:
    """Every string inside a value."""
    if isinstance(value, dict):
        return [text for part in value.values() for text in strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []


def lines_of(task: Task) -> list[str]:
    """The task's source: from its first line to the next task."""
    text = task.path.read_text().splitlines()
    found = text[task.line - 1 : task.line]
    for line in text[task.line :]:
        if re.match(r"\s*- (name|block):", line):
            break
        found.append(line)
    return found


def explained(task: Task, keyword: str) -> bool:
    """Whether a comment stands on the keyword's line or on the line above it."""
    source = lines_of(task)
    for number, line in enumerate(source):
        if re.match(rf"\s*(- )?{keyword}:", line):
            return "#" in line or (number > 0 and source[number - 1].lstrip().startswith("#"))
    return False


def test_few_tasks_are_shell(tasks: list[Task]) -> None:
    working = [task for task in tasks if task.module not in STRUCTURE]
    shells = [task.where for task in working if task.module in SHELLS]
    assert working
    assert len(shells) < SHARE * len(working), f"{len(shells)} of {len(working)}: {shells}"


def test_shell_tasks_say_when_they_change_something(tasks: list[Task]) -> None:
    silent = [
        task.where
        for task in tasks
        if task.module in SHELLS
        and "changed_when" not in task.raw
        and not {"creates", "removes"} & set(task.raw.get("args", {}))
        and not {"creates", "removes"}
        & set(task.raw[task.module] if isinstance(task.raw[task.module], dict) else {})
    ]
    assert not silent


def test_no_task_names_a_url(tasks: list[Task]) -> None:
    named = [
        f"{task.where}: {text}"
        for task in tasks
        for key, value in task.raw.items()
        if key != "name"
        for text in strings(value)
        if URL.search(text)
    ]
    assert not named


def test_roles_hold_no_url_of_the_outside() -> None:
    """Defaults, variables and templates neither: the versions file is the one door."""
    named = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("defaults", "vars", "templates", "files")
        for path in ROOT.glob(f"roles/*/{folder}/**/*")
        if path.is_file()
        for line in path.read_text().splitlines()
        if URL.search(line)
        and not re.search(r"://(\{\{|localhost|127\.|\[::1)", line)
        and not line.lstrip().startswith("#")
    ]
    assert not named


def test_ignored_errors_have_a_reason(tasks: list[Task]) -> None:
    bare = [
        f"{task.where}: {key}"
        for task in tasks
        for key in ("ignore_errors", "ignore_unreachable")
        if task.raw.get(key) and not explained(task, key)
    ]
    bare += [
        f"{task.where}: failed_when: false"
        for task in tasks
        if task.raw.get("failed_when") is False and not explained(task, "failed_when")
    ]
    assert not bare


def test_what_a_role_remembers_is_private(tasks: list[Task]) -> None:
    """Registers and facts of a role are named __role_*."""
    wrong = []
    for task in tasks:
        parts = task.path.relative_to(ROOT).parts
        if parts[0] != "roles":
            continue
        names = [task.raw["register"]] if "register" in task.raw else []
        if task.module == "ansible.builtin.set_fact":
            names += [name for name in task.raw[task.module] if name not in {"cacheable", "__line__"}]
        wrong += [f"{task.where}: {name}" for name in names if not name.startswith(f"__{parts[1]}_")]
    assert not wrong


def test_packages_come_in_one_transaction(tasks: list[Task]) -> None:
    """A loop over a package module costs a transaction for each item."""
    modules = {"ansible.builtin.package", "ansible.builtin.apt", "ansible.builtin.dnf"}
    looped = [task.where for task in tasks if task.module in modules and "loop" in task.raw]
    assert not looped


def test_defaults_hold_no_version() -> None:
    """A version lives in inventory/versions.yml; a role's own is empty until a site sets it."""
    found = {
        f"{role}: {name}": value
        for role in roles()
        for name, value in (load(ROOT / "roles" / role / "defaults" / "main.yml") or {}).items()
        if name.endswith(("_version", "_sha256", "_checksum", "_digest")) and value
    }
    assert not found
