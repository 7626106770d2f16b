"""A worker joins a cluster of ten and one of five hundred, all other workers being off: both cost the same."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ROOT
from .test_kubernetes import STAGES, KubeLab, say

pytestmark = pytest.mark.long

NEW = "gpu01"
"""The only worker that there is; the others stand in the inventory and nowhere else."""


class SizeLab(KubeLab):
    """A closed lab with one control-plane node and one worker."""

    name = os.environ.get("RACKLOOM_E2E_SIZE_LAB", "ksize")
    config = ROOT / ".lab" / name / "config"

    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[str, Any] = {}

    def begin(self) -> None:
        """Start with a site without workers, in a network that has room for many."""
        self.fresh("--closed", "--kubernetes", "--management", "1", "--compute", "1", "--no-deploy")
        path = self.config / "cluster.yml"
        data = yaml.safe_load(path.read_text())
        network = ipaddress.ip_network(data["networks"]["cluster"]["cidr"])
        data["networks"]["cluster"]["cidr"] = str(network.supernet(new_prefix=20))
        slurm = [f"slurm_{part}" for part in ("database", "accounting", "controller", "login", "node")]
        data["kubernetes"].setdefault("networks", {})["pods"] = "10.244.0.0/15"
        data["services"] |= {"kube_node": [], **{group: [] for group in slurm}}
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        self.nodes = yaml.safe_load((self.config / "nodes.yml").read_text())

    def grow(self, size: int) -> None:
        """Name ``size`` workers, of which one is there."""
        network = ipaddress.ip_network(self.site()["networks"]["cluster"]["cidr"])
        own = ipaddress.ip_network(f"{self.nodes['compute'][0]['address']}/24", strict=False)
        free = [each for each in network.subnets(new_prefix=24) if each != own]
        addresses = [str(host) for part in free for host in part.hosts()][: size - 1]
        profile = self.nodes["compute"][0]["profile"]
        others = {"name": f"off[001-{size - 1:03d}]", "address": addresses, "profile": profile}
        nodes = {**self.nodes, "compute": [*self.nodes["compute"], others]}
        (self.config / "nodes.yml").write_text(yaml.safe_dump(nodes, sort_keys=False))
        path = self.config / "cluster.yml"
        data = yaml.safe_load(path.read_text())
        data["services"]["kube_node"] = [NEW, others["name"]]
        path.write_text(yaml.safe_dump(data, sort_keys=False))

    def join(self, size: int) -> tuple[float, dict[str, int], set[str]]:
        """Add the worker to a site of ``size`` and take it away again: seconds, counts and hosts of the run."""
        self.grow(size)
        answer = self.call("nodes", "add", NEW).must()
        self.await_that("it is ready", lambda: NEW in self.ready_nodes())
        self.call("nodes", "remove", NEW).must()
        assert NEW not in self.ready_nodes()
        return answer.seconds, answer.data["counts"], set(answer.data["hosts"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, versions: Path) -> Iterator[SizeLab]:
    site = SizeLab()
    try:
        site.begin()
        folder = tmp_path_factory.mktemp("disk") / "bundle"
        words = ("-o", str(folder), "--os", site.os, "--stages", STAGES, "--versions", str(versions))
        site.call("bundle", "create", *words).must()
        site.call("bundle", "install", str(folder)).must()
        site.call("deploy").must()
        yield site
    finally:
        if not os.environ.get("RACKLOOM_E2E_KEEP"):
            site.call("lab", "down", "--name", site.name)


def test_a_worker_joins_alike_in_ten_and_in_five_hundred(site: SizeLab) -> None:
    site.join(10)  # brings the images
    few_seconds, few, touched = site.join(10)
    many_seconds, many, also = site.join(500)
    say(
        f"10 nodes: {few_seconds:.1f} s, {few['tasks']} tasks; 500: {many_seconds:.1f} s, {many['tasks']} tasks"
    )
    assert touched == also == {NEW, "mgmt01"}
    # changed may differ: the control plane knows the names of all workers, and these are others
    for name in ("tasks", "evaluations"):
        assert few[name] == many[name], (few, many)
