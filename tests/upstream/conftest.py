"""Programs built once a run, each project when a test first asks for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Built:
    """What `build.py build NAME` left."""

    output: Path
    said: str
    versions: dict[str, Any]

    def program(self, name: str) -> str:
        """Path of a program."""
        [found] = (self.output / "bin").glob(f"*/{name}")
        return str(found)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Built]:
    """Build a project, or take it from the cache."""
    if shutil.which("go") is None:
        pytest.skip("this machine has no Go; the real programs cannot be built")

    @cache
    def make(name: str) -> Built:
        output = tmp_path_factory.mktemp(name)
        argv = [sys.executable, str(HERE / "build.py"), "build", name, "--output", str(output)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return Built(output, done.stderr, yaml.safe_load((output / "versions.yml").read_text()))

    return make
