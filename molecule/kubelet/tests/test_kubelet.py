"""The real kubeadm writes the kubelet's settings and starts it; from then on the role looks after both."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from testinfra.host import Host
from waits import until

SCRATCH = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
HERE = Path(__file__).parents[1]
RECORDS = yaml.safe_load((SCRATCH / "upstream/versions.yml").read_text())["files"]
RELEASE = RECORDS["kubelet"]["version"]
CONFIG = "/var/lib/kubelet/config.yaml"
CLUSTER = f"""apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
patches: {{directory: /etc/rackloom/kubernetes/patches}}
nodeRegistration: {{criSocket: "unix:///run/containerd/containerd.sock"}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v{RELEASE}
"""


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest) -> Host:
    return testinfra.get_host("ansible://one", ansible_inventory=request.config.option.ansible_inventory)


def converge(**more: Any) -> subprocess.CompletedProcess[str]:
    """Apply the role again, with other inputs; what it drives stays as it is."""
    argv = [
        "ansible-playbook",
        "-i",
        str(SCRATCH / "inventory"),
        str(HERE / "converge.yml"),
        "--skip-tags",
        "runtime",
    ]
    return subprocess.run([*argv, "-e", json.dumps(more)], check=False, capture_output=True, text=True)


def done(**more: Any) -> str:
    """Apply the role again; returns what Ansible printed."""
    result = converge(**more)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def refused(**more: Any) -> str:
    """Apply the role with something wrong; returns what was said, in one line."""
    result = converge(**more)
    assert result.returncode != 0, result.stdout
    return " ".join((result.stdout + result.stderr).split())


def settings(node: Host) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(node.file(CONFIG).content_string)
    return read


def process(node: Host) -> str:
    return str(node.check_output("systemctl show kubelet -p MainPID --value"))


@pytest.fixture(scope="module")
def joined(node: Host) -> Iterator[Host]:
    """A node whose kubelet kubeadm has started, with nobody behind its API address."""
    node.check_output("printf %%s %s > /root/cluster.yml", CLUSTER)
    for phase in ("certs ca", "kubeconfig kubelet", "kubelet-start"):
        node.check_output(f"kubeadm init phase {phase} --config /root/cluster.yml")
    yield node
    node.check_output(
        "systemctl stop kubelet && rm -rf /etc/kubernetes/pki /etc/kubernetes/kubelet.conf /var/lib/kubelet/*.yaml"
    )


def test_programs_are_of_the_release(node: Host) -> None:
    assert node.check_output("kubelet --version") == f"Kubernetes v{RELEASE}"
    assert node.check_output("kubeadm version -o short") == f"v{RELEASE}"
    assert f"v{RELEASE}" in node.check_output("kubectl version --client")
    assert "-F __start_kubectl" in node.check_output(
        "bash -c 'source /usr/share/bash-completion/completions/kubectl; complete -p kubectl'"
    )


def test_it_waits_for_kubeadm(node: Host) -> None:
    assert node.check_output("systemctl is-enabled kubelet") == "enabled"
    assert node.run("systemctl is-active kubelet").stdout.strip() == "inactive"
    assert not node.file(CONFIG).exists


def test_kubeadm_finds_all_that_it_asks_for(node: Host) -> None:
    """But for what this machine cannot give, which the scenario tolerates."""
    node.check_output("printf %%s %s > /root/cluster.yml", CLUSTER)
    groups = "SystemVerification" if not node.file("/sys/fs/cgroup/cgroup.controllers").exists else "none"
    # It would ask a registry for images, and the machine for two processors.
    ignored = f"ImagePull,NumCPU,Mem,{groups}"
    told = node.run(
        f"kubeadm init phase preflight --config /root/cluster.yml --ignore-preflight-errors={ignored}"
    )
    assert "fatal errors" not in told.stdout + told.stderr, told.stdout
    assert node.check_output("cat /proc/sys/net/ipv4/ip_forward") == "1"
    assert node.check_output("cat /proc/sys/net/bridge/bridge-nf-call-iptables") == "1"


def test_the_kubelet_runs_with_the_nodes_settings(joined: Host) -> None:
    assert settings(joined)["maxPods"] == 110
    assert settings(joined)["serverTLSBootstrap"] is True
    address = joined.ansible.get_variables()["rackloom_address"]
    assert f"--node-ip={address}" in joined.check_output(f"tr '\\0' ' ' < /proc/{process(joined)}/cmdline")
    before = process(joined)
    assert "changed=0" in done()
    assert process(joined) == before


def test_changed_settings_reach_a_node_that_is_part_of_a_cluster(joined: Host) -> None:
    before = process(joined)
    assert "changed=2" in done(kubelet_max_pods=42)
    assert settings(joined)["maxPods"] == 42
    assert settings(joined)["staticPodPath"] == "/etc/kubernetes/manifests", (
        "what kubeadm wrote is still there"
    )
    assert process(joined) != before
    after = process(joined)
    assert "changed=0" in done(kubelet_max_pods=42)
    assert process(joined) == after


def test_processors_and_memory_for_single_pods(joined: Host) -> None:
    """The kubelet itself refuses to start with a sum that is not right, or with the record of another policy."""
    wanted = {"kubelet_cpu_manager": "static", "kubelet_memory_manager": "Static"}
    more = {"kubelet_topology_manager": "best-effort", "kubelet_reserved": {"cpu": "500m", "memory": "1Gi"}}
    done(**wanted, **more)
    # It is well before it has written this down.
    until(lambda: joined.run('grep -q \'"policyName":"static"\' /var/lib/kubelet/cpu_manager_state').rc == 0)
    assert settings(joined)["reservedMemory"][0]["limits"]["memory"] == str(1024**3 + 500 * 1024**2)


def test_settings_that_the_kubelet_refuses_are_taken_back(joined: Host) -> None:
    done()
    before = joined.file(CONFIG).content_string
    said = refused(kubelet_settings={"maxPods": -3})
    assert "must not be a negative number" in said
    assert "the former ones are back" in said
    assert joined.file(CONFIG).content_string == before
    assert joined.check_output("systemctl is-active kubelet") == "active"
    done()


def test_everything_that_is_missing_is_named_at_once_and_nothing_is_changed(node: Host) -> None:
    """A swap area is laid over /proc/swaps, a kernel module that nobody has is wanted."""
    node.check_output("printf %%s %s > /root/swaps", "Filename Type\n/dev/sdz9 partition 1 0 -2\n")
    node.check_output("rm -f /usr/local/bin/kubectl; mount --bind /root/swaps /proc/swaps")
    try:
        said = refused(kubelet_tolerate=[])
        assert "the node swaps to /dev/sdz9" in said and "kubelet_swap: 'off'" in said
        assert "(a test host tolerates it: swap)" in said
        old = not node.file("/sys/fs/cgroup/cgroup.controllers").exists
        assert ("control groups of version 1" in said) == old
        assert "Nothing has been changed" in said
        assert not node.file("/usr/local/bin/kubectl").exists
        warned = done(kubelet_tolerate=["swap", "cgroup_v1"])
        assert "tolerated on this node: the node swaps to /dev/sdz9" in " ".join(warned.split())
        patch = json.loads(
            node.file("/etc/rackloom/kubernetes/patches/kubeletconfiguration0+strategic.json").content_string
        )
        assert patch["failSwapOn"] is False
    finally:
        node.check_output("umount /proc/swaps")
    done()


def test_a_wrong_setting_never_reaches_the_node(node: Host) -> None:
    said = refused(kubelet_reserved={"cpu": "much"}, kubelet_eviction={"memory.available": "10 percent"})
    assert "kubelet_reserved: cpu: 'much' is no quantity" in said
    assert "kubelet_eviction: memory.available" in said
    assert node.check_output("systemctl is-enabled kubelet") == "enabled"
