"""What runs in the place of the two tells how it was configured and what was written into it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

GET = """
import ssl, sys, urllib.request as u
context = ssl.create_default_context(cafile=sys.argv[2])
opener = u.build_opener(u.ProxyHandler({}), u.HTTPSHandler(context=context))
print(opener.open(sys.argv[1], timeout=20).read().decode())
"""


def played(host: Host, name: str, port: int) -> dict[str, Any]:
    address = host.ansible.get_variables()["rackloom_address"]
    url, ca = f"https://{address}:{port}/_played", f"/etc/rackloom/{name}/ca.crt"
    answer: dict[str, Any] = json.loads(host.check_output("python3 -c %s %s %s", GET, url, ca))
    return answer


@pytest.fixture
def elastic(host: Host) -> dict[str, Any]:
    return played(host, "elasticsearch", 9200)


@pytest.fixture
def kibana(host: Host) -> dict[str, Any]:
    return played(host, "kibana", 5601)


def test_all_that_is_kept_was_written(elastic: dict[str, Any]) -> None:
    held = elastic["held"]
    assert held["/_ilm/policy/rackloom-logs"]["policy"]["phases"]["delete"]["min_age"] == "30d"
    assert held["/_snapshot/rackloom"]["settings"]["location"] == "/srv/snapshots"
    assert {path for path in held if path.startswith("/_security/user/")} == {
        "/_security/user/rackloom",
        "/_security/user/rackloom-monitor",
        "/_security/user/rackloom-writer",
    }


def test_users_have_the_passwords_of_the_vault(host: Host) -> None:
    users = json.loads(host.file("/var/lib/elasticsearch/held.json").content_string)["users"]
    assert set(users) == {"elastic", "kibana_system", "rackloom", "rackloom-monitor", "rackloom-writer"}
    config = host.file("/etc/rackloom/kibana/kibana.yml").content_string
    assert f"elasticsearch.password: {users['kibana_system']}" in config


def test_a_cluster_is_begun_at_the_first_start_alone(host: Host, elastic: dict[str, Any]) -> None:
    assert elastic["argv"] == ["-Ecluster.initial_master_nodes=one"], (
        "the deploys after the first restart nothing"
    )
    host.check_output("systemctl restart rackloom-elasticsearch.service")
    assert (
        json.loads(
            host.check_output(
                "timeout 120 bash -c %s",
                f"until python3 -c '{GET}' https://{elastic['settings']['network.host']}:9200/_played "
                "/etc/rackloom/elasticsearch/ca.crt 2>/dev/null; do sleep 0.2; done",
            )
        )["argv"]
        == []
    )


def test_the_view_and_the_searches_are_there(kibana: dict[str, Any]) -> None:
    kinds = {each["type"] for each in kibana["held"].values()}
    assert kinds == {"index-pattern", "search"}


def test_kibana_asks_elasticsearch_where_it_is(host: Host, kibana: dict[str, Any]) -> None:
    told = kibana["settings"]
    address = host.ansible.get_variables()["rackloom_address"]
    assert told["elasticsearch.hosts"] == [f"https://{address}:9200"]
    assert told["server.publicBaseUrl"] == "https://door.demo.example/kibana"


def test_nobody_else_reads_what_is_secret(host: Host) -> None:
    for user, path in (
        ("kibana", "elasticsearch/server.key"),
        ("kibana", "elasticsearch/users"),
        ("elasticsearch", "kibana/kibana.yml"),
        ("nobody", "kibana/server.key"),
    ):
        assert host.run("runuser -u %s -- cat %s", user, f"/etc/rackloom/{path}").rc != 0, path
    users = json.loads(host.file("/var/lib/elasticsearch/held.json").content_string)["users"]
    said = host.check_output("ps -e -o args")
    assert not [name for name, password in users.items() if password in said]


def test_each_runs_as_its_own_user(host: Host) -> None:
    for name in ("elasticsearch", "kibana"):
        told = host.check_output("systemctl show -P MainPID rackloom-%s.service", name)
        assert host.check_output("ps -o user= -p %s", told).strip()[:7] == name[:7]


def test_how_it_is_is_told_on_the_host_alone(host: Host) -> None:
    get = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9114/metrics').read().decode())"
    assert 'elasticsearch_cluster_health_status{cluster="demo",color="green"} 1' in host.check_output(
        "python3 -c %s", get
    )
    address = host.ansible.get_variables()["rackloom_address"]
    assert host.run(f"timeout 5 bash -c '</dev/tcp/{address}/9114'").rc != 0
    assert host.run("runuser -u prometheus -- cat /etc/rackloom/elasticsearch-exporter.env").rc != 0
