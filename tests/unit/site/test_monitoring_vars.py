"""What is asked for metrics, and who is told of alerts, follows from the site alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackloom.run.join import limit_for
from rackloom.site import SiteError, check_site, load_site, secrets
from rackloom.site.check_monitoring import rules_trouble
from rackloom.site.inventory import Inventory, build
from rackloom.site.monitoring_vars import JOBS, PROBES, Job

HEAD = "name: t\ndomain: t.example\nnetworks: {cluster: {cidr: 10.10.0.0/16}}\n"
NODES = """\
profiles: {cpu: {cores: 2, memory: 4000}}
management: [{name: "m[1-3]", address: 10.10.0.1, bmc: 10.10.9.1}]
login: [{name: l1, address: 10.10.0.9}]
compute: [{name: "c[1-2]", address: 10.10.1.1, profile: cpu, switch_port: [leaf1/Eth1, leaf2/Eth1]}]
"""
EVERYBODY = ["m1", "m2", "m3", "l1", "c1", "c2"]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f a"
Make = Callable[..., Inventory]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    shutil.copy(Path(__file__).parent / "good" / "versions.yml", tmp_path)

    def make(cluster: str, nodes: str = NODES) -> Inventory:
        (tmp_path / "cluster.yml").write_text(HEAD + cluster)
        (tmp_path / "nodes.yml").write_text(nodes)
        return build(load_site(tmp_path))

    return make


def nodes_of(inventory: Inventory, job: str) -> list[str]:
    rows = inventory.vars["prometheus"]["prometheus_targets"].get(job, [])
    return [row["labels"].get("node", "") for row in rows]


def test_nothing_without_a_word_of_it(make: Make) -> None:
    inventory = make("")
    text = json.dumps(inventory.as_dict())
    assert not [word for word in ("prometheus_", "alertmanager_", "node_exporter_") if word in text]
    assert not [name for name in ("prometheus", "alertmanager", "monitored") if inventory.hosts[name]]


@pytest.mark.parametrize("section", ["monitoring: {}\n", "monitoring:\n"])
def test_the_section_alone_switches_it_on(make: Make, section: str) -> None:
    inventory = make(section)
    assert inventory.hosts["prometheus"] == inventory.hosts["alertmanager"] == ["m1"]
    assert inventory.hosts["monitored"] == EVERYBODY


def test_groups_are_as_named(make: Make) -> None:
    inventory = make("services: {prometheus: [m2, m3], alertmanager: m1, monitored: [m1, c1]}\n")
    assert inventory.hosts["prometheus"] == ["m2", "m3"]
    assert inventory.hosts["alertmanager"] == ["m1"]
    assert nodes_of(inventory, "node") == nodes_of(inventory, "ping") == ["m1", "c1"]
    assert inventory.vars["prometheus"]["prometheus_alertmanagers"] == ["10.10.0.1:9093"]


def test_every_node_is_asked_and_labelled(make: Make) -> None:
    inventory = make("monitoring: {}\n")
    assert nodes_of(inventory, "node") == EVERYBODY
    rows = {row["labels"]["node"]: row for row in inventory.vars["prometheus"]["prometheus_targets"]["node"]}
    assert rows["c1"] == {
        "targets": ["10.10.1.1:9100"],
        "labels": {"node": "c1", "role": "compute", "profile": "cpu", "switch": "leaf1"},
    }
    assert rows["l1"]["labels"] == {"node": "l1", "role": "login"}


def test_a_new_node_is_in_all_lists_by_one_line(make: Make) -> None:
    """And nothing but the lists of targets differs for those who ask."""
    before = make("monitoring: {}\n").vars["prometheus"]
    after = make(
        "monitoring: {}\n",
        NODES.replace("login: [{name: l1", "login: [{name: l2, address: 10.10.0.8}, {name: l1"),
    ).vars["prometheus"]
    differ = {key for key in after if after[key] != before[key]}
    assert differ == {"prometheus_targets", "monitoring_check_targets", "rackloom_nodes"}
    assert after["prometheus_jobs"] == before["prometheus_jobs"]
    added = [
        row for row in after["prometheus_targets"]["node"] if row not in before["prometheus_targets"]["node"]
    ]
    assert [row["labels"]["node"] for row in added] == ["l2"]


def test_who_takes_part_when_a_node_joins(make: Make, tmp_path: Path) -> None:
    make("monitoring: {}\n")
    limit = limit_for(tmp_path, ["c2"])
    assert limit is not None
    assert "prometheus" in limit.split(",")


def test_switches_come_from_the_topology_too(make: Make) -> None:
    topology = "slurm: {topology: [{switch: s9, nodes: 'c[1-2]'}]}\n"
    nodes = NODES.replace(", switch_port: [leaf1/Eth1, leaf2/Eth1]", "")
    inventory = make(f"monitoring: {{}}\n{topology}", nodes)
    rows = inventory.vars["prometheus"]["prometheus_targets"]["node"]
    assert {row["labels"]["node"]: row["labels"].get("switch") for row in rows}["c2"] == "s9"


def test_jobs_and_targets_belong_together(make: Make) -> None:
    inventory = make("monitoring: {jobs: [{name: ups, targets: 'ups.example:9199', labels: {room: a}}]}\n")
    told = inventory.vars["prometheus"]
    assert [job["name"] for job in told["prometheus_jobs"]] == list(told["prometheus_targets"])
    assert set(told["monitoring_check_targets"]) == set(told["prometheus_targets"])
    assert told["monitoring_check_targets"]["ups"] == ["ups.example:9199"]
    assert told["monitoring_check_targets"]["node"] == sorted(EVERYBODY)


def test_names_of_jobs_and_probes_are_unique() -> None:
    assert len({job.name for job in JOBS}) == len(JOBS)
    assert len({probe.service for probe in PROBES}) == len(PROBES)
    ports = [(job.group, job.port, job.path) for job in JOBS]
    assert len(set(ports)) == len(ports)


def test_a_job_may_leave_out_nodes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Job("own", "monitored", 9999, on=lambda _site, node: node.role == "compute")
    monkeypatch.setattr("rackloom.site.monitoring_vars.JOBS", (*JOBS, own))
    assert nodes_of(make("monitoring: {}\n"), "own") == ["c1", "c2"]


def test_kubernetes_is_asked_where_it_is(make: Make) -> None:
    assert not nodes_of(make("monitoring: {}\n"), "kubelet")
    inventory = make(
        "monitoring: {}\nservices: {kube_control_plane: management, kube_node: [c2]}\n"
        "kubernetes: {endpoint: {address: 10.10.0.100}}\n"
    )
    assert nodes_of(inventory, "kubelet") == ["m1", "m2", "m3", "c2"]
    assert nodes_of(inventory, "apiserver") == ["m1", "m2", "m3"]
    probes = inventory.vars["prometheus"]["prometheus_targets"]["blackbox"]
    [endpoint] = [row for row in probes if row["labels"]["service"] == "kubernetes-endpoint"]
    assert endpoint["targets"] == ["10.10.0.100:7443"]
    assert inventory.hostvars["m1"]["node_exporter_local"] == {
        "etcd": "127.0.0.1:2381",
        "haproxy": "127.0.0.1:7444",
    }
    assert "node_exporter_local" not in inventory.hostvars["c2"]


def test_a_store_of_its_own_is_measured_where_it_is(make: Make) -> None:
    inventory = make(KUBERNETES.replace("kube_node: [c2]", "kube_node: [c2], etcd: [c1]"))
    assert nodes_of(inventory, "kubelet") == nodes_of(inventory, "cadvisor") == ["m1", "m2", "m3", "c2"]
    assert inventory.hostvars["c1"]["node_exporter_local"] == {"etcd": "127.0.0.1:2381"}
    assert "etcd" in inventory.hostvars["c1"]["node_exporter_backups"]
    assert "etcd" not in inventory.hostvars["m1"]["node_exporter_local"]
    assert "etcd" not in inventory.hostvars["m1"].get("node_exporter_backups", {})


KUBERNETES = (
    "monitoring: {}\nservices: {kube_control_plane: management, kube_node: [c2]}\n"
    "kubernetes: {endpoint: {address: 10.10.0.100}}\n"
)


def test_objects_of_kubernetes_are_counted_once(make: Make) -> None:
    """By whoever has the endpoint, and no node's label is laid over theirs."""
    inventory = make(KUBERNETES)
    told = inventory.vars["prometheus"]
    assert told["prometheus_targets"]["kube_state"] == [{"targets": ["10.10.0.100:7443"], "labels": {}}]
    [job] = [job for job in told["prometheus_jobs"] if job["name"] == "kube_state"]
    assert job["honor_labels"]
    assert "kube_state_metrics" in inventory.vars["kube_control_plane"]["kube_addons_enabled"]


@pytest.mark.parametrize(
    "cluster",
    [
        KUBERNETES,
        KUBERNETES.replace("}}", "}, addons: {kube_state_metrics: {enabled: false}}}"),
        KUBERNETES.replace("monitoring: {}\n", ""),
    ],
)
def test_the_add_on_and_its_job_go_together(make: Make, cluster: str) -> None:
    inventory = make(cluster)
    targets = inventory.vars.get("prometheus", {}).get("prometheus_targets", {})
    has = "kube_state_metrics" in inventory.vars["kube_control_plane"]["kube_addons_enabled"]
    assert ("kube_state" in targets) == has


def test_programs_of_every_node_are_counted_by_the_same_word(make: Make) -> None:
    """And what is not kept of them is said where they are asked."""
    told = make("monitoring: {}\n").vars["prometheus"]
    assert nodes_of(make("monitoring: {}\n"), "process") == EVERYBODY
    jobs = {job["name"]: job for job in told["prometheus_jobs"]}
    assert jobs["process"]["auth"] == jobs["node"]["auth"] == "scrape"
    assert jobs["process"]["drop"]
    assert not jobs["node"]["drop"]


def test_elasticsearch_and_kibana_are_looked_at_where_they_are(make: Make) -> None:
    def doors(inventory: Inventory) -> dict[str, str]:
        rows = inventory.vars["prometheus"]["prometheus_targets"]["blackbox"]
        told = {row["labels"]["service"]: row["targets"][0] for row in rows}
        return {name: told[name] for name in ("elasticsearch", "kibana", "log-store") if name in told}

    chosen = make(
        "monitoring: {}\nlogging: {store: elasticsearch}\nservices: {elasticsearch: [m1, m2, m3], kibana: [m2]}\n"
    )
    assert doors(chosen) == {"elasticsearch": "10.10.0.3:9200", "kibana": "10.10.0.2:5601"}
    assert chosen.hostvars["m1"]["node_exporter_local"] == {"elasticsearch": "127.0.0.1:9114"}
    assert "node_exporter_local" not in chosen.hostvars["c1"]
    other = make("monitoring: {}\nlogging: {}\n")
    assert doors(other) == {"log-store": "10.10.0.1:9428"}
    assert not other.hostvars["m1"].get("node_exporter_local")


def test_the_boot_server_is_asked_for_what_machines_ask_first(make: Make) -> None:
    inventory = make(
        "monitoring: {}\nservices: {provisioner: [m2]}\n"
        "provision: {address: 10.10.0.77, http_port: 8088, unknown: discover,"
        " dhcp: {pool: [10.10.5.1, 10.10.5.9]}, images: {a: {os: debian-12}}}\n"
        f"users: [{{name: a, uid: 2001, admin: true, keys: ['{KEY}']}}]\n"
    )
    rows = inventory.vars["prometheus"]["prometheus_targets"]["blackbox"]
    [row] = [row for row in rows if row["labels"]["service"] == "boot-http"]
    assert row["targets"] == ["http://10.10.0.77:8088/boot.ipxe"]
    assert (row["labels"]["node"], row["labels"]["__param_module"]) == ("m2", "http")


def test_what_dashboards_ask_follows_from_the_site(make: Make) -> None:
    def loud(cluster: str) -> set[str]:
        asked = make(cluster).vars["prometheus"]["monitoring_check_queries"]
        assert len({query["expr"] for query in asked}) == len(asked)
        # these go through Ansible's templates
        assert not [query for query in asked if "{{" in query["expr"] or "{%" in query["expr"]]
        return {query["name"].partition(":")[0] for query in asked if not query["quiet"]}

    plain = loud("monitoring: {}\n")
    assert {"cluster", "node", "slurm", "storage", "monitoring"} <= plain
    assert not {"kubernetes", "gpu"} & plain
    assert loud(KUBERNETES) - plain == {"kubernetes"}


def test_hardware_is_read_on_machines_with_a_bmc(make: Make) -> None:
    inventory = make("monitoring: {}\n")
    assert [name for name in EVERYBODY if inventory.hostvars[name].get("node_exporter_hardware")] == [
        "m1",
        "m2",
        "m3",
    ]


@pytest.mark.parametrize(
    ("section", "page", "runbooks"),
    [
        ("{}", "", "https://10.10.0.1:9090/runbooks"),
        ("{address: 'https://c.example'}", "https://c.example/prometheus/", "https://c.example/runbooks"),
        ("{runbooks: 'https://w.example/r/'}", "", "https://w.example/r"),
    ],
)
def test_where_pages_are(make: Make, section: str, page: str, runbooks: str) -> None:
    told = make(f"monitoring: {section}\n").vars["prometheus"]
    assert (told["prometheus_external_url"], told["prometheus_runbooks"]) == (page, runbooks)


def test_secrets_are_named_and_not_told(make: Make) -> None:
    inventory = make(
        "monitoring:\n"
        "  receivers:\n"
        "    - {name: a, slack: {channel: x, secret: alert_slack}}\n"
        "    - {name: b, webhook: {url: 'https://h.example/'}}\n"
        "  remote_write: [{url: 'https://s.example/', secret: alert_store}]\n"
        "  routes: [{receiver: b, severity: critical}]\n"
    )
    assert inventory.vars["alertmanager"]["alertmanager_secret_names"] == ["alert_slack"]
    assert inventory.vars["prometheus"]["prometheus_secret_names"] == ["alert_store"]
    assert inventory.vars["alertmanager"]["alertmanager_receiver"] == "a"
    told: list[dict[str, Any]] = inventory.vars["alertmanager"]["alertmanager_receivers"]
    assert [set(each) for each in told] == [{"name", "resolved", "slack"}, {"name", "resolved", "webhook"}]


def test_a_secret_that_the_vault_lacks_is_told_beforehand(make: Make, tmp_path: Path) -> None:
    make("monitoring:\n  receivers:\n    - name: a\n      pagerduty: {secret: alert_key}\n")
    secrets.init(tmp_path)
    with pytest.raises(SiteError) as caught:
        load_site(tmp_path)
    [mistake] = caught.value.mistakes
    assert (mistake.code, mistake.line) == ("no-secret", 7)
    assert "rackloom secrets set alert_key" in mistake.cure
    secrets.store(tmp_path, {"alert_key": "0123"})
    assert check_site(tmp_path).ok


def test_only_secrets_that_somebody_may_name_are_kept(tmp_path: Path) -> None:
    with pytest.raises(secrets.SecretsRefusedError, match="alert_NAME"):
        secrets.store(tmp_path, {"alarm_key": "x"})


def test_exporters_read_the_hash_of_the_password(tmp_path: Path) -> None:
    bcrypt = pytest.importorskip("bcrypt", reason="bcrypt is not in this environment")
    secrets.init(tmp_path)
    made = secrets.load(tmp_path, ["monitored"])
    for name in ("scrape", "web"):
        password, hashed = made[f"monitoring_{name}_password"], made[f"monitoring_{name}_hash"]
        assert bcrypt.checkpw(password.encode(), hashed.encode())
    assert made["monitoring_scrape_password"] != made["monitoring_web_password"]
    assert secrets.init(tmp_path).created == []


GOOD_RULE = {"alert": "A", "expr": 'label_replace(up, "a", "$1)", "b", "(.*") == 0', "for": "1h30m"}


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (GOOD_RULE, ""),
        ({"record": "a:b", "expr": "sum(up)"}, ""),
        ({"expr": "up"}, "either alert or record"),
        ({"alert": "A", "record": "b", "expr": "up"}, "either alert or record"),
        ({"alert": "A"}, "no expr"),
        ({"alert": "A", "expr": "sum(up"}, "brackets"),
        ({"alert": "A", "expr": "up", "for": "soon"}, "soon"),
        ({"alert": "A", "expr": "up", "form": "1m"}, "unknown key form"),
        ("up == 0", "no mapping"),
    ],
)
def test_rules_of_the_site(rule: Any, says: str) -> None:
    told = rules_trouble(yaml.safe_dump({"groups": [{"name": "g", "rules": [rule]}]}))
    assert (says in told) if says else told == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("groups: [", "line"),
        ("alerts: []", "groups"),
        ("groups: [{rules: []}]", "no name"),
        ("groups: [{name: a, rules: []}, {name: a, rules: []}]", "two groups"),
        ("groups: [{name: a}]", "no list"),
    ],
)
def test_files_that_are_none_of_rules(text: str, says: str) -> None:
    assert says in rules_trouble(text)
