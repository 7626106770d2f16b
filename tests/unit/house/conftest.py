"""The tree as data, shared by the tests of the house."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.playbook.handler import Handler as AnsibleTask

from rackloom.docs_gen.tree import ROOT

# Keywords of a task that are no module; everything else in a task's mapping names the module.
KEYWORDS = {*AnsibleTask.fattributes, "async", "block", "rescue", "always", "local_action"}


@dataclass(frozen=True)
class Task:
    """One task that calls a module."""

    path: Path
    line: int
    module: str
    raw: dict[str, Any]

    @property
    def where(self) -> str:
        """File and line, as editors like it."""
        return f"{self.path.relative_to(ROOT)}:{self.line}"


class _Lined(yaml.SafeLoader):
    """Remembers the line of every mapping under the key ``__line__``."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: ARG002
        found = super().construct_mapping(node, deep=True)
        return {**found, "__line__": node.start_mark.line + 1}


_Lined.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node))


def _walk(path: Path, items: Any) -> Iterator[Task]:
    for item in items if isinstance(items, list) else []:
        nested = [key for key in ("block", "rescue", "always") if key in item]
        nested += [key for key in ("pre_tasks", "tasks", "post_tasks", "handlers") if key in item]
        for key in nested:
            yield from _walk(path, item[key])
        names = {key for key in item if key not in KEYWORDS and not key.startswith(("__", "with_"))}
        if not nested and "hosts" not in item:
            assert len(names) == 1, f"{path}:{item.get('__line__')}: one module a task, found {sorted(names)}"
            yield Task(path, item["__line__"], names.pop(), item)


def _tasks_below(*folders: str) -> list[Task]:
    found: list[Task] = []
    for folder in folders:
        for path in sorted(ROOT.glob(folder)):
            found += _walk(path, yaml.load(path.read_text(), Loader=_Lined))  # noqa: S506 - derived from SafeLoader
    return found


@pytest.fixture(scope="session")
def tasks() -> list[Task]:
    """Every task of the roles and the playbooks."""
    return _tasks_below("roles/*/tasks/*.yml", "roles/*/handlers/*.yml", "playbooks/**/*.yml")


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    """Every file of the repository that git does not ignore."""
    argv = [
        "git",
        "-c",
        f"safe.directory={ROOT}",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


@pytest.fixture(scope="session")
def texts(tracked: list[Path]) -> dict[Path, str]:
    """Text of every tracked file that is text."""
    found = {}
    for path in tracked:
        try:
            found[path] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found
