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


COMPONENT = ("system:kube-controller-manager", ["system:authenticated"])
NODE = ("system:node:gpu001", ["system:nodes", "system:authenticated"])
OF_THE_SYSTEM = ("system:serviceaccount:kube-system:x", ["system:serviceaccounts:kube-system"])
PERSON = ("ada", ["system:authenticated"])


def audited(who: tuple[str, list[str]], verb: str, resource: str, group: str = "") -> str:
    """The level that the API server would take: that of the first rule that fits."""
    for rule in kube_documents.audit_policy()["rules"]:
        things = rule.get("resources")
        if (
            "nonResourceURLs" not in rule
            and who[0] in rule.get("users", [who[0]])
            and set(who[1]) & set(rule.get("userGroups", who[1]))
            and verb in rule.get("verbs", [verb])
            and (
                things is None
                or any(
                    each["group"] == group and resource in each.get("resources", [resource])
                    for each in things
                )
            )
        ):
            return str(rule["level"])
    return "None"


@pytest.mark.parametrize("who", [COMPONENT, NODE, OF_THE_SYSTEM, PERSON])
def test_who_reads_a_secret_is_in_the_audit_log(who: tuple[str, list[str]]) -> None:
    for verb in ("get", "list", "watch", "create", "delete"):
        assert audited(who, verb, "secrets") == "Metadata"
    assert audited(who, "create", "tokenreviews", "authentication.k8s.io") == "Metadata"
    assert audited(who, "patch", "configmaps") == "Metadata"


def test_what_components_ask_all_day_is_not_in_the_audit_log() -> None:
    for who in (COMPONENT, NODE, OF_THE_SYSTEM):
        assert audited(who, "watch", "pods") == "None"
        assert audited(who, "update", "leases", "coordination.k8s.io") == "None"
    assert audited(NODE, "watch", "configmaps") == "None"
    assert audited(OF_THE_SYSTEM, "get", "configmaps") == audited(PERSON, "get", "pods") == "Metadata"


@pytest.mark.parametrize(
    ("label", "own"),
    [
        ("rack", True),
        ("example.com/rack", True),
        ("notkubernetes.io/x", True),
        ("topology.kubernetes.io/zone", True),
        ("failure-domain.beta.kubernetes.io/region", True),
        ("beta.kubernetes.io/instance-type", True),
        ("node.kubernetes.io/anything", True),
        ("gpu.node.kubernetes.io/anything", True),
        ("kubelet.kubernetes.io/x", True),
        ("topology.kubernetes.io/rack", False),
        ("kubernetes.io/role", False),
        ("node-role.kubernetes.io/worker", False),
        ("node-restriction.kubernetes.io/tenant", False),
        ("k8s.io/x", False),
        ("my.k8s.io/x", False),
    ],
)
def test_a_kubelet_is_told_no_label_that_it_would_not_start_with(label: str, own: bool) -> None:
    told = kube_documents.registration(inputs(labels={label: "x", "b": "c"}))
    [labels] = [each["value"].split(",") for each in told["kubeletExtraArgs"]]
    assert set(labels) == {"b=c", *([f"{label}=x"] if own else [])}


def test_a_kubelet_without_labels_of_its_own_is_told_of_none() -> None:
    told = kube_documents.registration(inputs(labels={"node-role.kubernetes.io/worker": ""}))
    assert "kubeletExtraArgs" not in told


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
