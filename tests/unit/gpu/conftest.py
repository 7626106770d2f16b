from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from tests.loading import loaded

PROGRAM = Path(__file__).resolve().parents[3] / "roles" / "gpu_health" / "files" / "gpu_health.py"


@pytest.fixture(scope="session")
def health() -> ModuleType:
    return loaded(PROGRAM, "gpu_health")
