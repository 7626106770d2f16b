"""Who gives addresses on a network, from what nmap and ip say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plugins.modules.dhcp_servers import answers

RunModule = Callable[..., dict[str, Any]]
ONE = """<?xml version="1.0"?><nmaprun><prescript><script id="broadcast-dhcp-discover" output="…">
<elem key="Response 1 of 1"></elem><elem key="Interface">eth0</elem>{}</script></prescript></nmaprun>"""
SERVER = (
    '<elem key="Server Identifier">{0}</elem><elem key="IP Offered">{0}0</elem><elem key="Router">{0}1</elem>'
)
TWO = """<?xml version="1.0"?><nmaprun><prescript><script id="broadcast-dhcp-discover" output="…">
<table key="Response 1 of 2">{}</table><table key="Response 2 of 2">{}</table></script></prescript></nmaprun>"""


def test_one_answer() -> None:
    assert answers(ONE.format(SERVER.format("192.0.2.1"))) == [
        {"address": "192.0.2.1", "offered": "192.0.2.10", "router": "192.0.2.11"}
    ]


def test_several_answers_once_each() -> None:
    first, second = SERVER.format("192.0.2.2"), SERVER.format("192.0.2.1")
    assert [server["address"] for server in answers(TWO.format(first, second))] == ["192.0.2.1", "192.0.2.2"]
    assert len(answers(TWO.format(first, first))) == 1


def test_no_answer() -> None:
    assert answers("<nmaprun/>") == []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ip and an nmap that say what this test wants."""
    links = json.dumps([{"ifname": "eth7", "addr_info": [{"local": "192.0.2.5"}]}])
    for name, said in {
        "ip": links,
        "nmap": TWO.format(SERVER.format("192.0.2.5"), SERVER.format("192.0.2.9")),
    }.items():
        (tmp_path / f"{name}.out").write_text(said)
        (tmp_path / name).write_text(
            f'#!/bin/sh\necho "$@" >>{tmp_path}/{name}.asked\ncat {tmp_path}/{name}.out\n'
        )
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_this_host_is_not_another(run_module: RunModule, programs: Path) -> None:
    done = run_module("dhcp_servers", address="192.0.2.5")
    assert [server["address"] for server in done["servers"]] == ["192.0.2.9"]
    assert done["interface"] == "eth7"
    assert "-e eth7" in (programs / "nmap.asked").read_text()


def test_an_address_that_nobody_holds_is_named(run_module: RunModule, programs: Path) -> None:
    done = run_module("dhcp_servers", address="192.0.2.6")
    assert done["failed"]
    assert "192.0.2.6" in done["msg"] and "provision.address" in done["msg"]


def test_a_given_interface_is_taken(run_module: RunModule, programs: Path) -> None:
    assert run_module("dhcp_servers", address="192.0.2.5", interface="bond0")["interface"] == "bond0"
