"""Redfish: real conversations over TLS with sushy-tools' emulator."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from rackloom.hardware import BmcError, BmcTarget, connect, switch


def test_power_on_and_off(emulator: Any) -> None:
    bmc = connect(emulator.target())
    assert bmc.power() == "off"
    assert switch(bmc, "on") == "on"
    assert emulator.system()["power_state"] == "On"
    assert switch(bmc, "off") == "off"
    assert emulator.system()["power_state"] == "Off"
    bmc.close()


def test_asking_for_the_state_it_has_asks_for_nothing(emulator: Any) -> None:
    bmc = connect(emulator.target())
    bmc.set_power("off")
    assert not [line for line in emulator.requests if line.startswith("POST")]


def test_cycle_switches_on_what_is_off(emulator: Any) -> None:
    bmc = connect(emulator.target())
    assert switch(bmc, "cycle") == "on"
    assert switch(bmc, "cycle") == "on"
    assert len([line for line in emulator.requests if line.startswith("POST")]) == 2


@pytest.mark.parametrize(("firmware", "mode"), [("uefi", "UEFI"), ("bios", "Legacy")])
def test_boot_once(emulator: Any, firmware: str, mode: str) -> None:
    bmc = connect(emulator.target(firmware=firmware))
    bmc.boot_once("pxe")
    assert (emulator.system()["boot_device"], emulator.system()["boot_mode"]) == ("Pxe", mode)
    bmc.boot_once("disk", "uefi")
    assert (emulator.system()["boot_device"], emulator.system()["boot_mode"]) == ("Hdd", "UEFI")


def test_console_is_somewhere(emulator: Any) -> None:
    assert emulator.url in connect(emulator.target()).console_hint()


def test_a_slow_machine_is_waited_for(emulator: Any) -> None:
    bmc = connect(emulator.target())
    looks: list[str] = []

    class Slow:
        target = bmc.target
        set_power = bmc.set_power

        def power(self) -> str:
            looks.append("")
            return bmc.power() if len(looks) > 3 else "unknown"

    assert switch(Slow(), "on", pause=0) == "on"  # type: ignore[arg-type]
    looks.clear()
    with pytest.raises(BmcError, match="is not off after 0 s"):
        switch(Slow(), "off", seconds=0, pause=0)  # type: ignore[arg-type]


def error_of(target: BmcTarget) -> BmcError:
    with pytest.raises(BmcError) as caught:
        connect(target).power()
    error = caught.value
    assert error.node == target.node and error.message.endswith(".") and error.cure
    assert target.password not in f"{error} {error.message} {error.cure} {target!r}"
    return error


def test_wrong_password(emulator: Any) -> None:
    error = error_of(emulator.target(password="guessed wrong"))
    assert "refuses user 'operator' or the password" in error.message
    assert "rackloom secrets set bmc_password" in error.cure


def test_system_not_found(emulator: Any) -> None:
    error = error_of(emulator.target(url=f"{emulator.url}/redfish/v1/Systems/nowhere"))
    assert f"has no system {emulator.url}/redfish/v1/Systems/nowhere" in error.message


def test_several_systems_behind_one_address(emulator: Any) -> None:
    port = int(emulator.url.rsplit(":", 1)[1])
    error = error_of(emulator.target(url="", address="127.0.0.1", port=port))
    assert "has 4 systems" in error.message
    assert f"bmc: {emulator.url}/redfish/v1/Systems/" in error.cure


def test_no_redfish_at_all(serving: Any, emulator: Any) -> None:
    del serving
    error = error_of(emulator.target(url=f"{emulator.url}/redfish/v1/Systems/../../../ui"))
    assert "nodes.yml" in error.cure


@pytest.mark.parametrize(
    ("pair", "says", "cure"),
    [
        ("other-name", "cannot be trusted", "with this address in it"),
        ("expired", "expired", "a new certificate"),
    ],
)
def test_certificate_wrong(serving: Any, pair: str, says: str, cure: str) -> None:
    error = error_of(serving.start(pair).target())
    assert says in error.message and cure in error.cure


def test_certificate_of_nobody_we_trust(emulator: Any) -> None:
    error = error_of(emulator.target(ca_file=""))
    assert "cannot be trusted" in error.message
    assert "provision.bmc.ca_file" in error.cure


def test_without_verification_any_certificate_will_do(serving: Any) -> None:
    target = serving.start("expired").target(verify=False, ca_file="")
    assert connect(target).power() == "off"


def test_without_tls_where_the_site_says_so(serving: Any) -> None:
    assert connect(serving.start(None).target(verify=False, ca_file="")).power() == "off"


def test_tls_where_there_is_none(serving: Any) -> None:
    plain = serving.start(None)
    error = error_of(plain.target(url=plain.target().url.replace("http:", "https:")))
    assert "TLS" in error.message or "cannot be reached" in error.message


def test_nobody_listens() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        error = error_of(
            BmcTarget("cn001", address="127.0.0.1", port=one.getsockname()[1], user="u", password="pw-x")
        )
    assert "cannot be reached: connection refused" in error.message


@pytest.fixture
def mute() -> Iterator[int]:
    """A port that accepts nothing more: its queue is full, so no connection comes about."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        yield port
        for one in waiting:
            one.close()


def test_no_answer(mute: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rackloom.hardware.redfish.CONNECT_SECONDS", 1)
    error = error_of(BmcTarget("cn001", address="127.0.0.1", port=mute, user="u", password="pw-x"))
    assert "no answer within 1 s" in error.message


def test_unknown_name() -> None:
    url = "https://bmc.invalid/redfish/v1/Systems/1"
    error = error_of(BmcTarget("cn001", url=url, user="u", password="pw-x"))
    assert "bmc.invalid" in error.message


def test_something_else_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            while True:
                try:
                    one, _ = server.accept()
                except OSError:
                    return
                with one:
                    one.recv(65536)
                    one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{port}/redfish/v1/Systems/1"
        error = error_of(BmcTarget("cn001", url=url, user="u", password="pw-x", verify=False))
        server.shutdown(socket.SHUT_RDWR)
    assert "makes no sense" in error.message


def test_proxies_of_the_environment_are_not_asked(emulator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert connect(emulator.target()).power() == "off"
