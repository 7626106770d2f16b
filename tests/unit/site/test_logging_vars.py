"""Where logs are kept and who sends which follows from the site."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackloom.bundle import resolve
from rackloom.cli.check import check
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
        ({"elasticsearch": ["mgmt01"]}, "other-store"),
        ({"kibana": ["mgmt01"]}, "missing-service"),
        ({"filebeat": ["cn01"]}, "reserved-name"),
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


# --- Elasticsearch ------------------------------------------------------------------------

THREE = {"elasticsearch": ["mgmt01", "mgmt02", "cn01"]}


def elastic(folder: Path, services: dict[str, Any] | None = None, **logging: Any) -> Path:
    return write(
        folder,
        logging={"store": "elasticsearch", **logging},
        services=THREE if services is None else services,
    )


def test_elasticsearch_takes_the_place_of_the_store(tmp_path: Path) -> None:
    site = load_site(elastic(tmp_path, retention={"time": "14d"}))
    assert not site.groups["log_server"]
    assert site.groups["kibana"] == ["mgmt01"]
    assert site.groups["filebeat"] == site.groups["logged"] == list(site.nodes)
    inventory = build(site)
    keeps = inventory.vars["elasticsearch"]
    assert [one["address"] for one in keeps["elasticsearch_members"]] == [
        "10.10.0.11",
        "10.10.0.12",
        "10.10.1.1",
    ]
    assert keeps["elasticsearch_retention_days"] == 14
    assert keeps["elasticsearch_replicas"] == 1
    servers = inventory.vars["logged"]["filebeat_servers"]
    assert servers == inventory.vars["kibana"]["kibana_elasticsearch"]
    assert servers[0] == "https://10.10.0.11:9200"
    assert inventory.vars["kibana"]["kibana_external_url"] == "https://10.10.0.11:5601/kibana/"
    assert not [name for name in inventory.hostvars["cn01"] if name.startswith("log_")]


def test_kibana_is_behind_the_door(tmp_path: Path) -> None:
    folder = write(tmp_path, logging={"store": "elasticsearch"}, services=THREE, web={})
    inventory = build(load_site(folder))
    pages = {page["name"]: page for page in inventory.vars["web_proxy"]["front_door_pages"]}
    assert set(pages) == {"kibana"}
    assert pages["kibana"]["backends"] == [{"address": "10.10.0.11:5601", "name": "mgmt01"}]
    assert inventory.vars["kibana"]["kibana_external_url"] == "https://mgmt01.demo.example/kibana/"


@pytest.mark.parametrize(("told", "heap"), [({}, 4096), ({"elasticsearch": {"heap": "3G"}}, 3072)])
def test_the_heap_follows_from_the_memory(tmp_path: Path, told: dict[str, Any], heap: int) -> None:
    hosts = build(load_site(elastic(tmp_path, **told))).hostvars
    assert hosts["mgmt01"]["elasticsearch_heap_mb"] == heap
    assert "elasticsearch_heap_mb" not in hosts["cn02"]


def test_the_heap_never_passes_what_java_is_good_at(tmp_path: Path) -> None:
    folder = elastic(tmp_path)
    (folder / "nodes.yml").write_text(NODES.replace("memory: 8G", "memory: 512G"))
    assert build(load_site(folder)).hostvars["mgmt01"]["elasticsearch_heap_mb"] == 31 * 1024


@pytest.mark.parametrize(("hosts", "each"), [(["mgmt01"], 300), (["mgmt01", "mgmt02", "cn01"], 200)])
def test_each_host_needs_room_for_its_share(tmp_path: Path, hosts: list[str], each: int) -> None:
    site = load_site(elastic(tmp_path, {"elasticsearch": hosts}, retention={"size": "300G"}))
    keeps = build(site).vars["elasticsearch"]
    assert keeps["elasticsearch_room_mb"] == each * 1024
    assert keeps["elasticsearch_replicas"] == min(1, len(hosts) - 1)


def test_users_are_known_by_their_number(tmp_path: Path) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3Yj0a2gJwJrTq0b7cWb4x4uJb9VfZc0y3p8bq3nD1x ada"
    users = [{"name": "ada", "uid": 2001, "keys": [key]}]
    folder = write(tmp_path, logging={"store": "elasticsearch"}, services=THREE, users=users)
    assert build(load_site(folder)).vars["logged"]["filebeat_users"] == {"0": "root", "2001": "ada"}


@pytest.mark.parametrize(
    ("services", "logging", "code"),
    [
        ({}, {}, "missing-service"),
        ({"elasticsearch": ["mgmt01", "mgmt02"]}, {}, "even-members"),
        ({"elasticsearch": ["mgmt01", "mgmt02", "cn01", "cn02"]}, {}, "even-members"),
        ({**THREE, "log_server": ["mgmt01"]}, {}, "other-store"),
        ({**THREE, "kibana": ["mgmt01", "mgmt02"]}, {}, "too-many-hosts"),
        (THREE, {"elasticsearch": {"heap": "64G"}}, "bad-heap"),
        (THREE, {"elasticsearch": {"heap": "500M"}}, "bad-heap"),
    ],
)
def test_what_elasticsearch_cannot_be_is_refused(
    tmp_path: Path, services: dict[str, Any], logging: dict[str, Any], code: str
) -> None:
    mistakes = check_site(elastic(tmp_path, services, **logging)).mistakes
    assert [mistake.code for mistake in mistakes] == [code]


def test_a_bundle_has_elasticsearch_for_who_chose_it(tmp_path: Path) -> None:
    assert "elasticsearch" in resolve.chosen_by(elastic(tmp_path))
    assert "elasticsearch" not in resolve.chosen_by(write(tmp_path, logging={}))


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({}, []),
        ({"logging": {}}, ["victoria-logs"]),
        ({"logging": {"store": "elasticsearch"}, "services": THREE}, ["elasticsearch", "filebeat", "kibana"]),
    ],
)
def test_check_warns_of_what_nobody_has_looked_up(
    tmp_path: Path, more: dict[str, Any], names: list[str]
) -> None:
    folder = write(tmp_path, **more)
    told = check(folder)
    assert told.exit_code == 0
    assert [each["code"] for each in told.data["warnings"]] == ["no-digest"] * len(names)
    assert all(name in each["message"] for name, each in zip(names, told.data["warnings"], strict=True))
    digests = {"amd64": "0" * 64, "arm64": "1" * 64}
    record = {"version": "1", "url": "https://files.example/x-{version}", "sha256": digests}
    (folder / "versions.yml").write_text(yaml.safe_dump({"files": dict.fromkeys(names, record)}))
    assert not check(folder).data["warnings"]
