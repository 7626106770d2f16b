"""The name server's files are read by dnsmasq itself, and grow with the number of nodes by one line each."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).parents[2]


def render(role: str, template: str, **variables: Any) -> str:
    """Render a role's template with its defaults, as the role would."""
    folder = ROOT / "roles" / role
    known = yaml.safe_load((folder / "defaults/main.yml").read_text())
    text = (folder / "templates" / template).read_text()
    templar = Templar(loader=DataLoader(), variables={**known, **variables})
    options = {"trim_blocks": True, "lstrip_blocks": True}
    return str(templar.copy_with_new_env(**options).template(trust_as_template(text)))


def nodes(count: int) -> list[dict[str, str]]:
    return [{"name": f"gpu{n:04}", "address": f"10.10.{n // 250}.{n % 250 + 1}"} for n in range(count)]


@pytest.mark.parametrize("count", [10, 100, 1000])
def test_one_line_a_node(count: int) -> None:
    text = render(
        "name_server", "records.j2", name_server_domain="demo.example", name_server_records=nodes(count)
    )
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == count
    assert lines[0] == "10.10.0.1 gpu0000.demo.example gpu0000"


@pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="dnsmasq is not on this machine")
@pytest.mark.parametrize("upstream", [[], ["192.0.2.53", "2001:db8::53"]])
def test_dnsmasq_takes_the_configuration(tmp_path: Path, upstream: list[str]) -> None:
    path = tmp_path / "dns.conf"
    path.write_text(
        render(
            "name_server",
            "dns.conf.j2",
            name_server_domain="demo.example",
            name_server_address="192.0.2.1",
            name_server_hosts_dir=str(tmp_path),
            name_server_upstream=upstream,
            name_server_srv=[{"service": "_slurmctld._tcp", "host": "mgmt01", "port": 6817}],
        )
    )
    done = subprocess.run(["dnsmasq", "--test", "-C", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("visudo") is None, reason="sudo is not on this machine")
def test_sudo_takes_the_administrators(tmp_path: Path) -> None:
    users = [
        {"name": "alice", "admin": True},
        {"name": "bob"},
        {"name": "eve", "admin": True, "state": "absent"},
    ]
    path = tmp_path / "sudoers"
    path.write_text(render("accounts", "sudoers.j2", __accounts_users=users))
    path.chmod(0o440)
    assert subprocess.run(["visudo", "-cf", str(path)], capture_output=True, check=False).returncode == 0
    assert [line.split()[0] for line in path.read_text().splitlines() if not line.startswith("#")] == [
        "alice"
    ]


def test_only_managers_are_in_every_nodes_hosts() -> None:
    """Adding a node must not touch the others."""
    managers = [{"name": "mgmt01", "address": "192.0.2.1"}]
    own = {"base_host_name": "gpu001", "base_address": "192.0.2.101", "base_domain": "demo.example"}
    text = render("base", "hosts.j2", **own, base_static_hosts=managers)
    assert "192.0.2.101 gpu001.demo.example gpu001" in text
    assert "192.0.2.1 mgmt01.demo.example mgmt01" in text
    self_managed = render(
        "base", "hosts.j2", **{**own, "base_host_name": "mgmt01"}, base_static_hosts=managers
    )
    assert self_managed.count("mgmt01.demo.example") == 1


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="not a Debian")
def test_apt_takes_the_sources(tmp_path: Path) -> None:
    site = {
        "name": "site",
        "Types": "deb",
        "URIs": "file:/srv/site",
        "Suites": ["stable", "stable-updates"],
        "Components": "main",
    }
    (tmp_path / "sources.d").mkdir()
    own = {
        "__base_sources": [site],
        "__base_sources_only": True,
        "__base_os": {"sources_dir": str(tmp_path / "sources.d")},
    }
    (tmp_path / "sources.d/rackloom.sources").write_text(render("base", "apt.sources.j2", **own))
    (tmp_path / "apt.conf").write_text(render("base", "apt.conf.j2", **own))
    done = subprocess.run(
        ["apt-get", "-c", str(tmp_path / "apt.conf"), "update", "--print-uris"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert all(line.startswith("'file:/srv/site/dists/stable") for line in done.stdout.splitlines())
