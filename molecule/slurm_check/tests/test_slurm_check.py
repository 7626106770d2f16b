"""What the checks say of a cluster that works, and of one that does not."""

from __future__ import annotations

from typing import Any

from testinfra.host import Host
from waits import until

LOW_AND_HIGH = {"low_qos": "normal", "high_qos": "high"}


def ask(host: Host, **arguments: Any) -> dict[str, dict[str, Any]]:
    """Run the module on the controller and return its verdicts by name."""
    words = " ".join(f"{key}={value}" for key, value in {"user": "alice", **arguments}.items())
    answer = host.ansible("rackloom.cluster.slurm_validate", words, check=False)
    return {check["name"]: check for check in answer["rackloom_checks"]}


def test_a_cluster_that_works(host: Host) -> None:
    checks = ask(host, **LOW_AND_HIGH)
    bad = [check for check in checks.values() if not check["ok"]]
    assert not bad, bad
    skipped = {name: check["skipped"] for name, check in checks.items() if check["skipped"]}
    assert skipped == {"ssh_access": "no key of the user was given"}
    assert "refused /dev/nvidia1" in checks["gpu_isolation"]["detail"]


def test_a_qos_that_does_not_preempt_is_told(host: Host) -> None:
    checks = ask(host, checks="preemption", low_qos="normal", high_qos="plain", timeout=45)
    assert not checks["preemption"]["ok"]
    assert "preempted by" in checks["preemption"]["detail"]


def test_a_node_that_is_drained_is_not_used(host: Host) -> None:
    host.check_output("scontrol update NodeName=cpu01 State=DRAIN Reason=test")
    try:
        checks = ask(host, checks="two_nodes")
    finally:
        host.check_output("scontrol update NodeName=cpu01 State=RESUME")
    assert checks["two_nodes"]["skipped"] == "fewer than two nodes are free"


def test_nothing_is_left_behind(host: Host) -> None:
    until(lambda: host.check_output("squeue -h -u alice") == "")
    assert "No reservations" in host.check_output("scontrol show reservations")
