"""The repository as data: where its roles, playbooks and plugins are and what they declare."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]


class _Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """YAML as Ansible writes it: ``!vault``, ``!unsafe`` and the like become their plain text."""


def _plain(loader: Any, _suffix: str, node: yaml.Node) -> Any:
    return loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None


_Loader.add_multi_constructor("!", _plain)


@cache
def load(path: Path) -> Any:
    """Content of a YAML file, None for an empty or missing one. Callers must not change it."""
    if not path.is_file():
        return None
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - derived from SafeLoader


def roles() -> list[str]:
    """Names of the roles, sorted."""
    return sorted(path.name for path in (ROOT / "roles").glob("*") if path.is_dir())


def role_spec(role: str, entry: str = "main") -> dict[str, Any]:
    """Argument specification of one entry point of a role; empty where there is none."""
    specs = load(ROOT / "roles" / role / "meta" / "argument_specs.yml") or {}
    found: dict[str, Any] = specs.get("argument_specs", {}).get(entry, {})
    return found


def role_defaults(role: str) -> dict[str, Any]:
    """Active values of a role's defaults/main.yml."""
    found: dict[str, Any] = load(ROOT / "roles" / role / "defaults" / "main.yml") or {}
    return found


def role_commented(role: str) -> set[str]:
    """Inputs without default, that defaults/main.yml shows commented out."""
    path = ROOT / "roles" / role / "defaults" / "main.yml"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return set(re.findall(rf"^#\s?({re.escape(role)}_\w+):", text, flags=re.MULTILINE))


def stages() -> list[str]:
    """Stages of playbooks/site.yml in their order."""
    plays = load(ROOT / "playbooks" / "site.yml") or []
    imported = [play.get("ansible.builtin.import_playbook", "") for play in plays]
    return [Path(name).stem for name in imported if name]


def constant(path: Path, name: str) -> str:
    """A module-level string of a Python file, read without importing it; "" where there is none."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            value = ast.literal_eval(node.value)  # type: ignore[attr-defined]
            return value if isinstance(value, str) else ""
    return ""
