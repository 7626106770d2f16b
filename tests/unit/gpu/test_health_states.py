from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from tests.data.gpu.machine import DATA, Machine

STATES: list[dict[str, Any]] = yaml.safe_load((DATA / "states.yml").read_text(encoding="utf-8"))
KEYS = {
    *(
        "name",
        "origin",
        "base",
        "change",
        "change_all",
        "drop",
        "smi",
        "nvlink",
        "list",
        "dcgm",
        "log",
        "config",
    ),
    *("driver", "pci_id", "silent", "no_log", "codes", "says", "warns", "degraded", "gpu", "skipped"),
}


@pytest.mark.parametrize("state", STATES, ids=[state["name"].replace(" ", "-") for state in STATES])
def test_a_state_has_its_verdict(state: dict[str, Any], health: ModuleType, tmp_path: Path) -> None:
    machine = Machine(tmp_path, state)
    verdict = health.look(health.Settings(machine.config()), {})
    assert verdict.codes == state.get("codes", []), verdict.reasons
    assert verdict.healthy is not bool(verdict.codes)
    assert verdict.skipped == state.get("skipped", "")
    assert state.get("says", "") in (verdict.reasons or [""])[0]
    for key, found in (("warns", verdict.warnings), ("degraded", verdict.degraded)):
        assert state.get(key, "") in "; ".join(found)
        assert bool(found) == bool(state.get(key)), found


def test_states_are_many_and_each_says_where_it_is_from() -> None:
    assert len(STATES) >= 25
    assert len({state["name"] for state in STATES}) == len(STATES)
    for state in STATES:
        assert set(state) <= KEYS, state["name"]
        assert state["origin"] in ("recorded", "composed")


def test_every_reason_to_drain_has_a_state() -> None:
    """A code that no state brings about is a check that nobody has seen fail."""
    source = (DATA.parents[2] / "roles" / "gpu_health" / "files" / "gpu_health.py").read_text(
        encoding="utf-8"
    )
    written = set(re.findall(r'self\.bad\("([a-z-]+)"', source)) - {"check"}
    shown = {code for state in STATES for code in state.get("codes", [])}
    assert written <= shown
