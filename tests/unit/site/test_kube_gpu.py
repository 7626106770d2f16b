"""GPUs in Kubernetes: what is written wrong is named, and what the role is given follows from the site alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackloom.bundle import declared, resolve
from rackloom.site import check_site, load_site
from rackloom.site.inventory import Inventory, build
from rackloom.site.support import Support, network_operator_misfit

HERE = Path(__file__).parent
HEAD = {"name": "t", "domain": "t.example", "networks": {"cluster": {"cidr": "10.10.0.0/16"}}}
SERVICES = {"kube_control_plane": ["m1"], "kube_node": ["g1", "g2", "s1", "c1"]}
NODES = {
    "profiles": {
        "cpu": {"cores": 2, "memory": 4000},
        "a100": {
            "cores": 2,
            "memory": 4000,
            "gpus": [{"type": "a100", "count": 4}],
            "taints": ["gpu=yes:NoSchedule"],
        },
        "cut": {
            "cores": 2,
            "memory": 4000,
            "gpus": [
                {"type": "a100", "count": 2, "product": "a100-sxm4-40gb", "mig": {"3g.20gb": 2}},
                {"type": "t4", "count": 1},
            ],
        },
    },
    "management": [{"name": "m1", "address": "10.10.0.1", "profile": "cpu"}],
    "login": [{"name": "l1", "address": "10.10.0.9", "profile": "cpu"}],
    "compute": [
        {"name": "g[1-2]", "address": "10.10.1.1", "profile": "a100"},
        {"name": "s1", "address": "10.10.1.3", "profile": "cut", "labels": {"zone": "b"}},
        {"name": "c1", "address": "10.10.1.4", "profile": "cpu"},
    ],
}
CHARTS = {
    "gpu-operator": {
        "version": "v26.7.0",
        "url": "https://charts.example/g-{version}.tgz",
        "sha256": "1" * 64,
    },
    "gpu-operator@26.3.2": {
        "version": "v26.3.2",
        "url": "https://charts.example/g-{version}.tgz",
        "sha256": "2" * 64,
    },
    "network-operator": {
        "version": "26.4.1",
        "url": "https://charts.example/n-{version}.tgz",
        "sha256": "3" * 64,
    },
}
RELEASES = {
    f"{name}@{release}": {
        "version": release,
        "url": f"https://files.example/{name}",
        "sha256": {"amd64": "4" * 64},
    }
    for name in ("kubeadm", "kubelet", "kubectl")
    for release in ("1.34.1", "1.35.4")
}
Folder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A site's folder, with a section gpu.kubernetes."""

    def make(
        kube: dict[str, Any] | None = None,
        *,
        gpu: dict[str, Any] | None = None,
        charts: dict[str, Any] | None = None,
        **cluster: Any,
    ) -> Path:
        stack = {**(gpu or {}), "kubernetes": {"enabled": True, **(kube or {})}}
        written = {**HEAD, "services": SERVICES, "gpu": stack, **cluster}
        (tmp_path / "cluster.yml").write_text(yaml.safe_dump(written))
        (tmp_path / "nodes.yml").write_text(yaml.safe_dump(NODES))
        held = yaml.safe_load((HERE / "good" / "versions.yml").read_text())
        held["charts"] |= CHARTS if charts is None else charts
        held["files"] = RELEASES
        (tmp_path / "versions.yml").write_text(yaml.safe_dump(held))
        return tmp_path

    return make


@pytest.fixture
def built(folder: Folder) -> Callable[..., Inventory]:
    return lambda *args, **more: build(load_site(folder(*args, **more)))


def test_a_site_with_gpus_in_kubernetes_is_right(folder: Folder) -> None:
    assert not check_site(folder()).mistakes


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "turns and MPS": (
        {"sharing": {"a100": {"time_slicing": 4, "mps": 4}}},
        {},
        "gpu-sharing",
        "one of the two",
    ),
    "MPS of slices": ({"sharing": {"cut": {"mps": 4}}}, {}, "mps-with-mig", "whole GPUs"),
    "a profile that is not": ({"sharing": {"a10": {"mps": 4}}}, {}, "unknown-profile", "a100"),
    "a profile without GPUs": ({"sharing": {"cpu": {"mps": 4}}}, {}, "no-gpus", "no GPUs to be shared"),
    "too many clients": ({"sharing": {"a100": {"mps": 49}}}, {}, "out-of-range", "48"),
    "a release that nobody has": ({"operator": "26.9.9"}, {}, "unknown-version", "26.3.2, 26.7.0"),
    "a driver in two places": (
        {"driver": {"place": "container"}},
        {"gpu": {"driver": {"source": "vendor", "branch": "580"}}},
        "driver-twice",
        "on the hosts too",
    ),
    "RDMA without a container": ({"rdma": "host"}, {}, "needs-driver-container", "rdma"),
    "GDS without a container": ({"gds": True}, {}, "needs-driver-container", "gds"),
    "the cards' driver by nobody": (
        {"rdma": "container", "driver": {"place": "container"}},
        {},
        "no-network-operator",
        "nobody brings it",
    ),
    "the network operator on a newer Kubernetes": (
        {"network_operator": True},
        {},
        "unsupported-version",
        "up to 1.35",
    ),
    "claims on an older Kubernetes": (
        {"resources": "dra", "cut": False},
        {"kubernetes": {"version": "1.34.1"}},
        "unsupported-version",
        "1.34.2",
    ),
    "claims by an older operator": (
        {"resources": "dra", "cut": False, "operator": "26.3.2"},
        {},
        "unsupported-version",
        "26.7",
    ),
    "claims and sharing": (
        {"resources": "dra", "cut": False, "sharing": {"a100": {"mps": 2}}},
        {},
        "needs-device-plugin",
        "Remove `sharing`",
    ),
    "claims and slices": ({"resources": "dra"}, {}, "needs-device-plugin", "profile cut"),
    "domains without claims": ({"compute_domains": True}, {}, "needs-dra", "NVLink"),
    "a strategy": ({"mig": "some"}, {}, "bad-value", "mixed"),
    "a key": ({"shareing": {}}, {}, "unknown-key", "sharing"),
    "no Kubernetes": ({}, {"services": {}}, "no-kubernetes", "no node is of Kubernetes"),
    "no GPUs": (
        {},
        {"services": {"kube_control_plane": ["m1"], "kube_node": ["c1"]}},
        "no-gpus",
        "no node that takes pods",
    ),
}


@pytest.mark.parametrize("label", WRONG)
def test_what_is_wrong_is_named(label: str, folder: Folder) -> None:
    kube, more, code, says = WRONG[label]
    found = check_site(folder(kube, **more)).mistakes
    listing = "\n".join(f"{mistake} [{mistake.code}]" for mistake in found)
    # the images of an earlier release of Kubernetes have no records here
    found = [mistake for mistake in found if mistake.code != "missing-record"]
    assert [mistake.code for mistake in found] == [code], listing
    assert says in listing
    assert all(mistake.cure for mistake in found)
    assert found[0].file == "cluster.yml"
    assert found[0].line > 0


def test_a_chart_without_a_digest_is_pinned_first(folder: Folder) -> None:
    charts = {**CHARTS, "gpu-operator": {**CHARTS["gpu-operator"], "sha256": ""}}
    [found] = check_site(folder(charts=charts)).mistakes
    assert found.code == "no-digest"
    assert "bundle pin" in found.cure


@pytest.mark.parametrize("operator", ["", "26.7.0", "26.3.2"])
@pytest.mark.parametrize("kubernetes", ["", "1.35.4"])
def test_releases_that_go_together_are_let_through(operator: str, kubernetes: str, folder: Folder) -> None:
    codes = {
        each.code
        for each in check_site(folder({"operator": operator}, kubernetes={"version": kubernetes})).mistakes
    }
    # the images of the earlier release of Kubernetes have no records here
    assert codes <= {"missing-record"}


@pytest.mark.parametrize(
    ("version", "kubernetes", "says"),
    [("26.4.1", "1.35.9", ""), ("v26.4.0", "1.36.0", "up to 1.35"), ("25.1.0", "1.33.0", "No release 25.1")],
)
def test_the_network_operator_knows_some_releases(version: str, kubernetes: str, says: str) -> None:
    known = Support(kubernetes={}, network_operator={"26.4": "1.35"})
    said = network_operator_misfit(version, kubernetes, known)
    assert (says in said) if says else not said


def of(inventory: Inventory, host: str) -> dict[str, Any]:
    """A host's variables, as Ansible would lay them over each other."""
    found: dict[str, Any] = dict(inventory.vars["all"])
    for group in inventory.hostvars[host]["rackloom_roles"]:
        found |= inventory.vars.get(group, {})
    return found | inventory.hostvars[host]


def test_off_is_said_so_that_it_goes(built: Callable[..., Inventory]) -> None:
    given = of(built({"enabled": False}), "m1")
    assert given["kube_gpu_enabled"] is False
    assert not [name for name in given if name.startswith("kube_gpu_") and name != "kube_gpu_enabled"]


def test_the_role_is_given_what_it_declares(built: Callable[..., Inventory]) -> None:
    given = {name for name in of(built(), "m1") if name.startswith("kube_gpu_")}
    defaults = yaml.safe_load((HERE.parents[2] / "roles/kube_gpu/defaults/main.yml").read_text())
    assert given <= set(defaults)
    assert len(given) > 15


def test_nodes_say_how_their_gpus_are_shared_and_cut(built: Callable[..., Inventory]) -> None:
    inventory = built({"sharing": {"a100": {"time_slicing": 4}, "cut": {"time_slicing": 0}}})
    labels = {host: of(inventory, host)["kube_worker_labels"] for host in SERVICES["kube_node"]}
    assert labels["g1"] == labels["g2"] == {"nvidia.com/device-plugin.config": "a100"}
    assert labels["s1"] == {"nvidia.com/mig.config": "cut", "zone": "b"}
    assert labels["c1"] == {}
    told = {each["name"]: each["labels"] for each in of(inventory, "m1")["kube_control_plane_nodes"]}
    assert told["g1"] == labels["g1"]
    assert of(inventory, "m1")["kube_gpu_sharing"] == {
        "a100": {"time_slicing": 4, "mps": 0, "resources": ["nvidia.com/gpu"]}
    }


def test_every_label_names_something_that_the_role_is_given(built: Callable[..., Inventory]) -> None:
    inventory = built({"sharing": {"a100": {"mps": 4}, "cut": {"time_slicing": 2}}})
    given = of(inventory, "m1")
    for host in SERVICES["kube_node"]:
        labels = of(inventory, host)["kube_worker_labels"]
        assert labels.get("nvidia.com/device-plugin.config", "a100") in given["kube_gpu_sharing"]
        assert labels.get("nvidia.com/mig.config", "cut") in given["kube_gpu_mig_layouts"]


def test_slices_lie_on_the_gpus_of_the_profile_in_order(built: Callable[..., Inventory]) -> None:
    given = of(built({"sharing": {"cut": {"time_slicing": 2}}}), "m1")
    assert given["kube_gpu_mig_strategy"] == "mixed"
    assert given["kube_gpu_mig_layouts"] == {
        "cut": [
            {"devices": [0, 1], "mig-enabled": True, "mig-devices": {"3g.20gb": 2}},
            {"devices": [2], "mig-enabled": False},
        ]
    }
    assert given["kube_gpu_sharing"]["cut"]["resources"] == ["nvidia.com/mig-3g.20gb", "nvidia.com/gpu"]
    single = of(built({"mig": "single", "sharing": {"cut": {"time_slicing": 2}}}), "m1")
    assert single["kube_gpu_sharing"]["cut"]["resources"] == ["nvidia.com/gpu"]
    assert of(built({"cut": False}), "m1")["kube_gpu_mig_layouts"] == {}
    assert "nvidia.com/mig.config" not in of(built({"cut": False}), "s1")["kube_worker_labels"]


def test_claims_know_no_labels_of_the_plugin(built: Callable[..., Inventory]) -> None:
    inventory = built({"resources": "dra", "cut": False})
    assert of(inventory, "g1")["kube_worker_labels"] == {}


@pytest.mark.parametrize(
    ("kube", "gpu", "toolkit"),
    [
        ({}, {}, "operator"),
        ({}, {"driver": {"source": "distribution"}}, "host"),
        ({}, {"toolkit": True}, "host"),
        ({}, {"toolkit": False, "driver": {"source": "distribution"}}, "operator"),
        ({}, {"toolkit": True, "simulated": True}, "operator"),
        ({"toolkit": "host"}, {}, "host"),
        ({"driver": {"place": "container"}}, {}, "operator"),
    ],
)
def test_one_of_host_and_operator_has_the_toolkit(
    kube: dict[str, Any], gpu: dict[str, Any], toolkit: str, built: Callable[..., Inventory]
) -> None:
    assert of(built(kube, gpu=gpu), "m1")["kube_gpu_toolkit"] == toolkit


@pytest.mark.parametrize(
    ("kube", "dcgm", "exporter"),
    [
        ({}, {}, True),
        ({}, {"enabled": True}, False),
        ({}, {"enabled": True, "exporter": False}, True),
        ({"exporter": True}, {"enabled": True}, True),
        ({"exporter": False}, {}, False),
    ],
)
def test_metrics_come_from_one_place(
    kube: dict[str, Any], dcgm: dict[str, Any], exporter: bool, built: Callable[..., Inventory]
) -> None:
    assert of(built(kube, gpu={"dcgm": dcgm}), "m1")["kube_gpu_exporter"] is exporter


def test_taints_of_nodes_with_gpus_are_told(built: Callable[..., Inventory]) -> None:
    assert of(built(), "m1")["kube_gpu_taints"] == ["gpu=yes:NoSchedule"]


@pytest.mark.parametrize(
    ("kube", "wanted", "spared"),
    [
        (
            {},
            {"gpu_operator", "gpu_device_plugin", "gpu_toolkit", "gpu_exporter"},
            {"gpu_driver_container", "gpu_dra"},
        ),
        (
            {"driver": {"place": "container"}, "gds": True},
            {"gpu_driver_container", "gpu_gds"},
            {"gpu_gdrcopy"},
        ),
        ({"resources": "dra"}, {"gpu_dra"}, {"gpu_device_plugin"}),
        ({"toolkit": "host", "exporter": False, "dcgm": True}, {"gpu_dcgm"}, {"gpu_toolkit", "gpu_exporter"}),
        ({"network_operator": True}, {"network_operator"}, {"inference"}),
        ({"enabled": False, "dcgm": True}, set(), {"gpu_operator", "gpu_dcgm"}),
    ],
)
def test_a_bundle_carries_what_is_chosen(
    kube: dict[str, Any], wanted: set[str], spared: set[str], folder: Folder
) -> None:
    chosen = resolve.chosen_by(folder(kube))
    assert wanted <= chosen
    assert not spared & chosen
    known = declared.choices()
    assert all(known[name] == ["kube_gpu"] for name in wanted)


def test_a_bundle_without_the_operator_has_none_of_its_images(folder: Folder, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "gone", ignore_errors=True)
    chosen = resolve.chosen_by(folder({"enabled": False}))
    images = resolve.wanted(["kube_gpu"], set(chosen)).images
    assert not [name for name in images if "nvidia" in name]
    images = resolve.wanted(["kube_gpu"], set(resolve.chosen_by(folder()))).images
    assert "nvcr.io/nvidia/gpu-operator" in images
