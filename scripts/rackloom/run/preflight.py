"""What must be right before Ansible is started: the configuration and the key to its secrets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackloom.result import Problem


@dataclass(frozen=True, slots=True)
class Preflight:
    """`problems` is empty when a run may start. `site` is the checked site, if it could be read."""

    problems: tuple[Problem, ...]
    site: Any = None


def mistakes_as_problems(config_dir: Path, mistakes: Any) -> tuple[Problem, ...]:
    """The checker's findings in the shape that every command hands back; `file` is a path one can open."""
    return tuple(
        Problem(
            mistake.code,
            mistake.message,
            mistake.cure,
            {"file": str(_shown(config_dir / mistake.file)), "line": mistake.line, "value": mistake.value},
        )
        for mistake in mistakes
    )


def _shown(path: Path) -> Path:
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def look(config_dir: Path) -> Preflight:
    """Check everything that needs no node. Raises nothing for a wrong site: see `problems`."""
    from rackloom.site.check import check_site  # noqa: PLC0415 - slow to load

    checked = check_site(config_dir)
    problems = mistakes_as_problems(config_dir, checked.mistakes)
    services = [name for name, hosts in checked.site.groups.items() if hosts] if checked.site else []
    return Preflight(problems or _secrets(config_dir, services), checked.site)


def _secrets(config_dir: Path, services: Sequence[str]) -> tuple[Problem, ...]:
    from rackloom.site import secrets  # noqa: PLC0415

    codes = {
        secrets.SecretsMissingError: "no_secrets",
        secrets.KeyMissingError: "vault_key_missing",
        secrets.KeyWrongError: "vault_key_wrong",
    }
    try:
        secrets.load(config_dir, services)
    except secrets.SecretsError as error:
        message, _, cure = str(error).rstrip(".").partition("; ")
        return (Problem(codes.get(type(error), "secrets_damaged"), message, cure),)
    return ()
