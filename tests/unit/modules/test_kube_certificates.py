"""Certificates' time, read with openssl."""

from __future__ import annotations

import base64
import datetime as dt
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from plugins.module_utils.kube_certificates import DAY, Certificate, read, shown, stored


def make(begins: dt.datetime, ends: dt.datetime) -> tuple[str, str]:
    """A certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "it")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(begins)
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


@pytest.fixture
def pem() -> str:
    return make(dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC), dt.datetime(2027, 3, 1, 12, tzinfo=dt.UTC))[0]


def test_times_are_read(pem: str) -> None:
    certificate = read("it", pem)
    assert dt.datetime.fromtimestamp(certificate.begins, dt.UTC) == dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    assert dt.datetime.fromtimestamp(certificate.ends, dt.UTC) == dt.datetime(2027, 3, 1, 12, tzinfo=dt.UTC)
    with pytest.raises(ValueError, match="it is no certificate"):
        read("it", "nothing")


@pytest.mark.parametrize(
    ("lifetime", "left", "late"),
    [(365, 22, False), (365, 20, True), (365, -1, True), (1, 0.5, False), (1, 0.05, True), (100, 11, False)],
)
def test_a_short_life_is_not_late_by_itself(lifetime: float, left: float, late: bool) -> None:
    now = time.time()
    certificate = Certificate("it", now + (left - lifetime) * DAY, now + left * DAY)
    assert certificate.is_late(now, 21) is late


def test_certificates_are_found_where_kubernetes_keeps_them(tmp_path: Path, pem: str) -> None:
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "apiserver.crt").write_text(pem)
    (tmp_path / "pki" / "apiserver.key").write_text("secret")
    kept = base64.b64encode(pem.encode()).decode()
    (tmp_path / "admin.conf").write_text(f"users:\n- user:\n    client-certificate-data: {kept}\n")
    (tmp_path / "kubelet.conf").write_text("    client-certificate: /var/lib/kubelet/pki/current.pem\n")
    found = dict(stored([tmp_path, tmp_path / "pki", tmp_path / "nowhere"]))
    assert set(found) == {str(tmp_path / "admin.conf"), str(tmp_path / "pki" / "apiserver.crt")}
    assert {each.strip() for each in found.values()} == {pem.strip()}


def test_what_a_server_shows(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    pem, key = make(now - dt.timedelta(days=1), now + dt.timedelta(days=9))
    (tmp_path / "it.pem").write_text(pem + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "it.pem")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            plain, _ = server.accept()
            with context.wrap_socket(plain, server_side=True):
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        assert (
            read("it", shown("127.0.0.1", server.getsockname()[1])).ends
            == (now + dt.timedelta(days=9)).timestamp()
        )
        thread.join()
