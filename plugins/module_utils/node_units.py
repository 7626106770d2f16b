"""systemd units of a node, run with the configuration that lies on disk."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

STAMPS = "/var/lib/rackloom/units"
_PROPERTIES = ("LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload", "CanReload")


def digest(paths: list[str]) -> str:
    """Return one sha256 over the names and contents of files and of all files below directories."""
    found: list[str] = []
    for path in paths:
        if os.path.isdir(path):
            for folder, _, names in os.walk(path):
                found.extend(os.path.join(folder, name) for name in names)
        else:
            found.append(path)
    total = hashlib.sha256()
    for path in sorted(set(found)):
        total.update(path.encode() + b"\0")
        try:
            with open(path, "rb") as handle:
                total.update(hashlib.sha256(handle.read()).digest())
        except FileNotFoundError:
            total.update(b"absent")
    return total.hexdigest()


class Unit:
    """One unit and what is known of it."""

    def __init__(self, module: AnsibleModule, wanted: dict[str, Any]) -> None:
        self.module = module
        self.wanted = wanted
        self.name: str = wanted["name"]
        self.check = bool(module.check_mode)
        self.actions: list[str] = []
        self.stamp_path = os.path.join(STAMPS, self.name.replace("/", "-") + ".json")
        self.stamp = self.read_stamp()

    def read_stamp(self) -> dict[str, str]:
        """Return what the unit is known to have read; nothing when the record is missing or broken."""
        try:
            with open(self.stamp_path, encoding="utf-8") as handle:
                loaded = json.load(handle)
        except (OSError, ValueError):
            return {}
        return loaded if isinstance(loaded, dict) else {}

    def write_stamp(self, stamp: dict[str, str]) -> None:
        """Record what the unit has read; called only after systemctl has succeeded."""
        if self.check or stamp == self.stamp:
            return
        os.makedirs(STAMPS, mode=0o755, exist_ok=True)
        temporary = f"{self.stamp_path}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as handle:
            json.dump(stamp, handle)
        os.rename(temporary, self.stamp_path)
        self.stamp = stamp

    def show(self) -> dict[str, str]:
        """Return the unit's properties as systemd states them."""
        rc, out, err = self.module.run_command(["systemctl", "show", self.name, "-p", ",".join(_PROPERTIES)])
        if rc != 0:
            self.module.fail_json(msg=f"systemctl show {self.name}: {err.strip() or out.strip()}")
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def unit_files(self) -> list[str]:
        """Return the watched files that systemd itself reads: drop-ins and units."""
        watched = [*self.wanted["restart_on"], *self.wanted["reload_on"]]
        return [path for path in watched if "/systemd/" in path]

    def do(self, action: str, *command: str) -> None:
        """Run systemctl unless in check mode; a failure is told with the end of the unit's journal."""
        self.actions.append(action)
        if self.check:
            return
        rc, out, err = self.module.run_command(["systemctl", *command])
        if rc != 0:
            self.fail(f"systemctl {' '.join(command)}: {(err or out).strip()}")

    def fail(self, message: str) -> None:
        """End the module with a message and what the unit itself said last."""
        _, journal, _ = self.module.run_command(
            ["journalctl", "-u", self.name, "-n", "20", "--no-pager", "-o", "cat"]
        )
        self.module.fail_json(
            msg=f"{self.name}: {message}\nIts last words:\n{journal.strip()}",
            changed=bool(self.actions),
            actions=self.actions,
        )

    def apply(self) -> None:
        """Bring the unit to its state."""
        wanted = self.wanted
        now = self.show()
        # systemd does not notice a drop-in whose directory is new to it, so its own files are judged by their digest.
        files = self.unit_files() if wanted["state"] == "started" else []
        unread = bool(files) and self.stamp.get("units") != digest(files)
        if now.get("LoadState") == "not-found" or now.get("NeedDaemonReload") == "yes" or unread:
            # Not found may only mean that systemd has not read the directory since the file came.
            if not self.check:
                self.module.run_command(["systemctl", "daemon-reload"])
                now = self.show()
            if now.get("LoadState") != "not-found":
                self.actions.append("daemon-reload")
        if now.get("LoadState") == "not-found":
            if wanted["state"] == "stopped":
                return
            if self.check:
                self.actions.append("started")
                return
            self.module.fail_json(msg=f"{self.name}: there is no such unit; is its package installed?")
        if wanted["masked"] is not None and wanted["masked"] != (now.get("LoadState") == "masked"):
            verb = "mask" if wanted["masked"] else "unmask"
            self.do(f"{verb}ed", verb, self.name)
        if not wanted["masked"]:
            state = now.get("UnitFileState")
            if wanted["enabled"] and state == "disabled":
                self.do("enabled", "enable", "--quiet", self.name)
            elif not wanted["enabled"] and state == "enabled":
                self.do("disabled", "disable", "--quiet", self.name)
        if wanted["state"] == "stopped":
            if now.get("ActiveState") in ("active", "activating", "reloading"):
                self.do("stopped", "stop", self.name)
            return
        self.run(now)

    def run(self, now: dict[str, str]) -> None:
        """Start the unit, or restart or reload it when it has not read what lies on disk."""
        wanted = self.wanted
        fresh = {
            "units": digest(self.unit_files()),
            "restart": digest(wanted["restart_on"]),
            "reload": digest(wanted["reload_on"]),
        }
        if now.get("ActiveState") not in ("active", "reloading"):
            # A unit that failed too often is refused by systemd until its counter is reset.
            if now.get("ActiveState") == "failed" and not self.check:
                self.module.run_command(["systemctl", "reset-failed", self.name])
            self.do("started", "start", self.name)
        elif wanted["restart_on"] and self.stamp.get("restart") != fresh["restart"]:
            self.do("restarted", "restart", self.name)
        elif wanted["reload_on"] and self.stamp.get("reload") != fresh["reload"]:
            verb = "reload" if now.get("CanReload") == "yes" else "restart"
            self.do(f"{verb}ed", verb, self.name)
        if not self.check:
            self.wait(now.get("ActiveState", "") if not self.actions else "")
        self.write_stamp(fresh)

    def wait(self, known: str) -> None:
        """Await that the unit is active and that what it serves answers; `known` is its state if just asked."""
        probe = self.wanted["wait_for"] or {}
        deadline = time.monotonic() + (probe.get("timeout") or 60)
        pause = 0.02
        while True:
            state = known or self.show().get("ActiveState", "")
            known = ""
            if state == "failed":
                self.fail("it failed")
            missing = "" if state == "active" else f"it is {state}"
            if not missing and probe:
                missing = unanswered(probe)
            if not missing:
                return
            if time.monotonic() > deadline:
                self.fail(f"not ready in time: {missing}")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.5)


def unanswered(probe: dict[str, Any]) -> str:
    """Return why the probe has no answer yet, or an empty string when it has."""
    try:
        if probe.get("tcp"):
            socket.create_connection((probe.get("host") or "127.0.0.1", probe["tcp"]), timeout=2).close()
        if probe.get("socket"):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(2)
                try:
                    client.connect(probe["socket"])
                except OSError as error:
                    if not re.search("wrong type", str(error)):  # EPROTOTYPE: a datagram socket that is there
                        raise
    except OSError as error:
        return f"{probe.get('socket') or probe.get('tcp')}: {error}"
    return ""
