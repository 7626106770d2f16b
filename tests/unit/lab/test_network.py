"""A lab's subnet touches nothing that this machine already knows."""

from __future__ import annotations

import random
from ipaddress import IPv4Network
from typing import Any

from rackloom.lab.network import candidates, labels_of, taken_by_networks, taken_by_routes
from rackloom.site.models_kubernetes import KubeNetworks


def test_routes_take_all_but_the_default() -> None:
    routes = [{"dst": "default"}, {"dst": "10.96.0.0/12"}, {"dst": "10.112.1.7"}, {"dst": "fe80::/64"}, {}]
    assert taken_by_routes(routes) == [IPv4Network("10.96.0.0/12"), IPv4Network("10.112.1.7/32")]


def test_networks_of_the_engine_take_their_subnets() -> None:
    networks: list[dict[str, Any]] = [
        {"name": "podman", "subnets": [{"subnet": "10.88.0.0/16"}, {"subnet": "fd00::/64"}]},
        {"name": "none", "subnets": None},
        {
            "name": "old",
            "plugins": [{"ipam": {"ranges": [[{"subnet": "10.99.0.0/24"}]]}}, {"type": "portmap"}],
        },
    ]
    assert taken_by_networks(networks) == [IPv4Network("10.88.0.0/16"), IPv4Network("10.99.0.0/24")]


def test_labels_are_found_where_each_podman_keeps_them() -> None:
    assert (
        labels_of({"labels": {"a": "b"}}) == labels_of({"args": {"podman_labels": {"a": "b"}}}) == {"a": "b"}
    )
    assert labels_of({"labels": None}) == {}


def test_candidates_are_free_and_ours() -> None:
    taken = [IPv4Network("10.96.0.0/12"), IPv4Network("10.112.1.7/32")]
    found = candidates(taken, random.SystemRandom())
    assert len(found) == 16 * 256 - 1
    assert IPv4Network("10.112.1.0/24") not in found
    assert all(subnet.subnet_of(IPv4Network("10.112.0.0/12")) for subnet in found)


def test_labs_stay_clear_of_kubernetes() -> None:
    """Its own networks, as a site has them that says nothing, must not overlap with that of the nodes."""
    networks = KubeNetworks()
    for subnet in candidates([], random.SystemRandom()):
        assert not subnet.overlaps(networks.services)
        assert not subnet.overlaps(networks.pods)


def test_no_candidate_where_all_is_taken() -> None:
    assert candidates([IPv4Network("10.0.0.0/8")], random.SystemRandom()) == []
