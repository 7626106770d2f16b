from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host
from waits import until

QUERY = "/srv/gpu/query.xml"


def drained(host: Host) -> str:
    """Why the node takes no jobs, empty when it does."""
    state = host.check_output("scontrol -o show node gpu01 | grep -o 'State=[^ ]*'")
    return host.check_output("sinfo -h -n gpu01 -o %E") if "DRAIN" in state else ""


def verdict(host: Host) -> Any:
    return json.loads(host.check_output("cat /run/rackloom/gpu-health.json"))


def looked(host: Host) -> bool:
    """What it finds now. A look that the timer has begun before is waited for, and says how it was then."""
    host.check_output("systemctl start rackloom-gpu-health.service")
    return bool(verdict(host)["healthy"])


def test_a_well_node_takes_jobs(host: Host) -> None:
    until(lambda: host.file("/run/rackloom/gpu-health.json").exists)
    until(lambda: verdict(host)["healthy"] is True, what=lambda: str(verdict(host)))
    assert host.check_output("/usr/libexec/rackloom/gpu-health verdict") == "well"
    # Schedulers are told after the verdict is written.
    until(lambda: not drained(host), what=lambda: drained(host))
    until(lambda: host.run("srun -n1 --gres=gpu:h100:1 true").rc == 0)


@pytest.mark.parametrize(
    ("breaks", "mends", "reason"),
    [
        (
            f"cp {QUERY} /srv/gpu/kept; sed -i '0,/failure>No/s//failure>Yes/' {QUERY}",
            f"mv /srv/gpu/kept {QUERY}",
            "health: 10-gpus: GPU 0: a memory row could not be replaced",
        ),
        (
            "echo 'NVRM: Xid (PCI:0000:3b:00): 79, pid=7, GPU has fallen off the bus.' >> /srv/gpu/kmsg",
            "sed -i /Xid/d /srv/gpu/kmsg; /usr/libexec/rackloom/gpu-health clear",
            "health: 10-gpus: GPU 1: XID 79: the GPU has fallen off the bus",
        ),
    ],
    ids=["row", "xid"],
)
def test_a_broken_gpu_drains_and_a_mended_one_returns(
    host: Host, breaks: str, mends: str, reason: str
) -> None:
    host.check_output(breaks)
    until(lambda: drained(host) == reason)
    assert reason.rsplit(":", maxsplit=1)[-1].strip()[:20] in host.check_output("sinfo -h -R -o %100E")
    metrics = host.check_output("cat /var/lib/prometheus/node-exporter/rackloom_gpu.prom")
    assert 'rackloom_gpu_healthy{gpu="all"' in metrics
    assert host.run("srun -n1 --immediate=2 true").rc != 0
    host.check_output(mends)
    until(lambda: not drained(host))
    until(lambda: host.run("srun -n1 true").rc == 0)


def test_a_drain_of_somebody_else_stays(host: Host) -> None:
    host.check_output("scontrol update NodeName=gpu01 State=DRAIN Reason='new fan'")
    host.check_output(f"cp {QUERY} /srv/gpu/kept; sed -i '0,/failure>No/s//failure>Yes/' {QUERY}")
    until(lambda: looked(host) is False)
    assert drained(host) == "new fan"
    host.check_output(f"mv /srv/gpu/kept {QUERY}")
    until(lambda: looked(host) is True)
    assert drained(host) == "new fan"
    host.check_output("scontrol update NodeName=gpu01 State=RESUME")
