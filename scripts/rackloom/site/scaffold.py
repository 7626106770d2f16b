"""Start a site: the example copied to a folder of one's own."""

from __future__ import annotations

import shutil
from pathlib import Path

from .models import export_schemas
from .paths import example_dir
from .secrets import ignore

SCHEMA_DIR = ".schema"


class ScaffoldError(Exception):
    """The folder cannot be started; the text is one sentence for people."""


def init(config_dir: Path | str) -> list[Path]:
    """Copy config.example to `config_dir`, with schemas for editors and .gitignore; returns the files made.

    Raises ScaffoldError if there is anything there already: a site's configuration is never overwritten.
    """
    folder = Path(config_dir)
    if folder.exists() and not folder.is_dir():
        raise ScaffoldError(f"{folder} is a file; name a folder.")
    if folder.is_dir() and any(folder.iterdir()):
        raise ScaffoldError(
            f"{folder} is not empty; nothing was written. Name another folder, or move it away."
        )
    try:
        shutil.copytree(example_dir(), folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SCHEMA_DIR))
        export_schemas(folder / SCHEMA_DIR)
        (folder / "ssh").mkdir(mode=0o700, exist_ok=True)
        ignore(folder)
    except OSError as error:
        raise ScaffoldError(f"{folder} cannot be written: {error.strerror}.") from error
    return sorted(path for path in folder.rglob("*") if path.is_file())
