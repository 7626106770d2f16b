from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "roles" / "gpu_health" / "files" / "gpu_health.py"


@pytest.fixture(scope="session")
def health() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_health", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_health"] = module
    spec.loader.exec_module(module)
    return module
