"""What Prometheus would see is compared with what Slurm's commands say."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from testinfra.host import Host
from waits import until

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


def metrics(host: Host) -> dict[tuple[str, str], float]:
    """(name, labels) -> value, as a scrape gets it."""
    text = host.check_output(
        "python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:9341/metrics').read().decode())\""
    )
    return {(m[1], m[2] or ""): float(m[3]) for line in text.splitlines() if (m := SAMPLE.match(line))}


def told(host: Host, name: str, *labels: str) -> list[float]:
    """Values of the series of this name that have all these labels."""
    found = metrics(host).items()
    return [
        value for (metric, has), value in found if metric == name and all(label in has for label in labels)
    ]


@pytest.fixture
def job(host: Host) -> Iterator[str]:
    """A job that has one GPU."""
    number = host.check_output(
        "cd /tmp && runuser -u alice -- sbatch --parsable -o /dev/null -n1 --gres=gpu:a100:1 -J 'a \"b\" | c'"
        " --wrap 'sleep 300'"
    )
    yield number
    host.check_output("scancel --full -u alice")
    until(lambda: host.check_output("squeue -h -u alice") == "")


def test_every_part_could_be_asked(host: Host) -> None:
    until(lambda: told(host, "slurm_up") == [1])
    until(lambda: told(host, "slurm_collector_success") == [1, 1, 1])


def test_a_job_is_told_of_with_its_node_and_gpu(host: Host, job: str) -> None:
    until(lambda: told(host, "slurm_job_gpu", f'jobid="{job}"', 'node="gpu01"', 'user="alice"') == [1])
    # Slurm is asked for one after the other, so one look may be of before and after.
    until(lambda: told(host, "slurm_job_node", f'jobid="{job}"') == [1])
    until(lambda: told(host, "slurm_job_info", 'name="a \\"b\\" | c"', 'account="research"') == [1])
    until(lambda: told(host, "slurm_node_gpus_allocated", 'node="gpu01"', 'type="a100"') == [1])
    assert told(host, "slurm_node_gpus") == [2]


def test_a_job_that_waits_is_told_of_with_the_reason(host: Host, job: str) -> None:
    host.check_output(
        "cd /tmp && runuser -u alice -- sbatch -o /dev/null -n1 --gres=gpu:a100:2 --wrap 'sleep 300'"
    )
    until(
        lambda: (
            bool(told(host, "slurm_pending_jobs", 'reason="Resources"'))
            or bool(told(host, "slurm_pending_jobs", 'reason="Priority"'))
        )
    )
    until(lambda: told(host, "slurm_pending_gpus", 'partition="batch"') == [2])
    until(lambda: any(wait > 0 for wait in told(host, "slurm_pending_wait_seconds", 'quantile="1"')))


def test_a_job_that_ended_is_told_of_with_its_efficiency(host: Host) -> None:
    load = "import os, time\nprint(os.environ['SLURM_JOB_ID'])\nend = time.time() + 4\nwhile time.time() < end: pass"
    # The job tells its number itself: the accounting hears of it only later.
    number = host.check_output(
        f'cd /tmp && runuser -u alice -- srun -n1 --mem=100 -J busy timeout 30 python3 -c "{load}"'
    )
    label = f'jobid="{number}"'
    until(lambda: bool(told(host, "slurm_ended_job_cpu_efficiency_ratio", label)))
    until(lambda: 0.1 < told(host, "slurm_ended_job_cpu_efficiency_ratio", label)[0] <= 1.1)
    until(lambda: sum(told(host, "slurm_ended_jobs", 'state="completed"', 'user="alice"')) >= 1)


def test_a_node_that_is_drained_is_told_of_with_the_reason(host: Host) -> None:
    begun = float(host.check_output("date +%s"))
    host.check_output("scontrol update NodeName=cpu01 State=DRAIN Reason='new \"fan\" | ordered'")
    try:
        until(lambda: bool(told(host, "slurm_node_state", 'node="cpu01"', 'state="drained"')))
        since = told(host, "slurm_node_reason_timestamp_seconds", 'reason="new \\"fan\\" | ordered"')
        assert begun <= since[0] <= float(host.check_output("date +%s"))
    finally:
        host.check_output("scontrol update NodeName=cpu01 State=RESUME")
    until(lambda: bool(told(host, "slurm_node_state", 'node="cpu01"', 'state="idle"')))
    until(lambda: told(host, "slurm_node_reason_timestamp_seconds", 'node="cpu01"') == [])


def test_a_controller_that_is_down_is_told_of(host: Host) -> None:
    host.check_output("systemctl stop slurmctld")
    try:
        until(lambda: told(host, "slurm_up") == [0])
        until(lambda: told(host, "slurm_controller_up", 'controller="ctl"') == [0])
        # Nothing of what was true before is told as if it were now.
        assert told(host, "slurm_node_state") == []
    finally:
        host.check_output("systemctl start slurmctld")
    until(lambda: told(host, "slurm_up") == [1])


def test_it_may_write_nowhere_else(host: Host) -> None:
    shown = host.check_output(
        "systemctl show -p User -p ProtectSystem rackloom-slurm-metrics@queue.service rackloom-slurm-exporter.service"
    )
    assert sorted(set(shown.split())) == ["ProtectSystem=strict", "User=prometheus", "User=slurm"]
