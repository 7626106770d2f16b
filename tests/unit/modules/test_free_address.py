"""An address that is to be kept up: where it belongs, and who has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from plugins.modules import free_address

INTERFACES = [
    {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
    {
        "ifname": "eth0",
        "addr_info": [{"local": "192.0.2.11", "prefixlen": 24}, {"local": "fe80::1", "prefixlen": 64}],
    },
    {"ifname": "eth1", "addr_info": [{"local": "198.51.100.11", "prefixlen": 24}]},
]
RunModule = Callable[..., dict[str, Any]]


class Network:
    """Who has which card, and what this node asked."""

    def __init__(self, cards: dict[str, str], interfaces: list[dict[str, Any]] | None = None) -> None:
        self.cards = cards
        self.interfaces = interfaces or INTERFACES

    def ip(self, *words: str) -> list[dict[str, Any]]:
        if words[0] == "address":
            return self.interfaces
        address = words[words.index("to") + 1]
        found = self.cards.get(address)
        if found is None:
            return [{"dst": address, "state": ["FAILED"]}]
        return [{"dst": address, "lladdr": found, "state": ["REACHABLE"]}]


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch, run_module: RunModule) -> Callable[..., dict[str, Any]]:
    def run(network: Network, **more: Any) -> dict[str, Any]:
        monkeypatch.setattr(free_address.Look, "ip", lambda _self, *words: network.ip(*words))
        monkeypatch.setattr(AnsibleModule, "run_command", lambda *_a, **_k: (0, "", ""))
        given = {"address": "192.0.2.10", "ours": ["192.0.2.12"], "timeout": 0.1}
        return run_module("free_address", **{**given, **more})

    return run


def test_nobody_has_it(look: Callable[..., dict[str, Any]]) -> None:
    told = look(Network({"192.0.2.12": "02:12"}))
    assert (told["interface"], told["source"], told["prefix"], told["holder"]) == (
        "eth0",
        "192.0.2.11",
        24,
        "",
    )


def test_one_of_ours_has_it(look: Callable[..., dict[str, Any]]) -> None:
    assert look(Network({"192.0.2.12": "02:12", "192.0.2.10": "02:12"}))["holder"] == "192.0.2.12"


def test_this_node_has_it(look: Callable[..., dict[str, Any]]) -> None:
    interfaces = [
        {
            "ifname": "eth0",
            "addr_info": [*INTERFACES[1]["addr_info"], {"local": "192.0.2.10", "prefixlen": 24}],
        }
    ]
    told = look(Network({}, interfaces))
    assert told["holder"] == "self" and told["source"] == "192.0.2.11"


def test_a_stranger_has_it(look: Callable[..., dict[str, Any]]) -> None:
    told = look(Network({"192.0.2.12": "02:12", "192.0.2.10": "66:66"}))
    assert told["failed"] and "66:66" in told["msg"] and "in use" in told["msg"]


def test_it_is_of_none_of_our_networks(look: Callable[..., dict[str, Any]]) -> None:
    assert "no network of this node" in look(Network({}), address="203.0.113.1")["msg"]
    assert "on eth1" in look(Network({}), interface="eth1")["msg"]
