"""Fragments in changelog.d are named so that towncrier takes them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

from rackloom.docs_gen.tree import ROOT

FOLDER = ROOT / "changelog.d"
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
KINDS = [each["directory"] for each in CONFIG["type"]]
FRAGMENTS = [
    path
    for path in sorted(FOLDER.iterdir())
    if path.name not in {"README.md", "template.md.jinja", ".gitkeep"}
]


def test_fragments() -> None:
    for path in FRAGMENTS:
        assert re.fullmatch(rf"(\+[a-z0-9-]+|\d+)\.({'|'.join(KINDS)})\.md", path.name), path.name
        text = path.read_text().strip()
        assert text.endswith("."), path.name
        assert not text.startswith(("-", "*", "#")), path.name


def test_release_notes_can_be_built() -> None:
    argv = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "0.0.0"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not FRAGMENTS or FRAGMENTS[0].read_text().strip()[:40] in done.stdout
