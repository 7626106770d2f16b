"""Elasticsearch, Kibana and Filebeat get settings that their documentation knows, and objects of the right shape.

None of Elasticsearch and Kibana can be had here: what is looked at ends at their door.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from tests.daemons import program

from rackloom.site.authority import issue, make_authority, make_key

ROOT = Path(__file__).parents[2]
KNOWN: dict[str, Any] = yaml.safe_load((ROOT / "tests/data/elastic/settings.yml").read_text())
THREE = [{"name": f"mgmt0{n}", "address": f"192.0.2.{n}"} for n in (1, 2, 3)]
GIVEN: dict[str, dict[str, Any]] = {
    "elasticsearch": {
        "elasticsearch_address": "192.0.2.1",
        "elasticsearch_name": "mgmt01",
        "elasticsearch_cluster": "demo",
        "elasticsearch_members": THREE,
        "elasticsearch_heap_mb": 4096,
        "__elasticsearch_home": "/opt/elasticsearch-9",
    },
    "kibana": {
        "kibana_address": "192.0.2.1",
        "kibana_name": "mgmt01",
        "kibana_external_url": "https://door.demo.example/kibana/",
        "kibana_elasticsearch": ["https://192.0.2.1:9200"],
        "kibana_password": 'a "quoted": #word',
        "kibana_encryption_key": "k" * 43,
        "__kibana_home": "/opt/kibana-9",
    },
    "filebeat": {
        "filebeat_servers": ["https://192.0.2.1:9200"],
        "filebeat_node": "cn01",
        "filebeat_password": 'a "quoted": #word',
        "filebeat_files": [
            {"path": "/srv/app/*.log", "unit": "app"},
            {"path": "/var/log/pods/*/*/*.log", "unit": "container", "format": "container"},
        ],
        "filebeat_users": {"0": "root"},
        "__filebeat_home": "/opt/filebeat-9",
    },
}


class Role:
    """A role's variables, and its templates filled in with them."""

    def __init__(self, name: str, **inputs: Any) -> None:
        self.folder = ROOT / "roles" / name
        variables: dict[str, Any] = {"role_path": str(self.folder)}
        for part in ("defaults", "vars"):
            path = str(self.folder / part / "main.yml")
            variables |= DataLoader().load_from_file(path, cache="none", trusted_as_template=True)
        self.templar = Templar(loader=DataLoader(), variables={**variables, **GIVEN[name], **inputs})

    def text(self, template: str) -> str:
        source = trust_as_template((self.folder / "templates" / template).read_text())
        return str(self.templar.template(source, overrides={"trim_blocks": True, "lstrip_blocks": True}))

    def settings(self, template: str) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self.text(template))
        return found

    def value(self, name: str) -> Any:
        return json.loads(str(self.templar.template(trust_as_template(f"{{{{ {name} | to_json }}}}"))))


def flat(data: dict[str, Any], stop: tuple[str, ...] = (), before: str = "") -> Iterator[str]:
    """Settings as one writes them with dots; those of `stop` are values, whatever they hold."""
    for key, value in data.items():
        name = f"{before}{key}"
        if isinstance(value, dict) and value and name not in stop:
            yield from flat(value, stop, f"{name}.")
        else:
            yield name


def unknown(names: Iterator[str], known: list[str]) -> list[str]:
    return [
        name
        for name in names
        if name not in known and not name.startswith(tuple(k for k in known if k[-1] == "."))
    ]


# --- Elasticsearch ------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"elasticsearch_snapshots": "/shared/snapshots"}])
def test_elasticsearch_knows_all_settings(more: dict[str, Any]) -> None:
    read = Role("elasticsearch", **more).settings("elasticsearch.yml.j2")
    assert not unknown(flat(read), KNOWN["elasticsearch"])
    assert read["discovery.seed_hosts"] == [f"{one['address']}:9300" for one in THREE]
    assert read.get("path.repo", []) == list(more.values())
    assert "cluster.initial_master_nodes" not in read, (
        "it would begin another cluster after its disk was lost"
    )


def test_hosts_of_elasticsearch_show_each_other_certificates() -> None:
    read = Role("elasticsearch").settings("elasticsearch.yml.j2")
    assert read["xpack.security.enabled"] is True
    for door in ("http", "transport"):
        own = {key.rpartition(".")[2] for key in read if key.startswith(f"xpack.security.{door}.ssl.")}
        assert {"enabled", "key", "certificate", "certificate_authorities"} <= own
    assert read["xpack.security.transport.ssl.client_authentication"] == "required"
    assert read["xpack.security.transport.ssl.verification_mode"] == "full"


@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_their_certificates_are_good_for_both_sides(tmp_path: Path, purpose: str) -> None:
    key = make_key()
    (tmp_path / "ca.crt").write_text(make_authority(key))
    given = (key, (tmp_path / "ca.crt").read_text(), "elasticsearch mgmt01", ["192.0.2.1"])
    (tmp_path / "both.crt").write_text(issue(*given, "both").certificate)
    (tmp_path / "server.crt").write_text(issue(*given, "server").certificate)
    argv = ["openssl", "verify", "-purpose", purpose, "-CAfile", str(tmp_path / "ca.crt")]
    verify = {
        name: subprocess.run([*argv, str(tmp_path / f"{name}.crt")], capture_output=True, check=False)
        for name in ("both", "server")
    }
    assert verify["both"].returncode == 0, verify["both"].stderr
    assert (verify["server"].returncode == 0) == (purpose == "sslserver")


def test_the_heap_is_what_was_asked_for() -> None:
    assert Role("elasticsearch").text("jvm.options.j2").splitlines()[1:3] == ["-Xms4096m", "-Xmx4096m"]
    assert "-Xm" not in Role("elasticsearch", elasticsearch_heap_mb=0).text("jvm.options.j2")


def test_a_site_wins_over_the_role() -> None:
    read = Role("elasticsearch", elasticsearch_settings={"http.port": 9201}).settings("elasticsearch.yml.j2")
    assert read["http.port"] == 9201


def test_a_new_cluster_is_begun_once(tmp_path: Path) -> None:
    """What the unit runs, with a program in Elasticsearch's place that tells how it was called."""
    unit = Role("elasticsearch", elasticsearch_path=str(tmp_path), __elasticsearch_home=str(tmp_path))
    [line] = [
        row
        for row in unit.text("elasticsearch.service.j2").splitlines()
        if row.startswith("ExecStart=/bin/sh")
    ]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/elasticsearch").write_text('#!/bin/sh\necho "called: $*"\n')
    (tmp_path / "bin/elasticsearch").chmod(0o755)
    script = line.partition("'")[2].rpartition("'")[0]

    def run() -> str:
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.strip()

    assert run() == "called: -Ecluster.initial_master_nodes=mgmt01,mgmt02,mgmt03"
    (tmp_path / "_state").mkdir()
    assert run() == "called:"


def test_who_sets_it_up_has_a_hash_that_it_reads() -> None:
    role = Role(
        "elasticsearch",
        elasticsearch_setup_hash="$2b$10$" + "x" * 53,
        __elasticsearch_identity={"key": "", "certificate": ""},
        elasticsearch_ca_certificate="",
    )
    users = {
        file["path"].rpartition("/")[2]: file.get("content") for file in role.value("__elasticsearch_files")
    }
    assert users["users"] == "rackloom-setup:$2a$10$" + "x" * 53
    assert users["users_roles"] == "superuser:rackloom-setup"


def documents(**inputs: Any) -> dict[str, dict[str, Any]]:
    found = Role("elasticsearch", **inputs).value("__elasticsearch_documents")
    return {each["path"]: each["body"] for each in found}


def test_logs_are_removed_when_their_time_has_come() -> None:
    phases = documents(elasticsearch_retention_days=14)["/_ilm/policy/rackloom-logs"]["policy"]["phases"]
    assert phases["delete"]["min_age"] == "14d"
    for name, phase in phases.items():
        assert not set(phase["actions"]) - set(KNOWN["lifecycle actions"][name])
        assert set(phase) <= {"min_age", "actions"}


def test_the_template_is_for_what_nodes_send() -> None:
    body = documents()["/_index_template/rackloom-logs"]
    assert not set(body) - set(KNOWN["index template"])
    assert body["data_stream"] == {}
    assert body["template"]["settings"]["index.lifecycle.name"] == "rackloom-logs"
    stream = Role("filebeat").settings("filebeat.yml.j2")["output"]["elasticsearch"]["index"]
    assert any(re.fullmatch(pattern.replace("*", ".*"), stream) for pattern in body["index_patterns"])
    alone = documents(elasticsearch_replicas=0)["/_index_template/rackloom-logs"]
    assert alone["template"]["settings"]["index.number_of_replicas"] == 0


def test_nodes_may_add_and_people_may_read() -> None:
    found = documents()
    for path, body in found.items():
        if path.startswith("/_security/"):
            kind = path.split("/")[2]
            assert not set(body) - set(KNOWN[kind]), path
    [writes] = found["/_security/role/rackloom-writer"]["indices"]
    [reads] = found["/_security/role/rackloom-reader"]["indices"]
    assert set(writes["privileges"]) == {"auto_configure", "create_doc"}
    for rights in (writes, reads):
        assert not set(rights["privileges"]) - set(KNOWN["index privileges"])
    assert not {"write", "all", "create_doc", "index"} & set(reads["privileges"])


def test_snapshots_come_where_a_folder_is_named() -> None:
    assert not [path for path in documents() if "s" in path.split("/")[1][:2] and "snapshot" in path]
    found = documents(elasticsearch_snapshots="/shared/snapshots")
    assert found["/_snapshot/rackloom"] == {
        "type": "fs",
        "settings": {"location": "/shared/snapshots", "compress": True},
    }
    assert not set(found["/_slm/policy/rackloom-logs"]) - set(KNOWN["snapshot policy"])


# --- Kibana -------------------------------------------------------------------------------


def test_kibana_knows_all_settings() -> None:
    read = Role("kibana").settings("kibana.yml.j2")
    assert not unknown(flat(read), KNOWN["kibana"])
    assert read["elasticsearch.password"] == GIVEN["kibana"]["kibana_password"]
    assert read["server.publicBaseUrl"].endswith(read["server.basePath"])
    assert read["server.ssl.enabled"] is True
    assert {read["telemetry.optIn"], read["newsfeed.enabled"], read["map.includeElasticMapsService"]} == {
        False
    }


def objects() -> list[dict[str, Any]]:
    return [json.loads(row) for row in (ROOT / "roles/kibana/files/objects.ndjson").read_text().splitlines()]


def test_searches_are_of_the_view_and_of_fields_that_are_there() -> None:
    [view] = [each for each in objects() if each["type"] == "index-pattern"]
    template = documents()["/_index_template/rackloom-logs"]
    assert view["attributes"]["title"] in template["index_patterns"]
    fields = set(template["template"]["mappings"]["properties"])
    assert view["attributes"]["timeFieldName"] in fields
    searches = [each for each in objects() if each["type"] == "search"]
    assert len(searches) == len(objects()) - 1
    for each in searches:
        told = each["attributes"]
        assert set(told["columns"]) <= fields, each["id"]
        assert all(name in fields for name, _ in told["sort"])
        source = json.loads(told["kibanaSavedObjectMeta"]["searchSourceJSON"])
        named = {(one["name"], one["id"], one["type"]) for one in each["references"]}
        assert named == {(source["indexRefName"], view["id"], "index-pattern")}
        assert source["query"]["language"] == "kuery"
        asked = set(re.findall(r"([a-z_]+) ?:", source["query"]["query"]))
        assert asked <= fields, each["id"]
    assert len({each["id"] for each in objects()}) == len(objects())


# --- Filebeat -----------------------------------------------------------------------------


@pytest.mark.parametrize("queue", [0, 1024])
def test_filebeat_knows_all_settings(queue: int) -> None:
    read = Role("filebeat", filebeat_queue_mb=queue).settings("filebeat.yml.j2")
    stop = ("filebeat.inputs", "processors", "output.elasticsearch.parameters")
    assert not unknown(flat(read, stop), KNOWN["filebeat"])
    kinds = [each["type"] for each in read["filebeat.inputs"]]
    assert kinds == ["journald", "filestream", "filestream"]
    for each in read["filebeat.inputs"]:
        known = KNOWN["filebeat inputs"][each["type"]]
        assert not unknown(flat(each, ("fields",)), known), each["id"]
    assert read["output"]["elasticsearch"]["password"] == GIVEN["filebeat"]["filebeat_password"]
    assert set(read["queue"]) == {"disk" if queue else "mem"}


def test_filebeat_fills_in_nothing_of_the_script() -> None:
    assert "${" not in (ROOT / "roles/filebeat/files/fields.js").read_text()


def test_fields_that_lines_get_are_those_that_are_searched() -> None:
    source = (ROOT / "roles/filebeat/files/fields.js").read_text()
    written = set(re.findall(r"found\.([a-z_]+) =", source)) | set(
        re.findall(r"^ {8}([a-z_]+): ", source, re.MULTILINE)
    )
    fields = documents()["/_index_template/rackloom-logs"]["template"]["mappings"]["properties"]
    assert written - {"when"} <= set(fields)


@pytest.mark.parametrize("queue", [0, 1024])
def test_filebeat_takes_its_configuration(tmp_path: Path, queue: int) -> None:
    own = program("filebeat", "filebeat")
    if not own:
        pytest.skip("no Filebeat was built on this machine; the scenario of the role asks it in any case")
    config = tmp_path / "filebeat.yml"
    key = make_key()
    (tmp_path / "ca.crt").write_text(make_authority(key))
    made = issue(key, (tmp_path / "ca.crt").read_text(), "log shipper cn01", purpose="client")
    (tmp_path / "client.crt").write_text(made.certificate)
    (tmp_path / "client.key").write_text(made.key)
    config.write_text(
        Role("filebeat", filebeat_queue_mb=queue, __filebeat_etc=str(tmp_path)).text("filebeat.yml.j2")
    )
    config.chmod(0o600)
    argv = [own, "test", "config", "-c", str(config), "--path.home", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "Config OK" in done.stdout, done.stderr
