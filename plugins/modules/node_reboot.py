#!/usr/bin/python
"""Whether a node has to be started anew, and why."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_reboot
short_description: Tell why a node has to be rebooted, or note that it is to be
description:
  - Looks at what the distribution asks for, at the kernels that are installed, at NVIDIA's driver, and whether GPUs are
    cut otherwise than they are to be at the next start.
  - With V(wanted), notes that the node is to be rebooted. The note lies where a start of the node removes it, so
    whoever was stopped half way knows which nodes are left.
  - Reboots nothing by itself.
options:
  state:
    description: V(seen) only looks.
    type: str
    choices: [seen, wanted]
    default: seen
  root:
    description: Where the machine is, for tests.
    type: path
    default: /
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Look whether the nodes have to be rebooted
  rackloom.cluster.node_reboot:
"""

RETURN = r"""
rackloom_facts:
  description: C(reboot) has C(why), the reasons if there are any, and C(started), which another start changes.
  returned: always
  type: dict
  sample: {reboot: {why: ["kernel 6.1.0-31-amd64 is installed, 6.1.0-30-amd64 runs"], started: "1785480000"}}
"""

import glob
import json
import os
import re

from ansible.module_utils.basic import AnsibleModule

# TID252: this is how a collection's plugins find each other
from ..module_utils.node_gpus import GPU_CLASSES, Machine, text  # noqa: TID252

WANTED = "/run/rackloom/reboot-wanted"
ASKED = "/run/reboot-required"
VERDICT = "/run/rackloom/gpu-health.json"
SLICES = "/etc/rackloom/gpu-slices.yml"
MOST_PACKAGES = 3


def order(release: str) -> list[tuple[int, int, str]]:
    """Releases of a kernel in the order in which they came: 6.1.0-9 is before 6.1.0-31."""
    return [
        (1, int(part), "") if part.isdigit() else (0, 0, part)
        for part in re.findall(r"\d+|[^\d.+~_-]+", release)
    ]


def flavour(release: str) -> str:
    """What is left of a kernel's name without its numbers: amd64, generic, el9.x86_64."""
    return re.sub(r"^[\d.\-+~_]*", "", re.sub(r"el(\d+)_\d+", r"el\1", release))


class Node(Machine):
    """A machine that may have to be started anew."""

    def why(self) -> list[str]:
        """All reasons."""
        return [*self.noted(), *self.asked(), *self.newer(), *self.gpus()]

    def noted(self) -> list[str]:
        """Somebody said so."""
        return ["asked for"] if os.path.exists(self.at(WANTED)) else []

    def asked(self) -> list[str]:
        """What Debian and Ubuntu leave when a package wants it."""
        if not os.path.exists(self.at(ASKED)):
            return []
        packages = sorted(set(text(self.at(f"{ASKED}.pkgs")).split()))
        more = f" and {len(packages) - MOST_PACKAGES} more" if len(packages) > MOST_PACKAGES else ""
        return [f"asked for by {', '.join(packages[:MOST_PACKAGES]) or 'the distribution'}{more}"]

    def newer(self) -> list[str]:
        """A newer kernel of the same flavour lies there. Where the one that runs does not, it came from elsewhere."""
        runs = self.kernel()
        images = glob.glob(self.at("/boot/vmlinuz-*"))
        there = [os.path.basename(path).removeprefix("vmlinuz-") for path in images]
        if runs not in there:
            return []
        newest = max((one for one in there if flavour(one) == flavour(runs)), key=order)
        return [f"kernel {newest} is installed, {runs} runs"] if order(newest) > order(runs) else []

    def gpus(self) -> list[str]:
        """NVIDIA's driver in the kernel is not the one that is installed, or GPUs are to be cut anew."""
        if not self.devices(*GPU_CLASSES):
            return []
        loaded, lies = self.loaded(), self._driver()
        if not loaded:
            # Without a module for this kernel, another start would change nothing.
            if not lies or not self.built():
                return []
            if "nouveau" in self.modules():
                return ["nouveau holds the GPUs, and NVIDIA's driver is installed"]
            return [f"NVIDIA's driver {lies} is installed and not loaded"]
        if lies and loaded != lies:
            return [f"NVIDIA's driver {lies} is installed, {loaded} is loaded"]
        return self._cut()

    def _driver(self) -> str:
        """Version of the library, which comes with the module; '' where it is not there."""
        for folder in ("/usr/lib/*-linux-gnu", "/usr/lib/*-linux-gnu/nvidia/current", "/usr/lib64"):
            for path in sorted(glob.glob(self.at(f"{folder}/libnvidia-ml.so.*.*"))):
                return os.path.basename(path).removeprefix("libnvidia-ml.so.")
        return ""

    def _cut(self) -> list[str]:
        """The health check found other slices than those that the node's next start will make."""
        try:
            verdict = json.loads(text(self.at(VERDICT)) or "{}")
        except ValueError:
            verdict = {}
        codes = verdict.get("codes", []) if isinstance(verdict, dict) else []
        if os.path.exists(self.at(SLICES)) and "mig" in codes:
            return ["its GPUs are to be cut into other slices"]
        return []

    def started(self) -> str:
        """When the first program began, in ticks or seconds; another start has another value, in a container too."""
        fields = text(self.at("/proc/1/stat")).rpartition(")")[2].split()
        return f"{text(self.at('/proc/sys/kernel/random/boot_id'))} {fields[19] if len(fields) > 19 else ''}".strip()

    def note(self) -> bool:
        """Note that it is to be; whether that is new."""
        path = self.at(WANTED)
        if os.path.exists(path):
            return False
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8"):
            pass
        return True


def main() -> None:
    """Look, and note."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "default": "seen", "choices": ["seen", "wanted"]},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    node = Node(module.params["root"])
    changed = False
    if module.params["state"] == "wanted" and not module.check_mode:
        try:
            changed = node.note()
        except OSError as error:
            module.fail_json(msg=f"{WANTED}: {error.strerror or error}")
    module.exit_json(
        changed=changed, rackloom_facts={"reboot": {"why": node.why(), "started": node.started()}}
    )


if __name__ == "__main__":
    main()
