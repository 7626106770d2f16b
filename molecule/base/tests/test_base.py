"""A node knows itself, its managers and the outside, and takes packages from where it was told."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlsplit

import pytest
import testinfra
from testinfra.host import Host
from waits import until


def name_of(host: Host) -> str:
    return str(host.backend.get_hostname())


def known(host: Host, name: str) -> bool:
    """Whether a node finds a name."""
    return bool(host.run(f"getent hosts {name}").rc == 0)


def address(request: pytest.FixtureRequest, name: str) -> str:
    """Return another node's address in the scenario's network."""
    other = testinfra.get_host(f"ansible://{name}", ansible_inventory=request.config.option.ansible_inventory)
    return str(other.ansible.get_variables()["rackloom_address"])


def test_knows_its_full_name(host: Host) -> None:
    assert host.check_output("hostname") == name_of(host)
    assert host.check_output("hostname -f") == f"{name_of(host)}.demo.example"


def test_finds_the_management_node_without_a_name_server(host: Host, request: pytest.FixtureRequest) -> None:
    manager = address(request, "one")
    assert host.check_output("getent hosts one").split()[0] == manager
    assert host.check_output("getent hosts one.demo.example").split()[0] == manager


def test_asks_its_own_servers_when_the_clusters_are_silent(
    host: Host, request: pytest.FixtureRequest
) -> None:
    servers = host.check_output("awk '/^nameserver/ {print $2}' /etc/resolv.conf").split()
    assert servers[0] == address(request, "one")
    assert len(servers) > 1
    if host.check_output("apt-config dump Acquire::http::Proxy"):
        pytest.skip("where packages come through a proxy, nodes need not know any name outside")
    names = {
        urlsplit(uri).hostname for uri in host.check_output("apt-get indextargets --format '$(URI)'").split()
    }
    for name in filter(None, names):
        # The servers are this machine's, and an answer of theirs may get lost.
        until(partial(known, host, name), what=f"{name} is not found")


def test_time_is_told_in_the_zone(host: Host) -> None:
    assert host.check_output("date +%z") == "+0545"


def test_kernel_runs_with_the_settings(host: Host) -> None:
    assert host.check_output("sysctl -n net.ipv4.ip_local_port_range").split() == ["20000", "60000"]
    assert host.check_output("sysctl -n net.core.somaxconn") == "4096"


def test_settings_survive_a_restart_of_the_service(host: Host) -> None:
    # A key that this kernel does not have must not fail the unit that applies them at boot.
    assert host.run("systemctl restart systemd-sysctl && systemctl is-active systemd-sysctl").rc == 0


def test_sessions_have_the_limits(host: Host) -> None:
    assert host.check_output("su -s /bin/sh -c 'ulimit -Sn' nobody") == "4096"


def test_packages_come_from_the_sites_sources_alone(host: Host) -> None:
    if name_of(host) != "two":
        pytest.skip("only the closed site has sources of its own")
    targets = host.check_output("apt-get indextargets --format '$(URI)'").split()
    assert targets
    assert all(target.startswith("file:/srv/packages") for target in targets)
    assert host.package("rackloom-test").is_installed
