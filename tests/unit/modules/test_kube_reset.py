"""Kubernetes is taken off a node, and what is not of Kubernetes stays."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from plugins.module_utils import kube_vip, node_members
from plugins.modules import kube_reset
from plugins.modules.kube_reset import LINKS, Reset, copies, without_chains


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node's file system with a control plane on it."""
    for name in (
        "etc/kubernetes/manifests/etcd.yaml",
        "etc/kubernetes/admin.conf",
        "var/lib/etcd/member/snap/db",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "etc/cni/net.d").mkdir(parents=True)
    (tmp_path / "etc/cni/net.d/10-flannel.conflist").write_text("{}")
    for name in ("LEFT", "CREDENTIALS", "COPIES", "NETWORKS"):
        monkeypatch.setattr(
            kube_reset, name, tuple(f"{tmp_path}{pattern}" for pattern in getattr(kube_reset, name))
        )
    monkeypatch.setattr(kube_reset, "STORE", f"{tmp_path}/var/lib/etcd")
    monkeypatch.setattr(node_members, "MARK", f"{tmp_path}/mark.json")
    (tmp_path / "mark.json").write_text("{}")
    monkeypatch.setattr(kube_reset, "LINKS", re.compile("no-such-link"))
    monkeypatch.setattr(shutil, "which", lambda *_a, **_k: None)
    return tmp_path


def reset(root: Path, *, check: bool = False, **more: Any) -> tuple[Reset, list[str]]:
    said: list[str] = []

    def run(argv: Sequence[str], data: str = "") -> tuple[int, str, str]:
        said.append(" ".join(argv))
        # a deploy after a run that is killed now must not take the node for a member
        assert check or "kubeadm" not in argv or not (root / "mark.json").exists()
        if argv[:2] == ["systemctl", "show"]:
            return 0, "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n", ""
        return 0, "", ""

    params = {"units": ["kubelet.service"], "erase": False, "aside": f"{root}/aside", "timeout": 9, **more}
    found = Reset(run, params, check=check)
    found.perform()
    return found, said


def test_everything_of_it_goes_and_the_store_is_kept_aside(root: Path) -> None:
    found, said = reset(root)
    assert any("kubeadm reset --force" in word and "remove-etcd-member" in word for word in said)
    assert not list((root / "etc/kubernetes").rglob("*.conf")) and not list(
        (root / "etc/cni/net.d").iterdir()
    )
    assert list((root / "var/lib/etcd").iterdir()) == []
    assert (Path(found.aside) / "member/snap/db").read_text() == "x"
    assert "systemctl disable --now kubelet.service" in said


def test_an_address_that_kube_vip_leaves_behind_is_taken_off(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = root / "etc/kubernetes/manifests/kube-vip.yaml"
    env = [{"name": "address", "value": "192.0.2.10"}, {"name": "vip_interface", "value": "eth0"}]
    manifest.write_text(json.dumps({"spec": {"containers": [{"env": env}]}}))
    monkeypatch.setattr(kube_vip, "MANIFEST", str(manifest))
    taken: list[str] = []

    def let_go(_run: object, address: str, always: bool) -> bool:
        taken.append(address)
        return always

    monkeypatch.setattr(kube_vip, "let_go", let_go)
    found, _ = reset(root)
    assert taken == ["192.0.2.10"] and "192.0.2.10" in found.done and not manifest.exists()


def test_the_store_is_erased_only_when_that_is_said(root: Path) -> None:
    found, _ = reset(root, erase=True)
    assert found.aside == "" and not (root / "aside").exists()
    assert list((root / "var/lib/etcd").iterdir()) == []


KEYS = (
    "etc/kubernetes/pki/ca.key",
    "etc/kubernetes/pki/etcd/healthcheck-client.key",
    "etc/kubernetes/users/alice.conf",
    "var/lib/kubelet/pki/kubelet-client-current.pem",
    "etc/rackloom/kubernetes/kube-vip.conf",
    "etc/rackloom/kubernetes/apiserver/encryption.json",
    "etc/rackloom/etcd/peer.key",
)
KEPT = (
    "var/lib/rackloom/etcd/20260101T000000Z.db",
    "var/lib/rackloom/etcd/before-20260101-000000/member/snap/db",
)


@pytest.mark.parametrize("erase", [False, True])
def test_keys_go_and_snapshots_stay_and_are_told(root: Path, erase: bool) -> None:
    for name in (*KEYS, *KEPT, "etc/rackloom/etcd/ca.crt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    found, _ = reset(root, erase=erase)
    assert [name for name in KEYS if (root / name).exists()] == []
    assert {f"{root}/{name}" for name in KEYS} <= set(found.done)
    assert [name for name in KEPT if not (root / name).exists()] == []
    folder = f"{root}/var/lib/rackloom/etcd"
    assert copies() == [f"{folder}/20260101T000000Z.db", f"{folder}/before-20260101-000000"]


def test_what_a_file_system_has_at_its_root_stays(root: Path) -> None:
    (root / "var/lib/etcd/lost+found").mkdir()
    found, _ = reset(root)
    assert [path.name for path in (root / "var/lib/etcd").iterdir()] == ["lost+found"]
    assert [path.name for path in Path(found.aside).iterdir()] == ["member"]


def test_a_second_time_there_is_nothing_left(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reset(root)
    found, said = reset(root, units=[])
    assert found.done == [] and not any("kubeadm" in word for word in said)


def test_check_mode_changes_nothing(root: Path) -> None:
    before = sorted(root.rglob("*"))
    found, said = reset(root, check=True)
    assert found.done and sorted(root.rglob("*")) == before
    assert all("show" in word for word in said)


@pytest.mark.parametrize(
    "name", ["cni0", "flannel.1", "cali0123456789a", "cilium_vxlan", "vxlan.calico", "kube-ipvs0"]
)
def test_interfaces_of_pod_networks(name: str) -> None:
    assert LINKS.fullmatch(name)


@pytest.mark.parametrize("name", ["eth0", "bond0.100", "br0", "lo", "calico", "ib0", "docker0", "mycni0"])
def test_interfaces_of_the_site(name: str) -> None:
    assert not LINKS.fullmatch(name)


def test_rules_of_the_site_stay() -> None:
    own = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n"
    more = own.replace(
        "COMMIT", ":KUBE-FORWARD - [0:0]\n-A FORWARD -j KUBE-FORWARD\n-A x -m comment cali-1\nCOMMIT"
    )
    assert without_chains(more) == own
    assert without_chains(own) == own
