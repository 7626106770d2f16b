"""The role kube_gpu on a living cluster: the real discovery of features, and an operator that a chart plays."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

ADMIN = "kubectl --kubeconfig=/etc/kubernetes/admin.conf"
PATIENCE = 120
CONVERGE = Path(__file__).parents[1] / "converge.yml"
Apply = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def apply(request: pytest.FixtureRequest) -> Apply:
    """The roles once more, with other inputs."""

    def run(**inputs: object) -> subprocess.CompletedProcess[str]:
        argv = ["ansible-playbook", "--inventory", request.config.option.ansible_inventory, str(CONVERGE)]
        given = json.dumps({"kube_check_names": ["api"], **inputs})
        return subprocess.run([*argv, "--extra-vars", given], capture_output=True, text=True, check=False)

    return run


def await_that(what: str, done: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, f"not within {PATIENCE} s: {what}"
        time.sleep(0.5)


def told(host: Host, words: str) -> Any:
    return json.loads(host.check_output(f"{ADMIN} get {words} -o json"))


def plugin(host: Host) -> tuple[str, dict[str, str]]:
    """Name of the device plugin's configuration, out of the operator's resource, and what stands in it."""
    name = told(host, "clusterpolicy cluster-policy")["spec"]["devicePlugin"]["config"]["name"]
    return name, told(host, f"configmap {name} -n gpu-operator")["data"]


def test_a_node_that_plays_a_gpu_host_is_known_as_one(host: Host) -> None:
    """The label that the operator goes by, from a file as drivers of devices leave them; and what the kernel says."""
    await_that("labels", lambda: "pci-10de.present" in host.check_output(f"{ADMIN} get nodes --show-labels"))
    [node] = told(host, "nodes")["items"]
    labels = node["metadata"]["labels"]
    assert labels["feature.node.kubernetes.io/pci-10de.present"] == "true"
    assert labels["feature.node.kubernetes.io/kernel-version.full"] == host.check_output("uname -r")


def test_the_operator_is_told_what_the_role_was_given(host: Host) -> None:
    spec = told(host, "clusterpolicy cluster-policy")["spec"]
    assert spec["mig"]["strategy"] == "mixed"
    assert spec["driver"]["enabled"] is False
    assert spec["toolkit"]["enabled"] is False
    assert {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"} in spec["daemonsets"][
        "tolerations"
    ]
    _, data = plugin(host)
    assert set(data) == {"default", "pool"}
    assert "replicas: 4" in data["pool"]


def test_other_sharing_is_another_configuration(host: Host, apply: Apply) -> None:
    before, _ = plugin(host)
    done = apply(kube_gpu_sharing={"pool": {"mps": 2, "resources": ["nvidia.com/gpu"]}})
    assert done.returncode == 0, done.stdout
    after, data = plugin(host)
    assert after != before
    assert "mps" in data["pool"]
    assert host.run(f"{ADMIN} get configmap {before} -n gpu-operator").rc != 0
    assert apply().returncode == 0
    assert plugin(host)[0] == before


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"kube_gpu_sharing": {"pool": {"mps": 2, "time_slicing": 2}}}, "shares by turns and by MPS"),
        ({"kube_gpu_gds": True}, "a driver on the host brings these modules itself"),
    ],
)
def test_wrong_inputs_are_named(apply: Apply, inputs: dict[str, object], said: str) -> None:
    done = apply(**inputs)
    assert done.returncode != 0
    assert said in " ".join(done.stdout.split())


def test_what_is_switched_off_goes_and_leaves_others_alone(host: Host, apply: Apply) -> None:
    done = apply(kube_gpu_enabled=False)
    assert done.returncode == 0, done.stdout
    left = {
        each["name"]
        for each in json.loads(
            host.check_output("helm list -A -o json --kubeconfig=/etc/kubernetes/admin.conf")
        )
    }
    assert "gpu-operator" not in left
    assert "flannel" in left
    assert host.run(f"{ADMIN} get clusterpolicies").rc == 0, "the definition stays"
    back = apply()
    assert back.returncode == 0, back.stdout
    assert plugin(host)
