"""What a boot server serves is read by the programs that it is meant for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from pykickstart.parser import KickstartParser
from pykickstart.version import makeVersion
from tests.daemons import free_port

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles" / "boot_server"
NAMES = ("rocky", "rhel", "debian12", "debian13", "ubuntu22", "ubuntu24")
SYSTEMS = {
    "rocky": "rocky-9",
    "rhel": "rhel-9",
    "debian12": "debian-12",
    "debian13": "debian-13",
    "ubuntu22": "ubuntu-22.04",
    "ubuntu24": "ubuntu-24.04",
}
SOURCES = {
    "rocky-9": "http://192.0.2.9/rocky/9",
    "rhel-9": "http://192.0.2.9/rhel9/",
    "debian-12": "http://192.0.2.9/debian",
    "debian-13": "http://192.0.2.9:8081/debian",
    "ubuntu-24.04": "http://192.0.2.9/ubuntu",
}
PLAIN = {
    "disks": ["auto"],
    "raid": "none",
    "partitions": [{"mount": "/", "size": "rest", "filesystem": "ext4"}],
}
MIRRORED = {
    "disks": ["/dev/sda", "/dev/sdb"],
    "raid": "1",
    "partitions": [
        {"mount": "/", "size": "rest", "filesystem": "xfs"},
        {"mount": "", "size": "8G", "filesystem": "swap"},
        {"mount": "/var", "size": "20G", "filesystem": "xfs"},
    ],
}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJDrFn+Dz9mCHvwL8yA9TXfAIulRoSpxuiORIiKjWMP0 admin"


def node(number: int, **more: Any) -> dict[str, Any]:
    """One node, as the site makes them."""
    return {
        "name": f"gpu{number:03}",
        "address": f"192.0.2.{number}",
        "prefix": 24,
        "mac": f"52:54:00:00:01:{number:02x}",
        "serial": "",
        "image": "compute",
        "mode": "disk",
        "firmware": "uefi",
        "console": "ttyS0,115200n8",
        "layout": PLAIN,
        "ssh_keys": [KEY],
        "ssh_user": "root",
        **more,
    }


def installer_nodes() -> list[dict[str, Any]]:
    """Each installer with the plain layout under UEFI and with everything else under BIOS."""
    found: list[dict[str, Any]] = []
    for name in NAMES:
        found.append(node(len(found) + 101, image=name, mode="installer"))
        other = {"firmware": "bios", "layout": MIRRORED, "ssh_user": "admin", "console": ""}
        found.append(node(len(found) + 101, image=name, mode="installer", **other))
    return found


BASE: dict[str, Any] = {
    "boot_server_address": "192.0.2.1",
    "boot_server_dhcp_network": "192.0.2.0/24",
    "boot_server_domain": "demo.example",
    "boot_server_router": "192.0.2.254",
    "boot_server_name_servers": ["192.0.2.1", "192.0.2.2"],
    "boot_server_time_servers": ["192.0.2.1", "ntp.demo.example"],
    "boot_server_package_sources": SOURCES,
    "boot_server_images": {
        "compute": {"os": "debian-12", "kind": "image", "mode": "disk", "kernel_options": "quiet"},
        "stateless": {"os": "debian-12", "kind": "image", "mode": "memory", "kernel_options": ""},
        **{name: {"os": SYSTEMS[name], "kind": "installer", "mode": "disk"} for name in NAMES},
    },
    "boot_server_nodes": [
        node(11, serial="SN 1"),
        node(12, image="stateless", mode="memory"),
        *installer_nodes(),
    ],
    "ansible_facts": {"os_family": "Debian"},
    "ansible_search_path": [str(ROLE)],
}


def templar(**variables: Any) -> Templar:
    """Return what renders as the role would, with its defaults and variables."""
    known: dict[str, Any] = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    for name, value in yaml.safe_load((ROLE / "vars/main.yml").read_text()).items():
        known[name] = (
            json.loads(json.dumps(value), object_hook=_trust) if isinstance(value, dict) else _trust(value)
        )
    loader = DataLoader()
    loader.set_basedir(str(ROLE))
    return Templar(loader=loader, variables={**known, **BASE, **variables})


def _trust(value: Any) -> Any:
    return trust_as_template(value) if isinstance(value, str) else value


def render(name: str, **variables: Any) -> str:
    """Return one file of the role."""
    text = (ROLE / "templates" / name).read_text()
    engine = templar(**variables).copy_with_new_env(searchpath=[str(ROLE / "templates")])
    return str(
        engine.template(trust_as_template(text), overrides={"trim_blocks": True, "lstrip_blocks": True})
    )


def node_files(**variables: Any) -> dict[str, str]:
    """Return what the role writes for all nodes, by its path below the folder of nodes."""
    entries = templar(**variables).template(trust_as_template("{{ __boot_server_node_files }}"))
    return {
        entry["path"].partition("/http/nodes/")[2]: entry["content"]
        for entry in entries
        if "content" in entry
    }


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return node_files()


def of(files: dict[str, str], name: str) -> Iterator[tuple[dict[str, Any], str]]:
    """All files of a name, with their nodes."""
    for entry in BASE["boot_server_nodes"]:
        path = f"{entry['mac'].replace(':', '-')}/{name}"
        if path in files:
            yield entry, files[path]


def run(*command: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


# DHCP ----------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="dnsmasq is not on this machine")
@pytest.mark.parametrize("mode", ["authoritative", "proxy", "off"])
@pytest.mark.parametrize("pool", [[], ["192.0.2.200", "192.0.2.220"]])
@pytest.mark.parametrize("unknown", ["ignore", "discover"])
def test_dnsmasq_takes_the_configuration(tmp_path: Path, mode: str, pool: list[str], unknown: str) -> None:
    wanted = {"boot_server_dhcp_mode": mode, "boot_server_dhcp_pool": pool, "boot_server_unknown": unknown}
    text = render("dhcp.conf.j2", **wanted)
    # --test does not read the file of nodes; its lines mean the same in the configuration.
    lines = [line for line in render("dhcp-hosts.j2", **wanted).splitlines() if not line.startswith("#")]
    assert len(lines) == len(BASE["boot_server_nodes"])
    path = tmp_path / "dhcp.conf"
    path.write_text(text + "".join(f"dhcp-host={line}\n" for line in lines))
    done = run("dnsmasq", "--test", "-C", str(path))
    assert done.returncode == 0, done.stderr


def test_strangers_get_no_boot_program_unless_they_may_be_known_otherwise() -> None:
    nodes = [node(11)]
    closed = render("dhcp.conf.j2", boot_server_nodes=nodes)
    assert all("tag:listed" in line for line in closed.splitlines() if line.startswith("dhcp-boot="))
    for wanted in ({"boot_server_unknown": "discover"}, {"boot_server_nodes": [node(11, serial="SN1")]}):
        opened = render("dhcp.conf.j2", **{"boot_server_nodes": nodes, **wanted})
        assert "tag:listed" not in opened


# HTTP ----------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not on this machine")
@pytest.mark.parametrize("unknown", ["ignore", "discover"])
def test_nginx_takes_the_configuration(tmp_path: Path, unknown: str) -> None:
    text = render("boot-http.conf.j2", boot_server_unknown=unknown, boot_server_path=str(tmp_path))
    text = text.replace("/var/log/rackloom", str(tmp_path)).replace("/run/", f"{tmp_path}/")
    # the test of a configuration opens its ports, and this machine has not the boot server's address
    text = text.replace("192.0.2.1:8080", f"127.0.0.1:{free_port()}")
    path = tmp_path / "nginx.conf"
    path.write_text(text)
    done = run("nginx", "-t", "-q", "-c", str(path))
    assert done.returncode == 0, done.stderr


# Nodes ---------------------------------------------------------------------------------------------------------------


def test_every_node_has_its_identity_and_one_script(files: dict[str, str]) -> None:
    for entry in BASE["boot_server_nodes"]:
        key = entry["mac"].replace(":", "-")
        told = json.loads(files[f"{key}/node.json"])
        assert told["name"] == entry["name"]
        assert told["ssh_keys"] == [KEY]
        assert told["layout"] == entry["layout"]
        scripts = [name for name in ("install.ipxe", "memory.ipxe") if f"{key}/{name}" in files]
        assert scripts == ["memory.ipxe" if entry["mode"] == "memory" else "install.ipxe"]


def test_nothing_that_the_role_writes_arms_a_node(files: dict[str, str]) -> None:
    assert not [path for path in files if "armed" in path]


def test_a_node_whose_mac_is_not_known_has_no_files() -> None:
    nodes = [node(11), node(12, mac="")]
    assert {path.partition("/")[0] for path in node_files(boot_server_nodes=nodes)} == {"52-54-00-00-01-0b"}


def test_a_layout_of_the_image_serves_nodes_without_one() -> None:
    images = {"compute": {"os": "debian-12", "kind": "image", "mode": "disk", "layout": MIRRORED}}
    (told,) = (
        json.loads(text)
        for path, text in node_files(
            boot_server_images=images, boot_server_nodes=[node(11, layout={})]
        ).items()
        if path.endswith("node.json")
    )
    assert told["layout"] == MIRRORED


# Installers ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("debconf-set-selections") is None, reason="debconf is not on this machine")
def test_debconf_takes_the_preseed(files: dict[str, str]) -> None:
    seen = 0
    for entry, text in of(files, "preseed.cfg"):
        seen += 1
        done = run("debconf-set-selections", "-c", input=text)
        assert done.returncode == 0, f"{entry['name']}: {done.stderr}"
        assert not done.stderr
    assert seen == 4


def recipe(text: str) -> list[list[str]]:
    """The partitions of a preseed's recipe, each as its words."""
    line = next(line for line in text.splitlines() if "expert_recipe" in line)
    return [part.split() for part in line.partition("::")[2].split(" . ") if part.strip()]


def test_preseed_recipe_has_sizes_and_a_boot_partition(files: dict[str, str]) -> None:
    for entry, text in of(files, "preseed.cfg"):
        parts = recipe(text)
        assert len(parts) == 1 + len(entry["layout"]["partitions"])
        assert all(len(part) > 4 and all(re.fullmatch(r"-?\d+", size) for size in part[:3]) for part in parts)
        assert ("biosgrub" in parts[0]) == (entry["firmware"] == "bios")
        assert parts[-1][2] == "-1", "what takes the rest comes last"


def fake_machine(folder: Path, sizes: dict[str, int], mac: str) -> dict[str, str]:
    """A machine's /sys with disks of so many GiB, and programs that record what they are told."""
    for name, gib in {**sizes, "loop0": 900, "sr0": 900}.items():
        disk = folder / "sys/block" / name
        disk.mkdir(parents=True)
        (disk / "size").write_text(str(gib * 2**21))
        (disk / "removable").write_text("1" if name == "sdz" else "0")
        (disk / "ro").write_text("0")
    card = folder / "sys/class/net/ens3"
    card.mkdir(parents=True)
    (card / "address").write_text(mac)
    programs = folder / "bin"
    programs.mkdir()
    fakes = {
        "curl": "for last; do :; done\n"
        f'case $* in *armed*) echo \'{{"token": "{"a" * 32}"}}\' ;;\n'
        f'*) while [ "$1" != -T ]; do shift; done; cp "$2" "{folder}/$(basename "$last")" ;; esac',
        "debconf-set": f'echo "$*" >>{folder}/debconf',
        "chroot": ":",
        "readlink": 'echo "$2"',
    }
    for name, body in fakes.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "RACKLOOM_SYS": str(folder / "sys"),
        "RACKLOOM_SCRATCH": str(folder),
        "RACKLOOM_AUTOINSTALL": str(folder / "autoinstall.yaml"),
    }


SHELLS = [shell for shell in ("sh", "bash", "busybox sh") if shutil.which(shell.split()[0])]
DISKS = {"sda": 60, "sdb": 60, "nvme0n1": 2000, "sdz": 30}


def installer(files: dict[str, str], folder: Path, name: str, firmware: str) -> tuple[dict[str, Any], Path]:
    """Return a node of an installer, and its script as a file."""
    for entry, text in of(files, "installer.sh"):
        if entry["image"] == name and entry["firmware"] == firmware:
            path = folder / "installer.sh"
            path.write_text(text)
            return entry, path
    raise AssertionError(name)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not on this machine")
def test_shellcheck_takes_the_installers_script(files: dict[str, str], tmp_path: Path) -> None:
    for entry, text in of(files, "installer.sh"):
        path = tmp_path / f"{entry['name']}.sh"
        path.write_text(text)
        done = run("shellcheck", "-S", "warning", str(path))
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("firmware", ["uefi", "bios"])
def test_installer_picks_disks_and_reports(
    files: dict[str, str], tmp_path: Path, name: str, firmware: str, shell: str
) -> None:
    entry, script = installer(files, tmp_path, name, firmware)
    machine = fake_machine(tmp_path, DISKS, entry["mac"])
    (tmp_path / "autoinstall.yaml").write_text("path: RACKLOOM-DISK-0\n")
    step = "partman" if name.startswith("debian") else "start"
    done = run(*shell.split(), str(script), step, env=machine)
    assert done.returncode == 0, done.stderr
    wanted = ["/dev/sda", "/dev/sdb"] if entry["layout"]["raid"] == "1" else ["/dev/sda"]
    assert (tmp_path / "rackloom-disks").read_text().split() == wanted
    assert json.loads((tmp_path / "partitioning.json").read_text())["disk"].split() == wanted
    if name.startswith("ubuntu"):
        assert (tmp_path / "autoinstall.yaml").read_text() == "path: /dev/sda\n"
    target = tmp_path / "target"
    (target / "etc/ssh").mkdir(parents=True)
    (target / "etc/sudoers.d").mkdir()
    (target / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/bash\nadmin:x:1:1::/home/admin:/bin/bash\n"
    )
    (target / "etc/ssh/ssh_host_ed25519_key.pub").write_text("ssh-ed25519 AAAA root@installer\n")
    done = run(*shell.split(), str(script), "finish", str(target), env=machine)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "installed.json").read_text())["host_keys"] == ["ssh-ed25519 AAAA"]
    if name.startswith("debian"):
        home = "root" if entry["ssh_user"] == "root" else "home/admin"
        assert (target / home / ".ssh/authorized_keys").read_text().strip() == KEY
        assert f"address {entry['address']}/24" in (target / "etc/network/interfaces").read_text()


@pytest.mark.parametrize("name", ["rocky", "debian12"])
def test_installer_says_which_disk_is_missing(files: dict[str, str], tmp_path: Path, name: str) -> None:
    entry, script = installer(files, tmp_path, name, "uefi")
    machine = fake_machine(tmp_path, {"sda": 1}, entry["mac"])
    done = run("sh", str(script), "partman" if name == "debian12" else "start", env=machine)
    assert done.returncode != 0
    told = json.loads((tmp_path / "failed.json").read_text())
    assert "fixed disks of" in told["message"]
    assert told["cure"]


def test_debian_raid_names_the_partitions_that_the_recipe_makes(
    files: dict[str, str], tmp_path: Path
) -> None:
    entry, script = installer(files, tmp_path, "debian12", "bios")
    run("sh", str(script), "partman", env=fake_machine(tmp_path, DISKS, entry["mac"]))
    lines = dict(line.split(" ", 1) for line in (tmp_path / "debconf").read_text().splitlines())
    arrays = [part.split() for part in lines["partman-auto-raid/recipe"].split(" . ") if part.strip(" .")]
    assert [array[5].split("#") for array in arrays] == [
        ["/dev/sda2", "/dev/sdb2"],
        ["/dev/sda3", "/dev/sdb3"],
        ["/dev/sda4", "/dev/sdb4"],
    ]


# Each disk of a mirror has one, so that the machine starts from either.
@pytest.mark.filterwarnings("ignore:A partition with the mountpoint biosboot")
@pytest.mark.parametrize("name", ["rocky", "rhel"])
@pytest.mark.parametrize("firmware", ["uefi", "bios"])
def test_pykickstart_takes_the_kickstart(
    files: dict[str, str], tmp_path: Path, name: str, firmware: str
) -> None:
    entry, script = installer(files, tmp_path, name, firmware)
    assert run("sh", str(script), "start", env=fake_machine(tmp_path, DISKS, entry["mac"])).returncode == 0
    text = next(text for other, text in of(files, "ks.cfg") if other == entry)
    assert "%include /tmp/rackloom-disks.ks" in text
    # What the disk section is to be is made on the node, before the installer reads on.
    whole = text.replace("%include /tmp/rackloom-disks.ks", (tmp_path / "rackloom-disks.ks").read_text())
    handler = makeVersion("RHEL9")
    KickstartParser(handler, errorsAreFatal=True).readKickstartFromString(whole)
    mounts = {part.mountpoint for part in [*handler.partition.partitions, *handler.raid.raidList]}
    assert {"/", "/boot/efi" if firmware == "uefi" else "biosboot"} <= mounts
    assert handler.network.network[0].device == entry["mac"]
    assert bool(handler.raid.raidList) == (entry["layout"]["raid"] == "1")


def test_autoinstall_has_the_shape_that_the_installer_reads(files: dict[str, str]) -> None:
    """Against the types that the installer's schema wants, and what curtin's storage actions refer to."""
    seen = 0
    schema = jsonschema.Draft7Validator(AUTOINSTALL)
    for entry, text in of(files, "user-data"):
        seen += 1
        assert text.startswith("#cloud-config\n")
        told = yaml.safe_load(text)["autoinstall"]
        assert told["version"] == 1
        assert not list(schema.iter_errors(told))
        assert told["timezone"] in {
            "UTC",
            *(zone for zone in zoneinfo.available_timezones() if "Etc" not in zone),
        }
        assert told["network"]["ethernets"]["boot"]["match"]["macaddress"] == entry["mac"]
        known: set[str] = set()
        for action in told["storage"]["config"]:
            assert set(STORAGE[action["type"]]) <= set(action), action
            named = [action[key] for key in ("device", "volume") if key in action] + action.get("devices", [])
            assert set(named) <= known, f"{action['id']} comes before what it stands on"
            assert action["id"] not in known
            known.add(action["id"])
        mounts = {action["path"] for action in told["storage"]["config"] if action["type"] == "mount"}
        assert ("/boot/efi" in mounts) == (entry["firmware"] == "uefi")
        assert [bool(a.get("grub_device")) for a in told["storage"]["config"]].count(True) >= 1
    assert seen == 4


_COMMANDS = {"type": "array", "items": {"type": ["string", "array"], "items": {"type": "string"}}}
_TEXT = {"type": "string"}
# What subiquity's autoinstall-schema.json says of the keys that we use. It lets others pass; we do not.
AUTOINSTALL = {
    "type": "object",
    "required": ["version"],
    "additionalProperties": False,
    "properties": {
        "version": {"const": 1},
        "locale": _TEXT,
        "timezone": _TEXT,
        "shutdown": {"enum": ["reboot", "poweroff"]},
        "updates": {"enum": ["security", "all"]},
        "user-data": {"type": "object"},
        "storage": {"type": "object"},
        "packages": {"type": "array", "items": _TEXT},
        "refresh-installer": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"update": {"type": "boolean"}, "channel": _TEXT},
        },
        "keyboard": {
            "type": "object",
            "required": ["layout"],
            "additionalProperties": False,
            "properties": {"layout": _TEXT, "variant": _TEXT, "toggle": {"type": ["string", "null"]}},
        },
        "network": {
            "type": "object",
            "required": ["version"],
            "properties": {"version": {"const": 2}, "ethernets": {"type": "object"}},
        },
        "apt": {
            "type": "object",
            "properties": {"geoip": {"type": "boolean"}, "primary": {"type": "array"}},
        },
        "ssh": {
            "type": "object",
            "properties": {
                "install-server": {"type": "boolean"},
                "authorized-keys": {"type": "array", "items": _TEXT},
                "allow-pw": {"type": "boolean"},
            },
        },
        **{f"{when}-commands": _COMMANDS for when in ("early", "late", "error")},
    },
}
STORAGE = {
    "disk": ("id", "path", "ptable", "wipe"),
    "partition": ("id", "device", "size"),
    "format": ("id", "volume", "fstype"),
    "mount": ("id", "device", "path"),
    "raid": ("id", "name", "raidlevel", "devices"),
}
