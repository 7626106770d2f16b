"""A pod and its container, made and asked through crictl, as the kubelet would make them."""

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

SCRATCH = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
HERE = Path(__file__).parents[1]
CONF = "/etc/containerd/conf.d/99-other.toml"
OTHER = """version = 4
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.other]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.other.options]
    SystemdCgroup = true
"""
POD = {
    "metadata": {"name": "shown", "uid": "shown-1", "namespace": "default"},
    "log_directory": "/tmp/shown",
    # On the node's own network, because no network plugin is configured here.
    "linux": {"cgroup_parent": "shown.slice", "security_context": {"namespace_options": {"network": 2}}},
}


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest) -> Host:
    return testinfra.get_host("ansible://one", ansible_inventory=request.config.option.ansible_inventory)


def image(name: str) -> str:
    versions = yaml.safe_load((SCRATCH / "upstream/versions.yml").read_text())
    return f"{name}:{versions['images'][name]['tag']}"


def converge(**more: Any) -> str:
    """Apply the role again; returns what Ansible printed."""
    argv = ["ansible-playbook", "-i", str(SCRATCH / "inventory"), str(HERE / "converge.yml")]
    done = subprocess.run([*argv, "-e", json.dumps(more)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def put(node: Host, path: str, text: str) -> None:
    node.check_output("printf %%s %s > %s", text, path)


def info(node: Host) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(node.check_output("crictl info"))
    return told


def started(node: Host) -> str:
    return str(node.check_output("systemctl show containerd -p ActiveEnterTimestampMonotonic --value"))


@pytest.fixture(scope="module")
def container(node: Host) -> Iterator[str]:
    """A container that counts."""
    busybox = image("docker.io/library/busybox")
    node.check_output(f"crictl pull {busybox}")
    made = {
        "metadata": {"name": "counts"},
        "image": {"image": busybox},
        "command": ["sh", "-c", "while :; do date +%s%N; sleep 0.2; done"],
        "log_path": "counts.log",
    }
    for name, content in {"pod": POD, "container": made}.items():
        put(node, f"/root/{name}.json", json.dumps(content))
    pod = node.check_output("crictl runp /root/pod.json")
    name = node.check_output(f"crictl create {pod} /root/container.json /root/pod.json")
    node.check_output(f"crictl start {name}")
    yield name
    node.check_output(f"crictl rmp --force {pod}")


def test_it_is_what_the_versions_file_says(node: Host) -> None:
    wanted = yaml.safe_load((SCRATCH / "upstream/versions.yml").read_text())["files"]
    assert f"RuntimeVersion:  v{wanted['containerd']['version']}" in node.check_output("crictl version")
    assert wanted["runc"]["version"] in node.check_output("runc --version")


def test_pods_get_their_groups_from_systemd(node: Host, container: str) -> None:
    runtimes = info(node)["config"]["containerd"]["runtimes"]
    assert runtimes["runc"]["options"]["SystemdCgroup"] is True
    pid = json.loads(node.check_output(f"crictl inspect {container}"))["info"]["pid"]
    assert f"cri-containerd-{container}.scope" in node.file(f"/proc/{pid}/cgroup").content_string


def test_images_come_from_the_sites_registry(node: Host, container: str) -> None:
    listed = json.loads(node.check_output("crictl images -o json"))["images"]
    tags = {tag for each in listed for tag in each["repoTags"]}
    assert {image("docker.io/library/busybox"), image("registry.k8s.io/pause")} <= tags
    assert container


def test_nobody_outside_is_asked_on_a_closed_site(node: Host) -> None:
    refused = node.run("crictl pull quay.io/nobody/nothing:1")
    assert refused.rc != 0
    said = refused.stdout + refused.stderr
    assert "not found" in said
    assert "dial" not in said and "lookup" not in said


def test_a_container_lives_through_a_restart(node: Host, container: str) -> None:
    pid = json.loads(node.check_output(f"crictl inspect {container}"))["info"]["pid"]
    before = started(node)
    node.check_output("systemctl restart containerd")
    assert started(node) != before
    told = json.loads(node.check_output(f"crictl inspect {container}"))
    assert told["status"]["state"] == "CONTAINER_RUNNING"
    assert told["info"]["pid"] == pid
    assert node.check_output(f"crictl exec {container} echo here") == "here"


def test_what_others_configure_is_read_and_left_alone(node: Host, container: str) -> None:
    put(node, CONF, OTHER)
    node.check_output("systemctl restart containerd")
    before = started(node)
    assert "changed=0" in converge()
    assert started(node) == before, "a file of others restarts nothing"
    assert set(info(node)["config"]["containerd"]["runtimes"]) == {"runc", "other"}
    # Also when our own configuration changes, and the container does not notice.
    converge(containerd_environment={"SHOWN": "yes"})
    assert started(node) != before
    assert node.file(CONF).content_string.strip() == OTHER.strip()
    assert set(info(node)["config"]["containerd"]["runtimes"]) == {"runc", "other"}
    assert (
        json.loads(node.check_output(f"crictl inspect {container}"))["status"]["state"] == "CONTAINER_RUNNING"
    )
    converge()
    node.check_output(f"rm {CONF}")


def test_a_configuration_that_containerd_refuses_is_not_written(node: Host) -> None:
    """A file of others that is newer than ours would keep containerd from starting."""
    put(node, CONF, OTHER)
    kept = node.file("/etc/containerd/config.toml").content_string
    with pytest.raises(AssertionError, match="higher than root config version"):
        converge(containerd_config_format=3)
    assert node.file("/etc/containerd/config.toml").content_string == kept
    node.check_output(f"rm {CONF}")


def test_layers_that_cannot_lie_there_are_named_first(node: Host) -> None:
    before = node.check_output("ls --full-time /etc/containerd")
    with pytest.raises(AssertionError, match="/srv/layers lies on"):
        converge(containerd_root="/srv/layers")
    assert node.check_output("ls --full-time /etc/containerd") == before
