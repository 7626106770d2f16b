"""A closed site: nothing gets out of its network, and all it has is one bundle. The tests run in this order, on one
lab.

The lab's edge drops and counts every packet that wants to leave, name lookups included. Each step ends by looking
there.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Lab

NAME = "gap"
UNPACK = (
    "mkdir -p /opt/rackloom && "
    "tar -C /opt/rackloom --strip-components=1 -xzf /media/disk/rackloom/rackloom-*.tar.gz"
)


class ClosedLab(Lab):
    """A lab whose edge lets nothing out."""

    name = NAME
    config = ROOT / ".lab" / NAME / "config"
    os = "debian-12"

    def escapes(self) -> dict[str, Any]:
        found: dict[str, Any] = self.call("lab", "status", "--name", self.name).must().data["escapes"]
        return found

    def nothing_left(self) -> None:
        """Fail on the first packet that tried to."""
        found = self.escapes()
        assert found == {"packets": 0, "attempts": []}, found


@pytest.fixture(scope="module")
def closed() -> Iterator[ClosedLab]:
    lab = ClosedLab()
    try:
        lab.fresh("--closed", "--compute", "2", "--no-deploy")
        yield lab
    finally:
        lab.call("lab", "down", "--name", lab.name)


@pytest.fixture(scope="module")
def bundle(closed: ClosedLab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything the site takes, made on the side that has the internet."""
    folder = tmp_path_factory.mktemp("disk") / "bundle"
    closed.call(
        "bundle", "create", "-o", str(folder), "--os", closed.os, "--stages", "mirror,base,slurm"
    ).must()
    return folder


def test_nodes_have_no_way_out(closed: ClosedLab) -> None:
    """Booting alone asks nobody; and a resolver is there, as on a site whose firewall drops what it asks."""
    closed.nothing_left()
    assert "nameserver" in closed.ssh("gpu01", "cat /etc/resolv.conf")


def test_without_a_bundle_the_site_says_so(closed: ClosedLab) -> None:
    cluster = closed.config / "cluster.yml"
    good = cluster.read_text()
    try:
        cluster.write_text(good + "mirror: {outside: false}\n")
        answer = closed.call("check").must(2)
    finally:
        cluster.write_text(good)
    assert [error["code"] for error in answer.envelope["errors"]] == ["no-mirror"]


def test_a_bare_node_becomes_the_controller(closed: ClosedLab, bundle: Path) -> None:
    """With nothing but the disk: Rackloom's archive, the packages and the wheels on it."""
    fingerprint = closed.call("bundle", "verify", str(bundle)).must().data["signature"]["fingerprint"]
    disk = subprocess.Popen(["tar", "-C", bundle, "-c", "."], stdout=subprocess.PIPE)
    words = [
        "lab",
        "ssh",
        "--name",
        closed.name,
        "mgmt01",
        "--",
        "mkdir /media/disk && tar -C /media/disk -x",
    ]
    subprocess.run([ROOT / ".venv/bin/rackloom", *words], stdin=disk.stdout, check=True)
    assert disk.wait() == 0
    setup = "/opt/rackloom/scripts/setup.sh --bundle=/media/disk --fingerprint="
    wrong = closed.ssh("mgmt01", f"{UNPACK} && {setup}SHA256:another; test $? = 1")
    assert "not to be used" in wrong
    closed.ssh("mgmt01", f"{setup}{fingerprint}")
    assert "complete and unmodified" in closed.ssh(
        "mgmt01", f"/opt/rackloom/.venv/bin/rackloom bundle verify /media/disk --fingerprint {fingerprint}"
    )
    closed.ssh("mgmt01", "rm -rf /media/disk /opt/rackloom")
    closed.nothing_left()


def test_the_bundle_is_installed(closed: ClosedLab, bundle: Path) -> None:
    answer = closed.call("bundle", "install", str(bundle)).must()
    assert set(answer.data["hosts"]) == {"mgmt01"}
    closed.nothing_left()
    closed.call("check").must()


def test_the_cluster_is_deployed_from_it(closed: ClosedLab, bundle: Path) -> None:
    closed.call("deploy").must()
    closed.nothing_left()
    sources = closed.ssh("gpu01", "apt-get indextargets --format '$(REPO_URI)'")
    assert {line.partition("//")[2].partition(":")[0] for line in sources.splitlines()} == {
        node["address"]
        for node in closed.call("lab", "status", "--name", NAME).data["nodes"]
        if node["role"] == "management"
    }


def test_jobs_run(closed: ClosedLab, bundle: Path) -> None:
    checks = {check["name"]: check for check in closed.call("validate", "slurm").must().data["checks"]}
    assert checks["two_nodes"]["ok"] and not checks["two_nodes"]["skipped"]
    assert sorted(closed.as_user("cd /tmp && srun -N2 hostname -s").splitlines()) == ["gpu01", "gpu02"]
    closed.nothing_left()


def test_a_second_deploy_changes_nothing_and_asks_nobody(closed: ClosedLab, bundle: Path) -> None:
    answer = closed.call("deploy").must()
    assert not any(counts["changed"] for counts in answer.data["hosts"].values()), answer.said
    closed.nothing_left()


def test_an_unknown_name_is_not_asked_outside(closed: ClosedLab, bundle: Path) -> None:
    """Neither of the resolver that the node had before, nor by the cluster's own."""
    closed.ssh("gpu01", "getent hosts nobody.outside.example", check=False)
    closed.nothing_left()


def test_the_edge_sees_what_tries_to_leave(closed: ClosedLab, bundle: Path) -> None:
    """Otherwise the zeros above would mean nothing."""

    def seen() -> bool:
        tries = "timeout 1 bash -c 'echo >/dev/udp/192.0.2.53/53; echo >/dev/tcp/192.0.2.1/443'"
        closed.ssh("gpu01", tries, check=False)
        ports = {(attempt["protocol"], attempt["port"]) for attempt in closed.escapes()["attempts"]}
        return ports == {("udp", 53), ("tcp", 443)}

    closed.await_that("the edge has seen both, and nothing else", seen)
