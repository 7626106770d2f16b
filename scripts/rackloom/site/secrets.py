"""A site's secrets: made once, kept encrypted, never in a log.

They live in ``group_vars/all/secrets.yml`` (a whole-file Ansible vault, one mapping `rackloom_secrets`), and the
vault's key in ``vault.key`` beside cluster.yml. SECRETS is the one place to declare a new secret: `init` adds
to an existing site what is missing there and touches nothing else.
"""

# ruff: noqa: PLC0415 - Ansible and cryptography load slowly, and few commands touch a secret
from __future__ import annotations

import base64
import ctypes
import os
import re
import secrets as random
import string
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .yaml_text import replace_file

VARIABLE = "rackloom_secrets"
VAULT_ID = "rackloom"
KEY_VARIABLE = "RACKLOOM_VAULT_KEY_FILE"
SECRETS_FILE = Path("group_vars/all/secrets.yml")
KEY_FILE = Path("vault.key")
IGNORED = ("vault.key", "ssh/", "images/")

_HEADER = "---\n# Made by `rackloom secrets init`. See one with: ansible-vault view\n"


class SecretsError(Exception):
    """Something is wrong with the secrets; the text is one sentence for people, without any secret in it."""


class KeyMissingError(SecretsError):
    """There are secrets, but not the key to them."""


class KeyWrongError(SecretsError):
    """The key does not open the secrets."""


class SecretsMissingError(SecretsError):
    """No secrets have been made yet, or newer ones lack."""


class SecretsDamagedError(SecretsError):
    """The file of secrets cannot be read."""


class SecretsRefusedError(SecretsError, ValueError):
    """A name or a value that cannot be kept."""


def _token() -> str:
    return random.token_urlsafe(32)


def _bytes(count: int) -> Callable[[Mapping[str, str]], str]:
    return lambda _: base64.b64encode(random.token_bytes(count)).decode("ascii")


def _private_key(_: Mapping[str, str]) -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode("ascii")


def _public_key_of(private: str, comment: str) -> Callable[[Mapping[str, str]], str]:
    def make(made: Mapping[str, str]) -> str:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

        key = load_ssh_private_key(made[private].encode("ascii"), password=None).public_key()
        return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii") + f" {comment}"

    return make


def _signing_key(_: Mapping[str, str]) -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def _signing_certificate(made: Mapping[str, str]) -> str:
    from .openpgp import certificate

    # From the day before, as clocks differ: a signature older than its key counts for nothing.
    return certificate(made["package_signing_key"], "Rackloom site packages", int(time.time()) - 86400)


def _authority_key(_: Mapping[str, str]) -> str:
    from .authority import make_key

    return make_key()


def _authority_certificate(made: Mapping[str, str]) -> str:
    from .authority import make_authority

    return make_authority(made["ca_key"])


def _authority_of(key: str, title: str) -> Callable[[Mapping[str, str]], str]:
    def make(made: Mapping[str, str]) -> str:
        from .authority import make_authority

        return make_authority(made[key], title=title)

    return make


def _rsa_key(_: Mapping[str, str]) -> str:
    """RSA, because who reads tokens outside of the cluster often knows nothing else."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def _vrrp_password(_: Mapping[str, str]) -> str:
    """Eight characters: VRRP has room for no more."""
    return "".join(random.choice(string.ascii_letters + string.digits) for _ in range(8))


def _hash_of(password: str) -> Callable[[Mapping[str, str]], str]:
    """Of a password, in the form that programs of Prometheus' family read. The machine's own crypt(3) knows it."""

    def make(made: Mapping[str, str]) -> str:
        letters = string.ascii_letters + string.digits
        # 22 letters hold 132 bits of which bcrypt takes 128, so the last one may not be just any.
        salt = "".join(random.choice(letters) for _ in range(21)) + random.choice("Oeu")
        hashed = _crypt(made[password].encode(), f"$2b$10${salt}".encode())
        if not hashed.startswith("$2b$10$"):
            raise SecretsError("This machine's libcrypt makes no bcrypt hashes; install libxcrypt.")
        return hashed

    return make


def _quick_hash_of(password: str) -> Callable[[Mapping[str, str]], str]:
    """Of a password of ours, for who looks at it with each request; 256 random bits need no slow hash."""

    def make(made: Mapping[str, str]) -> str:
        salt = "".join(random.choice(string.ascii_letters + string.digits) for _ in range(16))
        hashed = _crypt(made[password].encode(), f"$6${salt}".encode())
        if not hashed.startswith("$6$"):
            raise SecretsError("This machine's libcrypt makes no SHA-512 hashes; install libxcrypt.")
        return hashed

    return make


def _crypt(word: bytes, setting: bytes) -> str:
    for name in ("libcrypt.so.1", "libcrypt.so.2"):
        try:
            function = ctypes.CDLL(name).crypt
        except (OSError, AttributeError):
            continue
        function.restype = ctypes.c_char_p
        return (function(word, setting) or b"").decode("ascii")
    return ""


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret: name in `rackloom_secrets`, what it is for, how it is made (from those made before it).

    group: the service without which nobody misses it; '' = every site needs it.
    """

    name: str
    purpose: str
    make: Callable[[Mapping[str, str]], str] = field(repr=False)
    group: str = ""


def _kubernetes_authority(name: str, title: str, of: str) -> tuple[Secret, Secret]:
    key = f"kube_{name}_key"
    return (
        Secret(key, f"private key of {of}", _authority_key, "kubernetes"),
        Secret(
            f"kube_{name}_certificate",
            f"certificate of {of}",
            _authority_of(key, title),
            "kubernetes",
        ),
    )


SECRETS: tuple[Secret, ...] = (
    Secret("munge_key", "key all Slurm daemons share, base64", _bytes(1024)),
    Secret("mariadb_root_password", "root of the accounting's database", lambda _: _token()),
    Secret("slurm_db_password", "slurmdbd's user in that database", lambda _: _token()),
    Secret("slurm_jwt_key", "signs tokens for Slurm's REST interface, base64", _bytes(32)),
    Secret("check_ssh_key", "private key of the user that validation runs as", _private_key),
    Secret(
        "check_ssh_public_key",
        "public half of check_ssh_key",
        _public_key_of("check_ssh_key", "rackloom-check"),
    ),
    Secret("ca_key", "private key of the site's certificate authority", _authority_key),
    Secret("ca_certificate", "certificate of that authority, which all nodes trust", _authority_certificate),
    Secret(
        "package_signing_key", "private key that the mirror's package lists are signed with", _signing_key
    ),
    Secret("package_signing_certificate", "public half of package_signing_key", _signing_certificate),
    *_kubernetes_authority("ca", "kubernetes", "the authority of Kubernetes' API"),
    *_kubernetes_authority(
        "front_proxy_ca", "kubernetes-front-proxy", "the authority of API servers behind the API server"
    ),
    *_kubernetes_authority("etcd_ca", "kubernetes-etcd", "the authority of Kubernetes' store"),
    Secret("kube_service_account_key", "signs the tokens of pods", _rsa_key, "kubernetes"),
    Secret(
        "kube_encryption_key", "encrypts Kubernetes' secrets in its store, base64", _bytes(32), "kubernetes"
    ),
    Secret(
        "kube_endpoint_password", "shared by who keeps up the API's address", _vrrp_password, "kubernetes"
    ),
    Secret("web_password", "opens the cluster's pages to the user admin", lambda _: _token(), "web_proxy"),
    Secret("web_hash", "hash of it, for the door", _quick_hash_of("web_password"), "web_proxy"),
    Secret(
        "grafana_admin_password", "Grafana's user admin, at its first start", lambda _: _token(), "grafana"
    ),
    Secret("grafana_secret_key", "Grafana encrypts its own secrets with it", lambda _: _token(), "grafana"),
    Secret("log_store_password", "opens the logs to who searches them", lambda _: _token(), "log_server"),
    Secret("elasticsearch_setup_password", "sets Elasticsearch up", lambda _: _token(), "elasticsearch"),
    Secret(
        "elasticsearch_setup_hash",
        "hash of it, for Elasticsearch",
        _hash_of("elasticsearch_setup_password"),
        "elasticsearch",
    ),
    Secret(
        "elasticsearch_elastic_password", "Elasticsearch's user elastic", lambda _: _token(), "elasticsearch"
    ),
    Secret(
        "elasticsearch_kibana_password", "Kibana's user at Elasticsearch", lambda _: _token(), "elasticsearch"
    ),
    Secret(
        "elasticsearch_writer_password", "lets nodes add lines, no more", lambda _: _token(), "elasticsearch"
    ),
    Secret(
        "elasticsearch_reader_password",
        "opens Kibana, and the logs, to the user rackloom",
        lambda _: _token(),
        "elasticsearch",
    ),
    Secret(
        "elasticsearch_monitor_password",
        "lets its exporter see how Elasticsearch is",
        lambda _: _token(),
        "elasticsearch",
    ),
    Secret("kibana_encryption_key", "Kibana encrypts its sessions with it", lambda _: _token(), "kibana"),
    Secret("monitoring_scrape_password", "opens the nodes' exporters", lambda _: _token(), "monitored"),
    Secret(
        "monitoring_scrape_hash",
        "hash of it, for the exporters",
        _hash_of("monitoring_scrape_password"),
        "monitored",
    ),
    Secret("monitoring_web_password", "opens Prometheus and Alertmanager", lambda _: _token(), "monitored"),
    Secret(
        "monitoring_web_hash", "hash of it, for those two", _hash_of("monitoring_web_password"), "monitored"
    ),
)

TYPED: Mapping[str, str] = {
    "bmc_user": "user that the nodes' BMCs know",
    "bmc_password": "that user's password",
}
"""Secrets that come from outside: `store` keeps them, and nothing makes them up."""
TYPED_PATTERN = "alert_[a-z0-9_]{1,40}"
"""Beside those, the secrets that cluster.yml names for receivers of alerts."""
LONGEST_VALUE = 4096


def typed(name: str) -> str:
    """What a secret that is typed is for; '' where there is no such secret."""
    if re.fullmatch(TYPED_PATTERN, name):
        return "what a receiver of alerts, or a store of metrics elsewhere, wants to know"
    return TYPED.get(name, "")


@dataclass(frozen=True, slots=True)
class InitResult:
    """What `init` did: names of new and of kept secrets, whether the key is new, and the two files."""

    created: list[str]
    kept: list[str]
    key_created: bool
    secrets_file: Path
    key_file: Path


def key_file(config_dir: Path | str) -> Path:
    """Where this site's vault key is: RACKLOOM_VAULT_KEY_FILE, else vault.key in the folder."""
    named = os.environ.get(KEY_VARIABLE)
    return Path(named) if named else Path(config_dir) / KEY_FILE


def secrets_file(config_dir: Path | str) -> Path:
    """The encrypted file."""
    return Path(config_dir) / SECRETS_FILE


def _write(path: Path, content: bytes) -> None:
    """Replace a file in one step; only its owner may read it, from the first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content, 0o600)


def _make(made: Mapping[str, str], secret: Secret) -> str:
    """A value that no template engine would take for a template, however unlikely chance makes it."""
    while True:
        value = secret.make(made)
        if not any(mark in value for mark in ("{{", "{%", "{#")):
            return value


def _read_key(path: Path, why: str) -> bytes:
    try:
        key = path.read_bytes().strip()
    except FileNotFoundError:
        message = f"The vault key {path} is missing, {why}; put it back, or name it in {KEY_VARIABLE}."
        raise KeyMissingError(message) from None
    except OSError as error:
        raise KeyMissingError(f"The vault key {path} cannot be read: {error.strerror}.") from None
    if not key:
        raise KeyMissingError(
            f"The vault key {path} is empty, {why}; put it back, or name it in {KEY_VARIABLE}."
        )
    return key


def _vault(key: bytes) -> Any:
    from ansible.parsing.vault import VaultLib, VaultSecret

    return VaultLib(secrets=[(VAULT_ID, VaultSecret(key))])


def _decrypt(path: Path, key: bytes, key_path: Path) -> dict[str, Any]:
    from ansible.errors import AnsibleError
    from ansible.parsing.vault import AnsibleVaultFormatError

    try:
        text = path.read_bytes()
    except OSError as error:
        raise SecretsDamagedError(f"The secrets in {path} cannot be read: {error.strerror}.") from None
    if not text.startswith(b"$ANSIBLE_VAULT"):
        cure = f"run ansible-vault encrypt --encrypt-vault-id {VAULT_ID} {path}"
        raise SecretsDamagedError(f"The secrets in {path} are not encrypted; {cure}.")
    try:
        plain = _vault(key).decrypt(text)
    except AnsibleVaultFormatError:
        raise SecretsDamagedError(f"The secrets in {path} are damaged; restore the file.") from None
    except AnsibleError:
        message = (
            f"The vault key {key_path} does not open {path}; it belongs to another site or was replaced."
        )
        raise KeyWrongError(message) from None
    try:
        data = yaml.safe_load(plain)
    except yaml.YAMLError:
        data = None
    if not isinstance(data, dict) or not isinstance(data.get(VARIABLE, {}), dict):
        raise SecretsDamagedError(f"The secrets in {path} hold no mapping {VARIABLE}; restore the file.")
    return data


def _encrypt(path: Path, key: bytes, data: Mapping[str, Any]) -> None:
    from ansible.parsing.vault import VaultSecret

    plain = _HEADER + yaml.safe_dump(dict(data), sort_keys=False, width=1000)
    _write(path, bytes(_vault(key).encrypt(plain, secret=VaultSecret(key), vault_id=VAULT_ID)))


def ignore(config_dir: Path | str) -> None:
    """See to it that git never takes the key or SSH keys."""
    path = Path(config_dir) / ".gitignore"
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    missing = [line for line in IGNORED if line not in old.splitlines()]
    if missing:
        start = old if not old or old.endswith("\n") else old + "\n"
        path.write_text(start + "\n".join(missing) + "\n", encoding="utf-8")


def init(config_dir: Path | str) -> InitResult:
    """Make every secret that the site lacks, and the key if there are no secrets yet. Existing ones stay.

    Raises KeyMissingError or KeyWrongError if there are secrets but not their key, SecretsDamagedError,
    and SecretsMissingError if the folder is not there.
    """
    folder = Path(config_dir)
    if not folder.is_dir():
        raise SecretsMissingError(f"There is no folder {folder}; run `rackloom init` first.")
    path, key_path = secrets_file(folder), key_file(folder)
    data: dict[str, Any] = {}
    key_created = False
    if path.exists():
        key = _read_key(key_path, f"and {path} cannot be opened without it")
        data = _decrypt(path, key, key_path)
    elif key_path.exists():
        key = _read_key(key_path, "so nothing can be encrypted with it")
    else:
        key = random.token_urlsafe(48).encode("ascii")
        key_created = True
    ignore(folder)
    made: dict[str, str] = dict(data.get(VARIABLE, {}))
    kept = list(made)
    created: list[str] = []
    for secret in SECRETS:
        if not made.get(secret.name):
            made[secret.name] = _make(made, secret)
            created.append(secret.name)
    if key_created:
        _write(key_path, key + b"\n")
    if created:
        data[VARIABLE] = made
        _encrypt(path, key, data)
    for private in (path, key_path):
        if private.stat().st_mode & 0o077:
            private.chmod(0o600)
    return InitResult(created, kept, key_created, path, key_path)


def store(config_dir: Path | str, values: Mapping[str, str]) -> list[str]:
    """Keep values that were typed (TYPED); all others stay. Returns the names whose value is another now.

    Raises SecretsRefusedError for a name or value that cannot be, and what `init` raises.
    """
    for name, value in values.items():
        if not typed(name):
            message = f"{name} is none of the secrets that are typed: {', '.join(TYPED)}, alert_NAME."
            raise SecretsRefusedError(message)
        if (
            not value
            or len(value) > LONGEST_VALUE
            or any(ord(char) < 32 or ord(char) == 127 for char in value)
        ):
            raise SecretsRefusedError(f"The value of {name} must be one line of text.")
        if any(mark in value for mark in ("{{", "{%", "{#")):
            raise SecretsRefusedError(
                f"The value of {name} holds {{{{, {{% or {{#, which Ansible would take for its own."
            )
    init(config_dir)
    path, key_path = secrets_file(config_dir), key_file(config_dir)
    key = _read_key(key_path, f"and {path} cannot be opened without it")
    data = _decrypt(path, key, key_path)
    kept = dict(data.get(VARIABLE, {}))
    changed = [name for name, value in values.items() if kept.get(name) != value]
    if changed:
        _encrypt(path, key, {**data, VARIABLE: {**kept, **values}})
    return changed


def load(config_dir: Path | str, services: Container[str] = ()) -> dict[str, str]:
    """The decrypted secrets by name; those of `services` (groups) must be among them, and those of every site.

    Raises SecretsError with one clear sentence.
    """
    path, key_path = secrets_file(config_dir), key_file(config_dir)
    if not path.exists():
        raise SecretsMissingError(f"There are no secrets in {config_dir} yet; run `rackloom secrets init`.")
    key = _read_key(key_path, f"and {path} cannot be opened without it")
    made = dict(_decrypt(path, key, key_path).get(VARIABLE, {}))
    needed = [secret.name for secret in SECRETS if not secret.group or secret.group in services]
    missing = [name for name in needed if not made.get(name)]
    if missing:
        raise SecretsMissingError(
            f"Newer secrets are missing ({', '.join(missing)}); run `rackloom secrets init`."
        )
    return made
