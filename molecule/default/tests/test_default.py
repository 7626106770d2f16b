"""The harness gives what the scenarios rely on: booted servers that reach each other."""

from __future__ import annotations

from testinfra.host import Host


def test_booted(host: Host) -> None:
    assert host.run("systemctl is-system-running --wait").stdout.strip() == "running"


def test_host_name_is_its_own(host: Host) -> None:
    name = host.backend.get_hostname()
    assert host.run("hostname").stdout.strip() == name
    assert host.file("/etc/hostname").content_string.strip() == name


def test_gpus(host: Host) -> None:
    wanted = 2 if host.backend.get_hostname() == "two" else 0
    assert len(host.run("ls /dev/ | grep -c '^nvidia[0-9]'; true").stdout) > 0
    assert int(host.run("ls /dev/ | grep -c '^nvidia[0-9]'").stdout) == wanted


def test_peers_answer(host: Host) -> None:
    for address in host.file("/etc/peers").content_string.split():
        # until the first answer, which may be that to a later question
        assert host.run(f"ping -c1 -w60 {address}").rc == 0
