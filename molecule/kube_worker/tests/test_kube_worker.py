from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

ADMIN = "kubectl --kubeconfig=/etc/kubernetes/admin.conf"
PATIENCE = 180
CONVERGE = Path(__file__).parents[1] / "converge.yml"
Apply = Callable[[], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def one(request: pytest.FixtureRequest) -> Host:
    return testinfra.get_host("ansible://one", ansible_inventory=request.config.option.ansible_inventory)


@pytest.fixture
def cp(request: pytest.FixtureRequest) -> Host:
    return testinfra.get_host("ansible://cp", ansible_inventory=request.config.option.ansible_inventory)


@pytest.fixture
def apply(request: pytest.FixtureRequest) -> Apply:
    """The roles once more."""

    def run() -> subprocess.CompletedProcess[str]:
        argv = ["ansible-playbook", "--inventory", request.config.option.ansible_inventory, str(CONVERGE)]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    return run


def node(cp: Host) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(cp.check_output(f"{ADMIN} get node one -o json"))
    return told


def ready(cp: Host) -> bool:
    conditions = {each["type"]: each["status"] for each in node(cp)["status"]["conditions"]}
    return conditions.get("Ready") == "True"


def await_that(what: str, done: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, f"not within {PATIENCE} s: {what}"
        time.sleep(0.5)


def test_the_worker_is_what_the_inventory_says(cp: Host) -> None:
    await_that("the worker is ready", lambda: ready(cp))
    told = node(cp)
    assert told["metadata"]["labels"]["demo.example/rack"] == "r1"
    taints = [(each["key"], each.get("value"), each["effect"]) for each in told["spec"]["taints"]]
    assert ("demo.example/gpu", "yes", "NoSchedule") in taints


def test_nothing_that_it_joined_with_is_left(one: Host, cp: Host) -> None:
    for path in ("/etc/kubernetes/bootstrap-kubelet.conf", "/var/lib/rackloom/kubernetes/join.conf"):
        assert not one.file(path).exists
    assert one.run("ls /etc/kubernetes/pki/ca.key").rc != 0
    await_that(
        "kubeadm's own token has expired",
        lambda: not cp.check_output("kubeadm token list --kubeconfig /etc/kubernetes/admin.conf").strip(),
    )


def test_the_api_server_believes_what_its_kubelet_shows(cp: Host) -> None:
    await_that(
        "an answer", lambda: cp.run(f"{ADMIN} get --raw /api/v1/nodes/one/proxy/healthz").stdout == "ok"
    )


def test_labels_and_taints_come_back_and_others_stay(cp: Host, apply: Apply) -> None:
    cp.check_output(f"{ADMIN} label node one demo.example/rack=r9 demo.example/theirs=x --overwrite")
    cp.check_output(f"{ADMIN} taint node one demo.example/gpu=yes:NoSchedule-")
    done = apply()
    assert done.returncode == 0, done.stdout
    labels = node(cp)["metadata"]["labels"]
    assert labels["demo.example/rack"] == "r1" and labels["demo.example/theirs"] == "x"
    assert "demo.example/gpu" in {each["key"] for each in node(cp)["spec"]["taints"]}


def test_a_join_that_was_cut_off_is_made_good(one: Host, cp: Host, apply: Apply) -> None:
    # as a power cut leaves it, before the kubelet had its certificate
    one.check_output(
        "systemctl stop kubelet && rm /var/lib/kubelet/rackloom.json /etc/kubernetes/kubelet.conf"
    )
    one.check_output("""echo '{"action": "join"}' > /var/lib/rackloom/kubernetes/intent.json""")
    done = apply()
    assert done.returncode == 0, done.stdout
    await_that("the worker is ready", lambda: ready(cp))
    assert one.service("kubelet").is_running
    assert not one.file("/var/lib/rackloom/kubernetes/intent.json").exists


def test_a_member_is_never_reset(one: Host, apply: Apply) -> None:
    before = one.check_output("systemctl show -p InvocationID kubelet")
    assert apply().returncode == 0
    assert one.check_output("systemctl show -p InvocationID kubelet") == before
