"""Role scenarios: which nodes an inventory asks for, and how they are reached."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from rackloom.lab.errors import LabError
from rackloom.lab.instances import Scenario, connection, main, specs

SUBNET = IPv4Network("10.96.7.0/24")
INVENTORY = """\
---
all:
  children:
    controllers: {hosts: {ctl: {}}}
    nodes:
      hosts:
        gpu01: {lab_gpus: 2}
        gpu02:
    both: {children: {deep: {hosts: {gpu01: {}}}}}
  vars:
    hosts: {not: {a: host}}
    peers: ["{{ hostvars['ctl'].rackloom_address }}"]
"""


def test_every_host_becomes_one_node() -> None:
    nodes = specs(INVENTORY, SUBNET)
    assert [(node.name, node.address, node.gpus) for node in nodes] == [
        ("ctl", "10.96.7.11", 0),
        ("gpu01", "10.96.7.12", 2),
        ("gpu02", "10.96.7.13", 0),
    ]


@pytest.mark.parametrize("text", ["---\n", "---\nall: {vars: {a: 1}}\n", "---\n- a\n"])
def test_an_inventory_without_hosts_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="names no host"):
        specs(text, SUBNET)


def test_scenarios_of_two_checkouts_do_not_meet() -> None:
    one, two = (Scenario("base", Path("/s"), Path("/e"), Path(root), "debian-12") for root in ("/a", "/b"))
    assert one.lab != two.lab
    assert one.lab.startswith("molecule-") and one.lab.endswith("-base")


def test_connection_names_key_and_host_keys() -> None:
    scenario = Scenario("base", Path("/s"), Path("/e"), Path("/a"), "debian-12")
    everything = connection(scenario, specs(INVENTORY, SUBNET))["all"]
    assert everything["hosts"]["ctl"] == {"ansible_host": "10.96.7.11", "rackloom_address": "10.96.7.11"}
    assert everything["vars"]["ansible_ssh_private_key_file"] == "/e/id_ed25519"
    assert "UserKnownHostsFile=/e/known_hosts" in everything["vars"]["ansible_ssh_common_args"]
    assert "StrictHostKeyChecking=no" not in str(everything)


def test_outside_molecule_it_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("SCENARIO_NAME", "SCENARIO_DIRECTORY", "EPHEMERAL_DIRECTORY", "PROJECT_DIRECTORY"):
        monkeypatch.delenv(f"MOLECULE_{name}", raising=False)
    with pytest.raises(SystemExit):
        main(["create"])
    assert "--scenario" in capsys.readouterr().err
