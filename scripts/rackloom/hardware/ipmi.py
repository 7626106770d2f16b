"""IPMI 2.0, through ipmitool. The password goes through the environment, which only this user can read."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from typing import Final

from .bmc import BmcError, BmcTarget, Device, Power, Wish

PASSWORD: Final = "IPMI_PASSWORD"  # noqa: S105 - the variable's name
LONGEST_PASSWORD: Final = 20
ANSWER_SECONDS: Final = 2
TRIES: Final = 3
_STATE = re.compile(r"Chassis Power is (on|off)", re.IGNORECASE)


class Ipmi:
    """One machine's BMC."""

    def __init__(self, target: BmcTarget) -> None:
        self.target = target
        if target.url:
            message = f"The BMC is a Redfish URL ({target.url}), but the site speaks IPMI."
            raise BmcError(target.node, message, "Write its address, or `protocol: redfish`.")
        if len(target.password.encode()) > LONGEST_PASSWORD:
            message = f"The BMC's password is longer than IPMI's {LONGEST_PASSWORD} bytes."
            raise BmcError(
                target.node, message, "Give the BMCs a shorter one: rackloom secrets set bmc_password."
            )

    def _arguments(self) -> list[str]:
        port = ["-p", str(self.target.port)] if self.target.port else []
        return ["ipmitool", "-I", "lanplus", "-H", self.target.address, *port, "-U", self.target.user]

    def _ask(self, *words: str) -> str:
        # Only with -v does it tell a wrong password from a BMC that is not there.
        argv = [*self._arguments(), "-v", "-E", "-N", str(ANSWER_SECONDS), "-R", str(TRIES), *words]
        environment = {**os.environ, PASSWORD: self.target.password, "LC_ALL": "C"}
        try:
            done = subprocess.run(
                argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
                check=False, errors="replace",
            )  # fmt: skip
        except FileNotFoundError:
            cure = "Install the package ipmitool on this machine."
            raise BmcError(self.target.node, "There is no program ipmitool.", cure) from None
        except subprocess.TimeoutExpired:
            raise self._unreachable("it stopped in the middle of an answer") from None
        if done.returncode == 0:
            return done.stdout
        raise self._failed(done.stderr + done.stdout)

    def _failed(self, said: str) -> BmcError:
        lowered = said.lower()
        if any(
            mark in lowered
            for mark in ("rakp 1", "rakp 2", "unauthorized name", "hmac", "insufficient privilege")
        ):
            message = f"The BMC {self.target.place} refuses user {self.target.user!r} or the password."
            cure = "Set them anew: rackloom secrets set bmc_user, and rackloom secrets set bmc_password."
            return BmcError(self.target.node, message, cure)
        if "address lookup" in lowered or "unable to establish" in lowered or "no response" in lowered:
            return self._unreachable("no answer that opens a session")
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        detail = lines[-1][:160] if lines else "ipmitool said nothing"
        message = f"The BMC {self.target.place} refuses the request: {detail}"
        return BmcError(self.target.node, message, "See the BMC's own log; it may be busy: try again.")

    def _unreachable(self, why: str) -> BmcError:
        message = f"The BMC {self.target.place} cannot be reached: {why}."
        cure = "Is its address right, IPMI over LAN switched on, and does this machine reach the BMC network?"
        return BmcError(self.target.node, message, cure)

    def power(self) -> Power:
        """See Bmc."""
        match = _STATE.search(self._ask("chassis", "power", "status"))
        if match is None:
            return "unknown"
        return "on" if match.group(1).lower() == "on" else "off"

    def set_power(self, wish: Wish) -> None:
        """See Bmc."""
        now = self.power()
        if wish == now:
            return
        word = "on" if wish == "cycle" and now == "off" else wish
        # reset and not cycle: `power cycle` is optional in the standard, reset is not.
        self._ask("chassis", "power", "reset" if word == "cycle" else word)

    def boot_once(self, device: Device, firmware: str = "") -> None:
        """See Bmc."""
        options = ["options=efiboot"] if (firmware or self.target.firmware) == "uefi" else []
        self._ask("chassis", "bootdev", device, *options)

    def console_hint(self) -> str:
        """See Bmc."""
        return shlex.join([*self._arguments(), "-a", "sol", "activate"])

    def close(self) -> None:
        """See Bmc. Each question is a session of its own."""
