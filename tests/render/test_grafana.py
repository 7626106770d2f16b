"""Grafana's files say what the inputs say, to the parsers of their formats."""

from __future__ import annotations

import configparser
import tomllib
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLE = Path(__file__).parents[2] / "roles" / "grafana"
DEFAULTS = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
LDAP = {
    "host": "ldap.demo.example",
    "base": "ou=people,dc=demo",
    "bind_dn": 'cn="reader",dc=demo',
    "groups": [{"dn": "cn=ops,dc=demo", "role": "Admin"}, {"dn": "*", "role": "Viewer"}],
}


def render(template: str, **inputs: Any) -> str:
    variables = {
        **DEFAULTS,
        "grafana_address": "192.0.2.1",
        "grafana_name": "mgmt01",
        "__grafana_etc": "/etc/rackloom/grafana",
        "__grafana_boards": "/srv/boards",
        **inputs,
    }
    text = trust_as_template((ROLE / "templates" / template).read_text())
    options = {"trim_blocks": True, "lstrip_blocks": True}
    return str(Templar(loader=DataLoader(), variables=variables).template(text, overrides=options))


def settings(**inputs: Any) -> configparser.ConfigParser:
    read = configparser.ConfigParser(interpolation=None)
    read.read_string(render("grafana.ini.j2", **inputs))
    return read


def test_nobody_comes_in_unknown_and_nothing_is_sent_home() -> None:
    read = settings()
    assert read["auth.anonymous"]["enabled"] == "false"
    assert read["users"]["allow_sign_up"] == "false"
    assert {read["analytics"][key] for key in ("reporting_enabled", "check_for_updates")} == {"false"}
    assert read["security"]["admin_password"] == "$__file{/etc/rackloom/grafana/admin_password}"
    assert read["auth.ldap"]["enabled"] == read["auth.generic_oauth"]["enabled"] == "false"


def test_people_come_in_by_openid_connect() -> None:
    told = {"name": "Site", "client_id": "grafana", "auth_url": "https://sso.example/auth?a=b"}
    read = settings(grafana_oidc=told)["auth.generic_oauth"]
    assert read["enabled"] == "true"
    assert read["client_secret"] == "$__file{/etc/rackloom/grafana/oidc_secret}"
    assert read["auth_url"] == told["auth_url"]


def test_people_come_in_from_a_directory() -> None:
    assert settings(grafana_ldap=LDAP)["auth.ldap"]["enabled"] == "true"
    server = tomllib.loads(render("ldap.toml.j2", grafana_ldap=LDAP))["servers"][0]
    assert (server["host"], server["port"], server["use_ssl"], server["start_tls"]) == (
        "ldap.demo.example",
        636,
        True,
        False,
    )
    assert server["ssl_skip_verify"] is False
    assert server["bind_dn"] == LDAP["bind_dn"]
    assert [group["org_role"] for group in server["group_mappings"]] == ["Admin", "Viewer"]
    assert tomllib.loads(render("ldap.toml.j2", grafana_ldap={**LDAP, "port": 389}))["servers"][0][
        "start_tls"
    ]


def test_without_a_directory_there_is_no_server() -> None:
    assert tomllib.loads(render("ldap.toml.j2")) == {}


def test_the_site_has_the_last_word() -> None:
    read = settings(grafana_settings={"log": {"level": "debug"}, "smtp": {"enabled": "true"}})
    assert (read["log"]["level"], read["log"]["mode"], read["smtp"]["enabled"]) == (
        "debug",
        "console",
        "true",
    )


def test_each_prometheus_is_a_source_and_the_first_is_the_default() -> None:
    servers = [
        {"url": f"https://192.0.2.{number}:9090/prometheus", "name": f"m{number}"} for number in (1, 2)
    ]
    text = render("datasources.yml.j2", grafana_prometheus=servers, grafana_alertmanager=servers)
    sources = {source["uid"]: source for source in yaml.safe_load(text)["datasources"]}
    assert set(sources) == {"rackloom-prometheus", "rackloom-prometheus-2", "rackloom-alertmanager"}
    assert [source["name"] for source in sources.values() if source["isDefault"]] == ["Prometheus"]
    assert sources["rackloom-prometheus-2"]["jsonData"]["serverName"] == "m2"
