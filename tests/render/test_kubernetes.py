"""What kubeadm, haproxy and keepalived read is accepted by them, for all sizes of a control plane and all options."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from plugins.module_utils import kube_documents
from tests.daemons import program

ROOT = Path(__file__).parents[2]
VERSIONS = yaml.safe_load((ROOT / "inventory/versions.yml").read_text())
SIZES = [1, 3, 5]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"proxy": "iptables", "tolerate": ["cgroup_v1", "swap", "kernel"], "runtime": "crio"},
    {
        "labels": {"a": "b", "c.example/d": "e", "node-role.kubernetes.io/worker": ""},
        "taints": ["x=y:NoSchedule", "z:NoExecute"],
        "names": ["api.example", "192.0.2.9"],
    },
    {
        "settings": {
            "apiserver": {"v": 2, "profiling": None},
            "controller_manager": {"node-monitor-grace-period": "20s"},
            "scheduler": {"v": 1},
            "etcd": {"heartbeat-interval": 250},
        },
        "proxy_settings": {"nftables": {"minSyncPeriod": "2s"}},
    },
    {"store": ["https://192.0.2.21:2379", "https://[2001:db8::22]:2379"]},
    {
        "endpoint": "[2001:db8::10]:7443",
        "address": "2001:db8::11",
        "pod_network": "2001:db8:1::/56",
        "service_network": "2001:db8:2::/112",
    },
]


KUBEADM = program("kubeadm", "kubernetes")
KUBELET = program("kubelet", "kubernetes")


def members(count: int) -> list[dict[str, Any]]:
    return [{"name": f"cp{n}", "address": f"192.0.2.{10 + n}", "port": 6443} for n in range(1, count + 1)]


def inputs(count: int, **more: Any) -> dict[str, Any]:
    return {
        "release": VERSIONS["files"]["kubeadm"]["version"],
        "endpoint": "192.0.2.11:6443" if count == 1 else "192.0.2.10:7443",
        "address": "192.0.2.11",
        "node": "cp1",
        "images": {
            "repository": "registry.k8s.io",
            "etcd": {
                "repository": "registry.k8s.io",
                "tag": VERSIONS["images"]["registry.k8s.io/etcd"]["tag"],
            },
            "coredns": {
                "repository": "registry.k8s.io/coredns",
                "tag": VERSIONS["images"]["registry.k8s.io/coredns/coredns"]["tag"],
            },
        },
        "pod_network": "10.244.0.0/16",
        "service_network": "10.96.0.0/12",
        "domain": "cluster.local",
        "proxy": "nftables",
        **more,
    }


@pytest.mark.skipif(not KUBEADM, reason="kubeadm was not built on this machine")
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("count", SIZES)
def test_kubeadm_takes_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, options: dict[str, Any]
) -> None:
    given = inputs(count, **options)
    credential = tmp_path / "join.conf"
    credential.write_text("{}")
    monkeypatch.setattr(kube_documents, "JOIN_FILE", str(credential))
    texts = [kube_documents.kubeadm_file(given), kube_documents.serving_file(given)]
    texts += [
        kube_documents.stream([kube_documents.join({**given, "control_plane": own})]) for own in (True, False)
    ]
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.json"
        path.write_text(text)
        done = subprocess.run(
            [KUBEADM, "config", "validate", f"--config={path}"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and "unknown" not in done.stderr, done.stderr


@pytest.mark.skipif(not KUBELET, reason="the kubelet was not built on this machine")
@pytest.mark.parametrize(
    "label",
    [
        *sorted(kube_documents.KUBELET_LABELS),
        *(
            "rack",
            "example.com/rack",
            "notkubernetes.io/x",
            "node.kubernetes.io/x",
            "a.kubelet.kubernetes.io/x",
        ),
        *(
            "node-role.kubernetes.io/worker",
            "node-restriction.kubernetes.io/x",
            "kubernetes.io/x",
            "a.k8s.io/x",
        ),
    ],
)
def test_a_kubelet_judges_labels_as_we_do(tmp_path: Path, label: str) -> None:
    # labels come before the configuration, and without that it ends
    argv = [KUBELET, f"--node-labels={label}=x", f"--config={tmp_path}/none"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode != 0
    refused = "node-labels" in done.stderr
    assert refused or f"{tmp_path}/none" in done.stderr
    assert kube_documents.settable(label) is not refused


def render(template: str, **variables: Any) -> str:
    folder = ROOT / "roles/kube_endpoint"
    known = yaml.safe_load((folder / "defaults/main.yml").read_text())
    templar = Templar(loader=DataLoader(), variables={**known, **variables})
    options = {"trim_blocks": True, "lstrip_blocks": True}
    text = (folder / "templates" / template).read_text()
    return str(templar.copy_with_new_env(**options).template(trust_as_template(text))) + "\n"


def endpoint(count: int) -> dict[str, Any]:
    return {
        "kube_endpoint_address": "192.0.2.10",
        "kube_endpoint_backends": members(count),
        "kube_endpoint_peers": [each["address"] for each in members(count)[1:]],
        "kube_endpoint_password": "8letters",
        "__kube_endpoint_place": {"interface": "lo", "source": "127.0.0.1", "prefix": 24},
        "inventory_hostname": "cp1",
    }


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not on this machine")
def test_haproxy_takes_its_configuration(tmp_path: Path, count: int) -> None:
    path = tmp_path / "haproxy.cfg"
    # Neither its user nor the name of this host's log is what is tried here.
    lines = render("haproxy.cfg.j2", **endpoint(count)).splitlines(keepends=True)
    path.write_text("".join(line for line in lines if line.split()[:1] not in (["user"], ["group"])))
    done = subprocess.run(["haproxy", "-c", "-f", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.skipif(not shutil.which("keepalived"), reason="keepalived is not on this machine")
def test_keepalived_takes_its_configuration(tmp_path: Path, count: int) -> None:
    script = tmp_path / "check"
    script.write_text(render("kube-endpoint-check.j2", **endpoint(count)))
    script.chmod(0o755)
    path = tmp_path / "keepalived.conf"
    text = render("keepalived.conf.j2", **endpoint(count))
    path.write_text(text.replace("/usr/local/lib/rackloom/kube-endpoint-check", str(script)))
    done = subprocess.run(
        ["keepalived", "--config-test", "--use-file", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("count", SIZES)
def test_the_endpoint_leads_to_every_api_server(count: int) -> None:
    text = render("haproxy.cfg.j2", **endpoint(count))
    servers = [line.split()[1:3] for line in text.splitlines() if line.split()[:1] == ["server"]]
    assert servers == [[each["name"], f"{each['address']}:6443"] for each in members(count)]


def test_the_check_is_a_sound_script(tmp_path: Path) -> None:
    path = tmp_path / "check"
    path.write_text(render("kube-endpoint-check.j2", **endpoint(3)))
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    # nothing listens there, so this node is not fit
    assert subprocess.run(["bash", str(path)], check=False, capture_output=True).returncode != 0


@pytest.mark.parametrize("name", ["kube-approver.py", "kube-certificates.py"])
def test_programs_of_the_nodes_compile(name: str) -> None:
    path = ROOT / "roles/kube_control_plane/files" / name
    compile(path.read_text(), str(path), "exec", dont_inherit=True)
    assert path.read_text().startswith("#!/usr/bin/python3"), sys.version
