"""The door and what is behind it follow from the site alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rackloom.dashboards import DASHBOARDS
from rackloom.docs_gen.tree import role_spec
from rackloom.site import check_site, load_site, secrets
from rackloom.site.inventory import Inventory, build
from rackloom.site.web_vars import SECRETS

HEAD = "name: t\ndomain: t.example\nnetworks: {cluster: {cidr: 10.10.0.0/16}}\n"
NODES = """\
profiles: {a100: {cores: 2, memory: 4000, gpus: [{type: a100, count: 4}]}}
management: [{name: "m[1-3]", address: 10.10.0.1}]
login: [{name: l1, address: 10.10.0.9}]
compute: [{name: "c[1-2]", address: 10.10.1.1, profile: a100}]
"""
Make = Callable[[str], Inventory]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    shutil.copy(Path(__file__).parent / "good" / "versions.yml", tmp_path)
    (tmp_path / "nodes.yml").write_text(NODES)

    def run(cluster: str) -> Inventory:
        (tmp_path / "cluster.yml").write_text(HEAD + cluster)
        return build(load_site(tmp_path))

    return run


def test_without_the_section_there_is_no_door(make: Make) -> None:
    assert make("").hosts["web_proxy"] == []


def test_the_section_alone_opens_it_on_the_first_management_node(make: Make) -> None:
    made = make("web: {}\n")
    assert made.hosts["web_proxy"] == ["m1"]
    assert made.vars["web_proxy"]["front_door_pages"] == []
    assert made.hostvars["m1"]["front_door_names"] == ["m1", "m1.t.example"]
    assert make("web: {}\nservices: {web_proxy: [m2]}\n").hosts["web_proxy"] == ["m2"]


def test_every_service_that_the_site_has_is_behind_it(make: Make) -> None:
    made = make("web: {}\nmonitoring: {}\nlogging: {}\nservices: {prometheus: [m1, m2], grafana: [m3]}\n")
    door = made.vars["web_proxy"]
    pages = {page["name"]: page for page in door["front_door_pages"]}
    assert set(pages) == {"grafana", "prometheus", "alertmanager", "logs"}
    assert pages["prometheus"]["backends"] == [
        {"address": "10.10.0.1:9090", "name": "m1"},
        {"address": "10.10.0.2:9090", "name": "m2"},
    ]
    assert set(door["rackloom_page_secrets"]) == {"prometheus", "alertmanager", "logs"}


def test_the_secrets_that_it_says_are_made(make: Make) -> None:
    assert set(SECRETS.values()) <= {secret.name for secret in secrets.SECRETS}


def test_the_first_page_tells_what_the_cluster_is(make: Make) -> None:
    told = make("web: {description: Ours}\nmonitoring: {}\n").vars["web_proxy"]["front_door_cluster"]
    facts = {fact["title"]: fact["value"] for fact in told["facts"]}
    assert told["description"] == "Ours"
    assert "3 management" in facts["Nodes"]
    assert facts["GPUs"] == "8 × a100"
    places = {service["title"]: service["hosts"] for service in told["services"]}
    assert places["Log in"] == ["l1"]
    assert places["Nodes of Slurm"] == ["c[1-2]"]
    assert "Dashboards" not in places


def test_grafana_is_found_behind_the_door_and_asks_both_prometheus(make: Make) -> None:
    made = make("web: {}\nmonitoring: {}\nservices: {grafana: [m3], prometheus: [m1, m2]}\n").vars["grafana"]
    assert made["grafana_external_url"] == "https://m1.t.example/grafana/"
    assert [server["name"] for server in made["grafana_prometheus"]] == ["m1", "m2"]


def test_dashboards_of_what_the_site_lacks_are_left_out(make: Make) -> None:
    plain = make("monitoring: {}\nservices: {grafana: [m1]}\n").vars["grafana"]["grafana_dashboards"]
    assert "rackloom-kubernetes" not in plain
    assert {"rackloom-cluster", "rackloom-slurm"} <= set(plain)
    assert set(plain) <= {board.uid for board in DASHBOARDS}


def test_dashboards_without_metrics_are_a_mistake(tmp_path: Path) -> None:
    said = mistakes(tmp_path, "services: {grafana: [m1]}\n")
    assert any("prometheus" in text for text in said), said


def test_sign_on_reaches_the_role(make: Make) -> None:
    sign_on = {"url": "https://auth.example/auth", "login": "https://auth.example/start"}
    door = make(f"web: {{sign_on: {json.dumps(sign_on)}}}\n").vars["web_proxy"]
    assert door["front_door_sso"] == {**sign_on, "user_header": "X-Auth-Request-User"}
    assert make("web: {}\n").vars["web_proxy"]["front_door_sso"] == {}


def mistakes(folder: Path, cluster: str) -> list[str]:
    shutil.copy(Path(__file__).parent / "good" / "versions.yml", folder)
    (folder / "nodes.yml").write_text(NODES)
    (folder / "cluster.yml").write_text(HEAD + cluster)
    return [str(mistake) for mistake in check_site(folder).mistakes if mistake.code != "no-digest"]


@pytest.mark.parametrize(
    ("web", "said"),
    [
        ("{certificate: /etc/a.crt}", "There is a certificate and no key"),
        ("{key: /etc/a.key}", "There is a key and no certificate"),
        ("{sign_on: {login: 'https://a.example/'}}", "no service that says who is logged in"),
        ("{sign_on: {url: 'ftp://a.example/'}}", "https://"),
        ("{certificate: a.crt, key: /b}", "a.crt"),
        ("{nonsense: 1}", "nonsense"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, web: str, said: str) -> None:
    found = mistakes(tmp_path, f"web: {web}\n")
    assert len(found) == 1, found
    assert said in found[0]


def test_the_roles_know_what_they_are_given(make: Make) -> None:
    made = make("web: {sign_on: {url: 'https://a.example/'}}\nmonitoring: {}\nservices: {grafana: [m1]}\n")
    for role, group in (("front_door", "web_proxy"), ("grafana", "grafana")):
        inputs = set(role_spec(role)["options"])
        given = {name for name in made.vars[group] if name.startswith(f"{role}_")}
        assert given
        assert given <= inputs
