"""Where the toolkit's own data files are."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The toolkit's folder (the checkout); RACKLOOM_HOME overrides."""
    named = os.environ.get("RACKLOOM_HOME")
    return Path(named) if named else Path(__file__).resolve().parents[3]


def groups_file() -> Path:
    """inventory/groups.yml."""
    return home() / "inventory" / "groups.yml"


def example_dir() -> Path:
    """config.example."""
    return home() / "config.example"
