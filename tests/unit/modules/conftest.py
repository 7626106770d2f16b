"""Run a module in this process, as Ansible would on a node."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Return a function that runs a module by name with arguments and gives its result."""

    def run(
        module_name: str, /, *, check: bool = False, diff: bool = False, **arguments: Any
    ) -> dict[str, Any]:
        module = importlib.import_module(f"plugins.modules.{module_name}")
        capsys.readouterr()
        given = {**arguments, "_ansible_check_mode": check, "_ansible_diff": diff}
        with patch_module_args(given), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run
