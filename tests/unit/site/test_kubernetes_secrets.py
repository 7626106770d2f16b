"""What Kubernetes trusts and signs with: kinds of keys that its programs read."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from rackloom.site.secrets import SECRETS

AUTHORITIES = ("kube_ca", "kube_front_proxy_ca", "kube_etcd_ca")


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    found: dict[str, str] = {}
    for secret in SECRETS:
        if secret.group == "kubernetes":
            found[secret.name] = secret.make(found)
    return found


@pytest.mark.parametrize("name", AUTHORITIES)
def test_an_authority_has_its_own_key(made: dict[str, str], name: str) -> None:
    certificate = x509.load_pem_x509_certificate(made[f"{name}_certificate"].encode())
    key = load_pem_private_key(made[f"{name}_key"].encode(), None)
    assert certificate.public_key() == key.public_key()
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    certificate.verify_directly_issued_by(certificate)


def test_no_two_authorities_are_alike(made: dict[str, str]) -> None:
    names = {
        x509.load_pem_x509_certificate(made[f"{name}_certificate"].encode()).subject for name in AUTHORITIES
    }
    assert len(names) == len({made[f"{name}_key"] for name in AUTHORITIES}) == len(AUTHORITIES)


def test_openssl_takes_what_an_authority_issues(made: dict[str, str], tmp_path: Path) -> None:
    """As kubeadm does it: a certificate of a key of its own, signed with the authority's key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    (tmp_path / "ca.key").write_text(made["kube_ca_key"])
    (tmp_path / "ca.crt").write_text(made["kube_ca_certificate"])
    for argv in (
        "req -newkey rsa:2048 -nodes -keyout api.key -out api.csr -subj /CN=kube-apiserver",
        "x509 -req -in api.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out api.crt",
        "verify -x509_strict -CAfile ca.crt ca.crt",
        "verify -CAfile ca.crt api.crt",
    ):
        done = subprocess.run(
            ["openssl", *argv.split()], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr + done.stdout


def test_tokens_are_signed_with_rsa(made: dict[str, str]) -> None:
    key = load_pem_private_key(made["kube_service_account_key"].encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)


def test_the_store_is_encrypted_with_a_key_of_aes_256(made: dict[str, str]) -> None:
    assert len(base64.b64decode(made["kube_encryption_key"], validate=True)) == 32


def test_vrrp_has_room_for_the_password(made: dict[str, str]) -> None:
    assert len(made["kube_endpoint_password"]) == 8
    assert made["kube_endpoint_password"].isalnum()
