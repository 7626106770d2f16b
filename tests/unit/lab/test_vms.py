"""Virtual machines of a lab, as its site describes them."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml

from rackloom.lab import config, machine_room, vms
from rackloom.lab.errors import LabError
from rackloom.lab.machine import Machine, Topology
from rackloom.lab.options import LabOptions
from rackloom.site import secrets
from rackloom.site.check import check_site

SUBNET = IPv4Network("10.96.7.0/24")
MACHINE = Machine((), 2, None, None, None, ("192.0.2.53",), Topology(2, 4, 2, regular=True), 24000)
VMS = (
    vms.VmSpec("disk01", "10.96.7.31", mac="02:01:00:00:00:01"),
    vms.VmSpec("mem01", "10.96.7.32", image="stateless", cpus=1, mac="02:01:00:00:00:02"),
    vms.VmSpec("old01", "10.96.7.33", firmware="bios", memory=1024, mac="02:01:00:00:00:03"),
)


def test_check_finds_no_mistake_and_knows_what_each_gets(tmp_path: Path) -> None:
    options = LabOptions()
    nodes = config.plan(options, SUBNET)
    config.write(tmp_path, options, SUBNET, nodes, MACHINE, VMS)
    (tmp_path / "files").mkdir(exist_ok=True)
    (tmp_path / vms.CERTIFICATE).write_text("a certificate")
    config.add_provisioning(tmp_path, nodes)
    secrets.init(tmp_path)
    checked = check_site(tmp_path)
    assert not list(checked.mistakes), list(checked.mistakes)
    site = checked.site
    assert site is not None and site.groups["provisioner"] == ["mgmt01"]
    provisioned = {name: node.image for name, node in site.nodes.items() if node.image}
    assert provisioned == {vm.name: vm.image for vm in VMS}, "a container was to be installed"
    assert {vm.name: site.profiles[site.nodes[vm.name].profile].firmware for vm in VMS} == {
        vm.name: vm.firmware for vm in VMS
    }


def test_what_a_user_wrote_about_provisioning_stays(tmp_path: Path) -> None:
    options = LabOptions()
    nodes = config.plan(options, SUBNET)
    config.write(tmp_path, options, SUBNET, nodes, MACHINE, VMS)
    cluster = tmp_path / "cluster.yml"
    cluster.write_text(
        cluster.read_text() + "provision: {wave: {power: 1}}\nservices: {provisioner: [login01]}\n"
    )
    before = cluster.read_text()
    config.add_provisioning(tmp_path, nodes)
    assert cluster.read_text() == before


def test_adding_it_keeps_comments_and_is_done_once() -> None:
    section = vms.provision_section(vms.CERTIFICATE)
    first = vms.with_provision("# mine\nname: x\n", section, "mgmt01")
    assert first.startswith("# mine\nname: x\n")
    assert yaml.safe_load(first)["provision"] == section
    assert vms.with_provision(first, section, "mgmt01") == first


def test_every_machine_has_an_address_of_its_own() -> None:
    taken = [str(SUBNET[11])]
    while len(taken) < 20:
        taken.append(vms.free_address(SUBNET, taken))
    assert len(set(taken)) == len(taken)
    containers = config.plan(LabOptions(compute=200, management=9), SUBNET)
    assert not set(taken[1:]) & {node.address for node in containers}
    with pytest.raises(LabError, match="full"):
        vms.free_address(SUBNET, taken)


def test_a_machine_that_takes_the_place_of_another_is_another() -> None:
    assert len({vms.fresh_mac() for _ in range(50)}) == 50


@pytest.mark.parametrize("wrong", [{"firmware": "coreboot"}, {"memory": 64}, {"disk": 0}, {"cpus": 0}])
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(LabError) as caught:
        replace(VMS[0], **wrong).check()  # type: ignore[arg-type]
    assert caught.value.hint


def test_the_rooms_program_stands_alone() -> None:
    """It runs in the room, where nothing of Rackloom is."""
    tree = ast.parse(Path(machine_room.__file__).read_text())
    imported = {
        name.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for name in node.names
    }
    imported |= {
        str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }
    assert imported - set(sys.stdlib_module_names) <= {"bcrypt"}


@pytest.mark.parametrize("kind", ["kvm", "qemu"])
@pytest.mark.parametrize("vm", VMS, ids=lambda vm: vm.firmware)
def test_a_machine_starts_from_the_network_and_then_from_its_disk(vm: vms.VmSpec, kind: str) -> None:
    text = machine_room.domain(
        {
            "name": vm.name,
            "uuid": vm.uuid,
            "mac": vm.mac,
            "firmware": vm.firmware,
            "memory": vm.memory,
            "cpus": 1,
        },
        kind,
    )
    assert (
        text.index("<disk")
        < text.index("<boot order='2'/>")
        < text.index("<interface")
        < text.index("<boot order='1'/>")
    )
    assert (
        ("pflash" in text) == (vm.firmware == "uefi") and vm.mac in text and f"<domain type='{kind}'>" in text
    )
