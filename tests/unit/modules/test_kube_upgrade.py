"""kubeadm upgrades a node where something of it is older, and is not run where nothing is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from plugins.module_utils import kube_running
from plugins.module_utils.kube_client import KubeError
from plugins.modules import kube_upgrade
from plugins.modules.kube_upgrade import Upgrade

OLD, NEW = "1.36.3", "1.36.4"


class Node:
    """What programs say on a node."""

    def __init__(self) -> None:
        self.kubelet = OLD
        self.kubeadm = NEW
        self.configuration = OLD
        self.proxy = OLD
        self.ran: list[Sequence[str]] = []
        self.images = ["etcd:3.6.14-0"]
        self.end: tuple[int, str, str] = (0, "[upgrade/successful] SUCCESS!", "")

    def run(self, argv: Sequence[str], _data: str = "") -> tuple[int, str, str]:
        if argv[0] == "timeout" and argv[2] == "crictl":
            self.images.append(argv[4])
        elif argv[0] == "kubelet":
            return 0, f"Kubernetes v{self.kubelet}\n", ""
        if argv[1:2] == ["version"]:
            return 0, f"v{self.kubeadm}\n", ""
        if argv[0] == "kubectl" and "configmap" in argv:
            text = f"apiVersion: kubeadm.k8s.io/v1beta4\nkubernetesVersion: v{self.configuration}\nx: 1\n"
            return 0, json.dumps({"data": {"ClusterConfiguration": text}}), ""
        if argv[0] == "kubectl":
            image = f"registry.k8s.io/kube-proxy:v{self.proxy}"
            return 0, json.dumps({"spec": {"template": {"spec": {"containers": [{"image": image}]}}}}), ""
        self.ran.append(argv)
        if argv[0] == "crictl":
            return (0, "", "") if argv[3] in self.images else (1, "", "no such image")
        if "list" in argv:
            [config] = [word[9:] for word in argv if word.startswith("--config=")]
            assert f"kubernetesVersion: v{NEW}\nx: 1" in Path(config).read_text()
        return self.end


def upgrade(node: Node, static: dict[str, str], monkeypatch: pytest.MonkeyPatch, **more: Any) -> Upgrade:
    monkeypatch.setattr(kube_upgrade, "manifests", lambda: static)
    params = {
        "release": NEW,
        "kubeadm": "/new/kubeadm",
        "first": False,
        "ignore": [],
        "patches": "/nowhere",
        "timeout": 9,
        "kubeconfig": "/x",
        **more,
    }
    return Upgrade(node.run, params)


def static(release: str) -> dict[str, str]:
    return dict.fromkeys(kube_running.RELEASED, f"v{release}") | {"etcd": "3.6.14-0"}


def test_the_first_moves_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    found = upgrade(node, static(OLD), monkeypatch, first=True, ignore=["Swap"])
    assert len(found.why()) == 5
    found.perform()
    [argv] = node.ran
    assert list(argv[2:]) == [
        "/new/kubeadm",
        "upgrade",
        "apply",
        f"v{NEW}",
        "--yes",
        "--ignore-preflight-errors=ImagePull,Swap",
    ]


def test_the_first_that_was_killed_half_way_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    assert upgrade(node, static(NEW), monkeypatch, first=True).why() == [
        f"configuration {OLD}",
        f"kube-proxy v{OLD}",
    ]
    node.configuration = NEW
    assert upgrade(node, static(NEW), monkeypatch, first=True).why() == [f"kube-proxy v{OLD}"]
    node.proxy = NEW
    assert upgrade(node, static(NEW), monkeypatch, first=True).why() == []


def test_others_do_their_part(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    found = upgrade(node, static(OLD), monkeypatch)
    assert len(found.why()) == 3
    found.perform()
    assert list(node.ran[0][2:]) == ["/new/kubeadm", "upgrade", "node", "--ignore-preflight-errors=ImagePull"]
    assert upgrade(node, static(NEW), monkeypatch).why() == []


def test_workers_take_over_the_configuration_before_their_kubelet(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    assert upgrade(node, {}, monkeypatch, first=True).argv() == ["/new/kubeadm", "upgrade", "node"]
    assert upgrade(node, {}, monkeypatch).why() == [f"kubelet {OLD}"]
    node.kubelet = NEW
    assert upgrade(node, {}, monkeypatch).why() == []


@pytest.mark.parametrize(
    ("release", "why"),
    [
        ("1.34.9", "more than one minor release above it; go to a release of 1.35 first"),
        ("1.37.0", "never taken back"),
        ("1.36.5", "never taken back"),
    ],
)
def test_no_release_is_skipped_and_none_taken_back(
    monkeypatch: pytest.MonkeyPatch, release: str, why: str
) -> None:
    node = Node()
    for first in (True, False):
        found = upgrade(node, static(NEW) | {"kube-scheduler": f"v{release}"}, monkeypatch, first=first)
        for step in (found.why, found.pull):
            with pytest.raises(KubeError, match=f"kube-scheduler is v{release} here.*{why}"):
                step()
    assert node.ran == []


@pytest.mark.parametrize("release", ["1.35.9", OLD, NEW])
def test_one_minor_up_is_fine(monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    assert upgrade(Node(), static(release), monkeypatch).refusal() == ""
    # a worker's kubelet may be further behind, and has no static pods
    assert upgrade(Node(), {}, monkeypatch).refusal() == ""


def test_patches_are_handed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert f"--patches={tmp_path}" in upgrade(Node(), {}, monkeypatch, patches=str(tmp_path)).argv()


def test_another_kubeadm_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    node.kubeadm = OLD
    with pytest.raises(KubeError, match=r"not of 1.36.4"):
        upgrade(node, {}, monkeypatch).perform()
    assert node.ran == []


def test_what_kubeadm_said_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    node.end = (1, "[preflight] fine", "[ERROR CoreDNSUnsupportedPlugins]: no\nTo see the stack trace …")
    with pytest.raises(KubeError, match="CoreDNSUnsupportedPlugins"):
        upgrade(node, static(OLD), monkeypatch).perform()


def test_only_images_that_lack_are_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    node.end = (0, "etcd:3.6.14-0\nkube-proxy:v1.36.4\nregistry.example.com/pause:3.99\n", "")
    assert upgrade(node, static(OLD), monkeypatch).pull() == ["kube-proxy:v1.36.4"]
    assert upgrade(node, static(OLD), monkeypatch).pull() == []
    node.images, node.end = [], (1, "", "no such host")
    with pytest.raises(KubeError, match="no such host"):
        upgrade(node, static(OLD), monkeypatch).pull()


# --- A deploy in between -------------------------------------------------------------------


def test_a_deploy_changes_no_release() -> None:
    running = {"kubelet": NEW, "kube-apiserver": NEW}
    assert kube_running.complaint(NEW, running) == ""
    assert kube_running.complaint(NEW, {}) == ""
    said = kube_running.complaint(NEW, {"kubelet": OLD, "kube-apiserver": NEW})
    assert f"kubelet {OLD}" in said and f"rackloom upgrade kubernetes --to {NEW}" in said
    assert f"version: {OLD}" in said and "kube-apiserver" not in said


def test_tags_in_static_pods(tmp_path: Path) -> None:
    (tmp_path / "kube-apiserver.yaml").write_text(
        "spec:\n  containers:\n  - command: [x]\n    image: r.io/a:v1.36.4\n"
    )
    (tmp_path / "etcd.yaml").write_text('spec:\n  containers:\n  - image: "registry:5000/etcd:3.6.14-0"\n')
    (tmp_path / "notes.txt").write_text("image: x:1")
    (tmp_path / ".half.yaml").write_text("image: x:1")
    assert kube_running.manifests(str(tmp_path)) == {"kube-apiserver": "v1.36.4", "etcd": "3.6.14-0"}
    assert kube_running.manifests(str(tmp_path / "none")) == {}
