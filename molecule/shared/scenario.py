"""Fixtures of all scenarios' tests: a node by its name, and the scenario's playbook once more with other inputs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest
import testinfra
from testinfra.host import Host

Node = Callable[[str], Host]
Apply = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def inventory(request: pytest.FixtureRequest) -> str:
    """Where the scenario's inventory lies."""
    return str(request.config.option.ansible_inventory)


@pytest.fixture(scope="session")
def node(inventory: str) -> Node:
    """A node of the scenario, by its name."""

    def named(name: str) -> Host:
        return testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory)

    return named


@pytest.fixture(scope="module")
def apply(request: pytest.FixtureRequest, inventory: str) -> Apply:
    """converge.yml once more, with other inputs; `limit` leaves hosts out."""
    playbook = request.path.parents[1] / "converge.yml"

    def run(limit: str = "all", **inputs: object) -> subprocess.CompletedProcess[str]:
        argv = ["ansible-playbook", "--inventory", inventory, "--limit", limit, str(playbook)]
        return subprocess.run(
            [*argv, "--extra-vars", json.dumps(inputs)], check=False, capture_output=True, text=True
        )

    return run
