"""What the site's authority issues and what its package key signs, checked by the programs that nodes have."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from rackloom.site import authority, openpgp
from rackloom.site.secrets import SECRETS

TEXT = "Origin: Rackloom\nDate: Thu, 01 Jan 1970 00:00:00 UTC\n- a dash\nSHA256:\n blanks at the end  \n"


def make(*prefixes: str) -> dict[str, str]:
    made: dict[str, str] = {}
    for secret in SECRETS:
        if secret.name.startswith(prefixes):
            made[secret.name] = secret.make(made)
    return made


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return make("ca_", "package_")


def signed(made: dict[str, str], text: str = TEXT, when: int = 0) -> str:
    return openpgp.clear_signed(text, made["package_signing_key"], made["package_signing_certificate"], when)


def gpgv(made: dict[str, str], text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Ask apt's own verifier."""
    if shutil.which("gpgv") is None:
        pytest.skip("gpgv is not installed")
    (folder / "InRelease").write_text(text)
    data = made["package_signing_certificate"].split("\n\n", 1)[1].split("\n=", 1)[0]
    import base64  # noqa: PLC0415

    (folder / "key.gpg").write_bytes(base64.b64decode(data))
    argv = ["gpgv", "--keyring", str(folder / "key.gpg"), "--output", str(folder / "out"), "InRelease"]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)


def test_gpgv_accepts_the_signature(made: dict[str, str], tmp_path: Path) -> None:
    done = gpgv(made, signed(made), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Good signature" in done.stderr
    lines = [line.rstrip() for line in TEXT.splitlines()]
    assert (tmp_path / "out").read_text().splitlines() == lines


def test_gpgv_refuses_another_text_and_another_key(made: dict[str, str], tmp_path: Path) -> None:
    assert gpgv(made, signed(made).replace("Origin: Rackloom", "Origin: Nobody"), tmp_path).returncode != 0
    assert gpgv(made, signed(make("package_")), tmp_path).returncode != 0


def test_the_same_gives_the_same(made: dict[str, str]) -> None:
    assert signed(made) == signed(made)
    assert signed(made) != signed(
        made, when=openpgp.public_key(made["package_signing_certificate"]).created + 5
    )


def test_a_signature_is_never_older_than_its_key(made: dict[str, str], tmp_path: Path) -> None:
    assert gpgv(made, signed(made, when=1), tmp_path).returncode == 0


def test_key_and_certificate_must_fit(made: dict[str, str]) -> None:
    other = make("package_")
    with pytest.raises(ValueError, match="another signing key"):
        openpgp.clear_signed(TEXT, made["package_signing_key"], other["package_signing_certificate"])
    with pytest.raises(ValueError, match="no armoured"):
        openpgp.public_key("nothing")


def issue(made: dict[str, str], name: str = "mirror", *alternatives: str) -> authority.Identity:
    return authority.issue(made["ca_key"], made["ca_certificate"], name, alternatives)


def test_openssl_accepts_the_certificate(made: dict[str, str], tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    (tmp_path / "ca.crt").write_text(made["ca_certificate"])
    (tmp_path / "server.crt").write_text(
        issue(made, "mirror", "192.0.2.1", "mgmt01.demo.example").certificate
    )
    for purpose, name in (
        ("sslserver", "-verify_ip 192.0.2.1"),
        ("sslserver", "-verify_hostname mgmt01.demo.example"),
    ):
        argv = [
            "openssl",
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            *name.split(),
            "-CAfile",
            "ca.crt",
            "server.crt",
        ]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    argv = ["openssl", "verify", "-purpose", "sslclient", "-CAfile", "ca.crt", "server.crt"]
    assert subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_a_certificate_follows_from_its_inputs(made: dict[str, str]) -> None:
    assert issue(made, "mirror", "192.0.2.1") == issue(made, "mirror", "192.0.2.1")
    moved = issue(made, "mirror", "192.0.2.2")
    assert moved.key == issue(made, "mirror", "192.0.2.1").key
    assert moved.certificate != issue(made, "mirror", "192.0.2.1").certificate
    keys = {issue(made, name).key for name in ("mirror", "registry")} | {
        authority.issue(made["ca_key"], made["ca_certificate"], "mirror", purpose="client").key
    }
    assert len(keys) == 3


def test_key_and_certificate_of_a_service_fit(made: dict[str, str]) -> None:
    found = issue(made)
    certificate = x509.load_pem_x509_certificate(found.certificate.encode())
    key = load_pem_private_key(found.key.encode(), None)
    assert certificate.public_key() == key.public_key()
    assert "PRIVATE" not in repr(found)


def test_an_authority_of_another_key_is_refused(made: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="another key"):
        authority.issue(make("ca_")["ca_key"], made["ca_certificate"], "mirror")
