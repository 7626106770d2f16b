from __future__ import annotations

from types import ModuleType

import pytest

from .slurm_metrics import load


@pytest.fixture(scope="session")
def slurm_program() -> ModuleType:
    return load()
