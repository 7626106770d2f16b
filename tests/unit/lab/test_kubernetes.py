"""Kubernetes in a lab: its site, and what is said where its programs cannot be had."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackloom.lab import config, kubernetes
from rackloom.lab.errors import LabError
from rackloom.lab.machine import Machine, Topology, swaps
from rackloom.lab.options import LabOptions
from rackloom.site import bundles
from rackloom.site.check import check_site

from .pinned import pin

SUBNET = IPv4Network("10.120.7.0/24")


def machine(*, cgroup: int = 2, swap: bool = False) -> Machine:
    return Machine((), cgroup, None, None, None, (), Topology(1, 2, 1, regular=True), 8000, swap)


def site(folder: Path, options: LabOptions, host: Machine) -> dict[str, Any]:
    """What cluster.yml of such a lab says."""
    config.write(folder, options, SUBNET, config.plan(options, SUBNET), host)
    data: dict[str, Any] = yaml.safe_load((folder / "cluster.yml").read_text())
    return data


def groups_of(folder: Path) -> dict[str, list[str]]:
    """Who is in which group."""
    pin(folder)
    result = check_site(folder)
    assert result.site, list(result.mistakes)
    return {name: list(hosts) for name, hosts in result.site.groups.items()}


def test_a_lab_says_nothing_of_kubernetes_unless_asked(tmp_path: Path) -> None:
    assert not {"kubernetes", "services"} & set(site(tmp_path, LabOptions(), machine()))


@pytest.mark.parametrize("management", [1, 3, 5])
def test_management_controls_and_one_node_serves(tmp_path: Path, management: int) -> None:
    options = LabOptions(kubernetes=True, management=management, compute=3)
    found = site(tmp_path, options, machine())
    groups = groups_of(tmp_path)
    assert len(groups["kube_control_plane"]) == management
    assert groups["kube_node"] == ["gpu01"]
    assert groups["slurm_node"] == ["gpu02", "gpu03"]
    assert bool(groups["kube_api_balancer"]) is ("endpoint" in found["kubernetes"]) is (management > 1)


def test_with_one_compute_node_there_is_no_slurm(tmp_path: Path) -> None:
    found = site(tmp_path, LabOptions(kubernetes=True, compute=1), machine())
    groups = groups_of(tmp_path)
    assert "slurm" not in found
    assert not any(hosts for group, hosts in groups.items() if group.startswith("slurm"))


def test_its_addresses_are_no_nodes(tmp_path: Path) -> None:
    options = LabOptions(kubernetes=True, management=5, compute=200)
    found = site(tmp_path, options, machine())["kubernetes"]
    first, last = (IPv4Address(text) for text in found["load_balancer"]["pool"][0].split("-"))
    taken = {IPv4Address(node.address) for node in config.plan(options, SUBNET)}
    own = {IPv4Address(found["endpoint"]["address"])}
    own |= {IPv4Address(number) for number in range(int(first), int(last) + 1)}
    assert not taken & own and all(address in SUBNET for address in own)


@pytest.mark.parametrize(
    ("host", "tolerated"),
    [
        (machine(), []),
        (machine(cgroup=1), ["cgroup_v1"]),
        (machine(cgroup=1, swap=True), ["cgroup_v1", "swap"]),
    ],
)
def test_only_what_this_machine_lacks_is_tolerated(
    tmp_path: Path, host: Machine, tolerated: list[str]
) -> None:
    assert site(tmp_path, LabOptions(kubernetes=True), host)["kubernetes"]["tolerate"] == tolerated


def test_swap_is_seen(tmp_path: Path) -> None:
    assert not swaps(tmp_path)
    (tmp_path / "proc").mkdir()
    head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
    (tmp_path / "proc/swaps").write_text(head)
    assert not swaps(tmp_path)
    (tmp_path / "proc/swaps").write_text(f"{head}/swapfile file 1048572 0 -2\n")
    assert swaps(tmp_path)


def test_no_vendor_and_no_bundle_is_said_before_anything_is_deployed(tmp_path: Path) -> None:
    asked = []

    def nobody(url: str) -> bool:
        asked.append(url)
        return False

    with pytest.raises(LabError) as caught:
        kubernetes.must_have_programs(tmp_path, "demo", nobody)
    assert len(asked) == 1 and "kubeadm" in asked[0] and "{" not in asked[0]
    assert asked[0].split("/")[2] in str(caught.value)
    assert "bundle install" in caught.value.hint and "--name demo" in caught.value.hint


def test_a_bundle_or_a_vendor_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubernetes.must_have_programs(tmp_path, "demo", lambda _: True)
    monkeypatch.setattr(bundles, "current", lambda _: object())
    kubernetes.must_have_programs(tmp_path, "demo", lambda _: pytest.fail("nobody had to be asked"))


def test_the_sites_own_versions_file_wins(tmp_path: Path) -> None:
    own = tmp_path / "versions.yml"
    own.write_text(
        "files: {kubeadm: {version: 9.9.9, url: 'https://mirror.example/{version}/{arch}/kubeadm'}}\n"
    )
    assert kubernetes.first_url(own).startswith("https://mirror.example/9.9.9/")


def test_a_place_where_nobody_listens_does_not_answer() -> None:
    assert not kubernetes.answers("http://127.0.0.1:9/kubeadm")
