"""`rackloom node power|boot|console` against the Redfish emulator, and `rackloom secrets set`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from rackloom.cli.main import run
from rackloom.site import secrets

PASSWORD = "correct horse"


@pytest.fixture
def site(emulator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two nodes behind the emulator, one that is not there, one without a BMC."""
    monkeypatch.delenv(secrets.KEY_VARIABLE, raising=False)
    (tmp_path / "ca.pem").write_bytes(emulator.authority.read_bytes())
    (tmp_path / "cluster.yml").write_text(
        "name: t\ndomain: t.example\nnetworks: {cluster: {cidr: 10.0.0.0/8}}\n"
        "provision:\n  images: {compute: {os: debian-12}}\n  bmc: {ca_file: ca.pem}\n"
        "services: {provisioner: [m1]}\n",
        "utf-8",
    )
    bmcs = ", ".join(f'"{emulator.target(number).url}"' for number in (0, 1))
    gone = f"{emulator.url}/redfish/v1/Systems/nowhere"
    (tmp_path / "nodes.yml").write_text(
        "profiles: {cpu: {cores: 2, memory: 4000}}\nmanagement: [{name: m1, address: 10.0.0.1}]\n"
        "login: [{name: l1, address: 10.0.0.9}]\ncompute:\n"
        f'  - {{name: "c[1-2]", address: 10.0.1.1, profile: cpu, bmc: [{bmcs}]}}\n'
        f'  - {{name: c3, address: 10.0.1.3, profile: cpu, bmc: "{gone}"}}\n',
        "utf-8",
    )
    secrets.store(tmp_path, {"bmc_user": "operator", "bmc_password": PASSWORD})
    monkeypatch.setenv("RACKLOOM_CONFIG", str(tmp_path))
    return tmp_path


def answer_of(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    code = run([*argv, "--json"])
    out = capsys.readouterr()
    assert PASSWORD not in out.out + out.err
    answer: dict[str, Any] = json.loads(out.out)
    return int(code), answer  # type: ignore[arg-type]


def test_power(site: Path, emulator: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = answer_of(capsys, "node", "power", "status", "c[1-2]")
    assert code == 0 and [one["value"] for one in answer["data"]["nodes"]] == ["off", "off"]
    code, answer = answer_of(capsys, "node", "power", "on", "compute")
    assert code == 1 and answer["status"] == "partial"
    assert [(one["name"], one["ok"]) for one in answer["data"]["nodes"]] == [
        ("c1", True),
        ("c2", True),
        ("c3", False),
    ]
    assert answer["errors"][0]["host"] == "c3" and "nowhere" in answer["errors"][0]["message"]
    assert [emulator.system(number)["power_state"] for number in (0, 1)] == ["On", "On"]
    code, answer = answer_of(capsys, "node", "power", "status", "l1")
    assert code == 1 and "has no BMC" in answer["errors"][0]["message"]


def test_boot_and_console(site: Path, emulator: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = answer_of(capsys, "node", "boot", "pxe", "c1", "--once")
    assert (
        code == 0
        and emulator.system(0)["boot_device"] == "Pxe"
        and emulator.system(0)["power_state"] == "Off"
    )
    code, answer = answer_of(capsys, "node", "console", "c1")
    assert code == 0 and emulator.url in answer["data"]["nodes"][0]["value"]
    assert run(["node", "power", "status", "c1"]) == 0
    assert "c1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["power", "up", "c1"], "usage"),
        (["power", "on"], "usage"),
        (["power", "on", "c9"], "unknown_node"),
        (["boot", "floppy", "c1", "--once"], "usage"),
        (["boot", "pxe", "c1"], "usage"),
    ],
)
def test_refused(site: Path, capsys: pytest.CaptureFixture[str], argv: list[str], code: str) -> None:
    status, answer = answer_of(capsys, "node", *argv)
    assert status == 2 and answer["errors"][0]["code"] == code


def test_without_the_password(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secrets.secrets_file(site).unlink()
    secrets.init(site)
    status, answer = answer_of(capsys, "node", "power", "on", "c1")
    assert status == 2 and "rackloom secrets set bmc_password" in answer["errors"][0]["cure"]


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_secrets_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(secrets.KEY_VARIABLE, raising=False)
    made = secrets.init(tmp_path)
    before = secrets.load(tmp_path)
    typed(monkeypatch, f"{PASSWORD}\n")
    code, answer = answer_of(capsys, "secrets", "set", "bmc_password", "--config", str(tmp_path))
    assert code == 0 and answer["data"]["changed"] == ["bmc_password"]
    assert secrets.load(tmp_path) == {**before, "bmc_password": PASSWORD}
    assert PASSWORD.encode() not in made.secrets_file.read_bytes()
    typed(monkeypatch, PASSWORD)
    code, answer = answer_of(capsys, "secrets", "set", "bmc_password", "--config", str(tmp_path))
    assert answer["data"]["changed"] == []
    assert secrets.init(tmp_path).created == []


@pytest.mark.parametrize("value", ["", "a\nb", "a\x00b", "x{{ y }}", "x" * 5000])
def test_secrets_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.delenv(secrets.KEY_VARIABLE, raising=False)
    typed(monkeypatch, value)
    code, answer = answer_of(capsys, "secrets", "set", "bmc_user", "--config", str(tmp_path))
    assert code == 2 and answer["errors"]
    assert not secrets.secrets_file(tmp_path).exists()
    code, answer = answer_of(capsys, "secrets", "set", "munge_key", "--config", str(tmp_path))
    assert code == 2 and answer["errors"][0]["code"] == "unknown_secret"
