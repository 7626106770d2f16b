"""What arrived is used, and what cannot be had is told at once, by name, without a packet to the outside."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host
from waits import until

SCRATCH = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
HERE = Path(__file__).parents[1]


@pytest.fixture
def node(request: pytest.FixtureRequest) -> Host:
    return testinfra.get_host("ansible://node", ansible_inventory=request.config.option.ansible_inventory)


def apply(**more: Any) -> subprocess.CompletedProcess[str]:
    """Apply the role with other inputs."""
    argv = [
        "ansible-playbook",
        "-i",
        str(SCRATCH / "inventory"),
        str(HERE / "converge.yml"),
        "-e",
        json.dumps(more),
    ]
    return subprocess.run(argv, check=False, capture_output=True, text=True)


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


def test_what_was_fetched_runs(node: Host) -> None:
    assert node.check_output("hello") == "hello 1.0"
    assert node.check_output("/opt/hello/hello") == "hello 1.0"
    assert node.check_output("tar -xzOf /srv/charts/greeter.tgz greeter/Chart.yaml").startswith(
        "name: greeter"
    )
    assert node.file("/usr/local/bin/hello").mode == 0o755


def test_what_was_changed_is_fetched_again(node: Host) -> None:
    node.check_output("echo exit 1 > /usr/local/bin/hello")
    assert "changed=1" in apply().stdout
    assert node.check_output("hello") == "hello 1.0"
    assert "changed=0" in apply().stdout


def test_outside_is_not_asked_and_role_and_task_are_named(node: Host) -> None:
    """The file's place outside has no address, so an attempt would say so, and take its time."""
    begun = time.monotonic()
    assert apply().returncode == 0
    usual = time.monotonic() - begun

    def took() -> float:
        began = time.monotonic()
        done = apply(artifact_files=[{"name": "absent", "dest": "/usr/local/bin/absent"}])
        seconds = time.monotonic() - began
        assert done.returncode != 0
        assert "role asker, task 'Fetch what it takes': absent 1.0 is not fetched from outside" in said(done)
        assert "404" in said(done)
        assert "outside.example" not in said(done)
        return seconds

    # One attempt may take 20 s, each time; what else this machine does slows it down for a while only.
    until(lambda: took() < usual + 15, 300, "it takes as long as an attempt would")
    assert not node.file("/usr/local/bin/absent").exists


def test_without_a_mirror_a_closed_site_fails_at_once() -> None:
    done = apply(artifact_files=[{"name": "absent", "dest": "/usr/local/bin/absent"}], artifact_mirror="")
    assert done.returncode != 0
    assert "no mirror has files" in said(done)


def test_where_it_is_allowed_outside_comes_after_the_mirror() -> None:
    done = apply(artifact_files=[{"name": "absent", "dest": "/usr/local/bin/absent"}], artifact_outside=True)
    text = said(done)
    assert done.returncode != 0
    assert "Tried" in text and text.index("/files/absent/1.0/") < text.index("outside.example/1.0/")


def test_another_content_is_refused(node: Host) -> None:
    done = apply(artifact_files=[{"name": "broken", "dest": "/usr/local/bin/broken"}])
    assert done.returncode != 0
    assert "its sha256 is" in said(done)
    assert not node.file("/usr/local/bin/broken").exists
    assert node.check_output("ls -A /usr/local/bin | grep -c rackloom || true") == "0"


def test_what_has_no_record_is_refused_before_a_node_is_asked() -> None:
    done = apply(artifact_files=[{"name": "nothing", "dest": "/usr/local/bin/nothing"}])
    assert done.returncode != 0
    assert "has no record in inventory/versions.yml" in said(done)
