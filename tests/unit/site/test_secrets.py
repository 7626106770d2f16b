"""Secrets are made once, encrypted, and their loss is said in one sentence."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from rackloom.site import secrets
from rackloom.site.paths import home


@pytest.fixture(autouse=True)
def _no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(secrets.KEY_VARIABLE, raising=False)
    monkeypatch.delenv("RACKLOOM_CONFIG", raising=False)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_round_trip(tmp_path: Path) -> None:
    result = secrets.init(tmp_path)
    assert result.key_created and result.kept == []
    assert result.created == [secret.name for secret in secrets.SECRETS]
    made = secrets.load(tmp_path)
    assert list(made) == result.created
    assert len(base64.b64decode(made["munge_key"])) == 1024
    assert made["check_ssh_key"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert made["check_ssh_public_key"].startswith("ssh-ed25519 ")
    assert not any("{{" in value or "{%" in value for value in made.values())


def test_files_are_private_and_encrypted(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        result = secrets.init(tmp_path)
    finally:
        os.umask(old)
    assert mode(result.secrets_file) == mode(result.key_file) == 0o600
    text = result.secrets_file.read_text("ascii")
    assert text.startswith("$ANSIBLE_VAULT;1.2;AES256;rackloom\n")
    assert "munge" not in text
    assert {"vault.key", "ssh/"} <= set((tmp_path / ".gitignore").read_text("utf-8").splitlines())


def test_second_init_changes_nothing(tmp_path: Path) -> None:
    first = secrets.init(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    second = secrets.init(tmp_path)
    assert second.created == [] and not second.key_created and second.kept == first.created
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_upgrade_adds_new_ones_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = secrets.SECRETS
    monkeypatch.setattr(secrets, "SECRETS", every[:2])
    secrets.init(tmp_path)
    old = secrets.load(tmp_path)
    monkeypatch.setattr(secrets, "SECRETS", every)
    with pytest.raises(secrets.SecretsMissingError, match="slurm_db_password"):
        secrets.load(tmp_path)
    assert secrets.init(tmp_path).created == [secret.name for secret in every[2:]]
    new = secrets.load(tmp_path)
    assert {name: new[name] for name in old} == old


def test_what_a_site_adds_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = secrets.init(tmp_path)
    secret = VaultSecret(result.key_file.read_bytes().strip())
    vault = VaultLib([("rackloom", secret)])
    data = yaml.safe_load(vault.decrypt(result.secrets_file.read_bytes()))
    data["rackloom_secrets"].pop("slurm_jwt_key")
    data["ours"] = "kept"
    result.secrets_file.write_bytes(vault.encrypt(yaml.safe_dump(data), secret=secret, vault_id="rackloom"))
    assert secrets.init(tmp_path).created == ["slurm_jwt_key"]
    assert yaml.safe_load(vault.decrypt(result.secrets_file.read_bytes()))["ours"] == "kept"


def test_secrets_of_a_service_are_missed_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = secrets.SECRETS
    monkeypatch.setattr(secrets, "SECRETS", tuple(secret for secret in every if not secret.group))
    secrets.init(tmp_path)
    old = secrets.load(tmp_path)
    monkeypatch.setattr(secrets, "SECRETS", every)
    assert secrets.load(tmp_path) == old
    with pytest.raises(secrets.SecretsMissingError, match="kube_ca_key"):
        secrets.load(tmp_path, ["slurm", "kubernetes"])
    created = secrets.init(tmp_path).created
    assert created == [secret.name for secret in every if secret.group]
    new = secrets.load(tmp_path, ["kubernetes"])
    assert {name: new[name] for name in old} == old


def test_missing_key(tmp_path: Path) -> None:
    secrets.init(tmp_path).key_file.unlink()
    for action in (secrets.load, secrets.init):
        with pytest.raises(secrets.KeyMissingError, match=r"vault.key is missing, .*put it back") as error:
            action(tmp_path)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "vault.key").exists()


def test_empty_key(tmp_path: Path) -> None:
    secrets.init(tmp_path).key_file.write_text("\n", "utf-8")
    with pytest.raises(secrets.KeyMissingError, match="is empty"):
        secrets.load(tmp_path)


def test_wrong_key(tmp_path: Path) -> None:
    result = secrets.init(tmp_path)
    before = result.secrets_file.read_bytes()
    result.key_file.write_text("another\n", "utf-8")
    for action in (secrets.load, secrets.init):
        with pytest.raises(secrets.KeyWrongError, match="does not open") as error:
            action(tmp_path)
        assert "another\n" not in str(error.value)
    assert result.secrets_file.read_bytes() == before


def test_damaged(tmp_path: Path) -> None:
    result = secrets.init(tmp_path)
    text = result.secrets_file.read_bytes()
    result.secrets_file.write_bytes(text[: len(text) // 2])
    with pytest.raises(secrets.SecretsError):
        secrets.load(tmp_path)
    result.secrets_file.write_text("rackloom_secrets: {munge_key: visible}\n", "utf-8")
    with pytest.raises(secrets.SecretsDamagedError, match="not encrypted") as error:
        secrets.load(tmp_path)
    assert "visible" not in str(error.value)


def test_none_yet(tmp_path: Path) -> None:
    with pytest.raises(secrets.SecretsMissingError, match="rackloom secrets init"):
        secrets.load(tmp_path)
    with pytest.raises(secrets.SecretsMissingError, match="rackloom init"):
        secrets.init(tmp_path / "nowhere")


def test_key_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "safe" / "key"
    monkeypatch.setenv(secrets.KEY_VARIABLE, str(key))
    folder = tmp_path / "config"
    folder.mkdir()
    secrets.init(folder)
    assert key.is_file() and mode(key) == 0o600 and not (folder / "vault.key").exists()
    assert secrets.load(folder)


def test_loose_modes_are_tightened(tmp_path: Path) -> None:
    result = secrets.init(tmp_path)
    result.key_file.chmod(0o644)
    secrets.init(tmp_path)
    assert mode(result.key_file) == 0o600


def test_own_gitignore_lines_stay(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine", "utf-8")
    secrets.init(tmp_path)
    lines = (tmp_path / ".gitignore").read_text("utf-8").splitlines()
    assert lines == ["mine", "vault.key", "ssh/", "images/"]


def client(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [home() / "scripts/vault-key-client", *arguments],
        env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_client_prints_the_key(tmp_path: Path) -> None:
    key = secrets.init(tmp_path).key_file
    for environment in ({"RACKLOOM_CONFIG": str(tmp_path)}, {"RACKLOOM_VAULT_KEY_FILE": str(key)}):
        answer = client("--vault-id", "rackloom", **environment)
        assert (answer.returncode, answer.stdout) == (0, key.read_text("ascii"))


def test_client_says_what_is_missing(tmp_path: Path) -> None:
    secrets.init(tmp_path).key_file.unlink()
    answer = client("--vault-id", "rackloom", RACKLOOM_CONFIG=str(tmp_path))
    assert answer.returncode == 2 and "vault.key is missing" in answer.stderr and answer.stdout == ""
    assert client("--vault-id", "other").returncode == 2


def test_client_lets_ansible_run_before_there_are_secrets(tmp_path: Path) -> None:
    assert client("--vault-id", "rackloom", RACKLOOM_CONFIG=str(tmp_path)).returncode == 0
