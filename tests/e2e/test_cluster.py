"""A cluster in containers, deployed and used as a site would. The tests run in this order, on one lab."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import PLAYED, ROOT, Answer, Lab

CHECKS = {
    *("two_nodes", "gpu_isolation", "memory_limit", "dependency", "array"),
    *("reservation", "preemption", "ssh_access", "accounting"),
}


def test_real_jobs_show_what_slurm_does(lab: Lab) -> None:
    answer = lab.call("validate", "slurm").must()
    checks = {check["name"]: check for check in answer.data["checks"]}
    assert set(checks) == CHECKS
    for check in checks.values():
        assert check["ok"] and not check["skipped"], check


def test_status_asks_the_services(lab: Lab) -> None:
    answer = lab.call("status").must()
    rows = answer.data["services"]
    assert {row["host"] for row in rows} >= {"mgmt01", "login01", "gpu01", "gpu02"}
    assert all(row["ok"] for row in rows), rows


def test_a_second_deploy_changes_nothing(lab: Lab) -> None:
    answer = lab.call("deploy").must()
    changed = {host: counts for host, counts in answer.data["hosts"].items() if counts["changed"]}
    assert not changed, answer.said
    counts = answer.data["counts"]
    assert counts["skipped_share"] <= 0.15, counts
    assert counts["shell_share"] < 0.05, counts


def test_what_somebody_changed_by_hand_is_found_and_mended(lab: Lab) -> None:
    lab.ssh("gpu01", "chmod 0644 /etc/ssh/sshd_config.d/00-rackloom.conf && systemctl stop chrony")
    lab.ssh(
        "login01", "echo '# by hand' >> /etc/sudoers.d/90-rackloom && rm /etc/ssh/authorized_keys.d/*-check"
    )
    answer = lab.call("deploy").must()
    changed = {host for host, counts in answer.data["hosts"].items() if counts["changed"]}
    assert changed == {"gpu01", "login01"}, answer.said
    assert lab.ssh(
        "gpu01", "stat -c %a /etc/ssh/sshd_config.d/00-rackloom.conf; systemctl is-active chrony"
    ) == ("600\nactive")
    assert "by hand" not in lab.ssh("login01", "cat /etc/sudoers.d/90-rackloom")
    assert lab.ssh("login01", "cat /etc/ssh/authorized_keys.d/*-check").startswith("ssh-ed25519")


def test_check_mode_of_a_deployed_cluster_predicts_nothing(lab: Lab) -> None:
    answer = lab.call("deploy", "--check").must()
    assert not any(counts["changed"] for counts in answer.data["hosts"].values()), answer.said


def test_a_wrong_config_never_reaches_a_node(lab: Lab) -> None:
    nodes = lab.config / "nodes.yml"
    good = nodes.read_text()
    lab.ssh("mgmt01", "rm -f /run/touched && touch /run/before")
    try:
        nodes.write_text(good.replace("compute:", "computer:"))
        answer = lab.call("deploy").must(2)
    finally:
        nodes.write_text(good)
    assert any(
        error.get("file", "").endswith("nodes.yml") and error.get("line")
        for error in answer.envelope["errors"]
    )
    assert any("compute" in error["cure"] for error in answer.envelope["errors"])
    newer = lab.ssh("mgmt01", "find /root/.ansible /etc -newer /run/before -type f 2>/dev/null | head")
    assert newer == ""


def test_the_controller_restarts_under_a_running_job(lab: Lab) -> None:
    job = lab.as_user("cd /tmp && sbatch --parsable -n1 --mem=32M -o /dev/null --wrap 'sleep 20'").split(";")[
        0
    ]
    lab.await_that("the job runs", lambda: lab.as_user(f"squeue -h -j {job} -o %T") == "RUNNING")
    lab.power("mgmt01", on=False)
    lab.power("mgmt01", on=True)
    lab.await_that(
        "the controller answers",
        lambda: "UP" in lab.ssh("login01", "scontrol ping 2>&1", check=False),
    )
    # slurmctld's own start restores the job; nothing was deployed in between.
    lab.await_that(
        "the job is accounted as completed",
        lambda: (
            lab.ssh("login01", f"sacct -n -X -P -j {job} -o State 2>/dev/null", check=False) == "COMPLETED"
        ),
    )
    restarts = lab.ssh("login01", f"sacct -n -X -P -j {job} --duplicates -o State")
    assert restarts.split() == ["COMPLETED"], restarts


def test_gpus_are_asked_and_what_cannot_be_asked_says_why(lab: Lab) -> None:
    answer = lab.call("validate", "gpu").must()
    checks = {check["name"]: check for check in answer.data["checks"]}
    isolation = checks.pop("gpu_isolation")
    assert isolation["ok"] and not isolation["skipped"] and "refused" in isolation["detail"], isolation
    assert {name.rpartition(" ")[2] for name in checks} == {"gpu01", "gpu02"}
    for name, check in checks.items():
        assert check["ok"], check
        if name.startswith("health of"):
            assert not check["skipped"] and check["detail"].startswith("2 of 2 well"), check
        else:
            assert check["skipped"].partition("skipped: ")[2], check


def test_a_broken_gpu_drains_its_node_and_a_mended_one_returns(lab: Lab, tmp_path: Path) -> None:
    """The check that Kubernetes hears of too; `sinfo -R` has what nvidia-smi said, within a minute."""

    def state() -> str:
        return lab.ssh("login01", "sinfo -h -n gpu02 -o %T")

    def reasons() -> str:
        return lab.ssh("login01", "sinfo -R -h -o '%N %100E'")

    def answer(old: str, new: str) -> None:
        lab.ssh("gpu02", f"sed -i '0,/row_failure>{old}/s//row_failure>{new}/' {PLAYED}/query.xml")

    try:
        lab.play_gpus("gpu02", tmp_path)
        began = time.monotonic()
        answer("No", "Yes")
        reason = "gpu02 health: 10-gpus: GPU 0: a memory row could not be replaced"
        lab.await_that(
            "gpu02 drained", lambda: state().startswith("drain") and reason in reasons(), seconds=60
        )
        print(f"\n    drained after {time.monotonic() - began:.0f} s: {reasons()}", flush=True)
        answer("Yes", "No")
        lab.await_that("gpu02 idle again", lambda: state() == "idle")
    finally:
        lab.ssh("gpu02", f"rm -rf {PLAYED}")


def test_nodes_are_rebooted_in_waves_and_a_stopped_run_is_gone_on_with(lab: Lab) -> None:
    """Jobs end before their node goes; one that waits for both nodes runs when both are back."""

    def started(node: str) -> str:
        return lab.ssh(node, "systemctl show --property=UserspaceTimestamp --value", check=False)

    def submit(words: str) -> str:
        return lab.as_user(f"cd /tmp && sbatch --parsable -o /dev/null {words}").split(";")[0]

    def state(job: str) -> str:
        return lab.ssh("login01", f"sacct -n -X -P -j {job} --duplicates -o State 2>/dev/null", check=False)

    before = {node: started(node) for node in ("gpu01", "gpu02")}
    holds = submit("-w gpu02 -n1 --mem=32M --wrap 'until [ -e /dev/shm/enough ]; do sleep 0.2; done'")
    lab.await_that("the job runs", lambda: state(holds) == "RUNNING")
    waits = submit("-N2 --exclusive --mem=32M --wrap 'srun hostname'")
    words = [str(ROOT / ".venv/bin/rackloom"), "nodes", "reboot", "gpu[01-02]", "--config", str(lab.config)]
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def in_the_second_wave() -> bool:
        return (
            "drain" in lab.ssh("login01", "sinfo -h -n gpu02 -o %T") and started("gpu01") != before["gpu01"]
        )

    try:
        lab.await_that("gpu01 was rebooted, and gpu02 waits for its job", in_the_second_wave, seconds=300)
        assert state(holds) == "RUNNING" and started("gpu02") == before["gpu02"]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        lab.ssh("gpu02", "touch /dev/shm/enough")
    once = started("gpu01")

    def gone_on_with() -> Answer | None:
        answer = lab.call("nodes", "reboot", "--needed")
        return answer if answer.code != 2 else None  # 2: the killed run has not let go yet

    answer = lab.await_that("the killed run has let go", gone_on_with, seconds=240).must()
    assert [step["node"] for step in answer.data["steps"]] == ["gpu02"], answer.data
    assert started("gpu01") == once and started("gpu02") != before["gpu02"]
    lab.await_that("its job is accounted as completed", lambda: state(holds) == "COMPLETED")
    lab.await_that("the job that waited for both is done", lambda: state(waits) == "COMPLETED")
    assert not lab.call("nodes", "reboot", "--needed").must().data["steps"]


def test_new_nodes_join_while_an_old_one_is_off(lab: Lab) -> None:
    lab.power("gpu02", on=False)
    try:
        answer = lab.up("--compute", "4").must()
        deployed = answer.data["deploy"]["hosts"]
        assert "gpu01" not in deployed and "gpu02" not in deployed and "login01" not in deployed, deployed
        assert {"gpu03", "gpu04", "mgmt01"} == set(deployed), deployed
        out = lab.as_user("cd /tmp && srun -w gpu03,gpu04 -N2 hostname")
        assert sorted(line.split(".")[0] for line in out.splitlines()) == ["gpu03", "gpu04"]
        mixed = lab.as_user("cd /tmp && srun -w gpu01,gpu03 -N2 hostname")
        assert sorted(line.split(".")[0] for line in mixed.splitlines()) == ["gpu01", "gpu03"]
    finally:
        lab.power("gpu02", on=True)
    lab.await_that("gpu02 is back", lambda: lab.ssh("login01", "sinfo -h -n gpu02 -o %T").startswith("idle"))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_deploy_is_made_good_by_the_next(lab: Lab, seed: int) -> None:
    """Work is made (the controller's files are gone), then cut off at a point of chance, with SIGKILL."""
    lab.ssh("gpu01", "systemctl stop slurmd; rm -f /etc/default/slurmd /etc/munge/munge.key")
    lab.ssh("mgmt01", "rm -f /etc/slurm/slurm.conf /etc/dnsmasq.d/*rackloom*")
    process = subprocess.Popen(
        [ROOT / ".venv/bin/rackloom", "deploy", "--config", lab.config],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(random.Random(seed).uniform(4, 16))  # noqa: S311 - the point of chance
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    def mended() -> Answer | None:
        answer = lab.call("deploy")
        return answer if answer.code != 2 else None  # 2: the killed run has not let go yet

    lab.await_that("the killed run has let go", mended, seconds=240).must()
    again = lab.call("deploy").must()
    assert not any(counts["changed"] for counts in again.data["hosts"].values()), again.said
    out = lab.as_user("cd /tmp && srun -N2 hostname")
    assert len(out.splitlines()) == 2


def test_report_is_one_page(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> None:
    page = tmp_path_factory.mktemp("report") / "report.html"
    lab.call("report", "-o", str(page)).must()
    text = page.read_text()
    assert "gpu01" in text and "<svg" in text
    assert "http://" not in text.replace("http://www.w3.org", "") and 'src="http' not in text
