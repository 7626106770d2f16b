"""Write the reference pages, or with ``--check`` say which ones are out of date."""

from __future__ import annotations

import sys
from pathlib import Path

from rackloom.docs_gen import cli_pages, inventory_pages, model_pages, plugin_pages, role_pages
from rackloom.docs_gen.tree import ROOT

REFERENCE = ROOT / "docs" / "reference"


def build() -> dict[str, str]:
    """All generated pages: path below docs/reference to text."""
    pages: dict[str, str] = {}
    for source in (role_pages, plugin_pages, inventory_pages, model_pages, cli_pages):
        pages |= source.pages()
    return pages


def stale(folder: Path = REFERENCE) -> list[str]:
    """Names of pages that differ from what would be written, and of pages that nothing writes."""
    pages = build()
    present = {str(path.relative_to(folder)) for path in folder.rglob("*.md")}
    same = {
        name for name in present & set(pages) if (folder / name).read_text(encoding="utf-8") == pages[name]
    }
    return sorted((present | set(pages)) - same)


def write(folder: Path = REFERENCE) -> None:
    """Write every page that changed and remove those that nothing writes any more."""
    pages = build()
    for name in stale(folder):
        path = folder / name
        if name in pages:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(pages[name], encoding="utf-8")
        else:
            path.unlink()


def main(argv: list[str]) -> int:
    """Run the generator; returns the exit code."""
    if argv == ["--check"]:
        wrong = stale()
        for name in wrong:
            print(f"docs/reference/{name} is out of date: run python -m rackloom.docs_gen")  # noqa: T201
        return 1 if wrong else 0
    write()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
