"""IPMI: ipmitool talks to pyghmi's BMC."""

from __future__ import annotations

import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from rackloom.hardware import BmcError, BmcTarget, connect, ipmi, switch


def test_power(machine: Any) -> None:
    bmc = connect(machine.target())
    assert bmc.power() == "off"
    bmc.set_power("off")
    assert machine.told() == ["ready"]
    assert switch(bmc, "cycle") == "on"
    assert switch(bmc, "cycle") == "on"
    assert switch(bmc, "off") == "off"
    assert machine.told() == ["ready", "on", "reset", "off"]


@pytest.mark.parametrize(("firmware", "efi"), [("uefi", True), ("bios", False)])
def test_boot_once(machine: Any, firmware: str, efi: bool) -> None:
    connect(machine.target(firmware=firmware)).boot_once("pxe")
    assert f"flags once=True efi={efi}" in machine.told()
    assert "boot network" in machine.told()


def test_console(machine: Any) -> None:
    hint = connect(machine.target()).console_hint()
    assert hint.endswith("sol activate") and str(machine.port) in hint and "horse" not in hint


def error_of(target: BmcTarget) -> BmcError:
    with pytest.raises(BmcError) as caught:
        connect(target).power()
    error = caught.value
    assert error.node == target.node and error.message.endswith(".") and error.cure
    assert not target.password or target.password not in f"{error} {error.cure} {target!r}"
    return error


@pytest.mark.parametrize("changes", [{"password": "wrong one"}, {"user": "stranger"}])
def test_refused(machine: Any, changes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipmi, "TRIES", 1)
    error = error_of(machine.target(**changes))
    assert "refuses user" in error.message and "rackloom secrets set" in error.cure


def test_unreachable(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipmi, "ANSWER_SECONDS", 1)
    monkeypatch.setattr(ipmi, "TRIES", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        error = error_of(machine.target(port=silent.getsockname()[1]))
    assert "cannot be reached" in error.message


def test_the_password_is_on_no_command_line(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    real = subprocess.run

    def watched(argv: list[str], **rest: Any) -> Any:
        seen.append(argv)
        return real(argv, **rest)

    monkeypatch.setattr(subprocess, "run", watched)
    connect(machine.target()).power()
    assert seen and not any("horse" in word for argv in seen for word in argv)


def test_no_ipmitool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    error = error_of(BmcTarget("cn001", address="127.0.0.1", protocol="ipmi", user="u", password="pw-x"))
    assert "Install the package ipmitool" in error.cure


def test_a_password_that_ipmi_cannot_carry() -> None:
    error = error_of(BmcTarget("cn001", address="127.0.0.1", protocol="ipmi", user="u", password="x" * 21))
    assert "20 bytes" in error.message


def test_a_redfish_url() -> None:
    url = "https://127.0.0.1/redfish/v1/Systems/1"
    assert "Redfish" in error_of(BmcTarget("cn001", url=url, protocol="ipmi")).message


def test_it_waits_for_nobody_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hanging ipmitool is given up."""

    def hang(argv: list[str], **rest: Any) -> Any:
        raise subprocess.TimeoutExpired(argv, rest["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    error = error_of(BmcTarget("cn001", address="192.0.2.1", protocol="ipmi", user="u", password="pw-x"))
    assert "cannot be reached" in error.message
    assert threading.active_count() >= 1
