"""The time server serves, the others follow it."""

from __future__ import annotations

import pytest
import testinfra
from testinfra.host import Host
from waits import until


def address(request: pytest.FixtureRequest, name: str) -> str:
    """Return another node's address in the scenario's network."""
    other = testinfra.get_host(f"ansible://{name}", ansible_inventory=request.config.option.ansible_inventory)
    return str(other.ansible.get_variables()["rackloom_address"])


def tracking(host: Host) -> list[str]:
    return str(host.check_output("chronyc -n -c tracking")).split(",")


def test_follower_follows_the_time_server(host: Host, request: pytest.FixtureRequest) -> None:
    server = address(request, "time")
    if host.backend.get_hostname() == "time":
        assert tracking(host)[1] == ""  # its own clock, for want of a better one
        assert server in host.check_output("hostname -I")
        return
    host.check_output("chronyc waitsync 180 0 0 1")  # up to three minutes, until it has chosen
    assert tracking(host)[1] == server
    assert int(tracking(host)[2]) == 11  # one below the server


def test_server_knows_its_clients(host: Host) -> None:
    if host.backend.get_hostname() != "time":
        return
    until(lambda: host.check_output("chronyc -n -c clients"))


def test_clock_is_left_to_the_containers_host(host: Host) -> None:
    command = host.check_output("tr '\\0' ' ' < /proc/$(cat /run/chrony/chronyd.pid)/cmdline")
    assert " -x" in command


def test_nothing_else_keeps_time(host: Host) -> None:
    assert host.run("systemctl is-active systemd-timesyncd").stdout.strip() != "active"
