from __future__ import annotations

import json
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
            "sliced": False, "sample": "/none",
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


def diag(form: int, **states: str) -> str:
    """An answer of DCGM 3 or 4, as published ones look, with a state for each test."""
    tests: list[dict[str, Any]] = [
        {
            "name": name,
            "results": [{"gpu_id": "0", "status": state}, {"gpu_id": "1", "status": "Pass"}]
            if state != "Skip"
            else [{"gpu_id": "0", "status": state}],
            **({"test_summary": {"status": state}} if form == 4 else {}),
        }
        for name, state in states.items()
    ]
    key = "DCGM Diagnostic" if form == 4 else "DCGM GPU Diagnostic"
    return json.dumps({key: {"test_categories": [{"category": "Hardware", "tests": tests}]}, "metadata": {}})


@pytest.mark.parametrize("form", [3, 4])
def test_a_diagnosis_is_read(form: int) -> None:
    assert asked.diagnosis(diag(form, memory="Pass", pcie="Pass")) == "2 tests passed"
    assert asked.diagnosis("Successfully ran\n" + diag(form, memory="Pass", pcie="Skip")) == (
        "1 tests passed; skipped: pcie"
    )
    assert "warned: pcie" in asked.diagnosis(diag(form, memory="Pass", pcie="Warn"))
    with pytest.raises(asked.FailedError, match="failed: memory"):
        asked.diagnosis(diag(form, memory="Fail", pcie="Pass"))
    with pytest.raises(asked.SkippedError, match="skipped all"):
        asked.diagnosis(diag(form, memory="Skip", pcie="Skip"))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("Error: unable to establish a connection", "cannot be read: Error: unable"),
        ('{"DCGM Diagnostic": {"runtime_error": "nvvs timed out"}}', "did not run: nvvs timed out"),
        ("{}", "no result"),
        ("", "cannot be read"),
    ],
)
def test_a_diagnosis_that_was_none_fails(answer: str, says: str) -> None:
    with pytest.raises(asked.FailedError, match=says):
        asked.diagnosis(answer)


def test_what_cannot_be_made_says_why() -> None:
    node = asked.Node(Module())
    node.verdict = {**WELL, "gpus": [], "skipped": "no GPU"}
    node.check("all-reduce", node.bandwidth)
    node.check("diagnosis", node.diagnose)
    node.check("health", node.health)
    assert [row["skipped"] for row in node.checks] == ["skipped: no GPU", "skipped: no GPU", ""]
    assert not node.checks[2]["ok"] and "deploy the stage gpu" in node.checks[2]["detail"]


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ('{"count": 8, "bad": [], "trouble": ""}', ""),
        ('{"count": 7, "bad": [], "trouble": ""}', "CUDA sees 7 of 8"),
        (
            '{"count": 8, "bad": ["GPU 3: cuCtxSynchronize: error 719"], "trouble": ""}',
            "GPU 3: cuCtxSynchronize",
        ),
        ('{"count": 0, "bad": [], "trouble": "cuInit: error 999"}', "cuInit: error 999"),
        ("Segmentation fault", "nothing of use"),
        ('{"count": null, "bad": [], "trouble": ""}', "nothing of use"),
    ],
)
def test_each_gpu_has_to_compute(output: str, says: str) -> None:
    if not says:
        assert asked.computed(output, 8) == "8 of 8 GPUs compute"
        return
    with pytest.raises(asked.FailedError, match=says):
        asked.computed(output, 8)


def test_of_slices_cuda_gives_one() -> None:
    assert asked.computed('{"count": 1, "bad": [], "trouble": ""}', 0) == "1 of 1 GPUs compute"
    with pytest.raises(asked.FailedError, match="CUDA sees 0 of the GPUs"):
        asked.computed('{"count": 0, "bad": [], "trouble": ""}', 0)
    node = asked.Node(Module(sliced=True, allreduce_gbs=100.0))
    node.verdict = WELL
    node.check("all-reduce", node.bandwidth)
    assert node.checks[0]["skipped"] == "skipped: GPUs are cut into slices"
