"""The stages of a playbook: the tags of what it imports, in order."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

# Tags that mean something to Ansible itself, so they name no stage.
_SPECIAL = {"always", "never", "all", "tagged", "untagged"}


class UnknownStageError(ValueError):
    """Somebody asked for stages that the playbook does not have. `str()` is the sentence, `cure` the way out."""

    def __init__(self, unknown: Sequence[str], known: Sequence[str]) -> None:
        super().__init__(f"unknown stage{'s' if len(unknown) > 1 else ''}: {', '.join(unknown)}")
        close = [match for name in unknown for match in get_close_matches(name, known, n=1, cutoff=0.5)]
        self.cure = f"did you mean {' '.join(close)}? " if close else ""
        self.cure += f"The stages are: {', '.join(known)}"


def stages_of(playbook: Path) -> list[str]:
    """The stages of `playbook` in order. Empty when it cannot be read or has no tagged entries."""
    import yaml  # noqa: PLC0415 - slow to load

    try:
        entries = yaml.load(playbook.read_text(encoding="utf-8"), Loader=_loader())  # noqa: S506 - a safe loader
    except (OSError, yaml.YAMLError):
        return []
    found: dict[str, None] = {}
    for entry in entries if isinstance(entries, list) else []:
        tags = entry.get("tags", []) if isinstance(entry, dict) else []
        for tag in tags.split(",") if isinstance(tags, str) else tags:
            if (name := str(tag).strip()) not in _SPECIAL:
                found[name] = None
    return list(found)


def choose(playbook: Path, wanted: Sequence[str]) -> list[str]:
    """`wanted` in the playbook's order. Raises UnknownStageError."""
    known = stages_of(playbook)
    if unknown := [name for name in wanted if name not in known]:
        raise UnknownStageError(unknown, known)
    return [name for name in known if name in wanted]


def _loader() -> Any:
    """A safe loader for which Ansible's own tags (!vault, !unsafe) are plain values."""
    import yaml  # noqa: PLC0415

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node))
    return Loader
