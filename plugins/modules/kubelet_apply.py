#!/usr/bin/python
"""The kubelet of a node, run with this node's part of its configuration."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubelet_apply
short_description: Run a node's kubelet with the settings that lie on the node
description:
  - Before kubeadm has made the node a part of a cluster, the kubelet is enabled and left stopped. kubeadm lays the
    patch over the cluster's settings when it writes C(/var/lib/kubelet/config.yaml), and starts the kubelet.
  - From then on a changed patch is brought into C(config.yaml) here, and the kubelet started anew. What the patch says
    is merged, and what it no longer says is taken out, which needs no API server. Only where it no longer overrides
    something that kubeadm itself sets, C(kubeadm upgrade node phase kubelet-config) makes the file anew out of the
    cluster's settings.
  - If the kubelet does not get well with changed settings, the former ones are put back, and the task fails with the
    kubelet's words.
  - A changed processor or memory manager policy removes the kubelet's record of who has which processors, because it
    does not start with that of another policy. Drain the node before.
  - Pods run on while the kubelet is started anew.
options:
  patch:
    description: File with this node's part of KubeletConfiguration, as JSON.
    type: str
    required: true
  patches:
    description: Folder of kubeadm's patches that it lies in.
    type: str
    required: true
  restart_on:
    description: Files of the unit; a change since it last started restarts it.
    type: list
    elements: str
    default: []
  program:
    description: The kubelet; another one at this place restarts it too.
    type: str
    default: /usr/local/bin/kubelet
  kubeadm:
    description: The kubeadm that is called.
    type: str
    default: /usr/local/bin/kubeadm
  timeout:
    description: Seconds until the kubelet has to be well.
    type: int
    default: 120
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: service | Run the kubelet with its settings
  rackloom.cluster.kubelet_apply:
    patch: /etc/rackloom/kubernetes/patches/kubeletconfiguration0+strategic.json
    patches: /etc/rackloom/kubernetes/patches
    restart_on: [/etc/systemd/system/kubelet.service]
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: [settings merged, restarted]
joined:
  description: Whether the node is a part of a cluster.
  returned: always
  type: bool
"""

import contextlib
import json
import os
import time
import urllib.error
import urllib.request
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils import node_units  # noqa: TID252 - how a collection's plugins find each other

try:
    import yaml

    HAS_YAML = True
except ImportError:
    HAS_YAML = False

UNIT = "kubelet.service"
CONFIG = "/var/lib/kubelet/config.yaml"
IDENTITY = "/etc/kubernetes/kubelet.conf"
STAMP = "/var/lib/rackloom/kubernetes/kubelet.json"
KUBEADMS = (
    "authentication",
    "authorization",
    "cgroupDriver",
    "clusterDNS",
    "clusterDomain",
    "containerRuntimeEndpoint",
    "healthzBindAddress",
    "healthzPort",
    "rotateCertificates",
    "staticPodPath",
)
"""What kubeadm sets for every node of a cluster; everything else is as the kubelet has it unless a patch says so."""
POLICIES = {
    "cpuManagerPolicy": "/var/lib/kubelet/cpu_manager_state",
    "memoryManagerPolicy": "/var/lib/kubelet/memory_manager_state",
}

Settings = dict[str, Any]


def merged(base: Settings, more: Settings) -> Settings:
    """Return both as kubeadm merges them: maps key by key, all else of `more` in the place of `base`'s."""
    out = dict(base)
    for key, value in more.items():
        mine = out.get(key)
        out[key] = merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return out


def keys(settings: Settings, above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Return the paths of all values."""
    found: set[tuple[str, ...]] = set()
    for key, value in settings.items():
        here = (*above, key)
        found |= keys(value, here) if isinstance(value, dict) and value else {here}
    return found


def without(settings: Settings, path: tuple[str, ...]) -> Settings:
    """Return settings less the value at a path, and less the maps that are empty then."""
    first, *rest = path
    out = dict(settings)
    if rest and isinstance(out.get(first), dict):
        out[first] = without(out[first], tuple(rest))
    if not rest or out.get(first) == {}:
        out.pop(first, None)
    return out


def told(settings: Settings, patch: Settings) -> bool:
    """
    Tell whether settings may have the patch in them, by its numbers and switches.

    Texts are no sign: the same time or quantity can be written in several ways.
    """
    for key, value in patch.items():
        mine = settings.get(key)
        if isinstance(value, dict) and isinstance(mine, dict) and not told(mine, value):
            return False
        # What is off or zero is left out where that is what it would be anyway.
        if isinstance(value, bool | int) and (mine or 0) != value and not (mine is None and not value):
            return False
    return True


class Kubelet:
    """The kubelet of this node, and what was done to it."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.check = bool(module.check_mode)
        self.unit = node_units.Unit(
            module, {"name": UNIT, "restart_on": module.params["restart_on"], "reload_on": []}
        )
        self.actions = self.unit.actions
        self.stamp = self.read_stamp()
        self.joined = os.path.exists(CONFIG) and os.path.exists(IDENTITY)

    def read_stamp(self) -> dict[str, Any]:
        """Return what is known of the last run, nothing where the record is missing or broken."""
        with contextlib.suppress(OSError, ValueError), open(STAMP, encoding="utf-8") as handle:
            loaded = json.load(handle)
            return loaded if isinstance(loaded, dict) else {}
        return {}

    def write_stamp(self, **more: Any) -> None:
        """Remember something on the node."""
        fresh = {**self.stamp, **more}
        if self.check or fresh == self.stamp:
            return
        os.makedirs(os.path.dirname(STAMP), mode=0o755, exist_ok=True)
        with open(STAMP + ".new", "w", encoding="utf-8") as handle:
            json.dump(fresh, handle)
        os.replace(STAMP + ".new", STAMP)
        self.stamp = fresh

    def read(self) -> str:
        """Return all that the unit is made of, as one digest."""
        made = node_units.digest(self.module.params["restart_on"])
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self.module.params["program"])
            return f"{made} {found.st_size} {found.st_mtime_ns}"
        return made

    def prepare(self) -> dict[str, str]:
        """Let systemd know the unit and start it at boot; returns the unit's properties."""
        now = self.unit.show()
        stale = self.stamp.get("unit") != self.read()
        if stale or now.get("NeedDaemonReload") == "yes" or now.get("LoadState") == "not-found":
            if not self.check:
                self.module.run_command(["systemctl", "daemon-reload"], check_rc=True)
                now = self.unit.show()
            self.actions.append("daemon-reload")
        if now.get("UnitFileState") != "enabled":
            self.unit.do("enabled", "enable", "--quiet", UNIT)
        return now

    def settle(self, patch: Settings) -> str | None:
        """Bring the patch into the kubelet's settings; returns the former ones where they were changed."""
        with open(CONFIG, encoding="utf-8") as handle:
            before = handle.read()
        settings = yaml.safe_load(before) or {}
        former: Settings | None = self.stamp.get("patch")
        if former == patch and told(settings, patch):
            return None
        # Of a node that others have joined nothing is known but what it says now.
        dropped = keys(former or {}) - keys(patch)
        anew = any(path[0] in KUBEADMS for path in dropped)
        self.actions.append("settings made anew" if anew else "settings merged")
        if self.check:
            return before
        self.write_stamp(pending=True)
        if anew:
            self.make_anew()
        else:
            for path in dropped:
                settings = without(settings, path)
            after = yaml.safe_dump(merged(settings, patch), default_flow_style=False)
            with open(CONFIG + ".rackloom", "w", encoding="utf-8") as handle:
                handle.write(after)
            os.chmod(CONFIG + ".rackloom", 0o644)
            os.replace(CONFIG + ".rackloom", CONFIG)
        return before

    def make_anew(self) -> None:
        """Let kubeadm write the settings out of the cluster's and the patches."""
        command = [self.module.params["kubeadm"], "upgrade", "node", "phase", "kubelet-config"]
        rc, out, err = self.module.run_command([*command, "--patches", self.module.params["patches"]])
        if rc != 0:
            self.module.fail_json(
                msg="the kubelet's settings lost something that only the cluster knows how to replace, and kubeadm "
                f"could not ask it: {(err or out).strip()[-1500:]}",
                actions=self.actions,
            )

    def forget_policies(self) -> None:
        """Remove the records of a policy that is another one now; the kubelet does not start with them."""
        with open(CONFIG, encoding="utf-8") as handle:
            settings = yaml.safe_load(handle) or {}
        for key, path in POLICIES.items():
            with contextlib.suppress(OSError, ValueError, AttributeError):
                with open(path, encoding="utf-8") as handle:
                    former = str(json.load(handle).get("policyName", ""))
                if former.lower() != str(settings.get(key, "none")).lower():
                    self.actions.append(f"{path} removed")
                    os.unlink(path)

    def start(self, verb: str) -> str:
        """Start the kubelet, or start it anew; returns why it is not well, '' when it is."""
        self.forget_policies()
        self.module.run_command(["systemctl", "reset-failed", UNIT])
        rc, out, err = self.module.run_command(["systemctl", verb, UNIT])
        if rc != 0:
            return str(err or out).strip()
        deadline = time.monotonic() + self.module.params["timeout"]
        pause = 0.2
        while True:
            why = self.unwell()
            # One that ends at once is started again by systemd; it will not get better.
            failing = int(self.restarts() or 0) > 2
            if not why or failing or time.monotonic() > deadline:
                return why
            time.sleep(pause)
            pause = min(pause * 1.5, 2)

    def restarts(self) -> str:
        """Return how often systemd has started it by itself since it was last told to."""
        _, out, _ = self.module.run_command(["systemctl", "show", UNIT, "-p", "NRestarts", "--value"])
        return str(out).strip()

    def unwell(self) -> str:
        """Return what the kubelet's own check says, '' when it is well."""
        with open(CONFIG, encoding="utf-8") as handle:
            settings = yaml.safe_load(handle) or {}
        port = settings.get("healthzPort", 10248)
        if not port:
            return "" if self.unit.show().get("ActiveState") == "active" else "it does not run"
        host = settings.get("healthzBindAddress", "127.0.0.1")
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/healthz", timeout=5) as answer:
                return "" if answer.status == 200 else f"its own check says {answer.status}"
        except (OSError, urllib.error.URLError) as error:
            return f"its own check does not answer: {error}"

    def apply(self) -> None:
        """Bring everything to its state."""
        with open(self.module.params["patch"], encoding="utf-8") as handle:
            patch: Settings = json.load(handle)
        now = self.prepare()
        unit = self.read()
        if not self.joined:
            self.write_stamp(unit=unit, patch=patch, pending=False)
            return
        before = self.settle(patch)
        running = now.get("ActiveState") in ("active", "activating", "reloading")
        due = before is not None or self.stamp.get("pending") or self.stamp.get("unit") != unit
        if running and not due:
            self.write_stamp(patch=patch)
            return
        verb = "restart" if running else "start"
        self.actions.append(f"{verb}ed")
        if self.check:
            return
        why = self.start(verb)
        if why and before is not None:
            with open(CONFIG, "w", encoding="utf-8") as handle:
                handle.write(before)
            words = self.last_words()
            again = self.start("restart")
            self.module.fail_json(
                msg=f"the kubelet did not get well with its new settings ({why}); the former ones are back"
                f"{f', and it is not well with them either ({again})' if again else ''}. Its last words:\n{words}",
                actions=self.actions,
            )
        if why:
            self.module.fail_json(
                msg=f"the kubelet is not well: {why}. Its last words:\n{self.last_words()}",
                actions=self.actions,
            )
        self.write_stamp(unit=unit, patch=patch, pending=False)

    def last_words(self) -> str:
        """Return the end of what the kubelet wrote."""
        _, journal, _ = self.module.run_command(
            ["journalctl", "-u", UNIT, "-n", "15", "--no-pager", "-o", "cat"]
        )
        return str(journal).strip()


def main() -> None:
    """Apply the parameters."""
    module = AnsibleModule(
        argument_spec={
            "patch": {"type": "str", "required": True},
            "patches": {"type": "str", "required": True},
            "restart_on": {"type": "list", "elements": "str", "default": []},
            "program": {"type": "str", "default": "/usr/local/bin/kubelet"},
            "kubeadm": {"type": "str", "default": "/usr/local/bin/kubeadm"},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    kubelet = Kubelet(module)
    if kubelet.joined and not HAS_YAML:
        module.fail_json(msg=missing_required_lib("PyYAML"))
    if module.check_mode and not os.path.exists(module.params["patch"]):
        module.exit_json(changed=True, actions=["enabled"], joined=kubelet.joined)
    kubelet.apply()
    module.exit_json(changed=bool(kubelet.actions), actions=kubelet.actions, joined=kubelet.joined)


if __name__ == "__main__":
    main()
