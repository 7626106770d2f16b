"""
The little of OpenPGP (RFC 4880) that a signed package repository takes: a certificate, and signatures.

Keys are Ed25519. The signing key never leaves the controlling machine, which need not have GnuPG: nodes check
what is made here with their own gpgv or sqv. The same text, key and time always give the same signature, so a
repository that was signed before is not changed by being signed again.
"""

# ruff: noqa: PLC0415 - cryptography loads slowly, and few commands sign anything
from __future__ import annotations

import base64
import hashlib
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_EDDSA, _SHA256 = 22, 8
_CURVE = bytes.fromhex("092b06010401da470f01")  # its length, and the object identifier of Ed25519
_TEXT, _CERTIFICATION = 0x01, 0x13
_PUBLIC_KEY, _USER_ID, _SIGNATURE = 6, 13, 2
_CREATED, _HASHES, _ISSUER, _FLAGS, _FINGERPRINT = 2, 21, 16, 27, 33
_SIGN_AND_CERTIFY = b"\x03"
_LINE = 64


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key as its packet has it."""

    body: bytes

    @property
    def created(self) -> int:
        """Seconds since the epoch."""
        return int.from_bytes(self.body[1:5], "big")

    @property
    def fingerprint(self) -> bytes:
        """Twenty bytes, of which the last eight are the key's id."""
        # SHA-1 is what the format asks for here; it is a name, nothing is protected by it.
        return hashlib.sha1(_hashed_key(self.body), usedforsecurity=False).digest()


def certificate(private_pem: str, user: str, created: int) -> str:
    """Return the armoured certificate of a private key: its public half, named `user`."""
    private = _load(private_pem)
    key = PublicKey(b"\x04" + struct.pack(">IB", created, _EDDSA) + _CURVE + _point(private))
    name = user.encode()
    signed = _hashed_key(key.body) + b"\xb4" + struct.pack(">I", len(name)) + name
    extra = _part(_FLAGS, _SIGN_AND_CERTIFY) + _part(_HASHES, bytes([_SHA256, 10]))
    signature = _sign(private, key, _CERTIFICATION, signed, created, extra)
    packets = _packet(_PUBLIC_KEY, key.body) + _packet(_USER_ID, name) + _packet(_SIGNATURE, signature)
    return _armour("PUBLIC KEY BLOCK", packets)


def clear_signed(text: str, private_pem: str, certificate_text: str, when: int = 0) -> str:
    """Return `text` with its signature around it, as apt's InRelease is; signed at `when`, or when the key was made.

    Raises ValueError where the certificate is not that of the key.
    """
    private = _load(private_pem)
    key = public_key(certificate_text)
    if not key.body.endswith(_point(private)):
        raise ValueError("the certificate belongs to another signing key; run `rackloom secrets init`")
    lines = [line.rstrip(" \t\r") for line in text.removesuffix("\n").split("\n")]
    signature = _sign(private, key, _TEXT, "\r\n".join(lines).encode(), max(when, key.created))
    escaped = "\n".join(f"- {line}" if line.startswith("-") else line for line in lines)
    armour = _armour("SIGNATURE", _packet(_SIGNATURE, signature))
    return f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{escaped}\n{armour}"


def public_key(certificate_text: str) -> PublicKey:
    """Return the first key of an armoured certificate. Raises ValueError where there is none."""
    match = re.search(
        r"-----BEGIN PGP PUBLIC KEY BLOCK-----\n(?:[^\n]+: [^\n]*\n)*\n(.*?)\n=", certificate_text, re.DOTALL
    )
    if not match:
        raise ValueError("this is no armoured OpenPGP certificate")
    data = base64.b64decode(match[1])
    # An old-format packet with one byte of length, as written here, or any other writer's first packet.
    tag, length, start = _header(data)
    if tag != _PUBLIC_KEY:
        raise ValueError("this is no armoured OpenPGP certificate")
    return PublicKey(data[start : start + length])


def _load(private_pem: str) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(private_pem.encode(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("the signing key is no Ed25519 key")  # noqa: TRY004 - a wrong value, for our callers
    return key


def _point(private: Ed25519PrivateKey) -> bytes:
    return _number(b"\x40" + private.public_key().public_bytes_raw())


def _number(value: bytes) -> bytes:
    """A number as the format writes it: its length in bits, and no leading zeros."""
    whole = int.from_bytes(value, "big")
    return struct.pack(">H", whole.bit_length()) + whole.to_bytes((whole.bit_length() + 7) // 8, "big")


def _hashed_key(body: bytes) -> bytes:
    return b"\x99" + struct.pack(">H", len(body)) + body


def _part(kind: int, content: bytes) -> bytes:
    return bytes([len(content) + 1, kind]) + content


def _sign(
    private: Ed25519PrivateKey, key: PublicKey, kind: int, content: bytes, when: int, extra: bytes = b""
) -> bytes:
    hashed = _part(_CREATED, struct.pack(">I", when)) + extra + _part(_FINGERPRINT, b"\x04" + key.fingerprint)
    head = bytes([4, kind, _EDDSA, _SHA256]) + struct.pack(">H", len(hashed)) + hashed
    digest = hashlib.sha256(content + head + b"\x04\xff" + struct.pack(">I", len(head))).digest()
    signature = private.sign(digest)
    unhashed = _part(_ISSUER, key.fingerprint[-8:])
    numbers = _number(signature[:32]) + _number(signature[32:])
    return head + struct.pack(">H", len(unhashed)) + unhashed + digest[:2] + numbers


def _packet(tag: int, body: bytes) -> bytes:
    return bytes([0x80 | tag << 2 | 1]) + struct.pack(">H", len(body)) + body


def _header(data: bytes) -> tuple[int, int, int]:
    """(tag, length of the body, where the body starts) of the first packet."""
    first = data[0]
    if first & 0x40:
        if data[1] >= 224:
            raise ValueError("the OpenPGP certificate is written in a form that is not read here")
        if data[1] < 192:
            return first & 0x3F, data[1], 2
        return first & 0x3F, (data[1] - 192 << 8) + data[2] + 192, 3
    size = 1 << (first & 3)
    return first >> 2 & 0xF, int.from_bytes(data[1 : 1 + size], "big"), 1 + size


def _armour(kind: str, data: bytes) -> str:
    text = base64.b64encode(data).decode()
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    check = base64.b64encode(_crc24(data).to_bytes(3, "big")).decode()
    return "\n".join(
        [f"-----BEGIN PGP {kind}-----", "", *lines, f"={check}", f"-----END PGP {kind}-----", ""]
    )


def _crc24(data: bytes) -> int:
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc
