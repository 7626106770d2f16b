"""A deploy moves neither a cluster's release nor its data, and leaves it its keys and its workers."""

from __future__ import annotations

import http.server
import importlib
import json
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from plugins.module_utils import kube_documents, node_members
from plugins.modules import kube_release_guard as guard

SECRET = "a" * 43 + "="
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


# what is there, and whose it is

FILES = {
    "/etc/kubernetes/pki/ca.crt": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "/etc/kubernetes/pki/front-proxy-ca.crt": "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n",
    "/etc/kubernetes/pki/etcd/ca.crt": "-----BEGIN CERTIFICATE-----\nCCCC\n-----END CERTIFICATE-----\n",
    "/etc/kubernetes/pki/sa.pub": "-----BEGIN PUBLIC KEY-----\nDDDD\n-----END PUBLIC KEY-----\n",
    "/etc/rackloom/kubernetes/apiserver/encryption.json": json.dumps(kube_documents.encryption(SECRET)),
}
JOINED = "/etc/kubernetes/kubelet.conf"
API = "/etc/kubernetes/manifests/kube-apiserver.yaml"
DATA = "/var/lib/etcd/member/snap/db"
MARK = "/var/lib/kubelet/rackloom.json"
INTENT = "/var/lib/rackloom/kubernetes/intent.json"
RESTORED = "/var/lib/rackloom/etcd/restored"
STORE_UNIT = "/etc/systemd/system/multi-user.target.wants/rackloom-etcd.service"


class Node:
    """A node whose files lie in a folder, and how its guard is asked."""

    def __init__(self, root: Path, run_module: Callable[..., dict[str, Any]]) -> None:
        self.root = root
        self.run_module = run_module

    def has(self, *paths: str, **contents: str) -> None:
        for path, text in {**dict.fromkeys(paths, "x"), **contents}.items():
            file = self.root / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def asked(self, **options: Any) -> dict[str, Any]:
        return self.run_module("kube_release_guard", **options)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict[str, Any]]) -> Node:
    at = str(tmp_path)
    for name in ("JOINED", "STORE", "API", "INTENT", "RESTORED", "STORE_UNIT", "ENCRYPTION"):
        monkeypatch.setattr(guard, name, at + getattr(guard, name))
    monkeypatch.setattr(node_members, "MARK", at + MARK)
    kept = {name: (title, tuple(at + path for path in paths)) for name, (title, paths) in guard.KEPT.items()}
    monkeypatch.setattr(guard, "KEPT", kept)
    monkeypatch.setattr(guard, "asked", tuple)
    return Node(tmp_path, run_module)


def vault(**other: str) -> dict[str, str]:
    """Fingerprints of what a site's vault has: what is in FILES, unless it is another."""
    told = dict(zip(("cluster", "front_proxy", "etcd", "accounts"), FILES.values(), strict=False))
    return {name: guard.fingerprint(text) for name, text in {**told, "encryption": SECRET, **other}.items()}


def test_a_cluster_with_the_vaults_keys_is_gone_on_with(node: Node) -> None:
    node.has(JOINED, **FILES)
    assert node.asked(fingerprints=vault())["other"] == []
    # as another editor, or Ansible's own templating, leaves it
    node.has(
        **{"/etc/kubernetes/pki/ca.crt": FILES["/etc/kubernetes/pki/ca.crt"].strip().replace("\n", "\r\n")}
    )
    assert node.asked(fingerprints=vault())["other"] == []


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("cluster", "the cluster's authority"),
        ("front_proxy", "the front proxy's authority"),
        ("etcd", "etcd's authority"),
        ("accounts", "the key of service accounts"),
        ("encryption", "the key that secrets are encrypted with"),
    ],
)
@pytest.mark.parametrize("proof", [JOINED, DATA])
def test_each_key_that_differs_is_told(node: Node, name: str, title: str, proof: str) -> None:
    node.has(proof, **FILES)
    result = node.asked(fingerprints=vault(**{name: "another"}))
    assert result["other"] == [title]
    assert SECRET not in json.dumps(result) and "another" not in json.dumps(result)


def test_all_that_differs_is_told_at_once_and_a_refusal_tells_it_too(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.has(JOINED, **FILES)
    wanted = vault(**dict.fromkeys(guard.KEPT, "another"))
    assert len(node.asked(fingerprints=wanted)["other"]) == 5
    monkeypatch.setattr(guard, "asked", lambda: (HERE,))
    refused = node.asked(fingerprints=wanted, store=[A])
    assert refused["failed"] and len(refused["other"]) == 5 and refused["joined"]


def test_keys_that_were_rotated_by_hand_are_not_lost(node: Node) -> None:
    path = "/etc/rackloom/kubernetes/apiserver/encryption.json"
    document = kube_documents.encryption(SECRET)
    keys = document["resources"][0]["providers"][0]["secretbox"]["keys"]
    keys.append({"name": "older", "secret": "b" * 43 + "="})
    title = ["the key that secrets are encrypted with"]
    node.has(JOINED, **{**FILES, path: json.dumps(document)})
    assert node.asked(fingerprints=vault())["other"] == title
    node.has(**{path: yaml.safe_dump(document)})
    assert node.asked(fingerprints=vault())["other"] == title


def test_who_is_in_no_cluster_takes_any_keys(node: Node) -> None:
    other = vault(**dict.fromkeys(guard.KEPT, "another"))
    assert node.asked(fingerprints=other)["other"] == []
    # what a first deploy, or a cluster that was taken down, has left
    node.has(**FILES)
    assert node.asked(fingerprints=other)["other"] == []
    # a snapshot that was laid out begins with the site's keys
    node.has(DATA, RESTORED)
    assert node.asked(fingerprints=other)["other"] == []
    node.has(JOINED)
    assert len(node.asked(fingerprints=other)["other"]) == 5


def test_a_host_of_etcd_has_its_authority(node: Node) -> None:
    node.has(DATA, **{"/etc/rackloom/etcd/ca.crt": "mine"})
    assert node.asked(fingerprints=vault(etcd="mine"))["other"] == []
    assert node.asked(fingerprints=vault())["other"] == ["etcd's authority"]
    # its first restore has left this mark; it is a member all the same
    node.has(RESTORED, STORE_UNIT)
    assert node.asked(fingerprints=vault())["other"] == ["etcd's authority"]


@pytest.mark.parametrize(
    ("files", "intent", "holds"),
    [
        ([], "", False),
        ([JOINED, API, MARK, DATA], "", True),
        ([JOINED, API, MARK], "", True),
        # stopped by hand: its manifests were moved away
        ([JOINED, MARK, DATA], "", True),
        ([DATA], "", True),
        ([DATA, RESTORED], "", True),
        ([DATA], '{"action": "init"}', True),
        ([DATA], "{broken", True),
        # somebody else's
        ([JOINED], "", True),
        # joins that were cut off
        ([], '{"action": "join"}', False),
        ([DATA], '{"action": "join"}', False),
        ([JOINED], '{"action": "join"}', False),
        # its disk for etcd was lost, and that alone
        ([JOINED, MARK], "", False),
        # a snapshot that was laid out and is not there any more
        ([RESTORED], "", False),
    ],
)
def test_who_holds_a_cluster(node: Node, files: list[str], intent: str, holds: bool) -> None:
    node.has(*files, **({INTENT: intent} if intent else {}))
    result = node.asked()
    assert result["holds"] is holds
    assert result["joined"] is (JOINED in files)


def test_who_holds_nothing_asks_the_api(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answers(endpoint: str) -> bool:
        asked.append(endpoint)
        return True

    monkeypatch.setattr(guard, "answers", answers)
    assert not node.asked(endpoint="192.0.2.10:7443")["holds"]
    assert asked == []
    assert node.asked(endpoint="192.0.2.10:7443", control_plane=True)["holds"]
    node.has(DATA)
    assert node.asked(endpoint="192.0.2.10:7443", control_plane=True)["holds"]
    assert asked == ["192.0.2.10:7443"]


class Ready(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_the_api_is_asked_whether_it_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "both.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=api", "-keyout"]
    made = subprocess.run([*argv, str(file)], capture_output=True, text=True, check=True)
    file.write_text(file.read_text() + made.stdout)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server = http.server.HTTPServer(("127.0.0.1", 0), Ready)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    endpoint = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        assert guard.answers(endpoint)
        monkeypatch.setattr(Ready, "status", 500)
        assert not guard.answers(endpoint)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert not guard.answers(endpoint)
    assert not guard.answers("")
