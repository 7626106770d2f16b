"""What `rackloom status` is told of Kubernetes, with a stand-in for kubectl."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Keep = Callable[..., dict[str, Any]]
RECORDED = Path(__file__).parent / "recorded" / "kubernetes"


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that gives the recorded nodes, one of which is not ready."""
    program = tmp_path / "kubectl"
    program.write_text(f"#!/bin/sh\ncat {RECORDED}/nodes.json\n")
    program.chmod(0o755)
    monkeypatch.setattr("plugins.modules.service_status.PATH", f"{tmp_path}:/usr/bin:/bin")
    return program


def rows(run_module: Keep) -> list[tuple[str, str, bool, str]]:
    told = run_module("service_status", host="mgmt01", kubeconfig="/some.conf")["rackloom_status"]
    return [(row["service"], row["host"], row["ok"], row["detail"]) for row in told]


def test_nodes_that_are_not_ready_are_named(run_module: Keep, kubectl: Path) -> None:
    assert rows(run_module) == [
        ("kubernetes", "mgmt01", True, "the API answers"),
        ("kubernetes nodes", "mgmt01", True, "1 ready"),
        ("kubernetes nodes", "gpu01", False, "Kubelet stopped posting node status."),
    ]


def test_a_node_that_is_cordoned_is_named(run_module: Keep, kubectl: Path) -> None:
    kubectl.write_text(
        f"""#!/bin/sh\nsed 's/"spec": {{/"spec": {{"unschedulable": true,/' {RECORDED}/nodes.json\n"""
    )
    assert ("kubernetes nodes", "mgmt01", True, "1 ready, of which cordoned: mgmt01") in rows(run_module)


def test_an_api_that_does_not_answer_is_one_row(run_module: Keep, kubectl: Path) -> None:
    kubectl.write_text("#!/bin/sh\necho 'The connection to the server was refused' >&2; exit 1\n")
    assert rows(run_module) == [("kubernetes", "mgmt01", False, "The connection to the server was refused")]


def test_kubernetes_is_not_asked_unless_told(run_module: Keep) -> None:
    assert run_module("service_status", host="gpu01")["rackloom_status"] == []
