"""A member that is as it was left is not asked again, and anything else is."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from plugins.module_utils import node_looks, node_members

MARK = {"role": "control_plane", "endpoint": "192.0.2.10:7443", "parts": {"etcd": "1"}}
RECORD = {"kind": "kube_membership", "digest": "d", "request": {"mark": MARK}}


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    (tmp_path / "manifests").mkdir()
    for part in node_members.PARTS:
        (tmp_path / "manifests" / f"{part}.yaml").touch()
    (tmp_path / "mark.json").write_text(json.dumps(MARK))
    (tmp_path / "kubelet.conf").touch()
    monkeypatch.setattr(node_members, "MARK", str(tmp_path / "mark.json"))
    monkeypatch.setattr(node_members, "KUBELET", str(tmp_path / "kubelet.conf"))
    monkeypatch.setattr(node_members, "MANIFESTS", str(tmp_path / "manifests"))
    monkeypatch.setattr(node_members, "listens", lambda _port: True)
    return tmp_path


def holds(status: int = 0) -> bool:
    module: Any = SimpleNamespace(run_command=lambda _argv: (status, "", ""))
    return node_looks.holds(module, RECORD, {})


@pytest.mark.usefixtures("member")
def test_a_member_as_it_was_left() -> None:
    assert holds()


@pytest.mark.parametrize("name", ["mark.json", "kubelet.conf", "manifests/etcd.yaml"])
def test_a_file_is_gone(member: Path, name: str) -> None:
    (member / name).unlink()
    assert not holds()


def test_other_settings_are_in_force(member: Path) -> None:
    (member / "mark.json").write_text(json.dumps({**MARK, "parts": {}}))
    assert not holds()


@pytest.mark.usefixtures("member")
def test_the_kubelet_does_not_run() -> None:
    assert not holds(status=3)


@pytest.mark.usefixtures("member")
def test_the_api_server_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_members, "listens", lambda _port: False)
    assert not holds()
