"""How far Filebeat is stands where the node exporter reads it."""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host
from waits import until

FOLDER = "/var/lib/prometheus/node-exporter"


def confirmed(host: Host) -> float:
    host.check_output("systemctl start rackloom-filebeat-metrics.service")
    # A look that the timer has begun before, when the folder was not there yet, ends without a file.
    text = host.run(f"cat {FOLDER}/rackloom_logs.prom").stdout
    found = re.search(r"^rackloom_log_shipper_confirmed_timestamp_seconds (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_how_far_it_is_is_told(host: Host) -> None:
    if host.backend.get_hostname() == "logs":
        pytest.skip("the store")
    host.check_output(f"mkdir -p {FOLDER}")
    began = int(host.check_output("date +%s"))
    until(lambda: confirmed(host) >= began, what="it stays behind")
    assert host.run("runuser -u nobody -- ls /run/rackloom-filebeat").rc != 0, "it is root's alone"
