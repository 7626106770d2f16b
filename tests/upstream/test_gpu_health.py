"""What the GPU health check may do in a real cluster with the kubelet's identity, and what it may not."""

from __future__ import annotations

import json
import subprocess
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from tests.daemons import free_port, running
from tests.loading import loaded

from .test_programs import answers, run

if TYPE_CHECKING:
    from tests.upstream.conftest import Built

    Build = Callable[[str], Built]

PROGRAM = Path(__file__).resolve().parents[2] / "roles" / "gpu_health" / "files" / "gpu_health.py"
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def health() -> ModuleType:
    return loaded(PROGRAM, "gpu_health")


class Cluster:
    """An API server on etcd, with the authorizer and the admission that every cluster of ours has."""

    def __init__(self, folder: Path, port: int, kubectl: str) -> None:
        self.folder, self.port = folder, port
        self.kubectl = [
            kubectl,
            f"--server=https://127.0.0.1:{port}",
            f"--certificate-authority={folder}/ca.crt",
        ]
        self.kubectl += ["--token=made-up", "--kubeconfig=/dev/null"]

    def ask(self, *words: str) -> str:
        return run(*self.kubectl, *words)

    def node(self, name: str) -> Any:
        return json.loads(self.ask("get", "node", name, "--output=json"))

    def identity(self, name: str) -> dict[str, str]:
        """What the role gives to the check on a node."""
        return {
            "server": f"https://127.0.0.1:{self.port}",
            "ca": f"{self.folder}/ca.crt",
            "certificate": f"{self.folder}/kubelet.pem",
            "node": name,
        }


def certificates(folder: Path) -> None:
    """An authority, the API server's certificate, and the client certificate of the kubelet of gpu01."""
    run("openssl", "genrsa", "-out", f"{folder}/sa.key", "2048")
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=ca"]
    run(*request, "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.crt")
    for name, subject, more in (
        ("server", "/CN=api", "subjectAltName=IP:127.0.0.1"),
        ("kubelet", "/O=system:nodes/CN=system:node:gpu01", "extendedKeyUsage=clientAuth"),
    ):
        key, asked, extensions = (folder / f"{name}.{end}" for end in ("key", "csr", "ext"))
        extensions.write_text(f"{more}\n")
        new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", subject]
        run(*new, "-keyout", str(key), "-out", str(asked))
        sign = ["openssl", "x509", "-req", "-days", "2", "-in", str(asked), "-CAcreateserial"]
        sign += ["-CA", f"{folder}/ca.crt", "-CAkey", f"{folder}/ca.key", "-extfile", str(extensions)]
        run(*sign, "-out", f"{folder}/{name}.crt")
        (folder / f"{name}.pem").write_text((folder / f"{name}.crt").read_text() + key.read_text())


@pytest.fixture(scope="module")
def cluster(built: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    made, etcd = built("kubernetes"), built("etcd")
    certificates(folder)
    (folder / "tokens").write_text('made-up,admin,1,"system:masters"\n')
    client, peer, secure = free_port(), free_port(), free_port()
    url = f"http://127.0.0.1:{client}"
    store = [etcd.program("etcd"), "--data-dir", str(folder / "data"), "--listen-client-urls", url]
    store += ["--advertise-client-urls", url, "--listen-peer-urls", f"http://127.0.0.1:{peer}"]
    api = [made.program("kube-apiserver"), f"--etcd-servers={url}", f"--secure-port={secure}"]
    api += [f"--tls-cert-file={folder}/server.crt", f"--tls-private-key-file={folder}/server.key"]
    api += [f"--client-ca-file={folder}/ca.crt", f"--token-auth-file={folder}/tokens"]
    api += ["--bind-address=127.0.0.1", "--service-account-issuer=https://kubernetes.example"]
    api += [
        f"--service-account-key-file={folder}/sa.key",
        f"--service-account-signing-key-file={folder}/sa.key",
    ]
    api += ["--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"]
    api += ["--service-cluster-ip-range=192.0.2.0/24"]
    found = Cluster(folder, secure, made.program("kubectl"))

    def ready() -> bool:
        argv = [*found.kubectl, "get", "--raw", "/readyz"]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip() == "ok"

    with (
        running(store, folder / "etcd.log", lambda: answers(client)),
        running(api, folder / "api.log", ready, seconds=120),
    ):
        for name in ("gpu01", "gpu02"):
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
            (folder / "node.json").write_text(json.dumps(node))
            found.ask("create", "--filename", str(folder / "node.json"))
        yield found


def test_a_bad_node_is_cordoned_with_the_reason_and_comes_back(cluster: Cluster, health: ModuleType) -> None:
    client = health.Kubernetes(cluster.identity("gpu01"))
    client.tell(health.Verdict(healthy=False, reasons=["GPU 1: XID 79: the GPU has fallen off the bus"]))
    assert cluster.node("gpu01")["spec"]["unschedulable"] is True
    said = cluster.ask("describe", "node", "gpu01")
    assert "GpuProblem" in said and "GPU 1: XID 79: the GPU has fallen off the bus" in said
    client.tell(health.Verdict())
    node = cluster.node("gpu01")
    assert not node["spec"].get("unschedulable") and health.ANNOTATION not in node["metadata"].get(
        "annotations", {}
    )
    said = cluster.ask("describe", "node", "gpu01")
    assert "all GPUs are well" in said and "GpusAreHealthy" in said
    events = json.loads(cluster.ask("get", "events", "--output=json"))["items"]
    # They come in the order of their names, which are made up.
    assert sorted((event["type"], event["reason"]) for event in events) == [
        ("Normal", "GpusAreHealthy"),
        ("Warning", "GpuUnhealthy"),
    ]
    assert said.partition("Events:")[2].count("rackloom-gpu-health") == len(events)


def test_a_cordon_of_somebody_else_stays(cluster: Cluster, health: ModuleType) -> None:
    client = health.Kubernetes(cluster.identity("gpu01"))
    cluster.ask("cordon", "gpu01")
    client.tell(health.Verdict(healthy=False, reasons=["GPU 1: hot"]))
    client.tell(health.Verdict())
    assert cluster.node("gpu01")["spec"]["unschedulable"] is True
    cluster.ask("uncordon", "gpu01")


def test_the_identity_reaches_no_taint_and_no_other_node(cluster: Cluster, health: ModuleType) -> None:
    taints = {"spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}}
    with pytest.raises(urllib.error.HTTPError, match="403"):
        health.Kubernetes(cluster.identity("gpu01")).ask("PATCH", "", taints)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        health.Kubernetes(cluster.identity("gpu02")).tell(health.Verdict(healthy=False, reasons=["x"]))
