from __future__ import annotations

from collections.abc import Iterator

import pytest
from testinfra.host import Host
from waits import until

PROBE = """
import errno, os
for number in range(2):
    path = f"/dev/nvidia{number}"
    try:
        os.close(os.open(path, os.O_RDWR))
        print(path, "reached")
    except OSError as error:
        print(path, "refused" if error.errno == errno.EPERM else "reached")
"""


@pytest.fixture(scope="module")
def gpu01(host: Host) -> Host:
    return host.get_host("ansible://gpu01", ansible_inventory=host.backend.ansible_inventory)


@pytest.fixture(autouse=True)
def quiet(host: Host) -> Iterator[None]:
    """No job is left over by another test."""
    yield
    host.check_output("scancel --full -u alice")
    until(lambda: host.check_output("squeue -h -u alice") == "")


def alice(host: Host, command: str) -> str:
    return host.check_output(f"cd /tmp && timeout 90 runuser -u alice -- {command}")


def submit(host: Host, options: str, wrap: str = "sleep 300") -> str:
    job = alice(host, f"sbatch --parsable -o /dev/null {options} --wrap '{wrap}'")
    until(lambda: state(host, job) not in {"PENDING", "CONFIGURING"})
    return job


def state(host: Host, job: str) -> str:
    return host.check_output(f"squeue -h -j {job} -o %T")


def test_a_job_runs_on_both_nodes(host: Host) -> None:
    assert sorted(alice(host, "srun -N2 hostname").split()) == ["cpu01", "gpu01"]


def test_a_job_has_its_cores(host: Host) -> None:
    assert alice(host, "srun -n1 -c1 nproc") == "1"


@pytest.mark.parametrize(
    ("ask", "seen"),
    [
        ("-w gpu01", ["refused", "refused"]),
        ("--gres=gpu:a100:1", ["reached", "refused"]),
        ("--gres=gpu:2", ["reached", "reached"]),
    ],
)
def test_a_job_has_its_gpus_and_no_others(host: Host, gpu01: Host, ask: str, seen: list[str]) -> None:
    gpu01.check_output(f"cat > /usr/local/bin/probe.py <<'EOF'\n{PROBE}\nEOF")
    out = alice(host, f"srun -n1 {ask} python3 /usr/local/bin/probe.py")
    assert [line.split()[1] for line in out.splitlines()] == seen


def test_a_job_over_its_memory_is_killed_and_said_so(host: Host) -> None:
    job = submit(host, "--mem=50", 'python3 -c "bytearray(400 << 20)"')
    until(lambda: "OUT_OF_ME" in host.check_output(f"sacct -n -X -j {job} -o State"))


def test_jobs_are_accounted(host: Host) -> None:
    alice(host, "srun -n1 --gres=gpu:a100:1 -J counted true")
    shown = "sacct -n -X -P -u alice --name counted -o Account,State,AllocTRES"
    until(lambda: "research|COMPLETED" in host.check_output(shown))
    assert "gres/gpu:a100=1" in host.check_output(shown)


def test_daemons_restart_around_a_job(host: Host, gpu01: Host) -> None:
    gpu01.check_output("rm -f /dev/shm/enough")
    job = submit(host, "-n1 --gres=gpu:1", "until [ -e /dev/shm/enough ]; do sleep 0.2; done; exit 3")
    gpu01.check_output("systemctl restart slurmd")
    host.check_output("systemctl restart slurmctld")
    until(lambda: "UP" in host.run("scontrol ping").stdout)
    assert state(host, job) == "RUNNING"
    gpu01.check_output("touch /dev/shm/enough")
    until(lambda: "3:0" in host.check_output(f"sacct -n -X -j {job} -o ExitCode"))


def test_people_get_in_with_a_job_only(host: Host, gpu01: Host) -> None:
    address = gpu01.ansible.get_variables()["rackloom_address"]
    host.check_output(
        "rm -f /tmp/key /tmp/key.pub; ssh-keygen -q -t ed25519 -N '' -f /tmp/key; chmod 644 /tmp/key"
    )
    public = host.check_output("cat /tmp/key.pub")
    for name in ("alice", "boss"):
        gpu01.check_output(
            f"install -d -o {name} -m 700 /home/{name}/.ssh"
            f" && echo '{public}' > /home/{name}/.ssh/authorized_keys && chown {name} /home/{name}/.ssh/authorized_keys"
        )
    host.check_output("install -m 600 -o root /tmp/key /root/key")
    ssh = "ssh -i /root/key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"

    assert host.run(f"{ssh} boss@{address} true").rc == 0
    # not 255, which testinfra takes for a failure of its own connection
    refused = host.run(f"{ssh} alice@{address} true || exit 1")
    assert refused.rc == 1
    assert "no active jobs" in refused.stderr

    job = submit(host, "-w gpu01 -n1 --gres=gpu:a100:1 --mem=100")
    # The controller has the job running a moment before the node has it.
    until(lambda: host.run(f"{ssh} alice@{address} true || exit 1").rc == 0)
    assert f"/job_{job}/" in host.check_output(f"{ssh} alice@{address} cat /proc/self/cgroup")
    seen = host.check_output(f"{ssh} alice@{address} python3 /usr/local/bin/probe.py")
    assert [line.split()[1] for line in seen.splitlines()] == ["reached", "refused"]
    gpu01.check_output("rm -f /tmp/lost")
    host.run(f"nohup {ssh} alice@{address} sleep 301 >/dev/null 2>&1 </dev/null &")
    until(lambda: gpu01.run("pgrep -u alice -f 'sleep 301'").rc == 0)
    host.check_output(f"scancel {job}")
    until(lambda: gpu01.run("pgrep -u alice -f 'sleep 301'").rc != 0)


def test_scripts_run_around_a_job_in_the_order_of_their_names(host: Host, gpu01: Host) -> None:
    for folder in ("prolog", "epilog"):
        for name in ("20-second", "10-first"):
            path = f"/etc/slurm/{folder}.d/{name}"
            gpu01.check_output(
                f"printf '#!/bin/sh\\necho {folder} {name} >> /tmp/around\\n' > {path}; chmod 755 {path}"
            )
    gpu01.check_output("rm -f /tmp/around; echo 'not a script' > /etc/slurm/prolog.d/README")
    alice(host, "srun -w gpu01 -n1 true")
    until(lambda: len(gpu01.run("cat /tmp/around").stdout.splitlines()) == 4)
    assert gpu01.check_output("cat /tmp/around").splitlines() == [
        "prolog 10-first",
        "prolog 20-second",
        "epilog 10-first",
        "epilog 20-second",
    ]
    gpu01.check_output("rm -f /etc/slurm/prolog.d/* /etc/slurm/epilog.d/*")
    assert alice(host, "srun -w gpu01 -n1 hostname") == "gpu01"


def drained(host: Host) -> str:
    """Why gpu01 takes no jobs, empty when it does."""
    state = host.check_output("scontrol -o show node gpu01 | grep -o 'State=[^ ]*'")
    return host.check_output("sinfo -h -n gpu01 -p batch -o %E") if "DRAIN" in state else ""


def test_an_unwell_node_leaves_and_comes_back(host: Host, gpu01: Host) -> None:

    def looked(reason: str) -> bool:
        """Look once more: slurmd does too, and one look may have begun before and ended after another."""
        gpu01.check_output("/usr/libexec/rackloom/slurm-health")
        return drained(host) == reason

    gpu01.check_output("mv /dev/nvidia1 /dev/away")
    until(lambda: looked("health: 10-gpus: /dev/nvidia1 is missing"))
    gpu01.check_output("mv /dev/away /dev/nvidia1")
    until(lambda: looked(""))


def test_a_drain_of_somebody_else_stays(host: Host, gpu01: Host) -> None:
    health = "/usr/libexec/rackloom/slurm-health"
    host.check_output("scontrol update NodeName=gpu01 State=DRAIN Reason='new fan'")
    gpu01.check_output(f"rm -f /run/rackloom/slurm-health; {health}")
    gpu01.check_output(f"mv /dev/nvidia1 /dev/away; {health}")
    gpu01.check_output(f"mv /dev/away /dev/nvidia1; {health}")
    assert drained(host) == "new fan"
    host.check_output("scontrol update NodeName=gpu01 State=RESUME")


def test_the_partition_has_its_qos(host: Host) -> None:
    assert "QoS=whole" in host.check_output("scontrol -o show partition batch")
    assert "gres/gpu=2" in host.check_output("sacctmgr -nP show qos whole format=GrpTRES")
