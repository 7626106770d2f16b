"""A cluster in containers, deployed and used as a site would. The tests run in this order, on one lab."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

import pytest

from .conftest import ROOT, Lab

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
        seconds=120,
    )
    # slurmctld's own start restores the job; nothing was deployed in between.
    lab.await_that(
        "the job is accounted as completed",
        lambda: (
            lab.ssh("login01", f"sacct -n -X -P -j {job} -o State 2>/dev/null", check=False) == "COMPLETED"
        ),
        seconds=120,
    )
    restarts = lab.ssh("login01", f"sacct -n -X -P -j {job} --duplicates -o State")
    assert restarts.split() == ["COMPLETED"], restarts


def test_a_bad_node_drains_itself_and_comes_back(lab: Lab) -> None:
    def reason() -> str:
        return lab.ssh("login01", "sinfo -h -n gpu02 -o '%T %E'")

    lab.ssh("gpu02", "mv /dev/nvidia1 /dev/gone")
    try:
        said = lab.await_that("gpu02 drained", lambda: (r := reason()).startswith("drain") and r, seconds=150)
        assert "gpu" in said.lower(), said
    finally:
        lab.ssh("gpu02", "mv /dev/gone /dev/nvidia1")
    lab.await_that("gpu02 idle again", lambda: reason().startswith("idle"), seconds=150)


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
    lab.await_that("the killed run has let go", lambda: lab.call("deploy").code != 2, seconds=240)
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
