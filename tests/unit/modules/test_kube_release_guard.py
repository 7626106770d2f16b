"""A deploy moves neither a cluster's release nor its data."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest

HERE, A, B, C = "https://127.0.0.1:2379", *(f"https://192.0.2.2{n}:2379" for n in (1, 2, 3))


@pytest.mark.parametrize(
    ("running", "wanted", "said"),
    [
        ([], [], ""),
        ([], [A], ""),
        ([HERE], [], ""),
        ([A, B, C], [A, B, C], ""),
        ([A, B, C], [A, B, "https://192.0.2.29:2379"], ""),
        ([HERE], [A], "keeps its data on the control-plane nodes"),
        ([A, B], [], "the site has no hosts for etcd"),
        ([A, B], [C], "none of the members would be left"),
    ],
)
def test_data_stays_where_it_is(
    run_module: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    running: list[str],
    wanted: list[str],
    said: str,
) -> None:
    module = importlib.import_module("plugins.modules.kube_release_guard")
    monkeypatch.setattr(module, "asked", lambda: tuple(running))
    result = run_module("kube_release_guard", release="1.2.3", store=wanted)
    # whoever begins an etcd wants to know, whatever comes of it here
    assert result["store"] == running
    assert bool(result.get("failed")) is bool(said) and said in result.get("msg", "")
