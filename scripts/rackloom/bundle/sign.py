"""Signs bundles with a key of the site's own, made when it is first needed."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rackloom.bundle.errors import BundleError
from rackloom.bundle.items import LOCK, PARTIAL, SIGNATURE
from rackloom.bundle.verify import NAMESPACE

SIGNERS_FILE = Path("bundle-signers")
"""In a site's config: whose bundles it takes, as ssh-keygen's allowed_signers."""


@dataclass(frozen=True)
class Key:
    """A private key for signing, and its line for allowed_signers."""

    path: Path
    line: str
    made: bool = False


def key_path(config: Path) -> Path:
    """The site's key; without a site, one of the user's own."""
    if config.is_dir():
        return config / "ssh" / "bundle"
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "rackloom" / "bundle"


def ensure_key(path: Path) -> Key:
    """The key at `path`, made when there is none. Only its owner may read it."""
    made = False
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        who = f"{getpass.getuser()}@{socket.gethostname()}"
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        _keygen(["-q", "-t", "ed25519", "-N", "", "-C", who, "-f", str(fresh)])
        fresh.chmod(0o600)
        Path(f"{fresh}.pub").replace(f"{path}.pub")
        fresh.replace(path)
        made = True
    elif path.stat().st_mode & 0o077:
        path.chmod(0o600)
    public = _keygen(["-y", "-P", "", "-f", str(path)]).split()
    name = public[2] if len(public) > 2 else f"{getpass.getuser()}@{socket.gethostname()}"
    return Key(path, f'{name} namespaces="{NAMESPACE}" {public[0]} {public[1]}\n', made)


def trust(config: Path, line: str) -> bool:
    """Write a signer into the site's own list of them; tells whether it is new there."""
    path = config / SIGNERS_FILE
    old = path.read_text(encoding="utf-8") if path.is_file() else ""
    if line in old.splitlines(keepends=True):
        return False
    path.write_text(old + ("" if not old or old.endswith("\n") else "\n") + line, encoding="utf-8")
    return True


def sign(folder: Path, key: Path) -> None:
    """Sign the bundle's lock. The signature appears when it is whole."""
    fresh = folder / PARTIAL / LOCK
    fresh.parent.mkdir(exist_ok=True)
    fresh.write_bytes((folder / LOCK).read_bytes())
    made = Path(f"{fresh}.sig")
    made.unlink(missing_ok=True)
    _keygen(["-q", "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(fresh)])
    made.replace(folder / SIGNATURE)


def _keygen(words: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            ["ssh-keygen", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise BundleError("ssh-keygen is not installed", "install the package openssh-client") from None
    if done.returncode:
        raise BundleError(
            f"ssh-keygen ended with status {done.returncode}: {(done.stderr or done.stdout).strip()[-400:]}",
            "see that the bundle's key is there, yours, and has no passphrase",
        )
    return done.stdout
