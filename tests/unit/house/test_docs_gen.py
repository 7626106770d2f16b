"""What the reference generator makes of specifications, models and the repository."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from rackloom.docs_gen import __main__ as generator
from rackloom.docs_gen import cli_pages, markdown, model_pages, role_pages


class Inner(BaseModel):
    """One of them."""

    count: int = Field(1, description="How many")


class Outer(BaseModel):
    """A made-up file."""

    name: str = Field(description="What it is called")
    mode: str | None = Field(None, description="How")
    parts: list[Inner] = Field([], description="Parts")
    limits: dict[str, int] = Field({}, description="By name")


def test_model_page_tells_types_defaults_and_links_models() -> None:
    page = model_pages._page("outer.yml", Outer.model_json_schema())
    assert "| `name` | text | **required** | What it is called |" in page
    assert "| `mode` | text |  | How |" in page
    assert "| `parts` | list of [Inner](#inner) | `[]` | Parts |" in page
    assert "| `limits` | map of name to whole number | `{}` | By name |" in page
    assert "## Inner\n\nOne of them." in page
    assert "| `count` | whole number | `1` | How many |" in page


def test_role_options_are_listed_with_those_inside_them() -> None:
    spec = {
        "x_mode": {"type": "str", "choices": ["a", "b"], "default": "a", "description": "How."},
        "x_list": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "description": ["One.", "Two."],
            "options": {"name": {"type": "str", "description": "Name."}},
        },
    }
    assert list(role_pages._rows(spec)) == [
        ("`x_mode`", "str", "`a`", "How. One of `a`, `b`."),
        ("`x_list`", "list of dict", "**required**", "One. Two."),
        ("`x_list[].name`", "str", "", "Name."),
    ]


def test_ansible_markup_becomes_code() -> None:
    assert markdown.prose("See O(name) and C(a b).") == "See `name` and `a b`."


def test_exit_codes_are_read_with_their_meaning() -> None:
    assert "| `130` |" in cli_pages._exit_codes()


def test_changed_and_orphaned_pages_are_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "build", lambda: {"a.md": "A\n", "sub/b.md": "B\n"})
    assert generator.stale(tmp_path) == ["a.md", "sub/b.md"]
    generator.write(tmp_path)
    assert generator.stale(tmp_path) == []
    (tmp_path / "a.md").write_text("by hand\n")
    (tmp_path / "old.md").write_text("orphan\n")
    assert generator.stale(tmp_path) == ["a.md", "old.md"]
    generator.write(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*.md")) == ["a.md", "b.md"]
