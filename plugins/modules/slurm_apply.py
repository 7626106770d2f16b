#!/usr/bin/python
"""Slurm's controller configuration, judged by slurmctld and put into force with as little as it needs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: slurm_apply
short_description: Put a Slurm controller's configuration into force
description:
  - Compares the wanted files with those that were last put into force, of which it keeps a copy, and does
    the least that the way from one to the other needs, which is nothing, C(scontrol reconfigure), or a
    restart of slurmctld. Running jobs survive all three. What needs a restart follows slurm.conf(5) for the
    Slurm version at hand.
  - New files are first tried by the real slurmctld, on a copy and without network. Files that it refuses
    never replace good ones.
  - After a restart the nodes are told to fetch the configuration as well, so a configless cluster is never
    left with nodes that know less than their controller.
  - The copy is written last. A run that was killed anywhere before is made good by the next one.
  - States that people give to nodes, as a drain and its reason, are not touched.
options:
  files:
    description: Contents by file name. A name with an empty content is a file that must not be there.
    type: dict
    required: true
  folder:
    description: Where Slurm looks for its files.
    type: path
    default: /etc/slurm
  primary:
    description:
      - Whether this is the first controller. Only this one tells the nodes.
      - A backup controller reads its files when it starts, so it is restarted at any change.
    type: bool
    default: true
  user:
    description: The account that slurmctld runs as.
    type: str
    default: slurm
  unit:
    description: The systemd unit of slurmctld. It is enabled and running afterwards.
    type: str
    default: slurmctld.service
  restart_on:
    description:
      - Further files, as a drop-in of the unit. slurmctld is restarted when they changed since it started.
    type: list
    elements: path
    default: []
  trial:
    description: Whether new files are tried before they replace the old ones.
    type: bool
    default: true
  timeout:
    description: Seconds in which slurmctld must answer after it was started.
    type: int
    default: 60
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Service | Put the configuration into force
  rackloom.cluster.slurm_apply:
    files:
      slurm.conf: "{{ lookup('ansible.builtin.template', 'slurm.conf.j2') }}"
      topology.conf: ""
"""

RETURN = r"""
action:
  description: What was done, or would be in check mode.
  returned: always
  type: str
  sample: restart
reasons:
  description: Why it was needed.
  returned: always
  type: list
  elements: str
  sample: ["slurm.conf: nodes gpu[001-129]"]
changed_files:
  description: The files that were replaced.
  returned: always
  type: list
  elements: str
trial:
  description: How the new files were tried, C(passed), C(not needed), or why that was impossible.
  returned: always
  type: str
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.slurm_conf import (  # noqa: TID252 - how a collection's plugins find each other
    NONE,
    RECONFIGURE,
    RESTART,
    Decision,
    Version,
    decide,
    version_of,
)
from ..module_utils.slurm_trial import NotTriedError, try_start  # noqa: TID252

START = "start"
RECORD = Path("/var/lib/rackloom/slurm/applied.json")


def read(path: Path) -> str:
    """Return a file's text, empty when there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def text_of(content: Any) -> str:
    """Return a wanted content with a newline at its end, empty when the file is not wanted."""
    text = str(content or "")
    return text if not text or text.endswith("\n") else text + "\n"


def digest(paths: list[str]) -> str:
    """Return one sha256 over files that may be missing."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(f"{path}\0{read(Path(path))}\0".encode())
    return total.hexdigest()


def write(path: Path, content: str) -> None:
    """Replace a file atomically, or remove it when the content is empty."""
    if not content:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    Path(temporary).chmod(0o644)
    Path(temporary).replace(path)


class NotInForceError(Exception):
    """The controller did not take what it was given; the text says what was seen."""


class Apply:
    """One controller and the files it should run on."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.folder = Path(module.params["folder"])
        self.unit: str = module.params["unit"]
        self.wanted = {str(name): text_of(content) for name, content in module.params["files"].items()}
        if not self.wanted.get("slurm.conf"):
            module.fail_json(msg="files: slurm.conf is missing")
        self.on_disk = {name: read(self.folder / name) for name in self.wanted}
        self.record = self.read_record()
        self.version: Version = ()

    # what is there

    def read_record(self) -> dict[str, Any]:
        """Return what was last put into force; nothing when that is not known."""
        try:
            loaded = json.loads(RECORD.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return loaded if isinstance(loaded, dict) else {}

    def run(self, command: list[str]) -> tuple[int, str]:
        """Run a command and return its exit status and all it said."""
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=self.module.params["timeout"] + 30,
                env={**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), "LC_ALL": "C.UTF-8"},
            )
        except FileNotFoundError:
            return 127, f"{command[0]} is not there"
        except subprocess.TimeoutExpired:
            return 124, f"no answer from {' '.join(command)}"
        return done.returncode, done.stdout.strip()

    def properties(self) -> dict[str, str]:
        """Return what systemd knows of the unit."""
        names = "LoadState,ActiveState,UnitFileState,NeedDaemonReload,NRestarts"
        _, out = self.run(["systemctl", "show", "-p", names, self.unit])
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def must(self, command: list[str]) -> str:
        """Run a command that has to succeed."""
        rc, out = self.run(command)
        if rc != 0:
            raise NotInForceError(f"{' '.join(command)} failed with {rc}: {out or 'no message'}")
        return out

    # what has to be done

    def decision(self, properties: dict[str, str], beside: str) -> Decision:
        """Return the least that puts the wanted files into force."""
        if properties.get("ActiveState") not in ("active", "activating", "reloading"):
            return Decision(START, (f"{self.unit} was not running",))
        if not self.record:
            return Decision(RESTART, ("what it runs on is not known",))
        found = decide(self.record.get("files", {}), self.wanted, self.version)
        reasons = list(found.reasons)
        action = found.action
        if self.record.get("beside") != beside:
            action = RESTART
            reasons.append(f"{self.unit} itself")
        elif action == NONE and decide(self.on_disk, self.wanted, self.version).action != NONE:
            # somebody edited the files, and the controller may or may not have read them
            action = RECONFIGURE
            reasons.append("files were edited by hand")
        if action == RECONFIGURE and not self.module.params["primary"]:
            action = RESTART
        return Decision(action, tuple(reasons))

    def trial(self) -> str:
        """Have slurmctld judge the wanted files; ends the module when it refuses them."""
        if self.wanted == self.on_disk or not self.module.params["trial"]:
            return "not needed"
        try:
            complaints = try_start(
                {name: content for name, content in self.wanted.items() if content},
                user=self.module.params["user"],
                beside=str(self.folder),
            )
        except NotTriedError as error:
            self.module.warn(f"the configuration could not be tried before it replaces the old one: {error}")
            return str(error)
        if complaints:
            self.module.fail_json(
                msg=f"slurmctld refuses this configuration, so nothing was replaced: {'; '.join(complaints)}",
                complaints=complaints,
            )
        return "passed"

    # doing it

    def await_answer(self) -> None:
        """Wait until this controller says that it is up."""
        own = socket.gethostname().split(".")[0]
        end = time.monotonic() + self.module.params["timeout"]
        answer = ""
        while time.monotonic() < end:
            _, answer = self.run(["scontrol", "ping"])
            if any(f" at {own} is UP" in line for line in answer.splitlines()):
                return
            now = self.properties()
            # once may be for want of a database that is still starting
            if now.get("ActiveState") == "failed" or int(now.get("NRestarts") or 0) > 1:
                raise NotInForceError(f"{self.unit} starts and gives up")
            time.sleep(0.2)
        raise NotInForceError(f"slurmctld does not answer after {self.module.params['timeout']} s: {answer}")

    def nodes_know_less(self, action: str) -> bool:
        """Tell whether nodes may still have other files than a controller that was started anew."""
        if action == START:
            held = self.record.get("files", self.wanted)
            return decide(held, self.wanted, self.version).action != NONE
        return action == RESTART

    def act(self, action: str) -> None:
        """Put the files on disk into force."""
        if action in (START, RESTART):
            self.run(["systemctl", "reset-failed", self.unit])  # a unit that never ran has nothing to reset
            self.must(["systemctl", "restart", self.unit])
            self.await_answer()
        if action == RECONFIGURE or (self.module.params["primary"] and self.nodes_know_less(action)):
            self.must(["scontrol", "reconfigure"])
            self.await_answer()

    def give_up(self, error: NotInForceError) -> None:
        """Put the files of the last good run back into force, as far as that goes, and end the module."""
        _, journal = self.run(["journalctl", "-u", self.unit, "-n", "15", "--no-pager", "-o", "cat"])
        what = "there are none to go back to"
        if self.record.get("files", self.wanted) != self.wanted:
            what = "the files of the last good run are back in force"
            try:
                for name in self.wanted:
                    write(self.folder / name, self.record["files"].get(name, ""))
                self.act(RESTART)
            except NotInForceError as second:
                what = f"going back to the files of the last good run failed as well: {second}"
        self.module.fail_json(msg=f"{error}; {what}", journal=journal.splitlines())

    def main(self) -> None:
        """Do it all and end the module."""
        params = self.module.params
        check = self.module.check_mode
        installed = shutil.which("slurmctld") is not None
        if not installed and not check:
            self.module.fail_json(msg="slurmctld is not installed")
        trial = "not needed"
        if installed:
            self.version = version_of(self.run(["slurmctld", "-V"])[1])
            trial = self.trial()
        properties = self.properties()
        beside = digest(params["restart_on"])
        decision = self.decision(properties, beside)
        changed_files = [name for name, content in self.wanted.items() if self.on_disk[name] != content]
        enable = properties.get("UnitFileState") != "enabled"
        if not check:
            self.put(decision.action, changed_files, properties, beside)
        self.report(decision, changed_files, trial, enable)

    def put(self, action: str, changed_files: list[str], properties: dict[str, str], beside: str) -> None:
        """Write the files and put them into force."""
        try:
            for name in changed_files:
                write(self.folder / name, self.wanted[name])
            if properties.get("NeedDaemonReload") == "yes" or self.record.get("beside") != beside:
                # systemd does not notice by itself that a unit has got its first drop-in
                self.must(["systemctl", "daemon-reload"])
            if properties.get("UnitFileState") != "enabled":
                self.must(["systemctl", "enable", self.unit])
            self.act(action)
        except NotInForceError as error:
            self.give_up(error)
        record = {"files": self.wanted, "beside": beside}
        if record != self.record:
            write(RECORD, json.dumps(record, indent=1, sort_keys=True))

    def report(self, decision: Decision, changed_files: list[str], trial: str, enable: bool) -> None:
        """End the module with what was done."""
        result: dict[str, Any] = {
            "changed": bool(changed_files) or enable or decision.action != NONE,
            "action": decision.action,
            "reasons": list(decision.reasons),
            "changed_files": changed_files,
            "trial": trial,
        }
        if self.module._diff:  # noqa: SLF001 - the one way to ask
            result["diff"] = [
                {
                    "before": self.on_disk[name],
                    "after": self.wanted[name],
                    "before_header": str(self.folder / name),
                    "after_header": str(self.folder / name),
                }
                for name in changed_files
            ]
        self.module.exit_json(**result)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "dict", "required": True},
            "folder": {"type": "path", "default": "/etc/slurm"},
            "primary": {"type": "bool", "default": True},
            "user": {"type": "str", "default": "slurm"},
            "unit": {"type": "str", "default": "slurmctld.service"},
            "restart_on": {"type": "list", "elements": "path", "default": []},
            "trial": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    Apply(module).main()


if __name__ == "__main__":
    main()
