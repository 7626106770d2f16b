"""Client certificates of a site's Kubernetes, issued with its own authority for an hour and for one purpose."""

# ruff: noqa: PLC0415 - cryptography loads slowly, and few commands make a certificate
from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from .authority import Identity

JOINING = "system:bootstrappers:kubeadm:default-node-token"
"""The group that may ask for a kubelet's certificate, and for nothing else."""
_EARLY = dt.timedelta(minutes=5)


def issue_client(
    key_pem: str, certificate_pem: str, name: str, groups: Sequence[str], hours: float = 1
) -> Identity:
    """Return a client's identity. Raises ValueError where key and certificate do not belong together."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    authority_key = load_pem_private_key(key_pem.encode(), password=None)
    authority = x509.load_pem_x509_certificate(certificate_pem.encode())
    if authority.public_key() != authority_key.public_key():
        raise ValueError("the cluster's authority has another key than its certificate says")
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, name[:64]))
    signed = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + dt.timedelta(hours=hours))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA256())  # type: ignore[arg-type]
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")
    return Identity(private, signed.public_bytes(Encoding.PEM).decode("ascii"))
