"""One mistake in a site's configuration, said so that a person can mend it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from typing import Any

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """file: path relative to the config folder; line: 1-based, 0 where the file has no lines to point at."""

    file: str
    line: int
    value: str
    message: str
    cure: str
    code: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.message} {self.cure}".rstrip()

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for the JSON answer."""
        return asdict(self)


def show(value: object) -> str:
    """A value as a person would find it in the file, cut to a readable length."""
    if value is None:
        text = ""
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, (list, tuple)):
        text = "[" + ", ".join(show(item) for item in value[:6]) + (", …]" if len(value) > 6 else "]")
    elif isinstance(value, dict):
        keys = list(value)
        text = "{" + ", ".join(str(key) for key in keys[:6]) + (", …}" if len(keys) > 6 else "}")
    else:
        text = str(value)
    return text if len(text) <= 80 else text[:77] + "…"


def suggest(word: str, known: Any) -> str:
    """``Did you mean "x"?``, else the list of what exists when it is short, else nothing."""
    names = [str(name) for name in known]
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    if not close:
        squeezed = {name.replace("_", "").replace("-", "").lower(): name for name in names}
        close = [squeezed[key]] if (key := word.replace("_", "").replace("-", "").lower()) in squeezed else []
    if close:
        return f'Did you mean "{close[0]}"?'
    if 0 < len(names) <= 20:
        return f"Known: {', '.join(sorted(names))}."
    return ""


@dataclass(slots=True)
class Mistakes:
    """Where all checks put what they find."""

    found: list[Mistake] = field(default_factory=list)

    def add(self, file: str, line: int, value: object, message: str, cure: str, code: str) -> None:
        """Note one mistake; any value is shown as a person would know it."""
        self.found.append(Mistake(file, line, show(value), message, cure, code))

    def sorted(self) -> list[Mistake]:
        """By file and line, each once."""
        return sorted(set(self.found))
