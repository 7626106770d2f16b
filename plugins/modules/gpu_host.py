#!/usr/bin/python
"""What a node's PCI bus, kernel and driver say of its GPUs, without asking the driver for anything."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_host
short_description: Tell which GPUs a node has and what their driver lacks, without changing anything
description:
  - GPUs are known by their PCI ids, so it works before there is a driver.
  - What keeps a driver from working is reported as a warning and in RV(troubles), with a cure.
options:
  platforms:
    description:
      - Machines by the devices on their PCI bus, the first that fits counts, as dictionaries of C(name), C(devices),
        C(switches) and C(services).
    type: list
    elements: dict
    default: []
  branch:
    description: Branch of the driver that is wanted; empty means any.
    type: str
    default: ""
  driver:
    description: Whether a driver is wanted here at all, so that a missing one is a trouble.
    type: bool
    default: true
  root:
    description: Where the machine is, for tests.
    type: path
    default: /
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Look at the GPUs
  rackloom.cluster.gpu_host:
    branch: "580"
  register: host
"""

RETURN = r"""
gpus:
  description: Addresses and device ids.
  returned: always
  type: list
  elements: dict
  sample: [{address: "0000:3b:00.0", device: "20b2"}]
skipped_because:
  description: Why there is nothing to do; empty when there are GPUs.
  returned: always
  type: str
  sample: no GPU
platform:
  description: Which of the platforms it is.
  returned: always
  type: str
  sample: hgx-a100
services:
  description: What has to run beside the driver.
  returned: always
  type: list
  elements: str
  sample: [fabric_manager]
loaded:
  description: Version of the driver in the kernel; empty when none is loaded.
  returned: always
  type: str
  sample: 580.95.05
users:
  description: Programs that have a GPU open, other than the driver's own.
  returned: always
  type: list
  elements: str
  sample: [python3 (4711)]
reboot:
  description: Whether the node has to be started anew before its GPUs are of use.
  returned: always
  type: bool
troubles:
  description: What keeps the driver from working, with cures.
  returned: always
  type: list
  elements: str
"""

import glob
import os
import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# TID252: this is how a collection's plugins find each other
from ..module_utils.node_gpus import GPU_CLASSES, Machine, text  # noqa: TID252

SWITCH_CLASS = "0x0680"
OWN_PROGRAMS = ("nvidia-persistenced", "nv-hostengine", "nv-fabricmanager", "nvidia-imex", "dcgm-exporter")
NOUVEAU = "nouveau is loaded, and stays off from the next start on: rackloom nodes reboot --needed"


class Host(Machine):
    """A machine whose GPUs are looked at."""

    def sources(self) -> list[str]:
        """Versions of the driver that DKMS has sources of."""
        found = glob.glob(self.at("/usr/src/nvidia-*/dkms.conf"))
        return sorted(os.path.basename(os.path.dirname(path)).rpartition("-")[2] for path in found)

    def headers(self) -> bool:
        """Whether a module can be built for the running kernel."""
        return os.path.isdir(self.at(f"/lib/modules/{self.kernel()}/build"))

    def users(self) -> list[str]:
        """Programs that have a GPU open."""
        found = []
        for folder in glob.glob(self.at("/proc/[0-9]*")):
            name = text(f"{folder}/comm")
            if name in OWN_PROGRAMS:
                continue
            for link in glob.glob(f"{folder}/fd/*"):
                try:
                    opened = os.readlink(link)
                except OSError:
                    continue
                if re.match(r"/dev/nvidia\d+$", opened):
                    found.append(f"{name} ({os.path.basename(folder)})")
                    break
        return sorted(found)


def platform(
    known: list[dict[str, Any]], gpus: list[dict[str, str]], switches: list[dict[str, str]]
) -> dict[str, Any]:
    """The first machine of the table that fits."""
    wanted, seen = {gpu["device"] for gpu in gpus}, {switch["device"] for switch in switches}
    for one in known:
        right = not one["devices"] or wanted <= set(one["devices"])
        if right and (not one["switches"] or seen & set(one["switches"])):
            return one
    return {"name": "", "services": []}


def troubles(host: Host, branch: str, loaded: str, modules: set[str]) -> list[str]:
    """What keeps the driver from working, with cures."""
    if "nouveau" in modules:
        return [NOUVEAU]
    if loaded and branch and loaded.partition(".")[0] != branch:
        return [
            f"the driver in the kernel is {loaded}, and branch {branch} is wanted: rackloom nodes reboot --needed"
        ]
    if loaded:
        return []
    if host.built():
        return ["the driver lies there and is not loaded: rackloom nodes reboot --needed, or look at dmesg"]
    kernel, sources = host.kernel(), host.sources()
    if sources and not host.headers():
        return [
            (
                f"DKMS could not build the driver {sources[-1]}: the headers of the kernel {kernel} are not there; "
                "install them, or start the node with the kernel that it has headers of"
            )
        ]
    if sources:
        return [f"DKMS has not built the driver {sources[-1]} for the kernel {kernel}; see dkms status"]
    return [f"there is no driver for the kernel {kernel}"]


def main() -> None:
    """Look once."""
    module = AnsibleModule(
        argument_spec={
            "platforms": {"type": "list", "elements": "dict", "default": []},
            "branch": {"type": "str", "default": ""},
            "driver": {"type": "bool", "default": True},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    host = Host(module.params["root"])
    gpus, switches = host.devices(*GPU_CLASSES), host.devices(SWITCH_CLASS)
    machine = platform(module.params["platforms"], gpus, switches)
    loaded, modules = host.loaded(), host.modules()
    wrong = (
        troubles(host, module.params["branch"], loaded, modules) if gpus and module.params["driver"] else []
    )
    for line in wrong:
        module.warn(f"GPU driver: {line}")
    module.exit_json(
        changed=False,
        gpus=gpus,
        skipped_because="" if gpus else "no GPU",
        platform=machine["name"],
        services=list(machine["services"]),
        loaded=loaded,
        users=host.users() if gpus else [],
        reboot=bool(wrong) and ("nouveau" in modules or bool(loaded) or host.built()),
        troubles=wrong,
    )


if __name__ == "__main__":
    main()
