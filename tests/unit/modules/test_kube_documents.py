"""What kubeadm and the API server are told, as data."""

from __future__ import annotations

import json
from typing import Any

import pytest
from plugins.module_utils import kube_documents


def inputs(**more: Any) -> dict[str, Any]:
    return {
        "release": "1.2.3",
        "endpoint": "192.0.2.10:7443",
        "address": "192.0.2.11",
        "node": "one",
        "images": {
            "repository": "registry.example",
            "etcd": {"repository": "registry.example", "tag": "9.8.7-0"},
        },
        "pod_network": "10.244.0.0/16",
        "service_network": "10.96.0.0/12",
        "domain": "cluster.local",
        "proxy": "nftables",
        **more,
    }


def named(arguments: list[dict[str, str]]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in arguments}


def test_a_site_s_arguments_win_and_null_takes_one_away() -> None:
    told = kube_documents.cluster(
        inputs(settings={"apiserver": {"audit-log-maxage": 7, "profiling": None, "v": 2}})
    )
    found = named(told["apiServer"]["extraArgs"])
    assert found["audit-log-maxage"] == "7" and found["v"] == "2" and "profiling" not in found


def test_the_cluster_s_configuration_is_the_same_on_all_nodes() -> None:
    one = kube_documents.cluster(inputs(names=["one", "one.demo"]))
    two = kube_documents.cluster(inputs(node="two", address="192.0.2.12", names=["two"]))
    assert one == two


def test_a_node_s_own_names_are_in_its_certificate_alone() -> None:
    given = inputs(names=["one", "one.demo"])
    serving = json.loads(kube_documents.serving_file(given).split("---\n")[0])
    assert serving["apiServer"]["certSANs"] == ["one", "one.demo"]
    assert "certSANs" not in kube_documents.cluster(given)["apiServer"]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"names": ["x"]}, {"names"}),
        ({"proxy": "iptables"}, {"proxy"}),
        ({"settings": {"scheduler": {"v": 3}}}, {"scheduler", "cluster"}),
        ({"settings": {"etcd": {"quota-backend-bytes": 1}}}, {"etcd", "cluster"}),
        ({"release": "1.2.4"}, set()),
        ({"labels": {"a": "b"}, "taints": ["a:NoSchedule"]}, set()),
    ],
)
def test_a_setting_touches_the_parts_that_it_is_of(change: dict[str, Any], parts: set[str]) -> None:
    before, after = kube_documents.parts(inputs()), kube_documents.parts(inputs(**change))
    assert {name for name in before if before[name] != after[name]} == parts


def test_files_of_the_api_server_start_it_anew_and_nothing_else() -> None:
    before, after = kube_documents.parts(inputs(), "a"), kube_documents.parts(inputs(), "b")
    assert {name for name in before if before[name] != after[name]} == {"apiserver"}


@pytest.mark.parametrize(
    ("text", "taint"),
    [
        ("gpu=yes:NoSchedule", {"key": "gpu", "value": "yes", "effect": "NoSchedule"}),
        ("a/b:NoExecute", {"key": "a/b", "effect": "NoExecute"}),
        ("k=:NoSchedule", {"key": "k", "effect": "NoSchedule"}),
    ],
)
def test_taints(text: str, taint: dict[str, str]) -> None:
    assert kube_documents.taints([text]) == [taint]


def test_a_worker_has_no_control_plane() -> None:
    assert "controlPlane" not in kube_documents.join(inputs())
    assert kube_documents.join(inputs(control_plane=True))["controlPlane"]["localAPIEndpoint"] == {
        "advertiseAddress": "192.0.2.11",
        "bindPort": 6443,
    }


def test_only_what_is_tolerated_is_not_checked() -> None:
    assert kube_documents.registration(inputs())["ignorePreflightErrors"] == []
    told = kube_documents.registration(inputs(tolerate=["swap", "cgroup_v1"]))
    assert told["ignorePreflightErrors"] == ["SystemVerification", "Swap"]


def test_secrets_are_encrypted_and_old_ones_still_read() -> None:
    (rule,) = kube_documents.encryption("a2V5")["resources"]
    assert rule["resources"] == ["secrets"]
    assert [next(iter(each)) for each in rule["providers"]] == ["secretbox", "identity"]


def test_namespaces_of_the_system_are_exempt() -> None:
    (plugin,) = kube_documents.admission("restricted", ["mine"])["plugins"]
    assert plugin["configuration"]["defaults"]["enforce"] == "restricted"
    assert plugin["configuration"]["exemptions"]["namespaces"] == ["kube-system", "mine"]


def test_bodies_of_requests_are_never_in_the_audit_log() -> None:
    assert {rule["level"] for rule in kube_documents.audit_policy()["rules"]} == {"None", "Metadata"}


APART = ["https://192.0.2.21:2379", "https://192.0.2.22:2379"]


def test_a_store_of_its_own_is_asked_with_a_client_s_certificate() -> None:
    given = inputs(store=APART, settings={"etcd": {"quota-backend-bytes": 1}})
    told = kube_documents.cluster(given)["etcd"]
    assert set(told) == {"external"} and told["external"]["endpoints"] == APART
    assert "etcd" not in kube_documents.parts(given)


def test_api_servers_start_anew_for_other_members() -> None:
    before, after = (kube_documents.parts(inputs(store=store)) for store in (APART, APART[:1]))
    assert {name for name in before if before[name] != after[name]} == {"apiserver", "cluster"}


def test_a_site_s_arguments_of_a_member_win_too() -> None:
    given = {"name": "s1", "address": "2001:db8::21", "pki": "/p", "quota": 7}
    told = kube_documents.member_arguments(
        {**given, "settings": {"snapshot-count": 5, "feature-gates": None, "quota-backend-bytes": 9}}
    )
    assert "--listen-peer-urls=https://[2001:db8::21]:2380" in told
    assert "--snapshot-count=5" in told and "--quota-backend-bytes=9" in told
    assert not [each for each in told if each.startswith("--feature-gates")]
    assert "--quota-backend-bytes=7" in kube_documents.member_arguments(given)
