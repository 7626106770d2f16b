"""What the roles of Kubernetes are given follows from the site alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rackloom.bundle import resolve
from rackloom.run.join import limit_for
from rackloom.site import check_site, load_site, versions
from rackloom.site.inventory import Inventory, build

HEAD = "name: t\ndomain: t.example\nnetworks: {cluster: {cidr: 10.10.0.0/16}}\n"
NODES = """\
profiles:
  cpu: {cores: 2, memory: 4000, labels: {kind: cpu, zone: 1}, taints: "a=b:NoSchedule"}
management: [{name: "m[1-3]", address: 10.10.0.1}]
login: [{name: l1, address: 10.10.0.9}]
compute:
  - {name: "c[1-4]", address: 10.10.1.1, profile: cpu}
  - {name: c5, address: 10.10.1.5, profile: cpu, labels: {zone: 2}, taints: ["x:NoExecute", "a=b:NoSchedule"]}
"""
THREE = (
    "services: {kube_control_plane: management, kube_node: [c4, c5]}\n"
    "kubernetes: {endpoint: {address: 10.10.0.100}}\n"
)
Make = Callable[..., Inventory]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    shutil.copy(Path(__file__).parent / "good" / "versions.yml", tmp_path)

    def make(cluster: str, nodes: str = NODES) -> Inventory:
        (tmp_path / "cluster.yml").write_text(HEAD + cluster)
        (tmp_path / "nodes.yml").write_text(nodes)
        return build(load_site(tmp_path))

    return make


def of(inventory: Inventory, host: str) -> dict[str, Any]:
    """A host's variables, as Ansible would lay them over each other."""
    found: dict[str, Any] = dict(inventory.vars["all"])
    for group in inventory.hostvars[host]["rackloom_roles"]:
        found |= inventory.vars.get(group, {})
    return found | inventory.hostvars[host]


def test_nothing_without_nodes_for_it(make: Make) -> None:
    inventory = make("kubernetes: {users: [{name: alice}]}\n")
    text = json.dumps(inventory.as_dict())
    assert not [word for word in ("kubelet_", "containerd_", "kube_control_plane_") if word in text]
    assert inventory.hosts["kube_api_balancer"] == []


def test_one_node_is_its_own_endpoint_and_carries_the_pods(make: Make) -> None:
    inventory = make("services: {kube_control_plane: m1}\n")
    told = of(inventory, "m1")
    assert told["kube_control_plane_endpoint"] == "10.10.0.1:6443"
    assert told["kube_control_plane_taints"] == []
    assert inventory.hosts["kube_api_balancer"] == []
    assert "kube_endpoint_address" not in told
    assert told["kube_control_plane_nodes"] == [
        {"name": "m1", "address": "10.10.0.1", "names": ["m1.t.example"], "labels": {}, "taints": []}
    ]


def test_three_keep_up_one_address(make: Make) -> None:
    inventory = make(THREE)
    assert inventory.hosts["kube_api_balancer"] == ["m1", "m2", "m3"]
    told = [of(inventory, name) for name in ("m1", "m2", "m3")]
    assert {each["kube_control_plane_endpoint"] for each in told} == {
        f"10.10.0.100:{told[0]['kube_endpoint_port']}"
    }
    priorities = [each["kube_endpoint_priority"] for each in told]
    assert priorities == sorted(priorities, reverse=True)
    assert len(set(priorities)) == 3
    assert told[1]["kube_endpoint_peers"] == ["10.10.0.1", "10.10.0.3"]
    assert 1 <= told[0]["kube_endpoint_router_id"] <= 255
    assert [each["address"] for each in told[0]["kube_endpoint_backends"]] == [
        "10.10.0.1",
        "10.10.0.2",
        "10.10.0.3",
    ]
    assert told[0]["kube_endpoint_port"] not in {
        backend["port"] for backend in told[0]["kube_endpoint_backends"]
    }
    assert told[2]["kube_control_plane_names"][:3] == ["10.10.0.100", "m3", "m3.t.example"]


def test_a_balancer_of_the_site(make: Make) -> None:
    inventory = make(THREE.replace("10.10.0.100", "192.0.2.7, port: 443, by: external"))
    assert inventory.hosts["kube_api_balancer"] == []
    assert of(inventory, "c4")["kube_worker_endpoint"] == "192.0.2.7:443"


def test_kube_vip_keeps_it_up_on_the_control_plane(make: Make) -> None:
    inventory = make(THREE.replace("10.10.0.100", "10.10.0.100, by: kube-vip"))
    assert inventory.hosts["kube_api_balancer"] == []
    told = [of(inventory, name) for name in ("m1", "m2", "m3")]
    assert {each["kube_vip_address"] for each in told} == {"10.10.0.100"}
    assert {each["kube_control_plane_endpoint"] for each in told} == {"10.10.0.100:6443"}
    assert {each["kube_control_plane_hold"] for each in told} == {"10.10.0.100"}
    assert told[1]["kube_vip_node_address"] == "10.10.0.2"
    assert told[1]["kube_vip_peers"] == ["10.10.0.1", "10.10.0.3"]
    assert "kube_vip_lease" not in told[0]
    alone = make(THREE.replace("10.10.0.100", "10.10.0.100, by: kube-vip").replace("management", "m1"))
    assert of(alone, "m1")["kube_vip_lease"]["renew"] > 60
    worker = of(inventory, "c4")
    assert worker["kube_worker_endpoint"] == "10.10.0.100:6443"
    assert not [name for name in worker if name.startswith("kube_vip")]
    others = [
        name for name in of(make(THREE), "m1") if name.startswith(("kube_vip", "kube_control_plane_hold"))
    ]
    assert others == []


def test_a_bundle_has_kube_vip_where_the_site_has_it(make: Make, tmp_path: Path) -> None:
    for by, there in (("kube-vip", True), ("keepalived", False)):
        make(THREE.replace("10.10.0.100", f"10.10.0.100, by: {by}"))
        chosen = resolve.chosen_by(tmp_path)
        assert ("kube-vip" in chosen) is there
        images = resolve.wanted(["kube_vip"], set(chosen)).images
        assert any("kube-vip" in image for image in images) is there


def test_labels_and_taints_of_node_and_profile(make: Make) -> None:
    inventory = make(THREE)
    assert of(inventory, "c4")["kube_worker_labels"] == {"kind": "cpu", "zone": "1"}
    own = of(inventory, "c5")
    assert own["kube_worker_labels"] == {"kind": "cpu", "zone": "2"}
    assert own["kube_worker_taints"] == ["a=b:NoSchedule", "x:NoExecute"]
    known = {each["name"]: each for each in of(inventory, "m1")["kube_control_plane_nodes"]}
    assert list(known) == ["m1", "m2", "m3", "c4", "c5"]
    assert known["c5"]["taints"] == own["kube_worker_taints"]
    assert known["m1"]["taints"] == of(inventory, "m1")["kube_control_plane_taints"]
    assert known["m1"]["taints"] == ["node-role.kubernetes.io/control-plane:NoSchedule"]
    assert not [name for name in inventory.hostvars["c1"] if name.startswith("kube")]


def test_nodes_of_kubernetes_are_not_slurms(make: Make, tmp_path: Path) -> None:
    assert make(THREE).hosts["slurm_node"] == ["c1", "c2", "c3"]
    both = THREE.replace("services: {", "services: {slurm_node: [c1, c4], ")
    assert make(both).hosts["slurm_node"] == ["c1", "c4"]
    assert make(THREE.replace("[c4, c5]", "compute")).hosts["slurm_node"] == []
    assert make(THREE.replace("services: {", "services: {kube_node: [], ").replace(
        ", kube_node: [c4, c5]", "")).hosts["slurm_node"] == ["c1", "c2", "c3", "c4", "c5"]  # fmt: skip
    assert check_site(tmp_path).ok


def test_images_and_releases_are_those_of_the_versions_file(make: Make) -> None:
    told = of(make(THREE), "c4")
    held = versions.effective()
    assert told["kubelet_release"] == held.get("file", "kubeadm").version
    assert told["containerd_sandbox_image"] == held.get("image", "registry.k8s.io/pause").reference
    images = of(make(THREE), "m1")["kube_control_plane_images"]
    for name in ("etcd", "coredns/coredns", "pause"):
        record = held.get("image", f"registry.k8s.io/{name}")
        found = images[name.partition("/")[0]]
        assert f"{found['repository']}/{name.rpartition('/')[2]}:{found['tag']}" == record.reference


def test_the_resolver_has_the_tenth_service_address(make: Make) -> None:
    told = of(make(THREE.replace("100}", "100}, networks: {services: 172.30.0.0/20}")), "c4")
    assert told["kubelet_cluster_dns"] == "172.30.0.10"


def test_the_registry_is_that_of_the_site(make: Make) -> None:
    told = of(make(f"{THREE}mirror: {{images: harbor.example}}\n"), "c4")
    for runtime in ("containerd", "crio"):
        assert told[f"{runtime}_mirror"] == "harbor.example"
        assert told[f"{runtime}_outside"] is True


def test_addons(make: Make) -> None:
    def enabled(text: str) -> dict[str, Any]:
        found = of(make(THREE.replace("100}", f"100}}, {text}")), "m1")["kube_addons_enabled"]
        assert isinstance(found, dict)
        return found

    plain = enabled("")
    assert set(enabled("addons: {headlamp: {}}")) == {*plain, "headlamp"}
    assert set(enabled("load_balancer: {pool: 10.10.9.0/28}")) == {*plain, "metallb"}
    first = next(iter(plain))
    assert set(enabled(f"addons: {{{first}: {{enabled: false}}}}")) == set(plain) - {first}
    values = "{a: {b: 0.5}, c: off}"
    assert enabled(f"addons: {{metrics_server: {{values: {values}}}}}")["metrics_server"] == {
        "a": {"b": 0.5},
        "c": False,
    }


def test_the_pool_is_written_as_metallb_reads_it(make: Make) -> None:
    text = "load_balancer: {pool: [10.10.9.0/28, 10.10.9.20-10.10.9.30, 10.10.9.40]}"
    told = of(make(THREE.replace("100}", f"100}}, {text}")), "m1")
    assert told["kube_addons_load_balancer_pool"] == [
        "10.10.9.0/28",
        "10.10.9.20-10.10.9.30",
        "10.10.9.40/32",
    ]


@pytest.mark.parametrize(
    ("name", "with_them", "without"),
    [
        ("c5", {"kube_control_plane"}, {"kube_node", "kube_api_balancer"}),
        ("c1", {"slurm_controller"}, {"kube_control_plane", "kube_node"}),
        ("m2", {"kube_control_plane", "kube_api_balancer"}, {"kube_node"}),
    ],
)
def test_who_takes_part_when_a_node_joins(
    make: Make, tmp_path: Path, name: str, with_them: set[str], without: set[str]
) -> None:
    make(THREE)
    limit = limit_for(tmp_path, [name])
    assert limit is not None
    parts = set(limit.split(","))
    assert {name, *with_them} <= parts
    assert not without & parts


def test_a_join_is_as_large_on_a_large_site(make: Make, tmp_path: Path) -> None:
    limits = []
    wide = THREE.replace("100}", "100}, networks: {pods: 172.16.0.0/14}")
    for count in (10, 500):
        nodes = NODES.replace("c[1-4]", f"c[1-4,6-{count}]").replace("10.10.1.5", "10.10.9.5")
        make(wide.replace("[c4, c5]", f'["c[1-{count}]"]'), nodes)
        limits.append(limit_for(tmp_path, ["c5"]))
    assert limits[0] == limits[1]


QUEUES = """\
services: {kube_control_plane: m1}
kubernetes:
  queueing:
    kinds: {a100: {nvidia.com/gpu.product: NVIDIA-A100-SXM4-80GB}}
    queues:
      - {name: research, namespaces: [lab, lab], cohort: all, quotas: {a100: {nvidia.com/gpu: 8}, any: {cpu: 64}}}
      - {name: teaching, namespaces: [course], quotas: {any: {nvidia.com/gpu: 2}}}
"""


def test_queues_bring_kueue(make: Make) -> None:
    told = of(make(QUEUES), "m1")
    assert "kueue" in told["kube_addons_enabled"]
    queues = told["kube_addons_queues"]
    assert queues["kinds"] == {"a100": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}, "any": {}}
    assert queues["uncounted"] == ["memory", "ephemeral-storage"], "cpu is counted"
    research, teaching = queues["queues"]
    assert research["namespaces"] == ["lab"] and research["cohort"] == "all"
    assert [group["resources"] for group in research["groups"]] == [["nvidia.com/gpu"], ["cpu"]]
    assert teaching["groups"] == [
        {"resources": ["nvidia.com/gpu"], "kinds": {"any": {"nvidia.com/gpu": "2"}}}
    ]


def test_without_queues_there_is_no_kueue(make: Make) -> None:
    told = of(make("services: {kube_control_plane: m1}\n"), "m1")
    assert told["kube_addons_queues"] == {} and "kueue" not in told["kube_addons_enabled"]


def test_gangs_are_switched_on_beside_a_sites_own_switches(make: Make) -> None:
    head = "services: {kube_control_plane: m1}\nkubernetes:\n"
    without = of(make(head + "  settings: {apiserver: {feature-gates: A=true}}\n"), "m1")
    assert without["kube_control_plane_settings"]["apiserver"] == {"feature-gates": "A=true"}
    gangs = "  gang_scheduling: true\n  settings: {apiserver: {feature-gates: A=true}}\n"
    told = of(make(head + gangs), "m1")["kube_control_plane_settings"]
    assert told["apiserver"]["feature-gates"].startswith("A=true,")
    assert "scheduling.k8s.io/" in told["apiserver"]["runtime-config"]
    assert "GangScheduling=true" in told["scheduler"]["feature-gates"]
    assert told["etcd"] == without["kube_control_plane_settings"]["etcd"]


APART = THREE.replace("services: {", "services: {etcd: [c1, c2, c3], ").replace(
    "100}}", "100}, settings: {etcd: {heartbeat-interval: 250}}, snapshots: {every: 1h, keep: 5}}"
)


def test_a_store_of_its_own_has_members_and_the_api_servers_know_them(make: Make, tmp_path: Path) -> None:
    inventory = make(APART)
    told = of(inventory, "c2")
    assert told["etcd_address"] == "10.10.1.2"
    assert [each["name"] for each in told["etcd_members"]] == ["c1", "c2", "c3"]
    assert told["etcd_settings"] == {"heartbeat-interval": "250"}
    assert told["etcd_snapshots"] == {"every": "1h", "keep": 5}
    endpoints = of(inventory, "m1")["kube_control_plane_store"]
    assert endpoints == [f"https://10.10.1.{n}:2379" for n in (1, 2, 3)]
    assert "etcd_members" not in of(inventory, "m1")
    # the members let it in, and the API servers learn of it
    assert {"c3", "etcd", "kube_control_plane"} <= set((limit_for(tmp_path, ["c3"]) or "").split(","))
    # c1 to c3 still run jobs; a store is no node of Kubernetes
    assert of(inventory, "m1")["kube_check_nodes"] == ["m1", "m2", "m3", "c4", "c5"]


def test_without_hosts_for_it_the_store_is_on_the_control_plane(make: Make) -> None:
    inventory = make(THREE)
    assert of(inventory, "m1")["kube_control_plane_store"] == []
    assert not [name for name in of(inventory, "c1") if name.startswith("etcd_")]
