"""The little Markdown that reference pages need."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

NOTE = "<!-- Written by `python -m rackloom.docs_gen`; edit the source, then run it. -->"

MARKUP = re.compile(
    r"\b[COVEMPRI]\(([^()]*)\)"
)  # O(name), C(code) and the like, as Ansible's documentation has it


def page(title: str, *blocks: str) -> str:
    """Title, the note on where the page comes from, and the blocks, with one blank line between."""
    body = "\n\n".join(block.strip("\n") for block in blocks if block.strip())
    return f"# {title}\n\n{NOTE}\n\n{body}\n"


def cell(text: Any) -> str:
    """Text that may stand in a table cell."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Build a table; no rows, no table."""
    lines = ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    if not lines:
        return ""
    return "\n".join(["| " + " | ".join(header) + " |", "|" + " --- |" * len(header), *lines])


def code(value: Any) -> str:
    """Show a value as YAML's flow form in code font; nothing for None."""
    if value is None:
        return ""
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return f"`{text}`" if "`" not in text else f"`` {text} ``"


def prose(text: Any) -> str:
    """A description, given as a string or as a list of paragraphs, in one line."""
    parts = text if isinstance(text, list) else [text or ""]
    return " ".join(MARKUP.sub(r"`\1`", str(part)).strip() for part in parts)


def paragraphs(text: Any) -> str:
    """A description in full, with a blank line between its paragraphs."""
    return "\n\n".join(prose(part) for part in text) if isinstance(text, list) else prose(text)
