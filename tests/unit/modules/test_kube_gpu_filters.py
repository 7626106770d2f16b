"""What the filters of the role kube_gpu make of plain options."""

from __future__ import annotations

import pytest
import yaml
from plugins.filter import kube_gpu


@pytest.mark.parametrize(
    ("taint", "toleration"),
    [
        ("a:NoSchedule", {"key": "a", "operator": "Exists", "effect": "NoSchedule"}),
        ("a=b:NoExecute", {"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute"}),
        (
            "x.example/a=:NoSchedule",
            {"key": "x.example/a", "operator": "Equal", "value": "", "effect": "NoSchedule"},
        ),
    ],
)
def test_taints_are_put_up_with(taint: str, toleration: dict[str, str]) -> None:
    assert kube_gpu.tolerations([taint]) == [toleration]


@pytest.mark.parametrize("taint", ["a", "a=b", "a:Never", ":NoSchedule", ""])
def test_what_is_no_taint_is_named(taint: str) -> None:
    with pytest.raises(ValueError, match="is no taint"):
        kube_gpu.tolerations([taint])


def test_a_name_follows_from_the_content_and_not_from_when_it_was_made() -> None:
    first = kube_gpu.named_by_content("x", {"a": "1", "b": "2"})
    assert first == kube_gpu.named_by_content("x", {"a": "1", "b": "2"})
    assert first != kube_gpu.named_by_content("x", {"a": "1", "b": "3"})
    assert first.startswith("x-")


@pytest.mark.parametrize(
    ("tag", "bare"),
    [
        ("595.91.07-ubuntu24.04", "595.91.07"),
        ("595.91.07-rhel9", "595.91.07"),
        ("doca3.4.1-26.04-1.1.0.0-1-rocky10", "doca3.4.1-26.04-1.1.0.0-1"),
        ("4.6.0-4.8.3-distroless", "4.6.0-4.8.3-distroless"),
        ("v0.20.0", "v0.20.0"),
    ],
)
def test_a_distribution_is_taken_off_a_tag(tag: str, bare: str) -> None:
    record = {"name": "r.example/a/b", "version": tag}
    parts = {"repository": "r.example/a", "image": "b"}
    assert kube_gpu.image_parts([record]) == {"r.example/a/b": {**parts, "version": tag}}
    assert kube_gpu.image_parts([record], distribution=False) == {"r.example/a/b": {**parts, "version": bare}}


def test_layouts_have_one_that_takes_slices_away() -> None:
    told = yaml.safe_load(kube_gpu.slices_config({"a": [{"devices": [0], "mig-enabled": False}]}))
    assert told["mig-configs"] == {
        "all-disabled": [{"devices": "all", "mig-enabled": False}],
        "a": [{"devices": [0], "mig-enabled": False}],
    }


def test_a_pool_that_shares_nothing_is_one_pod_a_gpu() -> None:
    told = yaml.safe_load(kube_gpu.plugin_configs({"a": {"time_slicing": 0}}, "none")["a"])
    assert told["sharing"]["timeSlicing"]["resources"] == [{"name": "nvidia.com/gpu", "replicas": 1}]
