"""The lab's site is a site like any other: `rackloom check` has nothing to say about it."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from rackloom.lab import config
from rackloom.lab.errors import LabError
from rackloom.lab.machine import Machine, Topology
from rackloom.lab.options import LabOptions
from rackloom.site.check import check_site

from .pinned import pin

SUBNET = IPv4Network("10.120.7.0/24")


def machine(*, regular: bool = True, memory: int = 24000) -> Machine:
    return Machine((), 2, None, None, None, ("192.0.2.53",), Topology(2, 4, 2, regular), memory)


@pytest.mark.parametrize(
    "options",
    [
        LabOptions(),
        LabOptions(name="x", compute=1, gpus=0),
        LabOptions(name="big-lab", compute=200, gpus=8, management=3),
        LabOptions(name="kube", kubernetes=True),
        LabOptions(name="kube-only", kubernetes=True, compute=1),
        LabOptions(name="kube-ha", kubernetes=True, management=3, compute=4),
    ],
    ids=lambda options: options.name,
)
@pytest.mark.parametrize("regular", [True, False])
def test_check_finds_no_mistake(tmp_path: Path, options: LabOptions, *, regular: bool) -> None:
    nodes = config.plan(options, SUBNET)
    config.write(tmp_path / "config", options, SUBNET, nodes, machine(regular=regular))
    pin(tmp_path / "config")
    result = check_site(tmp_path / "config")
    assert not list(result.mistakes), list(result.mistakes)


def test_growing_keeps_the_old_nodes_and_the_users_cluster_file(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    small, large = LabOptions(compute=2), LabOptions(compute=6)
    before = config.plan(small, SUBNET)
    key = config.write(folder, small, SUBNET, before, machine())
    cluster = (folder / "cluster.yml").read_text() + "# mine\n"
    (folder / "cluster.yml").write_text(cluster)
    after = config.plan(large, SUBNET)
    assert config.write(folder, large, SUBNET, after, machine()) == key
    assert set(before) < set(after)
    assert (folder / "cluster.yml").read_text() == cluster
    assert "gpu[01-06]" in (folder / "nodes.yml").read_text()


def test_plan_gives_every_node_an_address_of_its_own() -> None:
    nodes = config.plan(LabOptions(compute=200, management=9), SUBNET)
    assert len({node.address for node in nodes}) == len({node.name for node in nodes}) == 210
    assert all(SUBNET[1] < IPv4Network(node.address)[0] < SUBNET[255] for node in nodes)


def test_private_files_are_private(tmp_path: Path) -> None:
    config.write(tmp_path, LabOptions(), SUBNET, config.plan(LabOptions(), SUBNET), machine())
    for name in ("id_ed25519", "alice", "bob"):
        assert (tmp_path / "ssh" / name).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("memory", "expected"), [(24000, 2000), (4000, 1000), (1000, 500)])
def test_a_small_machine_makes_small_nodes(memory: int, expected: int) -> None:
    assert config.node_memory(machine(memory=memory)) == expected


@pytest.mark.parametrize(
    "options",
    [
        LabOptions(name="Lab"),
        LabOptions(name="-"),
        LabOptions(name="a" * 21),
        LabOptions(name="../etc"),
        LabOptions(name="molecule-base"),
        LabOptions(compute=0),
        LabOptions(compute=201),
        LabOptions(gpus=-1),
        LabOptions(management=0),
        LabOptions(management=2, kubernetes=True),
    ],
)
def test_impossible_labs_are_refused(options: LabOptions) -> None:
    with pytest.raises(LabError) as caught:
        options.check()
    assert caught.value.hint
