"""How long certificates last: those on this node, and those that others show."""

from __future__ import annotations

import base64
import datetime as dt
import re
import socket
import ssl
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DAY = 86400.0
_PATIENCE = 10.0
_KEPT = re.compile(r"client-certificate-data:\s*(\S+)")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Certificate:
    """A certificate's time, in seconds since 1970."""

    whose: str
    begins: float
    ends: float

    def days_left(self, now: float) -> int:
        """Whole days until it ends; negative when it has."""
        return int((self.ends - now) // DAY)

    def is_late(self, now: float, days: float) -> bool:
        """Whether fewer than `days` are left, or less than a tenth of its time where that is short."""
        return self.ends - now < min(days * DAY, (self.ends - self.begins) / 10)


def read(whose: str, pem: str) -> Certificate:
    """Read one certificate. Raises ValueError where it is none."""
    words = ["openssl", "x509", "-noout", "-startdate", "-enddate"]
    done = subprocess.run(words, input=pem, capture_output=True, text=True, check=False)
    told = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if done.returncode != 0 or not {"notBefore", "notAfter"} <= set(told):
        raise ValueError(f"{whose} is no certificate: {done.stderr.strip()}")
    return Certificate(whose, _moment(told["notBefore"]), _moment(told["notAfter"]))


def _moment(text: str) -> float:
    told = dt.datetime.strptime(text.replace("GMT", "+0000"), "%b %d %H:%M:%S %Y %z")
    return told.timestamp()


def stored(folders: Iterable[Path]) -> list[tuple[str, str]]:
    """Return (file, PEM) of the certificates of this node: of .crt and .pem files, and inside of kubeconfigs."""
    found = []
    for folder in folders:
        for path in sorted(folder.glob("*")):
            if path.suffix in (".crt", ".pem") and path.is_file():
                found += [(str(path), block) for block in _PEM.findall(path.read_text(errors="replace"))[:1]]
            elif path.suffix == ".conf" and path.is_file():
                for text in _KEPT.findall(path.read_text(errors="replace")):
                    found.append((str(path), base64.b64decode(text).decode(errors="replace")))
    return found


def shown(address: str, port: int) -> str:
    """Return the certificate, as PEM, that a server shows. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is looked at, nothing is believed
    with (
        socket.create_connection((address, port), timeout=_PATIENCE) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        found = wrapped.getpeercert(binary_form=True)
    if not found:
        raise OSError(f"{address} port {port} shows no certificate")
    return ssl.DER_cert_to_PEM_cert(found)
