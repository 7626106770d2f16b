"""Where logs are kept and who sends which follows from the site."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackloom.site import check_site, load_site
from rackloom.site.inventory import build

NODES = """
profiles: {cpu: {cores: 4, memory: 8G}}
management: [{name: "mgmt[01-02]", address: 10.10.0.11, profile: cpu}]
login: [{name: login01, address: 10.10.0.21, profile: cpu}]
compute: [{name: "cn[01-02]", address: 10.10.1.1, profile: cpu}]
"""


def write(folder: Path, **more: Any) -> Path:
    cluster = {
        "name": "demo",
        "domain": "demo.example",
        "networks": {"cluster": {"cidr": "10.10.0.0/16"}},
        **more,
    }
    (folder / "nodes.yml").write_text(NODES)
    (folder / "cluster.yml").write_text(yaml.safe_dump(cluster))
    return folder


def test_a_site_without_the_section_keeps_no_logs(tmp_path: Path) -> None:
    site = load_site(write(tmp_path))
    assert not site.groups["log_server"]
    assert not site.groups["logged"]
    assert not [name for name in build(site).hostvars["cn01"] if name.startswith("log_")]


def test_the_section_alone_is_enough(tmp_path: Path) -> None:
    site = load_site(write(tmp_path, logging={}))
    assert site.groups["log_server"] == ["mgmt01"]
    assert site.groups["logged"] == list(site.nodes)
    inventory = build(site)
    assert inventory.vars["logged"]["log_shipper_server"] == "https://10.10.0.11:9428/logs"
    assert inventory.vars["log_server"]["log_store_retention_days"] == 30
    assert inventory.vars["log_server"]["log_store_max_mb"] == 0


def test_services_say_where(tmp_path: Path) -> None:
    named = {"log_server": ["mgmt02"], "logged": ["cn01", "mgmt02"]}
    site = load_site(write(tmp_path, services=named))
    assert site.groups["log_server"] == ["mgmt02"]
    assert site.groups["logged"] == ["cn01", "mgmt02"]
    assert build(site).vars["logged"]["log_shipper_server"] == "https://10.10.0.12:9428/logs"


@pytest.mark.parametrize(
    ("services", "code"),
    [
        ({"log_server": ["mgmt01", "mgmt02"]}, "too-many-hosts"),
        ({"logged": ["cn01"]}, "missing-service"),
        ({"log_server": []}, "missing-service"),
    ],
)
def test_services_that_cannot_be_are_refused(tmp_path: Path, services: dict[str, Any], code: str) -> None:
    more: dict[str, Any] = {"logging": {}} if services == {"log_server": []} else {}
    codes = [mistake.code for mistake in check_site(write(tmp_path, services=services, **more)).mistakes]
    assert codes == [code]


def test_limits_are_told_in_what_the_store_counts(tmp_path: Path) -> None:
    wanted = {"retention": {"time": "1y", "size": "2T"}, "journal": "500M"}
    inventory = build(load_site(write(tmp_path, logging=wanted)))
    assert inventory.vars["log_server"]["log_store_retention_days"] == 365
    assert inventory.vars["log_server"]["log_store_max_mb"] == 2 * 1024 * 1024
    assert inventory.vars["logged"]["log_shipper_journal_max_mb"] == 500


def test_files_go_to_the_nodes_that_have_them(tmp_path: Path) -> None:
    site = write(
        tmp_path,
        logging={
            "files": [
                {"path": "/srv/app/*.log", "unit": "app", "nodes": ["login"]},
                {"path": "/var/log/all.log", "unit": "all"},
            ]
        },
        services={"kube_control_plane": ["mgmt01"], "kube_node": ["cn02"]},
    )
    shutil.copy(Path(__file__).parent / "good" / "versions.yml", tmp_path)
    hosts = build(load_site(site)).hostvars
    units = {name: [file["unit"] for file in host["log_shipper_files"]] for name, host in hosts.items()}
    assert units["login01"] == ["app", "all"]
    assert units["cn01"] == ["all"]
    assert units["cn02"] == ["container", "all"]
    assert units["mgmt01"] == ["container", "kube-audit", "all"]
