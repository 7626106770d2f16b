"""What the role kube_gpu hands to helm: values that the chart knows, and objects that the API takes.

The chart itself is not to be had here. Its default values and definitions are, so this checks what goes in and, by a
copy of the parts of the chart that pass values on, what its custom resources become.
"""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from tests.daemons import UPSTREAM

if TYPE_CHECKING:
    from tests.render.conftest import Api

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles" / "kube_gpu"
DATA = ROOT.parent / "shared" / "reference" / "upstream-data" / "gpu-operator-v26.7.0"
DISCOVERY = "registry.k8s.io/nfd/node-feature-discovery"
SLICES = [{"devices": [0, 1], "mig-enabled": True, "mig-devices": {"3g.20gb": 2}}]
SHARED = {"l4": {"time_slicing": 4, "mps": 0, "resources": ["nvidia.com/gpu"]}}
CONTAINER = {"kube_gpu_driver": "container", "kube_gpu_toolkit": "operator"}

OPTIONS: dict[str, dict[str, Any]] = {
    "all of it on the host": {},
    "the toolkit by the operator": {"kube_gpu_toolkit": "operator"},
    "the toolkit by the operator, for CRI-O": {"kube_gpu_toolkit": "operator", "kube_gpu_runtime": "crio"},
    "the driver in a container": CONTAINER,
    "open modules in a container": {**CONTAINER, "kube_gpu_driver_kind": "open"},
    "a precompiled driver": {**CONTAINER, "kube_gpu_driver_precompiled": True},
    "a driver that reaches the site's packages alone": {
        **CONTAINER,
        "kube_gpu_driver_sources": ["deb https://mirror.example:8443/ubuntu noble main"],
        "kube_gpu_driver_authorities": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    },
    "a driver that is renewed by force": {
        **CONTAINER,
        "kube_gpu_driver_upgrade": {"nodes": 4, "evict": True},
    },
    "slices, all alike": {"kube_gpu_mig_strategy": "single", "kube_gpu_mig_layouts": {"a100": SLICES}},
    "slices by size": {
        "kube_gpu_mig_strategy": "mixed",
        "kube_gpu_mig_layouts": {"a100": SLICES, "h100": SLICES},
    },
    "slices that others cut": {"kube_gpu_mig_strategy": "mixed"},
    "turns on a GPU": {"kube_gpu_sharing": SHARED},
    "turns on slices": {
        "kube_gpu_mig_strategy": "mixed",
        "kube_gpu_mig_layouts": {"a100": SLICES},
        "kube_gpu_sharing": {"a100": {"time_slicing": 2, "mps": 0, "resources": ["nvidia.com/mig-3g.20gb"]}},
    },
    "MPS": {"kube_gpu_sharing": {"l40s": {"time_slicing": 0, "mps": 10, "resources": ["nvidia.com/gpu"]}}},
    "two pools, shared otherwise": {
        "kube_gpu_sharing": {
            **SHARED,
            "l40s": {"time_slicing": 0, "mps": 10, "resources": ["nvidia.com/gpu"]},
        }
    },
    "claims": {"kube_gpu_resources": "dra", "kube_gpu_kubernetes": "1.36.4"},
    "claims, with NVLink between nodes and a driver in a container": {
        "kube_gpu_resources": "dra",
        "kube_gpu_compute_domains": True,
        **CONTAINER,
    },
    "memory of GPUs over the network": {**CONTAINER, "kube_gpu_rdma": "host"},
    "the network operator, with the cards' driver": {
        **CONTAINER,
        "kube_gpu_rdma": "container",
        "kube_gpu_network_operator": True,
    },
    "storage and copies without a detour": {**CONTAINER, "kube_gpu_gds": True, "kube_gpu_gdrcopy": True},
    "DCGM by itself": {"kube_gpu_dcgm": True, "kube_gpu_service_monitor": True},
    "no metrics": {"kube_gpu_exporter": False},
    "taints": {"kube_gpu_taints": ["gpu=yes:NoSchedule", "batch:NoExecute"]},
    "a registry that asks who comes": {**CONTAINER, "kube_gpu_pull_secrets": ["site-registry"]},
    "further values": {"kube_gpu_values": {"daemonsets": {"rollingUpdate": {"maxUnavailable": "10%"}}}},
}

CLAIMS = [label for label, given in OPTIONS.items() if given.get("kube_gpu_resources") == "dra"]
INSIDE = [label for label, given in OPTIONS.items() if given.get("kube_gpu_driver") == "container"]

# What helm's chart keeps for itself and does not hand on to a custom resource.
CHART_ONLY = {
    "operator": ("repository", "image", "version", "imagePullSecrets", "upgradeCRD", "resources", "env"),
    "devicePlugin.config": ("create", "data"),
    "migManager.config": ("create", "data"),
    "dcgmExporter.config": ("create", "data"),
    "driver": ("nvidiaDriverCRD",),
}
# What a template reads though the defaults do not name it.
READ_ANYWAY = {"dcgm.imagePullSecrets", "dcgmExporter.imagePullSecrets"}
# What has another name in the resource.
RENAMED = {"driver.upgradePolicy.gpuPodDeletion": "podDeletion"}
OWN = {"": ("nfd", "node-feature-discovery", "clusterPolicy", "gpuCluster", "draDriver")}


def plain(value: Any) -> Any:
    """The same without what Ansible notes about it."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if value is None or isinstance(value, bool) or not isinstance(value, (str, int)):
        return value
    return str(value) if isinstance(value, str) else int(value)


def told(expression: str, given: Mapping[str, Any]) -> Any:
    """What the role's variables come to."""
    loader = DataLoader()
    variables: dict[str, Any] = {"ansible_search_path": [str(ROLE)]}
    for part in ("defaults", "vars"):
        variables |= loader.load_from_file(str(ROLE / part / "main.yml"), trusted_as_template=True)
    return plain(
        Templar(loader, {**variables, **given}).template(trust_as_template(f"{{{{ {expression} }}}}"))
    )


@cache
def values_of(label: str) -> Any:
    return told("__kube_gpu_values", OPTIONS[label])


@cache
def releases_of(label: str) -> Any:
    return told("__kube_gpu_releases", OPTIONS[label])


@pytest.fixture(scope="module")
def chart() -> dict[str, Any]:
    """The chart's default values."""
    if not DATA.is_dir():
        pytest.skip("the chart's default values are not on this machine")
    found: dict[str, Any] = yaml.safe_load((DATA / "values.yaml").read_text())
    return found


@pytest.fixture(scope="module")
def discovery() -> Path:
    """The chart of node-feature-discovery, which the operator's has inside."""
    found = sorted(UPSTREAM.glob("node-feature-discovery/*/*/charts/*.tgz"))
    if not found:
        pytest.skip("the chart of node-feature-discovery was not taken out of its module on this machine")
    return found[0]


def unknown(values: Any, known: Any, where: str = "") -> Iterator[str]:
    """Keys of values that there are not. A default that is an empty mapping, or no mapping, takes anything."""
    if not isinstance(values, dict) or not isinstance(known, dict) or not known:
        return
    for key, value in values.items():
        place = f"{where}.{key}".removeprefix(".")
        if key not in known:
            if place not in READ_ANYWAY:
                yield place
        else:
            yield from unknown(value, known[key], place)


def merged(base: Any, over: Any) -> Any:
    """As helm lays values over each other."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return copy.deepcopy(over)
    return {
        **base,
        **{key: merged(base.get(key), value) if key in base else value for key, value in over.items()},
    }


def without(values: Any, names: Mapping[str, tuple[str, ...]], where: str = "") -> Any:
    if not isinstance(values, dict):
        return values
    left = {key: value for key, value in values.items() if key not in names.get(where, ())}
    places = {key: f"{where}.{key}".removeprefix(".") for key in left}
    return {RENAMED.get(places[key], key): without(value, names, places[key]) for key, value in left.items()}


def policy(values: dict[str, Any]) -> dict[str, Any]:
    """The ClusterPolicy out of values: one part of its specification for each part of them."""
    spec = without(values, {**CHART_ONLY, **OWN})
    return {"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "metadata": {"name": "try"}, "spec": spec}


@pytest.fixture(scope="module")
def cluster(api: Api) -> Iterator[Api]:
    """The API with the operator's definitions."""
    if not DATA.is_dir():
        pytest.skip("the operator's definitions are not on this machine")
    wanted = [yaml.safe_load(path.read_text()) for path in sorted(DATA.glob("nvidia.com_*.yaml"))]
    api.define(wanted)
    yield api
    api.forget(wanted)


def test_the_table_is_long_enough() -> None:
    assert len(OPTIONS) >= 12
    assert len({str(values_of(label)) + str(releases_of(label)) for label in OPTIONS}) == len(OPTIONS)


@pytest.mark.parametrize("label", OPTIONS)
def test_the_chart_knows_every_value(label: str, chart: dict[str, Any]) -> None:
    known = {**chart, "node-feature-discovery": {}}
    # versions are told though the chart's own would do; these two keys are comments in its file
    for part in ("operator", "validator"):
        known[part] = {**chart[part], "version": ""}
    assert not list(unknown(values_of(label), known))


@pytest.mark.parametrize("label", ["all of it on the host", "taints", "a registry that asks who comes"])
def test_the_chart_of_the_discovery_takes_its_values(label: str, discovery: Path, helm: str) -> None:
    """It has a schema, and what comes out is the image of the versions file on all nodes with GPUs."""
    values = values_of(label)
    argv = [helm, "template", "try", str(discovery), "--values=-", "--kube-version=v1.36.0"]
    given = yaml.safe_dump(values["node-feature-discovery"])
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    [worker] = [each["spec"]["template"]["spec"] for each in objects if each["kind"] == "DaemonSet"]
    tag = yaml.safe_load((ROOT / "inventory/versions.yml").read_text())["images"][DISCOVERY]["tag"]
    assert worker["containers"][0]["image"] == f"{DISCOVERY}:{tag}"
    assert all(each in worker["tolerations"] for each in values["daemonsets"]["tolerations"])
    secrets = [{"name": name} for name in OPTIONS[label].get("kube_gpu_pull_secrets", [])]
    assert (worker.get("imagePullSecrets") or []) == secrets


def test_a_value_that_nobody_knows_is_found(chart: dict[str, Any]) -> None:
    assert list(unknown({"driver": {"enable": True}, "toolkits": {}}, chart)) == ["driver.enable", "toolkits"]


@pytest.mark.parametrize(
    "label", [label for label, given in OPTIONS.items() if given.get("kube_gpu_resources") != "dra"]
)
def test_the_api_takes_the_cluster_policy(label: str, cluster: Api, chart: dict[str, Any]) -> None:
    """What we say, strictly; and all of it together with what the chart says by itself, as it would be sent."""
    properties, required = schema_of_policy(cluster)
    ours = policy(values_of(label))
    missing = {key: {"enabled": chart[key]["enabled"]} for key in required - set(ours["spec"])}
    assert not cluster.trouble({**ours, "spec": {**ours["spec"], **missing}})
    together = policy(merged(chart, values_of(label)))
    together["spec"] = {key: value for key, value in together["spec"].items() if key in properties}
    status, said, _ = cluster.ask("POST", f"{cluster.place(together)}?dryRun=All", together)
    assert status == 201, said


def schema_of_policy(cluster: Api) -> tuple[set[str], set[str]]:
    """Parts that a policy may have, and that it must."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusterpolicies.nvidia.com"
    _, said, _ = cluster.ask("GET", path)
    schema = said["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return set(schema["properties"]), set(schema["required"])


def test_the_api_refuses_a_wrong_policy(cluster: Api) -> None:
    wrong = copy.deepcopy(values_of("all of it on the host"))
    wrong["mig"]["strategy"] = "some"
    assert "strategy" in cluster.trouble(policy(wrong))
    wrong = copy.deepcopy(values_of("all of it on the host"))
    wrong["devicePlugin"]["enabeld"] = True
    assert "enabeld" in cluster.trouble(policy(wrong))


def test_the_api_takes_the_gpu_cluster(cluster: Api) -> None:
    for label in CLAIMS:
        values = values_of(label)
        spec = {
            "draDriver": values["draDriver"],
            "dcgm": values["dcgm"],
            "dcgmExporter": values["dcgmExporter"],
            "daemonsets": values["daemonsets"],
        }
        each = {
            "apiVersion": "nvidia.com/v1alpha1",
            "kind": "GPUCluster",
            "metadata": {"name": "gpu-cluster"},
            "spec": spec,
        }
        assert not cluster.trouble(each)


@pytest.mark.parametrize(
    "label", [label for label, given in OPTIONS.items() if given.get("kube_gpu_driver") == "container"]
)
def test_the_api_takes_the_driver_as_an_object_of_its_own(label: str, cluster: Api) -> None:
    driver = values_of(label)["driver"]
    spec = {
        key: driver[key] for key in ("repository", "image", "version", "kernelModuleType", "usePrecompiled")
    }
    spec |= {"driverType": "gpu", "rdma": driver["rdma"], "manager": driver["manager"]}
    each = {
        "apiVersion": "nvidia.com/v1alpha1",
        "kind": "NVIDIADriver",
        "metadata": {"name": "try"},
        "spec": spec,
    }
    assert not cluster.trouble(each)


@pytest.mark.parametrize("label", OPTIONS)
def test_one_kind_of_the_operator_runs_and_not_the_other(label: str) -> None:
    values = values_of(label)
    claims = OPTIONS[label].get("kube_gpu_resources") == "dra"
    policy_, cluster_ = values.get("clusterPolicy", {}), values.get("gpuCluster", {})
    assert (policy_.get("deployCR", True), cluster_.get("deployCR", False)) == (not claims, claims)
    assert ("devicePlugin" in values) == (not claims)


@pytest.mark.parametrize("label", OPTIONS)
def test_a_driver_comes_from_one_place(label: str) -> None:
    values, given = values_of(label), OPTIONS[label]
    inside = given.get("kube_gpu_driver") == "container"
    assert values["driver"]["enabled"] == inside
    for part in ("gds", "gdrcopy"):
        assert values.get(part, {}).get("enabled", False) == bool(given.get(f"kube_gpu_{part}"))
    rdma = values["driver"].get("rdma", {})
    wanted = given.get("kube_gpu_rdma", "off")
    assert (rdma.get("enabled", False), rdma.get("useHostMofed", False)) == (
        wanted != "off",
        wanted == "host",
    )


@pytest.mark.parametrize("label", OPTIONS)
def test_pods_of_the_operator_run_where_gpus_are(label: str) -> None:
    """Each taint of nodes with GPUs is put up with by the operands and by the discovery, which is there first."""
    values = values_of(label)
    own = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    wanted = [own]
    if "kube_gpu_taints" in OPTIONS[label]:
        wanted += [
            {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
            {"key": "batch", "operator": "Exists", "effect": "NoExecute"},
        ]
    assert values["daemonsets"]["tolerations"] == wanted
    worker = values["node-feature-discovery"]["worker"]["tolerations"]
    assert all(each in worker for each in wanted)
    assert any(each["key"] == "node-role.kubernetes.io/control-plane" for each in worker)


STRATEGIES = {
    "all of it on the host": "none",
    "slices, all alike": "single",
    "slices by size": "mixed",
    "slices that others cut": "mixed",
    "turns on slices": "mixed",
}


@pytest.mark.parametrize("label", STRATEGIES)
def test_slices_have_one_strategy_everywhere(label: str) -> None:
    values = values_of(label)
    assert values["mig"]["strategy"] == STRATEGIES[label]
    for text in values["devicePlugin"]["config"]["data"].values():
        assert yaml.safe_load(text)["flags"]["migStrategy"] == STRATEGIES[label]
    layouts = OPTIONS[label].get("kube_gpu_mig_layouts", {})
    assert values["migManager"]["enabled"] == bool(layouts)
    if layouts:
        config = values["migManager"]["config"]
        told_ = yaml.safe_load(config["data"]["config.yaml"])
        assert set(told_["mig-configs"]) == {"all-disabled", *layouts}
        assert told_["mig-configs"]["a100"] == SLICES
        assert config["default"] == "all-disabled"


def test_each_pool_is_shared_in_its_own_way() -> None:
    config = values_of("two pools, shared otherwise")["devicePlugin"]["config"]
    read = {name: yaml.safe_load(text) for name, text in config["data"].items()}
    assert set(read) == {"default", "l4", "l40s"}
    assert "sharing" not in read[config["default"]]
    assert read["l4"]["sharing"]["timeSlicing"]["resources"] == [{"name": "nvidia.com/gpu", "replicas": 4}]
    assert read["l4"]["sharing"]["timeSlicing"]["failRequestsGreaterThanOne"] is True
    assert read["l40s"]["sharing"]["mps"]["resources"] == [{"name": "nvidia.com/gpu", "replicas": 10}]
    assert not any({"mps", "timeSlicing"} <= set(each.get("sharing", {})) for each in read.values())


def test_a_change_of_the_sharing_has_another_name() -> None:
    """The plugin reads its configuration when it starts, and starts when the name changes."""

    def name(replicas: int) -> Any:
        shared = {"l4": {"time_slicing": replicas, "resources": ["nvidia.com/gpu"]}}
        return told("__kube_gpu_values.devicePlugin.config.name", {"kube_gpu_sharing": shared})

    assert name(4) == name(4) != name(5)


def test_the_toolkit_leaves_the_runtime_s_own_file_alone() -> None:
    def env(label: str) -> dict[str, str]:
        return {each["name"]: each["value"] for each in values_of(label)["toolkit"]["env"]}

    containerd, crio = env("the toolkit by the operator"), env("the toolkit by the operator, for CRI-O")
    assert containerd["RUNTIME_CONFIG_SOURCE"] == "file"
    assert containerd["CONTAINERD_SET_AS_DEFAULT"] == "false"
    assert not [name for name in crio if name.startswith("CONTAINERD")]
    for each in (containerd, crio):
        assert each["ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED"] == "false"
    read = (ROOT / "roles/containerd/templates/config.toml.j2").read_text()
    assert 'imports = ["/etc/containerd/conf.d/*.toml"]' in read, "what the toolkit writes would not be read"


def images(values: Any) -> Iterator[tuple[str, str]]:
    """Repository and version of every image that values name."""
    if isinstance(values, dict):
        if {"repository", "image", "version"} <= set(values):
            yield f"{values['repository']}/{values['image']}", values["version"]
        for part in values.values():
            yield from images(part)


@pytest.mark.parametrize("label", OPTIONS)
def test_every_image_is_declared_and_of_the_versions_file(label: str) -> None:
    records = yaml.safe_load((ROOT / "inventory/versions.yml").read_text())["images"]
    declared = yaml.safe_load((ROLE / "meta/artifacts.yml").read_text())["choices"]
    known = {image for part in declared.values() for image in part["images"]}
    found = list(images(values_of(label)))
    assert len(found) >= 4
    for name, version in found:
        assert name in known
        tag = records[name]["tag"]
        precompiled = name == "nvcr.io/nvidia/driver" and "kube_gpu_driver_precompiled" in OPTIONS[label]
        assert tag == version or tag.startswith(f"{version}." if precompiled else f"{version}-"), name


def test_a_precompiled_driver_is_named_by_its_branch() -> None:
    whole = values_of("the driver in a container")["driver"]["version"]
    assert values_of("a precompiled driver")["driver"]["version"] == whole.split(".")[0]
    assert "-" not in whole


@pytest.mark.parametrize("label", ["a registry that asks who comes"])
def test_secrets_go_to_every_part_that_fetches(label: str) -> None:
    values = values_of(label)
    for part in (
        "operator",
        "validator",
        "driver",
        "toolkit",
        "devicePlugin",
        "gfd",
        "dcgm",
        "dcgmExporter",
        "migManager",
    ):
        assert values[part]["imagePullSecrets"] == ["site-registry"], part
    assert values["node-feature-discovery"]["imagePullSecrets"] == [{"name": "site-registry"}]


def test_releases_come_in_order() -> None:
    assert [each["name"] for each in releases_of("all of it on the host")] == ["gpu-operator"]
    names = [each["name"] for each in releases_of("the network operator, with the cards' driver")]
    assert names == ["gpu-operator", "network-operator", "network-cards"]
    names = [each["name"] for each in releases_of("a driver that reaches the site's packages alone")]
    assert names == ["gpu-operator-settings", "gpu-operator"]
    assert all(each["labels"] for label in OPTIONS for each in releases_of(label))


def test_sources_and_authorities_of_the_driver_are_objects_that_its_values_name(api: Api) -> None:
    label = "a driver that reaches the site's packages alone"
    settings = list(yaml.safe_load_all(releases_of(label)[0]["manifests"]))
    found = {each["metadata"]["name"]: each for each in settings if each}
    driver = values_of(label)["driver"]
    sources, authorities = driver["repoConfig"]["configMapName"], driver["certConfig"]["name"]
    assert set(found) == {sources, authorities}
    assert found[sources]["data"]["site.list"].startswith("deb https://mirror.example:8443")
    assert "BEGIN CERTIFICATE" in found[authorities]["data"]["site.crt"]
    for each in found.values():
        assert not api.trouble(
            {**each, "metadata": {"name": each["metadata"]["name"], "namespace": "default"}}
        )


def test_network_cards_are_shared_as_their_plugin_reads_it() -> None:
    *_, cards = releases_of("the network operator, with the cards' driver")
    spec = yaml.safe_load(cards["manifests"])["spec"]
    [shared] = yaml.safe_load(spec["rdmaSharedDevicePlugin"]["config"])["configList"]
    assert shared["selectors"] == {"vendors": ["15b3"]}
    assert not spec["ofedDriver"]["version"].endswith("ubuntu24.04")
    without_ = told(
        "__kube_gpu_releases", {**CONTAINER, "kube_gpu_rdma": "host", "kube_gpu_network_operator": True}
    )
    assert "ofedDriver" not in yaml.safe_load(without_[-1]["manifests"])["spec"]


def test_only_what_is_on_is_fetched() -> None:
    def names(**given: Any) -> list[str]:
        return [each["name"] for each in told("__kube_gpu_files", given)]

    assert names(kube_gpu_enabled=False) == ["helm"]
    assert names() == ["helm", "gpu-operator"]
    assert names(kube_gpu_network_operator=True) == ["helm", "gpu-operator", "network-operator"]


@pytest.mark.parametrize(
    ("sharing", "twice", "slices"),
    [
        (SHARED, [], []),
        ({"a": {"time_slicing": 2, "mps": 2, "resources": ["nvidia.com/gpu"]}}, ["a"], []),
        ({"a": {"mps": 2, "resources": ["nvidia.com/mig-1g.10gb"]}}, [], ["a"]),
        ({"a": {"time_slicing": 2, "resources": ["nvidia.com/mig-1g.10gb"]}}, [], []),
    ],
)
def test_what_cannot_be_shared_is_named(sharing: dict[str, Any], twice: list[str], slices: list[str]) -> None:
    given = {"kube_gpu_sharing": sharing}
    assert told("__kube_gpu_twice", given) == twice
    assert told("__kube_gpu_mps_of_slices", given) == slices


def test_an_earlier_release_takes_its_own_records(tmp_path: Path) -> None:
    """A site that writes records of 26.3 gets its chart and images, and no key that only 26.7 knows."""
    chart = {"version": "v26.3.2", "url": "https://charts.example/gpu-operator-{version}.tgz", "sha256": ""}
    images_ = {
        "nvcr.io/nvidia/gpu-operator@26.3.2": {"tag": "v26.3.2", "digest": ""},
        "nvcr.io/nvidia/k8s-device-plugin@26.3.2": {"tag": "v0.19.2", "digest": ""},
    }
    overlay = {"files": {}, "images": images_, "charts": {"gpu-operator@26.3.2": chart}}
    (tmp_path / "versions.yml").write_text(yaml.safe_dump(overlay))
    given = {"kube_gpu_release": "26.3.2", "artifact_versions": [str(tmp_path / "versions.yml")]}
    values = told("__kube_gpu_values", given)
    assert values["operator"]["version"] == "v26.3.2"
    assert values["devicePlugin"]["version"] == values["gfd"]["version"] == "v0.19.2"
    assert told("__kube_gpu_version", given) == "26.3.2"
    assert told("__kube_gpu_files", given)[1]["version"] == "26.3.2"
    assert not {"gpuCluster", "draDriver", "clusterPolicy"} & set(values)
