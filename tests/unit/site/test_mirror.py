"""Where nodes take things from follows from the site, and from the bundle that it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rackloom.site import bundles, check_site, load_site
from rackloom.site.inventory import build

NODES = """
profiles: {cpu: {cores: 4, memory: 8G}}
management: [{name: "mgmt[01-02]", address: 10.10.0.11, profile: cpu}]
login: [{name: login01, address: 10.10.0.21, profile: cpu}]
compute: [{name: "cn[01-02]", address: 10.10.1.1, profile: cpu}]
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "nodes.yml").write_text(NODES)
    return write(tmp_path)


def write(folder: Path, **more: Any) -> Path:
    cluster = {
        "name": "demo",
        "domain": "demo.example",
        "networks": {"cluster": {"cidr": "10.10.0.0/16"}},
        **more,
    }
    (folder / "cluster.yml").write_text(yaml.safe_dump(cluster))
    return folder


def install(folder: Path, name: str = "0123456789abcdef", source: str = "/media/disk") -> None:
    """What `bundle install` leaves in a config."""
    record = folder / "bundles" / name
    record.mkdir(parents=True)
    (record / "bundle.lock").write_text("[]\n")
    (record / "source").write_text(f"{source}\n")
    link = folder / "bundles" / "current"
    link.unlink(missing_ok=True)
    link.symlink_to(name)


def codes(folder: Path) -> list[str]:
    return [mistake.code for mistake in check_site(folder).mistakes]


def variables(folder: Path, group: str = "all") -> dict[str, Any]:
    return build(load_site(folder)).vars.get(group, {})


def test_a_site_without_a_bundle_asks_outside(site: Path) -> None:
    told = variables(site)
    assert told["artifact_outside"] is True
    assert told["base_package_mirror"] == told["artifact_mirror"] == ""
    assert not {"base_package_sources_only", "base_fallback_name_servers"} & set(told)
    assert "mirror_record" not in variables(site, "mirror")


def test_a_bundle_closes_the_site_and_makes_a_mirror(site: Path) -> None:
    install(site)
    told, host = variables(site), variables(site, "mirror")
    assert build(load_site(site)).hosts["mirror"] == ["mgmt01"]
    assert told["artifact_outside"] is False
    assert told["base_package_mirror"] == "https://10.10.0.11:8443/apt"
    assert told["rackloom_mirror"]["images"] == "10.10.0.11:5000"
    assert told["chrony_upstream"] == []
    assert told["base_fallback_name_servers"] == ["10.10.0.11", "10.10.0.12"]
    assert variables(site, "name_server")["name_server_settings"] == ["no-resolv"]
    # Its own packages come from its disk: nobody serves them before it does.
    assert host["base_package_mirror"] == "file:/srv/rackloom/mirror/current/apt"
    assert host["mirror_record"] == str(site / "bundles/0123456789abcdef")
    assert host["mirror_source"] == "/media/disk"


def test_a_resolver_of_the_site_is_asked_on(site: Path) -> None:
    install(write(site, dns={"upstream": ["10.10.9.9"]}))
    assert "name_server_settings" not in variables(site, "name_server")


def test_the_mirror_may_be_elsewhere(site: Path) -> None:
    install(
        write(
            site, services={"mirror": ["mgmt02"]}, mirror={"address": "mirror.demo.example", "path": "/data"}
        )
    )
    assert variables(site)["artifact_mirror"] == "https://mirror.demo.example:8443/files"
    host = variables(site, "mirror")
    assert host["mirror_path"] == "/data/mirror"
    assert set(host["mirror_names"]) == {"10.10.0.12", "mgmt02", "mgmt02.demo.example"}


def test_an_open_site_with_a_bundle_asks_the_mirror_first(site: Path) -> None:
    install(write(site, mirror={"outside": True}))
    told = variables(site)
    assert told["artifact_outside"] is True
    assert told["base_package_mirror"] and told["base_package_sources_only"] is False
    assert "base_fallback_name_servers" not in told


def test_mirrors_of_the_sites_own_are_named_by_kind(site: Path) -> None:
    (site / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    (site / "packages.asc").write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    own = {
        "outside": False,
        "packages": "https://repo.example/apt/",
        "key": "packages.asc",
        "files": "https://repo.example/files",
        "images": "harbor.example/proxy",
        "ca": "ca.pem",
    }
    told = variables(write(site, mirror=own))
    assert told["base_package_mirror"] == "https://repo.example/apt"
    assert told["artifact_mirror"] == "https://repo.example/files"
    assert told["artifact_charts"] == ""
    assert told["rackloom_mirror"]["images"] == "harbor.example/proxy"
    assert told["rackloom_mirror"]["ca"].startswith("-----BEGIN CERTIFICATE")
    assert build(load_site(site)).hosts["mirror"] == []


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"mirror": {"outside": False}}, "no-mirror"),
        ({"services": {"mirror": ["mgmt01"]}}, "no-bundle"),
        ({"mirror": {"ca": "none.pem"}}, "missing-file"),
        ({"mirror": {"key": "nodes.yml"}}, "bad-file"),
        ({"mirror": {"files": "repo.example"}}, "bad-value"),
        ({"mirror": {"images": "https://harbor.example"}}, "bad-value"),
        ({"mirror": {"outsid": False}}, "unknown-key"),
    ],
)
def test_wrong_sections(site: Path, more: dict[str, Any], code: str) -> None:
    assert codes(write(site, **more)) == [code]


def test_a_closed_site_cannot_look_up_names_outside(site: Path) -> None:
    install(write(site, time={"upstream": ["pool.ntp.org", "10.10.0.1", "clock.demo.example"]}))
    assert codes(site) == ["outside-name"]
    assert codes(write(site, time={"upstream": ["pool.ntp.org"]}, dns={"upstream": ["10.10.9.9"]})) == []


def test_bundles_lie_beside_each_other(site: Path) -> None:
    install(site, "a" * 16)
    install(site, "b" * 16)
    now = bundles.current(site)
    assert now is not None
    assert now.id == "b" * 16
    assert {other.id for other in bundles.installed(site)} == {"a" * 16, "b" * 16}
