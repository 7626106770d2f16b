"""What the boot server is given: one entry a node that can be known, plain data; nothing without provisioning."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rackloom.site import check_site, load_site
from rackloom.site.inventory import build
from rackloom.site.keys import controller_key
from rackloom.site.paths import example_dir
from rackloom.site.provision_vars import provision_vars

GOOD = Path(__file__).parent / "good"
Edit = Callable[..., dict[str, Any]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOOD, tmp_path / "config"))


@pytest.fixture
def variables(config: Path) -> Edit:
    """Inputs of the role, after replacements in the two files."""

    def make(**files: dict[str, str]) -> dict[str, Any]:
        for name, changes in files.items():
            path = config / f"{name}.yml"
            text = path.read_text("utf-8")
            for old, new in changes.items():
                assert text.count(old) == 1
                text = text.replace(old, new)
            path.write_text(text, "utf-8")
        site = load_site(config)
        return {
            **provision_vars(site),
            "by_name": {n["name"]: n for n in provision_vars(site)["boot_server_nodes"]},
        }

    return make


def test_nothing_without_provisioning() -> None:
    inventory = build(load_site(example_dir()))
    assert inventory.vars.get("provisioner") is None
    assert not any("boot_server" in name for values in inventory.vars.values() for name in values)
    assert not any(node.image for node in load_site(example_dir()).nodes.values())


def test_only_the_provisioner_sees_it(config: Path) -> None:
    inventory = build(load_site(config))
    holders = [
        group for group, values in inventory.vars.items() if any("boot_server" in name for name in values)
    ]
    assert holders == ["provisioner"]
    assert inventory.vars["provisioner"]["rackloom_nodes"] is inventory.vars["management"]["rackloom_nodes"]
    assert "{{" not in json.dumps(inventory.vars["provisioner"])


def test_the_site_s_own_values(variables: Edit) -> None:
    found = variables()
    expected = {
        "boot_server_address": "10.10.0.13",
        "boot_server_interface": "eno1",
        "boot_server_dhcp_mode": "authoritative",
        "boot_server_dhcp_network": "10.10.0.0/16",
        "boot_server_dhcp_pool": ["10.10.200.1", "10.10.200.254"],
        "boot_server_dhcp_lease": "30m",
        "boot_server_router": "10.10.0.1",
        "boot_server_domain": "demo.example",
        "boot_server_timezone": "Europe/Berlin",
        "boot_server_unknown": "discover",
        "boot_server_discovery_image": "compute",
    }
    assert {name: found[name] for name in expected} == expected
    assert found["boot_server_name_servers"] == found["boot_server_time_servers"]
    assert found["boot_server_images"]["ubuntu"]["kind"] == "installer"
    assert found["boot_server_images"]["compute"]["kernel_options"] == "quiet"


def test_nodes(variables: Edit) -> None:
    nodes = variables()["by_name"]
    others = {f"cn00{n}" for n in range(1, 5)}
    assert set(nodes) == {"login01", "gpu001", "gpu002", "mig01", "mig02", "pod01", *others}
    assert nodes["gpu002"]["mac"] == "52:54:00:00:02:02"
    assert (nodes["cn001"]["mode"], nodes["mig01"]["mode"]) == ("disk", "installer")
    assert (nodes["cn001"]["firmware"], nodes["mig01"]["firmware"]) == ("uefi", "bios")
    assert (nodes["cn001"]["console"], nodes["mig01"]["console"]) == ("", "ttyS0,115200n8")
    assert nodes["cn004"]["prefix"] == 16
    assert nodes["cn001"]["layout"]["partitions"] == [{"mount": "/", "size": "rest", "filesystem": "ext4"}]
    assert nodes["mig01"]["layout"] == {
        "disks": ["auto", "auto"],
        "raid": "1",
        "partitions": [
            {"mount": "/", "size": "40G", "filesystem": "ext4"},
            {"mount": "", "size": "8G", "filesystem": "swap"},
            {"mount": "/scratch", "size": "rest", "filesystem": "xfs"},
        ],
    }


def test_a_node_s_own_image_wins(variables: Edit) -> None:
    changes = {"    image: ubuntu\n": "    image: ram\n"}
    assert variables(nodes=changes)["by_name"]["mig01"]["mode"] == "memory"


def test_an_image_for_nobody(variables: Edit) -> None:
    changes = {"  assign: {management: service, login: compute, compute: compute}\n": "  assign: {}\n"}
    assert set(variables(cluster=changes)["by_name"]) == {"mig01", "mig02"}


def test_the_installed_nodes_can_be_entered(config: Path) -> None:
    (alice,) = provision_vars(load_site(config))["boot_server_nodes"][0]["ssh_keys"]
    assert alice.endswith("alice@laptop")
    (config / "ssh").mkdir()
    key = config / "ssh/id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "a phrase", "-C", "", "-f", key], check=True)
    public = key.with_suffix(".pub").read_text("utf-8").strip()
    assert provision_vars(load_site(config))["boot_server_nodes"][0]["ssh_keys"] == [alice, public]
    key.with_suffix(".pub").unlink()
    assert controller_key(config, "") == public
    path = config / "cluster.yml"
    path.write_text(path.read_text("utf-8").replace("    admin: true\n", ""), "utf-8")
    assert check_site(config).mistakes == []


@pytest.mark.parametrize(
    "damage", ["", "x", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END", "\x00\xff"]
)
def test_a_damaged_key_is_none(tmp_path: Path, damage: str) -> None:
    (tmp_path / "key").write_bytes(damage.encode("latin-1"))
    assert controller_key(tmp_path, "key") == ""


def test_a_ca_file_that_is_there(config: Path) -> None:
    path = config / "cluster.yml"
    path.write_text(
        path.read_text("utf-8").replace("  bmc: {verify: true}\n", "  bmc: {ca_file: files/ca.pem}\n")
    )
    (config / "files").mkdir()
    (config / "files/ca.pem").write_text("", "utf-8")
    assert check_site(config).mistakes == []


def test_notations_of_a_bmc(config: Path) -> None:
    path = config / "nodes.yml"
    text = path.read_text("utf-8").replace("bmc: 10.11.0.11}", "bmc: none}")
    text = text.replace("    image: ubuntu\n", '    bmc: "https://10.11.3.[1-2]/redfish/v1/Systems/1/"\n')
    path.write_text(text, "utf-8")
    nodes = load_site(config).nodes
    assert nodes["mgmt02"].bmc == ""
    assert nodes["mig02"].bmc == "https://10.11.3.2/redfish/v1/Systems/1"


def test_nodes_without_a_mac_wait_for_discovery(config: Path) -> None:
    path = config / "nodes.yml"
    more = "  - {name: 'n[0001-1000]', address: 10.10.16.1, profile: cpu}\n"
    before = provision_vars(load_site(config))["boot_server_nodes"]
    path.write_text(path.read_text("utf-8") + more, "utf-8")
    assert provision_vars(load_site(config))["boot_server_nodes"] == before
    assert load_site(config).nodes["n1000"].image == "compute"
