"""The collector's reading of what two releases of Slurm really said, and of what they may say yet."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from types import ModuleType

import pytest
from tests.tools import tool

from .slurm_metrics import RELEASES, SAID, asked

Samples = dict[str, float]


@pytest.fixture
def program(slurm_program: ModuleType) -> ModuleType:
    return slurm_program


@pytest.fixture
def collect(program: ModuleType) -> Callable[..., tuple[str, list[str]]]:
    def run(release: str, limit: int = 5000, me: str = "ctl", **instead: str) -> tuple[str, list[str]]:
        """(the two files' content, what failed); `instead` are other answers than those recorded."""

        def ask(name: str) -> str:
            if instead.get(name) == "fails":
                raise OSError("it does not answer")
            return instead.get(name, (SAID / release / f"{name}.txt").read_text())

        collector = program.Collector(ask, lambda: asked(release) + 60, limit)
        collector.queue(me)
        collector.accounting(me)
        return collector.metrics.text(), collector.failed

    return run


def samples(text: str) -> Samples:
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line and not line.startswith("#")
    }


@pytest.mark.parametrize("release", RELEASES)
def test_jobs_nodes_and_gpus_of_a_real_cluster(
    release: str, collect: Callable[..., tuple[str, list[str]]]
) -> None:
    text, failed = collect(release)
    found = samples(text)
    assert failed == []
    who = 'partition="batch",account="research",user="alice"'
    assert found[f'slurm_jobs{{state="running",{who}}}'] == 2
    assert found[f'slurm_jobs{{state="pending",{who}}}'] == 4
    assert found[f"slurm_job_gpus_allocated{{{who}}}"] == 1
    assert found['slurm_pending_jobs{partition="batch",reason="JobHeldUser"}'] == 3
    assert found['slurm_pending_gpus{partition="batch"}'] == 2
    assert found['slurm_pending_wait_seconds{partition="batch",quantile="1"}'] >= 60
    assert found['slurm_node_gpus{node="gpu01",type="a100"}'] == 2
    assert found['slurm_node_gpus_allocated{node="gpu01",type="a100"}'] == 1
    assert found['slurm_node_memory_bytes{node="cpu01"}'] == 1000 * 2**20
    devices = [key for key in found if key.startswith("slurm_job_gpu{")]
    assert len(devices) == 1
    assert 'node="gpu01",gpu="0",account="research",user="alice"' in devices[0]
    infos = [key for key in found if key.startswith("slurm_job_info{")]
    assert any('name="train|one \\"x\\""' in key for key in infos)
    reasons = [key for key in found if key.startswith("slurm_node_reason_timestamp_seconds{")]
    assert len(reasons) == 1
    assert 'user="root",reason="new fan | ordered by \\"bob\\" = soon"' in reasons[0]
    busy = [value for key, value in found.items() if key.startswith("slurm_ended_job_cpu_efficiency_ratio{")]
    assert busy and all(0 < value < 1.2 for value in busy)
    assert found[f'slurm_ended_jobs{{state="failed",{who}}}'] >= 1
    assert found['slurm_scheduler_jobs_total{result="submitted"}'] > 0
    assert found['slurm_rpc_total{type="REQUEST_SUBMIT_BATCH_JOB"}'] > 0
    assert found['slurm_rpc_user_total{user="alice"}'] > 0


@pytest.mark.parametrize("release", RELEASES)
def test_prometheus_reads_it(release: str, collect: Callable[..., tuple[str, list[str]]]) -> None:
    text, _ = collect(release)
    argv = [str(tool("prometheus", "promtool")), "check", "metrics"]
    done = subprocess.run(argv, check=False, input=text, capture_output=True, text=True)
    # A lint of names alone: "gpu_seconds" and the like are what they say.
    assert "error while linting" not in done.stderr
    assert "parse error" not in done.stderr, done.stderr


def test_a_part_that_cannot_be_asked_leaves_the_others(
    collect: Callable[..., tuple[str, list[str]]],
) -> None:
    text, failed = collect("22.05", jobs="fails")
    found = samples(text)
    assert failed == ["queue: it does not answer"]
    assert found['slurm_collector_success{part="queue"}'] == 0
    assert found['slurm_collector_success{part="scheduler"}'] == 1
    assert found['slurm_collector_success{part="accounting"}'] == 1


def test_only_the_controller_in_charge_tells(collect: Callable[..., tuple[str, list[str]]]) -> None:
    ping = "Slurmctld(primary) at ctl is DOWN\nSlurmctld(backup) at ctl2 is UP\n"
    quiet = samples(collect("22.05", ping=ping)[0])
    assert quiet == {
        "slurm_up": 1,
        "slurm_exporter_active": 0,
        'slurm_controller_up{controller="ctl"}': 0,
        'slurm_controller_up{controller="ctl2"}': 1,
    }
    assert len(samples(collect("22.05", ping=ping, me="ctl2")[0])) > len(quiet)


def test_no_controller_answers(collect: Callable[..., tuple[str, list[str]]]) -> None:
    found = samples(collect("22.05", ping="Slurmctld(primary) at ctl is DOWN\n")[0])
    assert found["slurm_up"] == 0
    assert samples(collect("22.05", ping="fails")[0])["slurm_up"] == 0


def test_jobs_above_the_limit_lose_their_series_and_no_sum(
    collect: Callable[..., tuple[str, list[str]]],
) -> None:
    found = samples(collect("22.05", limit=1)[0])
    infos = [key for key in found if key.startswith("slurm_job_info{")]
    assert len(infos) == 1 and 'name="train' in infos[0], "the one with a GPU stays"
    assert found['slurm_collector_jobs_left_out{part="queue"}'] == 1
    assert found['slurm_jobs{state="running",partition="batch",account="research",user="alice"}'] == 2


def test_a_name_that_breaks_the_line_hides_nobody_else(
    collect: Callable[..., tuple[str, list[str]]],
) -> None:
    jobs = (SAID / "22.05" / "jobs.txt").read_text()
    text, failed = collect("22.05", jobs=jobs.replace('train|one "x"', "train\nslurm_up 0\n"))
    assert failed == []
    assert samples(text)["slurm_up"] == 1
    assert samples(text)['slurm_partition_jobs{partition="batch",state="running"}'] == 2


def test_another_form_than_asked_for_is_told(collect: Callable[..., tuple[str, list[str]]]) -> None:
    text, failed = collect("22.05", nodes="something else\n")
    assert len(failed) == 1 and "fields" in failed[0]
    assert samples(text)['slurm_collector_success{part="queue"}'] == 0


def test_a_node_of_two_partitions_counts_once(
    program: ModuleType, collect: Callable[..., tuple[str, list[str]]]
) -> None:
    has, used = "gpu:a100:4(S:0-1),gpu:3g.20gb:8", "gpu:a100:0(IDX:N/A),gpu:3g.20gb:0(IDX:N/A)"
    row = f"gpu01|{{}}|down*|0/0/64/64|512000|0|N/A|{has}|{used}|1795343163|slurm(64030)|Not responding|\n"
    found = samples(collect("22.05", nodes=row.format("batch") + row.format("gpu"))[0])
    assert found['slurm_node_gpus{node="gpu01",type="a100"}'] == 4
    assert found['slurm_node_gpus{node="gpu01",type="3g.20gb"}'] == 8
    assert found['slurm_node_responding{node="gpu01"}'] == 0
    assert found['slurm_nodes{partition="gpu",state="down"}'] == 1


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cpu01,gpu01", ["cpu01", "gpu01"]),
        ("gpu[08-10,12],login1", ["gpu08", "gpu09", "gpu10", "gpu12", "login1"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("", []),
    ],
)
def test_host_lists(program: ModuleType, text: str, names: list[str]) -> None:
    assert program.hosts(text) == names


def test_gpus_of_a_job_with_several_kinds(program: ModuleType) -> None:
    assert list(program.gpus("gpu:a100:3(IDX:0-1,3),gpu:2(IDX:4-5),craynetwork:1")) == [
        ("a100", 3, [0, 1, 3]),
        ("", 2, [4, 5]),
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:02.957", 2.957), ("1-02:03:04", 93784), ("02:03:04", 7384), ("", 0), ("Unknown", 0)],
)
def test_durations(program: ModuleType, text: str, seconds: float) -> None:
    assert program.duration(text) == pytest.approx(seconds)
