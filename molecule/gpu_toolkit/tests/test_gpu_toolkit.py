from __future__ import annotations

import tomllib
from typing import Any

from testinfra.host import Host
from waits import until

RUNTIME = "io.containerd.cri.v1.runtime"
DROP_IN = "/etc/containerd/conf.d/99-rackloom-gpu.toml"


def test_containerd_runs_with_it(host: Host) -> None:
    until(lambda: host.service("containerd").is_running)
    dump = tomllib.loads(host.check_output("/usr/local/bin/containerd config dump"))
    runtime = dump["plugins"][RUNTIME]
    assert runtime["enable_cdi"] is True
    known = runtime["containerd"]["runtimes"]
    assert known["nvidia"]["options"]["BinaryName"] == "/usr/bin/nvidia-container-runtime"
    assert runtime["containerd"]["default_runtime_name"] == "runc"


def test_a_change_has_a_running_runtime_read_it_anew(host: Host) -> None:
    def started() -> str:
        return host.check_output("systemctl show --property=ActiveEnterTimestampMonotonic containerd")

    before = started()
    host.check_output("systemctl restart rackloom-gpu-runtime.service")
    until(
        lambda: started() != before and host.service("containerd").is_running,
        what="containerd was not started anew",
    )


def test_it_says_what_the_real_tool_would_say(host: Host) -> None:
    """The tool is given a copy: it would write containerd's own file anew."""
    host.check_output("rm -rf /tmp/tool; mkdir /tmp/tool; cp /etc/containerd/config.toml /tmp/tool/")
    host.check_output(
        "nvidia-ctk --quiet runtime configure --runtime=containerd --cdi.enabled --config-source=file"
        " --config=/tmp/tool/config.toml --drop-in-config=/tmp/tool/99.toml"
        " --nvidia-runtime-path=/usr/bin/nvidia-container-runtime"
    )
    ours: dict[str, Any] = tomllib.loads(host.check_output(f"cat {DROP_IN}"))
    tools: dict[str, Any] = tomllib.loads(host.check_output("cat /tmp/tool/99.toml"))
    assert ours["version"] == tools["version"]
    mine, theirs = (one["plugins"][RUNTIME] for one in (ours, tools))
    assert mine["containerd"]["runtimes"]["nvidia"] == theirs["containerd"]["runtimes"]["nvidia"]
    assert mine["enable_cdi"] == theirs["enable_cdi"]


def test_the_tool_reads_its_configuration(host: Host) -> None:
    merged = tomllib.loads(host.check_output("nvidia-ctk --quiet config"))
    assert merged["accept-nvidia-visible-devices-envvar-when-unprivileged"] is False
    assert merged["nvidia-container-runtime"]["mode"] == "cdi"


def test_a_description_is_made_when_there_is_a_driver(host: Host) -> None:
    """Without one the timer waits; nothing has failed."""
    assert host.service("rackloom-gpu-cdi.timer").is_running
    assert host.run("systemctl is-failed rackloom-gpu-cdi.service").stdout.strip() == "inactive"
