"""What lldpd heard, from answers of lldpcli 1.0.16 to a neighbour that was another lldpd."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rackloom.image.agent import neighbours, programs


def answer(port_id: dict[str, str], port: str = "Ethernet7", name: str = "leaf1", card: str = "eth9") -> str:
    """One neighbour, in the form of `lldpcli -f json0 show neighbors`."""
    chassis: dict[str, Any] = {
        "id": [{"type": "mac", "value": "52:90:15:35:77:0b"}],
        "name": [{"value": name}],
        "descr": [{"value": "leaf1-desc"}],
        "mgmt-ip": [{"value": "fe80::5090:15ff:fe35:770b"}],
        "capability": [{"type": "Bridge", "enabled": False}, {"type": "Router", "enabled": True}],
    }
    ports = {"id": [port_id], "descr": [{"value": port}], "ttl": [{"value": "120"}]}
    entry = {
        "name": card, "via": "LLDP", "rid": "1", "age": "0 day, 00:00:01", "chassis": [chassis], "port": [ports]
    }  # fmt: skip
    return json.dumps({"lldp": [{"interface": [entry]}]})


@pytest.mark.parametrize(
    ("port_id", "port"),
    [
        ({"type": "mac", "value": "52:90:15:35:77:0b"}, "Ethernet7"),
        ({"type": "ifname", "value": "Ethernet1/7"}, "Ethernet1/7"),
        ({"type": "local", "value": "swp7"}, "swp7"),
    ],
)
def test_the_port_is_a_name_and_no_hardware_address(port_id: dict[str, str], port: str) -> None:
    assert neighbours.read(answer(port_id)) == {"eth9": {"switch": "leaf1", "port": port}}


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"lldp": [{}]}', '{"lldp": [{"interface": [{"name": "eth0"}]}]}']
)
def test_nobody_beside_it_or_nonsense_is_nobody(text: str) -> None:
    assert neighbours.read(text) == {}


def test_it_listens_until_all_cards_have_heard_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    silence, spoken = '{"lldp": [{}]}', answer({"type": "ifname", "value": "swp1"})
    answers = iter([silence, silence, spoken])
    asked: list[tuple[str, ...]] = []

    def run(*argv: str, **_more: str) -> str:
        asked.append(argv)
        return "" if argv[0] == "lldpd" else next(answers)

    monkeypatch.setattr(programs, "run", run)
    monkeypatch.setattr(neighbours, "_PAUSE", 0.0)
    assert neighbours.listen(["eth9"]) == {"eth9": {"switch": "leaf1", "port": "swp1"}}
    assert asked[0] == ("lldpd", "-r")  # listens only
    assert len(asked) == 4


def test_an_image_without_lldpd_tells_the_rest_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*argv: str, **_more: str) -> str:
        raise programs.ProgramError(argv, "no such file")

    monkeypatch.setattr(programs, "run", run)
    assert neighbours.listen(["eth9"]) == {}


def test_nothing_is_asked_where_no_card_has_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def run(*argv: str, **_more: str) -> str:
        asked.append(argv)
        return ""

    monkeypatch.setattr(programs, "run", run)
    assert neighbours.listen([]) == {}
    assert not asked
