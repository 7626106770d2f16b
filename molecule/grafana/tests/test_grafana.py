"""What runs in Grafana's place tells how it was configured, over the certificate that Grafana would show."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from testinfra.host import Host

GET = """
import ssl, sys, urllib.request as u
context = ssl.create_default_context(cafile="/etc/rackloom/grafana/ca.crt")
opener = u.build_opener(u.ProxyHandler({}), u.HTTPSHandler(context=context))
print(opener.open(f"https://{sys.argv[1]}:3000/", timeout=20).read().decode())
"""


@pytest.fixture
def read(host: Host) -> dict[str, Any]:
    address = host.ansible.get_variables()["rackloom_address"]
    answer: dict[str, Any] = json.loads(host.check_output("python3 -c %s %s", GET, address))
    return answer


def test_secrets_arrive_whole(read: dict[str, Any]) -> None:
    assert read["security"]["admin_password"] == "made-up; for = this #test"
    assert read["security"]["secret_key"] == "made-up-for-this-test"


def test_it_is_served_behind_the_door(read: dict[str, Any]) -> None:
    assert read["server"]["root_url"] == "https://door.demo.example/grafana/"
    assert read["server"]["serve_from_sub_path"] == "true"


def test_prometheus_is_its_source(read: dict[str, Any]) -> None:
    sources = {source["uid"]: source for source in yaml.safe_load(read["datasources"])["datasources"]}
    prometheus = sources["rackloom-prometheus"]
    assert prometheus["url"] == "https://192.0.2.1:9090/prometheus"
    assert prometheus["secureJsonData"]["basicAuthPassword"] == "made-up-for-this-test"
    assert set(sources) == {"rackloom-prometheus", "rackloom-alertmanager"}


def test_only_the_dashboards_that_were_asked_for_are_there(host: Host, read: dict[str, Any]) -> None:
    folder = yaml.safe_load(read["dashboards"])["providers"][0]["options"]["path"]
    names = host.check_output(f"runuser -u grafana -- ls {folder}").split()
    assert names == ["rackloom-cluster.json", "rackloom-node.json"]
    board = json.loads(host.check_output(f"runuser -u grafana -- cat {folder}/rackloom-cluster.json"))
    assert board["uid"] == "rackloom-cluster"


def test_others_cannot_read_its_secrets(host: Host) -> None:
    for name in ("admin_password", "secret_key", "server.key", "prometheus_password", "grafana.ini"):
        assert host.run(f"runuser -u nobody -- cat /etc/rackloom/grafana/{name}").rc != 0
    assert host.run("ps -e -o args").stdout.count("made-up") == 0


def test_it_writes_into_its_folder_alone(host: Host) -> None:
    assert host.file("/var/lib/rackloom-grafana/grafana.db").exists
    shown = host.check_output("systemctl show -p User -p ProtectSystem -p ReadWritePaths rackloom-grafana")
    assert sorted(shown.split()) == [
        "ProtectSystem=strict",
        "ReadWritePaths=/var/lib/rackloom-grafana",
        "User=grafana",
    ]
