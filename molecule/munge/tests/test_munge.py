"""A credential made on one node is accepted on another with the same key, and on no other."""

from __future__ import annotations

import pytest
import testinfra
from testinfra.host import Host


def credential(request: pytest.FixtureRequest, name: str) -> str:
    maker = testinfra.get_host(f"ansible://{name}", ansible_inventory=request.config.option.ansible_inventory)
    return str(maker.check_output("su -s /bin/sh nobody -c 'munge -n'"))


def test_credential_of_another_node(host: Host, request: pytest.FixtureRequest) -> None:
    decoded = host.run(f"echo '{credential(request, 'one')}' | unmunge")
    if host.backend.get_hostname() == "stranger":
        assert decoded.rc != 0
        assert "Invalid credential" in decoded.stdout + decoded.stderr
    else:
        assert decoded.rc == 0
        assert "nobody" in decoded.stdout


def test_key_is_for_munge_alone(host: Host) -> None:
    assert host.run("su -s /bin/sh nobody -c 'cat /etc/munge/munge.key'").rc != 0
