"""What the boot server tells of nodes that make new host keys at each start."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from rackloom.provision import host_keys, reach, watch
from rackloom.site.check import check_site

MAC = "02-00-00-00-00-41"
KEY, NEWER = "ssh-ed25519 FIRST root@gpu01", "ssh-ed25519 SECOND root@gpu01"


@pytest.fixture
def site_dir(tmp_path: Path) -> Path:
    """A site whose gpu01 runs from memory, gpu02 from its disk, and whose boot server is this machine."""
    cluster = {
        "name": "demo",
        "domain": "demo.example",
        "networks": {"cluster": {"cidr": "10.10.0.0/16"}},
        "services": {"provisioner": ["mgmt01"]},
        "provision": {
            "images": {
                "ram": {"os": "debian-12", "mode": "memory"},
                "disk": {"os": "debian-12"},
            },
        },
    }
    own = {"address": "10.10.0.1", "vars": {"ansible_connection": "local"}}
    nodes = {
        "profiles": {"p": {"sockets": 1, "cores": 2, "memory": "4G"}},
        "management": [{"name": "mgmt01", "profile": "p", **own}],
        "login": [{"name": "login01", "address": "10.10.0.2", "profile": "p"}],
        "compute": [
            {"name": "gpu01", "address": "10.10.0.3", "profile": "p", "mac": MAC.replace("-", ":"), "image": "ram"},
            {"name": "gpu02", "address": "10.10.0.4", "profile": "p", "mac": "02:00:00:00:00:42", "image": "disk"},
        ],
    }  # fmt: skip
    folder = tmp_path / "config"
    (folder / "ssh").mkdir(parents=True)
    for name in ("id_ed25519", "id_ed25519.pub"):
        (folder / "ssh" / name).write_text("ssh-ed25519 AAAA root@here\n")
    (folder / "cluster.yml").write_text(yaml.safe_dump(cluster))
    (folder / "nodes.yml").write_text(yaml.safe_dump(nodes))
    return folder


def report(boot: Path, folder: str, text: str) -> None:
    armed = boot / "http" / "nodes" / folder / "armed"
    armed.mkdir(parents=True, exist_ok=True)
    (armed / "booted.json").write_text(text)


def test_new_keys_of_a_node_in_memory_take_the_place_of_the_old(
    site_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = tmp_path / "boot"
    monkeypatch.setattr(host_keys, "_TELL", host_keys._TELL.replace(watch.PATH, str(boot)))
    checked = check_site(site_dir)
    assert checked.site is not None, checked.mistakes
    monkeypatch.setattr(reach.Reach, "command_on", lambda _self, _node, *words: list(words))
    report(boot, MAC, json.dumps({"host_keys": [KEY]}, indent=1))
    report(boot, "02-00-00-00-00-42", json.dumps({"host_keys": ["ssh-ed25519 NOT_ITS_OWN"]}))
    known = site_dir / "known_hosts"
    known.write_text("10.10.0.1,mgmt01 ssh-ed25519 KEEP\n10.10.0.3,gpu01 ssh-ed25519 OLD\n")

    assert host_keys.learn(checked.site) == ["gpu01"]
    assert known.read_text() == "10.10.0.1,mgmt01 ssh-ed25519 KEEP\n10.10.0.3,gpu01 ssh-ed25519 FIRST\n"
    assert host_keys.learn(checked.site) == []
    report(boot, MAC, json.dumps({"host_keys": [NEWER]}))
    assert host_keys.learn(checked.site) == ["gpu01"]
    shutil.rmtree(boot)
    assert host_keys.learn(checked.site) == []
    assert "SECOND" in known.read_text()


def test_what_is_no_report_changes_nothing(site_dir: Path) -> None:
    site = check_site(site_dir).site
    assert site is not None
    nodes = {MAC: site.nodes["gpu01"]}
    lines = (
        f'{MAC} nonsense\n{MAC} []\n{MAC} {{}}\n\n{MAC} {{"host_keys": [1]}}\nother {{"host_keys": ["a b"]}}'
    )
    assert host_keys.told(lines, nodes) == {}


def test_the_question_survives_a_remote_shell() -> None:
    """ssh hands its words to a shell on the other side, which takes the quotes off once more."""
    again = subprocess.run(
        ["sh", "-c", f"printf %s {shlex.quote(host_keys._TELL)}"], capture_output=True, text=True, check=True
    )
    assert again.stdout == host_keys._TELL
