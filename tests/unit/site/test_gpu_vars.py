from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rackloom.bundle import declared
from rackloom.site import inventory
from rackloom.site.check import check_site
from rackloom.site.gpu_vars import driver_inputs, gpu_host_vars
from rackloom.site.resolved import Site

GOOD = Path(__file__).parent / "good"


def _site(folder: Path, gpu: str, nodes: dict[str, str] | None = None) -> Site:
    shutil.copytree(GOOD, folder, dirs_exist_ok=True)
    for file, changes in (
        ("cluster.yml", {"domain: demo.example": f"domain: demo.example\n{gpu}"}),
        ("nodes.yml", nodes),
    ):
        path = folder / file
        text = path.read_text()
        for old, new in (changes or {}).items():
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
    result = check_site(folder)
    assert result.site is not None, result.mistakes
    return result.site


def test_nodes_with_gpus_are_found_by_their_profile(tmp_path: Path) -> None:
    built = inventory.build(_site(tmp_path, ""))
    assert sorted(built.hosts["gpu_node"]) == ["gpu001", "gpu002", "mig01", "mig02"]
    assert built.vars["gpu_node"]["gpu_driver_source"] == "none"
    assert built.vars["gpu_node"]["gpu_health_kubernetes"] == {"server": "https://10.10.0.100:7443"}
    assert not any(key.startswith("gpu_") for key in built.hostvars["cn001"])


def test_played_gpus_get_no_driver(tmp_path: Path) -> None:
    real = inventory.build(_site(tmp_path / "real", ""))
    assert sorted(real.hosts["gpu_host"]) == sorted(real.hosts["gpu_node"])
    played = inventory.build(_site(tmp_path / "played", "gpu: {simulated: true}"))
    assert played.hosts["gpu_node"] and not played.hosts["gpu_host"]


def test_what_a_node_should_have_follows_from_its_profile(tmp_path: Path) -> None:
    built = inventory.build(_site(tmp_path, ""))
    (entry,) = built.vars["profile_a100"]["gpu_health_expected"]
    assert (entry["count"], entry["nvlinks"], entry["mig"]) == (2, 0, {})
    assert {"20b0", "20b2"} <= set(entry["devices"])
    assert built.vars["profile_a100"]["gpu_health_files"] == ["/dev/nvidia0", "/dev/nvidia1"]
    assert built.vars["profile_sliced"]["gpu_health_expected"][1]["mig"] == {"3g.20gb": 2}


def test_a_product_says_how_many_links_there_are(tmp_path: Path) -> None:
    site = _site(tmp_path, "", {"        files: ": "        product: a100-sxm4-80gb\n        files: "})
    (entry,) = inventory.build(site).vars["profile_a100"]["gpu_health_expected"]
    assert (entry["devices"], entry["nvlinks"]) == (["20b2"], 12)


@pytest.mark.parametrize(
    ("driver", "kind"),
    [
        ("{source: vendor, branch: '580'}", "open"),
        ("{source: vendor, branch: '580', kind: proprietary}", "proprietary"),
        ("{source: distribution}", ""),
    ],
)
def test_modules_are_the_best_that_serve_all(tmp_path: Path, driver: str, kind: str) -> None:
    built = inventory.build(_site(tmp_path, f"gpu: {{driver: {driver}}}"))
    assert built.vars["gpu_node"]["gpu_driver_kind"] == kind


def test_one_old_gpu_decides_for_all(tmp_path: Path) -> None:
    nodes = {"      - {type: a100, count: 2}": "      - {type: v100s, count: 2}"}
    built = inventory.build(_site(tmp_path, "gpu: {driver: {source: vendor, branch: '580'}}", nodes))
    assert built.vars["gpu_node"]["gpu_driver_kind"] == "proprietary"


@pytest.mark.parametrize(
    ("gpu", "enabled"),
    [
        ("", False),
        ("gpu: {driver: {source: distribution}}", True),
        ("gpu: {toolkit: true}", True),
        ("gpu: {driver: {source: distribution}, toolkit: false}", False),
        ("gpu: {toolkit: true, simulated: true}", False),
    ],
)
def test_the_toolkit_is_for_pods(tmp_path: Path, gpu: str, *, enabled: bool) -> None:
    nodes = {
        "  - {name: pod01, address: 10.10.4.1, profile: pods": "  - {name: pod01, address: 10.10.4.1, profile: a100"
    }
    own: dict[str, Any] = inventory.build(_site(tmp_path, gpu, nodes)).hostvars
    assert own["pod01"]["gpu_toolkit_enabled"] is enabled
    assert own["pod01"]["gpu_toolkit_runtime"] == "containerd"
    assert own["gpu001"]["gpu_toolkit_runtime"] == ""


@pytest.mark.parametrize(
    ("section", "names"),
    [
        (None, set()),
        ({"driver": {"source": "none", "branch": "580"}}, set()),
        ({"driver": {"source": "distribution"}}, {"nvidia-kernel-dkms", "nvidia-smi"}),
        ({"driver": {"source": "distribution", "packages": ["own-driver"]}}, {"own-driver"}),
        (
            {"driver": {"source": "vendor", "branch": "580"}},
            {"nvidia-driver-pinning-580", "nvidia-open", "nvlsm"},
        ),
        ({"driver": {"source": "vendor", "branch": "570", "kind": "proprietary"}}, {"cuda-drivers-570"}),
        (
            {"driver": {"source": "vendor", "branch": "580"}, "rdma": {"source": "vendor", "gds": True}},
            {"doca-ofed", "nvidia-gds", "nvidia-open"},
        ),
    ],
)
def test_a_bundle_takes_the_driver_that_a_site_has_chosen(section: Any, names: set[str]) -> None:
    found = set(declared.packages("gpu_driver", "debian-12", driver_inputs(section)))
    assert names <= found and bool(names) == bool(found)
    chosen = bool(section) and section["driver"]["source"] != "none"
    toolkit = declared.packages("gpu_toolkit", "debian-12", driver_inputs(section))
    assert bool(toolkit) is chosen
    assert declared.packages("dcgm", "debian-12", driver_inputs(section)) == []


def test_a_bundle_takes_what_cuts_gpus_where_that_is_chosen() -> None:
    assert declared.packages("gpu_slices", "debian-12", driver_inputs({"cut": True})) == [
        "nvidia-mig-manager"
    ]
    own = driver_inputs({"cut": True, "cut_packages": ["mig-parted"]})
    assert declared.packages("gpu_slices", "debian-12", own) == ["mig-parted"]
    assert declared.packages("gpu_slices", "debian-12", driver_inputs({})) == []


def test_rdma_is_off_unless_asked_for(tmp_path: Path) -> None:
    built = inventory.build(_site(tmp_path / "off", ""))
    assert built.vars["gpu_node"]["gpu_driver_rdma"] == "none"
    gpu = "gpu: {rdma: {source: distribution, peer_memory: true}}"
    own = inventory.build(_site(tmp_path / "on", gpu)).vars["gpu_node"]
    found = [own[f"gpu_driver_{name}"] for name in ("rdma", "peer_memory", "gds")]
    assert found == ["distribution", True, False]


def test_gpus_are_cut_by_one_who_is_asked(tmp_path: Path) -> None:
    """The host's mig-parted, or the operator's; never both, and nobody unless it is said."""
    off = inventory.build(_site(tmp_path / "off", "")).hostvars
    assert not off["mig01"]["gpu_slices_enabled"]
    own = inventory.build(_site(tmp_path / "on", "gpu: {cut: true}")).hostvars
    assert own["mig01"]["gpu_slices_layout"] == [
        {"devices": [0, 1], "mig-enabled": False},
        {"devices": [2, 3], "mig-enabled": True, "mig-devices": {"3g.20gb": 2}},
    ]
    assert own["gpu001"]["gpu_slices_enabled"] is False
    pods = {
        "  - {name: pod01, address: 10.10.4.1, profile: pods": "  - {name: pod01, address: 10.10.4.1, profile: sliced"
    }
    site = _site(tmp_path / "both", "gpu: {cut: true}", pods)
    assert gpu_host_vars(site, "pod01")["gpu_slices_enabled"]
    gpu = site.cluster.gpu
    operator = gpu.model_copy(update={"kubernetes": gpu.kubernetes.model_copy(update={"enabled": True})})
    site = replace(site, cluster=site.cluster.model_copy(update={"gpu": operator}))
    assert not gpu_host_vars(site, "pod01")["gpu_slices_enabled"]
    assert gpu_host_vars(site, "mig01")["gpu_slices_enabled"]
