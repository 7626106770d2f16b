"""
The site's certificate authority: what nodes trust, and the certificates of the services they talk to.

A certificate follows from the authority's key, the service's name and its addresses alone: made again it is the
same to the bit. So nothing is to be stored or to run out of step, a second deploy changes nothing, and a service
that moves to another host takes its identity along.
"""

# ruff: noqa: PLC0415 - cryptography loads slowly, and few commands make a certificate
from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

YEARS = 20
_DAY = dt.timedelta(days=1)
_ORDER_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True)
class Identity:
    """A service's private key and its certificate, both PEM."""

    key: str = field(repr=False)
    certificate: str


def make_key() -> str:
    """Return a new private key for an authority, PEM."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return _key_pem(ec.generate_private_key(ec.SECP256R1()))


def make_authority(
    key_pem: str, today: dt.datetime | None = None, title: str = "Rackloom site authority"
) -> str:
    """Return an authority's own certificate, PEM. It holds from the day before, as clocks differ."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    key = _load_key(key_pem)
    start = (today or dt.datetime.now(dt.UTC)).replace(hour=0, minute=0, second=0, microsecond=0) - _DAY
    mark = hashlib.sha256(key_pem.encode()).hexdigest()[:8]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{title} {mark}")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + YEARS * 365 * _DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pem(builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True))


def issue(
    key_pem: str,
    certificate_pem: str,
    name: str,
    alternatives: Sequence[str] = (),
    purpose: Literal["server", "client", "both"] = "server",
) -> Identity:
    """Return the identity of a service: `name` is its common name, `alternatives` all its names and addresses.

    Raises ValueError where key and certificate do not belong together.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    authority_key = _load_key(key_pem)
    authority = x509.load_pem_x509_certificate(certificate_pem.encode())
    if authority.public_key() != authority_key.public_key():
        raise ValueError("the site's authority has another key than its certificate says")
    key = _derive(authority_key, f"{purpose} {name}")
    public = key.public_key()
    others = list(dict.fromkeys(alternatives))
    told = "\n".join([purpose, name, *others, certificate_pem])
    serial = int.from_bytes(hashlib.sha256(told.encode()).digest()[:19], "big")
    server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    uses = {"server": [server], "client": [client], "both": [server, client]}[purpose]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]))
        .issuer_name(authority.subject)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(authority.not_valid_before_utc)
        .not_valid_after(authority.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(uses),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
    )
    if others:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general(text) for text in others]), critical=False
        )
    signed = builder.sign(authority_key, hashes.SHA256(), ecdsa_deterministic=True)
    return Identity(_key_pem(key), _pem(signed))


def _derive(authority: EllipticCurvePrivateKey, purpose: str) -> EllipticCurvePrivateKey:
    """A service's private key out of the authority's; knowing the one tells nothing of the other."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    secret = authority.private_numbers().private_value.to_bytes(32, "big")
    expand = HKDF(hashes.SHA256(), length=48, salt=None, info=f"rackloom certificate: {purpose}".encode())
    number = int.from_bytes(expand.derive(secret), "big") % (_ORDER_P256 - 1) + 1
    return ec.derive_private_key(number, ec.SECP256R1())


def _load_key(key_pem: str) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(key_pem.encode(), password=None)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise ValueError("the authority's key is of another kind than is made here")  # noqa: TRY004
    return key


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general(text: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _key_pem(key: EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def _pem(certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM).decode("ascii")
