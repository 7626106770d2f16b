"""A member that is as it was left is not asked again, and anything else is."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
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
    monkeypatch.setattr(node_members, "CLIENT", str(tmp_path / "client.pem"))
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


def pem(days: float) -> str:
    """A certificate that ends in so many days, and its key, as a kubelet keeps them."""
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - dt.timedelta(days=400)).not_valid_after(now + dt.timedelta(days=days))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM) + secret).decode()


@pytest.mark.parametrize(("days", "well"), [(1, True), (-1, False)])
def test_a_kubelet_whose_certificate_has_ended_is_no_member(member: Path, days: float, well: bool) -> None:
    (member / "client.pem").write_text(pem(days))
    assert holds() is well


@pytest.mark.parametrize("text", ["", "no certificate"])
def test_what_is_no_certificate_has_not_ended(member: Path, text: str) -> None:
    (member / "client.pem").write_text(text)
    assert holds()
