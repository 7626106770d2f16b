"""The public half of the key with which this machine reaches the nodes."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

DEFAULT_KEY = "ssh/id_ed25519"
_MAGIC = b"openssh-key-v1\0"
_BEGIN = "-----BEGIN OPENSSH PRIVATE KEY-----"


def controller_key(config_dir: Path, named: str) -> str:
    """The line that goes into authorized_keys; "" where the site has no key of its own (ssh then takes the user's).

    It is read from the .pub file, or from the private key's file, which holds it unencrypted.
    """
    private = config_dir / (named or DEFAULT_KEY)
    for path, read in ((private.with_name(f"{private.name}.pub"), _public), (private, _inside)):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if line := read(text):
            return line
    return ""


def _public(text: str) -> str:
    line = text.strip()
    return line if "\n" not in line and len(line.split()) >= 2 and "PRIVATE" not in line else ""


def _inside(text: str) -> str:
    """Public key out of an OpenSSH private key: the third of the blobs in its head."""
    if _BEGIN not in text:
        return ""
    lines = text.split(_BEGIN, 1)[1].split("-----END", 1)[0]
    try:
        raw = base64.b64decode("".join(lines.split()), validate=True)
        rest = raw.removeprefix(_MAGIC)
        for _ in range(3):  # cipher, key derivation, its options
            _, rest = _take(rest)
        blob, _ = _take(rest[4:])  # how many keys there are
        kind, _ = _take(blob)
        return f"{kind.decode('ascii')} {base64.b64encode(blob).decode('ascii')}"
    except (binascii.Error, ValueError):
        return ""


def _take(data: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 + size:
        raise ValueError("cut off")
    return data[4 : 4 + size], data[4 + size :]
