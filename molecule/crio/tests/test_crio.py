"""The unit runs and answers, restarts only when it must, and its registries lead to the site's mirror."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from testinfra.host import Host

SCRATCH = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
HERE = Path(__file__).parents[1]
PAUSE = "registry.k8s.io/pause"
NOWHERE = "quay.io/nobody/nothing:1"
CONF = "/etc/crio/crio.conf.d/10-rackloom.conf"


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest) -> Host:
    return testinfra.get_host("ansible://one", ansible_inventory=request.config.option.ansible_inventory)


def converge(**more: Any) -> str:
    """Apply the role again; returns what Ansible printed."""
    argv = ["ansible-playbook", "-i", str(SCRATCH / "inventory"), str(HERE / "converge.yml")]
    done = subprocess.run([*argv, "-e", json.dumps(more)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def process(node: Host) -> str:
    return str(node.check_output("systemctl show crio -p MainPID --value"))


def test_the_runtime_answers_where_the_kubelet_asks(node: Host) -> None:
    conditions = json.loads(node.check_output("crictl info"))["status"]["conditions"]
    assert {"type": "RuntimeReady", "status": True} in [
        {key: each[key] for key in ("type", "status")} for each in conditions
    ]


def test_the_configuration_can_be_read_and_names_what_is_there(node: Host) -> None:
    read = tomllib.loads(node.file(CONF).content_string)["crio"]
    assert read["runtime"]["cgroup_manager"] == "systemd"
    assert node.file(read["runtime"]["runtimes"]["runc"]["runtime_path"]).exists
    assert json.loads(node.file(read["image"]["signature_policy"]).content_string)["default"]
    assert read["api"]["listen"] == "/run/crio/crio.sock"


def test_images_are_found_at_the_sites_registry(node: Host) -> None:
    """skopeo reads the same files with the same library."""
    image = yaml.safe_load((SCRATCH / "upstream/versions.yml").read_text())["images"][PAUSE]
    told = json.loads(node.check_output(f"skopeo inspect --no-tags docker://{PAUSE}:{image['tag']}"))
    assert told["Digest"] == image["digest"]
    # Nobody else is asked.
    refused = node.run(f"skopeo inspect --no-tags docker://{NOWHERE}")
    assert refused.rc != 0
    assert f":5000/{NOWHERE.partition(':')[0]}" in refused.stderr
    assert "dial" not in refused.stderr


def test_another_mirror_is_read_without_a_restart(node: Host) -> None:
    before = process(node)
    assert "changed=1" in converge(crio_registries=["quay.io"])
    assert process(node) == before
    converge()
    assert process(node) == before


def test_files_of_others_are_left_alone_and_ours_restart_it(node: Host) -> None:
    other = "/etc/crio/crio.conf.d/99-other.conf"
    before = process(node)
    node.check_output("printf %%s %s > %s", '[crio.runtime]\ndefault_runtime = "runc"\n', other)
    assert "changed=0" in converge()
    assert process(node) == before
    converge(crio_environment={"SHOWN": "yes"})
    assert process(node) != before
    assert node.file(other).exists
    assert "SHOWN=yes" in node.check_output(f"tr '\\0' ' ' < /proc/{process(node)}/environ")
    node.check_output(f"rm {other}")
