"""Every mistake in what a boot server is to serve is told at once, with the node's name and what to do."""

from __future__ import annotations

from typing import Any

import pytest
from plugins.filter.boot_server import (
    boot_server_disks,
    boot_server_netmask,
    boot_server_network,
    boot_server_problems,
)

IMAGES: dict[str, Any] = {
    "compute": {"os": "debian-12", "kind": "image", "mode": "disk"},
    "ubuntu": {"os": "ubuntu-24.04", "kind": "installer", "mode": "disk"},
}


def node(number: int, **more: Any) -> dict[str, Any]:
    return {
        "name": f"gpu{number:03}",
        "address": f"10.10.1.{number}",
        "mac": f"52:54:00:00:00:{number:02x}",
        "image": "compute",
        "mode": "disk",
        **more,
    }


def problems(nodes: list[dict[str, Any]], **more: Any) -> list[str]:
    known: dict[str, Any] = {"images": IMAGES, "address": "10.10.0.11", "network": "10.10.0.0/16", "pool": []}
    return boot_server_problems(nodes, **{**known, **more})


def test_a_sound_site_has_none() -> None:
    nodes = [node(1, serial="SN 1"), node(2, image="ubuntu", mode="installer")]
    assert problems(nodes, pool=["10.10.9.1", "10.10.9.254"]) == []


@pytest.mark.parametrize(
    ("nodes", "more", "words"),
    [
        ([node(1), node(2, mac=node(1)["mac"])], {}, ["gpu001 and gpu002", "same MAC address", "nodes.yml"]),
        ([node(1, mac="52:54:00:00:00:AB")], {}, ["gpu001", "'52:54:00:00:00:AB'", "lower-case"]),
        ([node(1, mac="52-54-00-00-00-ab")], {}, ["gpu001", "colons"]),
        ([node(1, mac="")], {}, ["gpu001", "MAC address"]),
        ([node(1), node(2, address="10.10.1.1")], {}, ["gpu001 and gpu002", "same address"]),
        ([node(1), node(1, mac="52:54:00:00:00:99", address="10.10.1.9")], {}, ["same name"]),
        ([node(1, serial="A"), node(2, serial="a")], {}, ["same serial number"]),
        ([node(1, serial='a"b')], {}, ["gpu001", "serial number"]),
        ([node(1, address="10.11.0.1")], {}, ["gpu001", "10.11.0.1", "10.10.0.0/16"]),
        ([node(1, image="other")], {}, ["gpu001", "'other'", "compute, ubuntu"]),
        ([node(1, image="ubuntu")], {}, ["gpu001", "installer"]),
        (
            [node(5)],
            {"pool": ["10.10.1.1", "10.10.1.9"]},
            ["10.10.1.1 to 10.10.1.9", "gpu005 (10.10.1.5)", "move"],
        ),
        ([], {"pool": ["10.10.0.1", "10.10.0.20"]}, ["the boot server (10.10.0.11)"]),
        ([], {"pool": ["10.10.9.9", "10.10.9.1"]}, ["lower address first"]),
        ([], {"pool": ["10.12.0.1", "10.12.0.9"]}, ["not in the network"]),
        ([], {"pool": ["10.10.9.1"]}, ["first and its last"]),
        ([], {"address": "10.20.0.1"}, ["10.20.0.1", "not in the network"]),
        ([], {"network": "10.10.0.1/16"}, ["10.10.0.1/16"]),
        ([], {"unknown": "discover"}, ["discovered", "no installer"]),
        ([], {"unknown": "discover", "discovery_image": "ubuntu"}, ["no installer"]),
        ([], {"images": {"x": {"os": "rocky-9", "kind": "installer"}}}, ["boot_server_package_sources"]),
        ([], {"images": {"x": {"os": "plan-9", "kind": "installer"}}}, ["plan-9", "rocky-9"]),
        ([], {"images": {"x": {"kind": "image", "kernel_options": "a ${b}"}}}, ["kernel_options"]),
    ],
)
def test_mistake_is_named_once_with_its_cure(
    nodes: list[dict[str, Any]], more: dict[str, Any], words: list[str]
) -> None:
    (found,) = problems(nodes, **more)
    assert all(word in found for word in words), found


def test_a_node_without_a_mac_waits_to_be_discovered() -> None:
    waiting = [node(1, mac=""), node(2, mac="")]
    assert problems(waiting, unknown="discover", discovery_image="compute") == []
    assert len(problems(waiting)) == len(waiting)


def test_all_mistakes_are_told_at_once() -> None:
    assert len(problems([node(1, mac="x"), node(2, image="y"), node(3, address="z")])) == 3


def test_pool_names_a_few_of_many() -> None:
    (found,) = problems([node(number) for number in range(1, 100)], pool=["10.10.1.1", "10.10.1.99"])
    assert "and 94 more" in found


def test_layout_for_installers() -> None:
    plan = boot_server_disks(
        {
            "disks": ["sda", "sdb"],
            "raid": "1",
            "partitions": [
                {"mount": "/", "size": "rest", "filesystem": "ext4"},
                {"mount": "", "size": "1.5G", "filesystem": "swap"},
            ],
        }
    )
    assert plan["count"] == len(plan["disks"])
    assert [part["mib"] for part in plan["partitions"]] == [1536, 0]
    assert plan["need_mib"] > 1536
    assert boot_server_disks({}) == boot_server_disks(
        {"disks": ["auto"], "partitions": [{"mount": "/", "size": "rest", "filesystem": "ext4"}]}
    )


def test_networks() -> None:
    assert boot_server_network("10.10.0.0/16") == {
        "network": "10.10.0.0",
        "netmask": "255.255.0.0",
        "prefix": 16,
    }
    assert boot_server_netmask("10.10.1.1/20") == "255.255.240.0"
