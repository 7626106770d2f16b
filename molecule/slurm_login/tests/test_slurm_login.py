from __future__ import annotations

from testinfra.host import Host


def test_there_is_no_configuration_here(host: Host) -> None:
    assert not host.file("/etc/slurm/slurm.conf").exists


def test_a_user_sees_the_nodes(host: Host) -> None:
    assert host.check_output("runuser -u nobody -- sinfo -h -o '%P %D'") == "batch* 2"


def test_a_user_submits(host: Host) -> None:
    out = host.check_output("cd /tmp && runuser -u nobody -- sbatch --parsable --hold --wrap hostname")
    assert host.check_output(f"squeue -h -j {out} -o %T") == "PENDING"
    host.check_output(f"scancel {out}")
