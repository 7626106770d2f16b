"""What events make of a node's progress."""

from __future__ import annotations

from typing import Any

import pytest

from rackloom.provision.model import Board, Progress, Stage, State, where

MAC = "02:00:0a:00:00:1f"
STRANGER = "02:00:0a:00:00:99"


@pytest.fixture
def board() -> Board:
    """One node, switched on at 100."""
    board = Board(site_macs=frozenset({MAC}))
    board.add(Progress("gpu01", MAC, "10.0.0.31", "disk", token="t1"))
    board.nodes["gpu01"].reach(Stage.POWERED, 100)
    return board


def dhcp(mac: str = MAC, what: str = "DHCPDISCOVER", rest: str = "") -> dict[str, Any]:
    return {"kind": "dhcp", "mac": mac, "what": what, "rest": rest}


def report(stage: str, token: str = "t1", **data: Any) -> dict[str, Any]:  # noqa: S107 - no secret
    return {"kind": "report", "mac": MAC, "token": token, "stage": stage, "data": data}


def http(uri: str, **more: Any) -> dict[str, Any]:
    return {"kind": "http", "address": "10.0.0.31", "uri": uri, "status": 200, **more}


def test_a_disk_install_goes_through_all_stages(board: Board) -> None:
    story = [
        (dhcp(), Stage.DHCP),
        (http("/nodes/02-00-0a-00-00-1f/install.ipxe", mac=MAC), Stage.DHCP),
        (http("/images/compute/0123/vmlinuz"), Stage.KERNEL),
        (http("/images/compute/0123/root.squashfs"), Stage.KERNEL),
        (report("started"), Stage.KERNEL),
        (report("partitioning"), Stage.WRITING),
        (report("writing"), Stage.WRITING),
        (report("installed", host_keys=["ssh-ed25519 AAAA"]), Stage.REBOOTING),
        (dhcp(), Stage.REBOOTING),
    ]
    node = board.nodes["gpu01"]
    for at, (event, stage) in enumerate(story, 101):
        board.feed(event, at)
        assert node.stage is stage, event
    assert node.host_keys == ("ssh-ed25519 AAAA",)
    assert node.knocks and not node.over
    assert list(node.times) == ["powered", "DHCP", "kernel", "writing", "rebooting"]
    assert sorted(node.times.values()) == list(node.times.values())


def test_reports_under_another_token_are_not_of_this_run(board: Board) -> None:
    assert board.feed(report("installed", token="old"), 101) is None
    assert board.nodes["gpu01"].stage is Stage.POWERED


def test_what_it_asked_before_it_was_switched_on_does_not_count(board: Board) -> None:
    assert board.feed(dhcp(), 99) is None
    assert board.nodes["gpu01"].stage is Stage.POWERED


def test_a_failure_is_told_in_the_nodes_own_words(board: Board) -> None:
    node = board.feed(report("failed", message="disk full: no", cure="larger"), 110)
    assert node is not None and node.state is State.FAILED
    assert (node.message, node.cure) == ("disk full: no", "larger")
    assert board.finished()


def test_only_those_that_load_hold_a_place_in_the_wave(board: Board) -> None:
    node = board.nodes["gpu01"]
    assert node.loads
    board.feed(http("/images/compute/0123/vmlinuz"), 101)
    assert node.loads
    board.feed(report("started"), 102)
    assert not node.loads


def test_the_wrong_address_is_told_with_those_that_did_ask(board: Board) -> None:
    board.feed(dhcp(STRANGER), 120)
    assert board.standing(150, 60) == []
    (node,) = board.standing(200, 60)
    code, message, cure = where(node, board)
    assert code == "no_dhcp" and MAC in message and STRANGER in message and "nodes.yml" in cure


def test_a_nodes_silence_is_told_without_strangers(board: Board) -> None:
    message = where(board.nodes["gpu01"], board)[1]
    assert MAC in message and STRANGER not in message


def test_nodes_of_the_site_are_no_strangers(board: Board) -> None:
    other = "02:00:0a:00:00:20"
    board.site_macs |= {other}
    board.feed(dhcp(other), 120)
    assert not board.strangers


def test_another_dhcp_server_is_named(board: Board) -> None:
    board.feed(dhcp(), 101)
    board.feed(dhcp(what="DHCPNAK", rest="wrong server-ID"), 102)
    code, message, cure = where(board.nodes["gpu01"], board)
    assert code == "other_dhcp" and "another DHCP server" in message and "proxy" in cure


@pytest.mark.parametrize("events", range(1, 5))
def test_every_place_to_stop_has_its_own_words(board: Board, events: int) -> None:
    story = [dhcp(), http("/images/compute/0123/vmlinuz"), report("writing"), report("installed")]
    seen = {where(board.nodes["gpu01"], board)[0]}
    for event in story[:events]:
        board.feed(event, 101)
        seen.add(where(board.nodes["gpu01"], board)[0])
    assert len(seen) == events + 1


def test_nothing_moves_a_node_that_has_ended(board: Board) -> None:
    node = board.nodes["gpu01"]
    node.end(State.FAILED, 105, "bmc", "no", "yes")
    board.feed(report("installed"), 106)
    assert node.state is State.FAILED and node.stage is Stage.POWERED and node.seconds(999) == 5
