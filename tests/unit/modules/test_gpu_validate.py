from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.rackloom.cluster.plugins.modules import gpu_validate as asked

WELL: dict[str, Any] = {
    "healthy": True, "skipped": "", "reasons": [], "warnings": [], "degraded": [], "count": 8, "expected": 8,
    "driver": "580.95.05", "gpus": [{}] * 8,
}  # fmt: skip
MEASURED = "# Out of bounds values : 0 OK\n# Avg bus bandwidth    : 471.265\n#\n"


class Module:
    def __init__(self, **params: Any) -> None:
        self.params = {
            "host": "gpu01", "program": "/none", "branch": "", "metrics": "", "dcgm_level": 0,
            "allreduce_gbs": 0.0, "allreduce_program": "all_reduce_perf", "timeout": 5, **params,
        }  # fmt: skip


def test_count_and_state_are_the_health_checks() -> None:
    assert asked.healthy(WELL) == "8 of 8 well"
    assert "dcgmi is not there" in asked.healthy({**WELL, "degraded": ["dcgmi is not there"]})
    with pytest.raises(asked.FailedError, match="7 of 8"):
        asked.healthy({**WELL, "healthy": False, "reasons": ["7 of 8 GPUs are on the PCI bus"]})
    with pytest.raises(asked.SkippedError, match="no GPU"):
        asked.healthy({**WELL, "skipped": "no GPU"})


def test_another_branch_is_no_good() -> None:
    assert asked.driver(WELL, "580") == "driver 580.95.05"
    with pytest.raises(asked.FailedError, match="branch 590"):
        asked.driver(WELL, "590")
    with pytest.raises(asked.FailedError, match="no driver"):
        asked.driver({**WELL, "driver": ""}, "")
    with pytest.raises(asked.SkippedError, match="played"):
        asked.driver({**WELL, "gpus": []}, "")


def test_a_bandwidth_below_the_floor_fails() -> None:
    assert asked.allreduce(MEASURED, 350) == "471.3 GB/s, and 350 is the least"
    with pytest.raises(asked.FailedError, match="and 600 is the least"):
        asked.allreduce(MEASURED, 600)
    with pytest.raises(asked.FailedError, match="no bandwidth"):
        asked.allreduce("Test NCCL failure", 1)


def test_metrics_are_there_and_new(tmp_path: Path) -> None:
    file = tmp_path / "rackloom_gpu.prom"
    with pytest.raises(asked.FailedError, match="No such file"):
        asked.metrics(str(file), 2000)
    file.write_text("rackloom_gpu_health_checked_seconds 1990\n")
    assert asked.metrics(str(file), 2000) == "10 s old"
    with pytest.raises(asked.FailedError, match="1010 s old"):
        asked.metrics(str(file), 3000)
    with pytest.raises(asked.SkippedError, match="collects"):
        asked.metrics("/no/such/folder/file", 0)


def test_a_diagnosis_is_read() -> None:
    def answer(status: str) -> str:
        result = f'{{"name": "Memory", "results": [{{"entity_id": 0, "status": "{status}"}}]}}'
        return (
            f'{{"DCGM Diagnostic": {{"test_categories": [{{"category": "Hardware", "tests": [{result}]}}]}}}}'
        )

    assert asked.diagnosis(answer("Pass")) == "1 tests"
    with pytest.raises(asked.FailedError, match="Memory"):
        asked.diagnosis(answer("Fail"))
    with pytest.raises(asked.FailedError, match="cannot be read"):
        asked.diagnosis("Error: unable to connect")


def test_what_cannot_be_made_says_why() -> None:
    node = asked.Node(Module())
    node.verdict = {**WELL, "gpus": [], "skipped": "no GPU"}
    node.check("all-reduce", node.bandwidth)
    node.check("diagnosis", node.diagnose)
    node.check("health", node.health)
    assert [row["skipped"] for row in node.checks] == ["skipped: no GPU", "skipped: no GPU", ""]
    assert not node.checks[2]["ok"] and "deploy the stage gpu" in node.checks[2]["detail"]
