"""Docs that are written by hand point at things that exist; the others are up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from rackloom.cli.main import app
from rackloom.docs_gen import markdown
from rackloom.docs_gen.__main__ import stale
from rackloom.docs_gen.tree import ROOT, load, roles

PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("roles/*/README.md")})
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
FENCE_BODY = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def anchors(path: Path) -> set[str]:
    """Anchors of a page's headings, as the site makes them."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    found = set()
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*$", text, flags=re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)).strip().lower()
        found.add(re.sub(r"[\s]+", "-", plain))
    return found


def test_reference_pages_are_up_to_date() -> None:
    assert not stale(), "run: .venv/bin/python -m rackloom.docs_gen"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(COMMENT.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_docs_exist(page: Path) -> None:
    """A script that a page tells the reader to run is there."""
    named = set(re.findall(r"(?:\./)?(scripts/[\w.-]+\.(?:sh|py))", page.read_text(encoding="utf-8")))
    assert not [name for name in named if not (ROOT / name).is_file()]


def commands() -> set[str]:
    """Names of all commands, groups with theirs: `check`, `secrets init`."""
    found: set[str] = set()
    todo = [("", typer.main.get_command(app))]
    while todo:
        path, command = todo.pop()
        for name, child in getattr(command, "commands", {}).items():
            found.add(f"{path} {name}".strip())
            todo.append((f"{path} {name}".strip(), child))
    return found


def test_rackloom_commands_in_docs_exist() -> None:
    known = commands()
    groups = {name.split()[0] for name in known if " " in name}
    wrong = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for line in [*re.findall(r"`([^`\n]+)`", text), *"".join(FENCE_BODY.findall(text)).splitlines()]:
            for words in re.findall(r"(?:^|[/&;$] ?|\s)rackloom ((?:[a-z]+ ?){1,2})", line.split(" #")[0]):
                first, *rest = words.split()
                if first not in known or (first in groups and rest and f"{first} {rest[0]}" not in known):
                    wrong.append(f"{page.relative_to(ROOT)}: rackloom {words}")
    assert not wrong


def test_every_guide_page_is_in_the_menu() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    folders = ("guide", "decisions")
    pages = [path for folder in folders for path in (ROOT / "docs" / folder).glob("*.md")]
    assert not [path.name for path in pages if str(path.relative_to(ROOT / "docs")) not in text]


def test_support_table_covers_the_platforms_of_the_roles() -> None:
    text = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
    named = {
        platform["name"]
        for role in roles()
        for platform in load(ROOT / "roles" / role / "meta" / "main.yml")["galaxy_info"]["platforms"]
    }
    assert not [
        name for name in named if not re.search(rf"\b{name}\b|\b{'Rocky' if name == 'EL' else name}\b", text)
    ]


def test_table_cells_cannot_break_the_table() -> None:
    assert markdown.table(("A", "B"), [("a|b", "two\nlines")]).splitlines()[-1] == "| a\\|b | two lines |"
    assert markdown.table(("A",), []) == ""


def test_values_are_shown_as_code() -> None:
    assert markdown.code(None) == ""
    assert markdown.code("") == '`""`'
    assert markdown.code([]) == "`[]`"
    assert markdown.code({"a": True}) == '`{"a": true}`'
    assert markdown.code("a`b") == "`` a`b ``"
