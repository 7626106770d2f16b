"""A node's part of the kubelet's settings, where images are looked for, and what is wrong with the inputs."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from plugins.filter import containers, kubelet

ROLE = Path(__file__).parents[3] / "roles" / "kubelet"
KERNEL = {"cgroup": 2, "resolv_conf": "/etc/resolv.conf"}


def inputs(**more: Any) -> dict[str, Any]:
    """The role's defaults under the names that it hands them over by, with some changed."""
    given = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    names = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__kubelet_inputs"]
    return {**{name: given[f"kubelet_{name}"] for name in names}, **more}


def settings(**more: Any) -> dict[str, Any]:
    return kubelet.kubelet_configuration(inputs(**more), KERNEL)


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", 0.5), ("1Gi", 1024**3), ("2", 2), ("1.5Gi", 1.5 * 1024**3), ("100M", 100_000_000)],
)
def test_quantities(text: str, value: float) -> None:
    assert float(kubelet.quantity(text)) == value


@pytest.mark.parametrize("text", ["", "much", "1 Gi", "-1", "10%", "1GiB"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        kubelet.quantity(text)


def test_defaults_are_right() -> None:
    assert kubelet.kubelet_mistakes(inputs()) == []


def test_what_the_node_gives() -> None:
    assert "failCgroupV1" not in settings()
    old = kubelet.kubelet_configuration(inputs(), {**KERNEL, "cgroup": 1})
    assert old["failCgroupV1"] is False
    assert settings(resolv_conf="/etc/other.conf")["resolvConf"] == "/etc/other.conf"
    assert settings(reserved={"cpu": "1", "storage": "5Gi"})["systemReserved"] == {
        "cpu": "1",
        "ephemeral-storage": "5Gi",
    }


def test_swap() -> None:
    assert "failSwapOn" not in settings()
    assert settings(tolerate=["swap"])["failSwapOn"] is False
    assert settings(swap="limited")["memorySwap"] == {"swapBehavior": "LimitedSwap"}
    assert "failSwapOn" not in settings(swap="off")


def test_memory_that_is_reserved_is_the_sum_of_what_pods_never_get() -> None:
    wanted = {"memory_manager": "Static", "topology_manager": "restricted"}
    made = settings(
        **wanted,
        reserved={"cpu": "1", "memory": "2Gi"},
        eviction={"memory.available": "500Mi"},
        settings={"kubeReserved": {"memory": "1Gi"}},
    )
    [reserved] = made["reservedMemory"]
    assert int(reserved["limits"]["memory"]) == 3 * 1024**3 + 500 * 1024**2
    own = [{"numaNode": 0, "limits": {"memory": "1"}}, {"numaNode": 1, "limits": {"memory": "2"}}]
    assert settings(**wanted, settings={"reservedMemory": own})["reservedMemory"] == own


def test_a_sites_own_settings_win_and_leave_the_rest() -> None:
    made = settings(settings={"maxPods": 7, "evictionHard": {"nodefs.available": "1Gi"}})
    assert made["maxPods"] == 7
    assert made["evictionHard"]["nodefs.available"] == "1Gi"
    assert "memory.available" in made["evictionHard"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"reserved": {"memory": "much"}}, "kubelet_reserved: memory"),
        ({"reserved": {"gpu": 1}}, "cpu, memory, storage, pids"),
        ({"eviction": {"nodefs.available": "ten"}}, "or a share, as 10%"),
        ({"cpu_manager": "static", "reserved": {"memory": "1Gi"}}, "leaves none to the system"),
        ({"memory_manager": "Static"}, "kubelet_topology_manager is none"),
        (
            {
                "memory_manager": "Static",
                "topology_manager": "restricted",
                "eviction": {"memory.available": "5%"},
            },
            "wants a quantity there",
        ),
    ],
)
def test_mistakes_are_named_with_their_cure(wrong: dict[str, Any], said: str) -> None:
    [sentence] = kubelet.kubelet_mistakes(inputs(**wrong))
    assert said in sentence
    assert sentence.endswith(".")


def hosts(*registries: str, mirror: str = "192.0.2.1:5000", outside: bool) -> dict[str, Any]:
    made = containers.containerd_hosts(registries, mirror, outside, "/etc/rackloom/ca.crt")
    assert [each["path"] for each in made] == [
        f"/etc/containerd/certs.d/{name}/hosts.toml" for name in registries
    ]
    return {name: tomllib.loads(each["content"]) for name, each in zip(registries, made, strict=True)}


def test_the_mirror_comes_first_and_upstream_after_it() -> None:
    [read] = hosts("quay.io", outside=True).values()
    [(place, options)] = read["host"].items()
    assert place == "https://192.0.2.1:5000/v2/quay.io"
    assert options["override_path"] is True
    assert options["ca"] == "/etc/rackloom/ca.crt"
    # Without a server of its own, the registry itself is asked last.
    assert "server" not in read


def test_on_a_closed_site_the_mirror_is_the_registry() -> None:
    [read] = hosts("quay.io", outside=False).values()
    assert read["server"] == "https://192.0.2.1:5000/v2/quay.io"
    assert read["override_path"] is True
    assert "host" not in read


def test_without_a_mirror_nothing_is_said_of_registries() -> None:
    [entry] = containers.containerd_hosts(["quay.io"], "", True, "")
    assert entry["state"] == "absent"


@pytest.mark.parametrize("outside", [True, False])
def test_registries_of_crio(outside: bool) -> None:
    read = tomllib.loads(containers.crio_registries(["docker.io", "quay.io"], "192.0.2.1:5000", outside))
    assert [each["prefix"] for each in read["registry"]] == ["docker.io", "quay.io"]
    for each in read["registry"]:
        mirror = f"192.0.2.1:5000/{each['prefix']}"
        if outside:
            assert each["location"] == each["prefix"]
            assert [other["location"] for other in each["mirror"]] == [mirror]
        else:
            assert each["location"] == mirror
            assert "mirror" not in each
