"""Many BMCs: one that fails stops no other, and never more at once than the wave."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from rackloom.hardware import BmcError, BmcResult, BmcTarget, connect, run_wave, select, switch, targets
from rackloom.hardware import waves as waves_module
from rackloom.hardware.targets import UnknownNodeError
from rackloom.site import load_site

GOOD = Path(__file__).parents[1] / "site" / "good"
SECRETS = {"bmc_user": "operator", "bmc_password": "correct horse"}


def test_a_bad_one_holds_up_nobody(emulator: Any) -> None:
    """Every way in which a BMC fails, in one wave with two that do not: one message a node, with its cure."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"https://127.0.0.1:{nobody.getsockname()[1]}/redfish/v1/Systems/1"
        bad = {
            "wrong-password": ({"password": "guessed wrong"}, "refuses user", "secrets set bmc_password"),
            "wrong-certificate": ({"ca_file": ""}, "cannot be trusted", "provision.bmc.ca_file"),
            "no-system": ({"url": f"{emulator.url}/redfish/v1/Systems/x"}, "has no system", "nodes.yml"),
            "unreachable": ({"url": away}, "cannot be reached", "Is its cable in"),
            "none": ({"url": "", "address": ""}, "has no BMC", "Press its button"),
        }
        wanted = [
            emulator.target(0),
            *(emulator.target(1, node=name, **changes) for name, (changes, _, _) in bad.items()),
            emulator.target(3),
        ]
        seen: list[BmcResult] = []
        results = run_wave(wanted, lambda bmc: switch(bmc, "on"), 3, seen.append)
    assert [result.node for result in results] == [target.node for target in wanted]
    assert {result.node for result in seen} == {result.node for result in results}
    assert {result.node: result.value for result in results if result.ok} == {"cn001": "on", "cn004": "on"}
    for result in results:
        if result.error is not None:
            _, message, cure = bad[result.node]
            assert message in result.error.message and cure in result.error.cure
            assert result.error.node == result.node
    assert emulator.most <= 3


class Quiet:
    def __init__(self, target: BmcTarget) -> None:
        self.target = target

    def close(self) -> None:
        pass


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> list[BmcTarget]:
    monkeypatch.setattr(waves_module, "connect", Quiet)
    return [BmcTarget(f"n{number}", address="192.0.2.1") for number in range(12)]


def test_the_wave_is_full_and_no_fuller(quiet: list[BmcTarget]) -> None:
    together = threading.Barrier(4)
    busy, most, lock = 0, 0, threading.Lock()

    def meet(_: object) -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        together.wait(timeout=30)  # passes only if four are there at the same time
        with lock:
            busy -= 1

    results = run_wave(quiet, meet, 4)
    assert all(result.ok for result in results)
    assert most == 4


def test_a_fault_of_ours_is_that_node_s(quiet: list[BmcTarget]) -> None:
    def action(bmc: Any) -> str:
        if bmc.target.node == "n3":
            raise RuntimeError("odd")
        return "fine"

    results = run_wave(quiet, action, 5)
    assert [result.node for result in results if not result.ok] == ["n3"]


def test_interrupted(quiet: list[BmcTarget]) -> None:
    started: list[str] = []

    def stop(_: BmcResult) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_wave(quiet, lambda bmc: started.append(bmc.target.node), 1, stop)
    assert len(started) < len(quiet)


def test_none_is_fine() -> None:
    assert run_wave([], lambda bmc: bmc.power(), 4) == []


def test_targets_of_a_site() -> None:
    site = load_site(GOOD)
    login, first = targets(site, SECRETS, ["login01", "cn001"])
    assert (login.url, login.address) == ("https://192.0.2.21:8443/redfish/v1/Systems/1", "")
    assert (first.url, first.address, first.firmware) == ("", "10.11.1.1", "uefi")
    assert targets(site, SECRETS, ["mig01"])[0].firmware == "bios"
    assert "correct horse" not in repr(login)
    with pytest.raises(BmcError, match="has no BMC"):
        connect(targets(site, SECRETS, ["mig01"])[0])


def test_targets_without_a_password() -> None:
    with pytest.raises(BmcError, match="not known") as caught:
        targets(load_site(GOOD), {"bmc_user": "operator"}, ["cn001"])
    assert caught.value.cure == "Run: rackloom secrets set bmc_password"


def test_select() -> None:
    site = load_site(GOOD)
    assert select(site, ["login", "cn[003-004]", "cn003"]) == ["cn003", "cn004", "login01"]
    assert select(site, ["all"]) == sorted(site.nodes)
    with pytest.raises(UnknownNodeError, match=r"not in nodes\.yml: cn009"):
        select(site, ["cn009"])
    with pytest.raises(UnknownNodeError, match="closes"):
        select(site, ["cn009]"])


def test_a_site_without_bmcs() -> None:
    with pytest.raises(BmcError, match="speaks to no BMC"):
        connect(BmcTarget("cn001", address="10.0.0.1", protocol="none"))
