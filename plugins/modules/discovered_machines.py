#!/usr/bin/python
"""What machines that nobody knows have reported of themselves to the boot server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: discovered_machines
short_description: Read the reports of machines in discovery, without changing anything
description:
  - Reads C(<mac>.json) in a folder of the boot server. Whoever is on the wire may have written them, so files that
    are too long, no JSON, or not named after a MAC are left out and counted.
options:
  path:
    description: The folder.
    type: path
    default: /srv/rackloom/boot/http/discovered
  longest:
    description: Bytes that a report may have.
    type: int
    default: 65536
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Discovered | Read the reports
  rackloom.cluster.discovered_machines:
"""

RETURN = r"""
rackloom_facts:
  description:
    - C(machines) has one entry a report, with C(mac), C(seen) (epoch seconds) and C(report). C(unreadable) is a count.
  returned: always
  type: dict
  sample: {machines: [{mac: "52:54:00:00:00:01", seen: 1700000000.0, report: {serial: S1}}], unreadable: 0}
"""

import json
import os
import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule

NAME = re.compile(r"([0-9a-f]{2}(?:-[0-9a-f]{2}){5})\.json")


def read(path: str, longest: int) -> dict[str, Any] | None:
    """One report with its time, or None if it is none."""
    try:
        with open(path, "rb") as stream:
            raw = stream.read(longest + 1)
            seen = os.fstat(stream.fileno()).st_mtime
        report = json.loads(raw) if len(raw) <= longest else None
    except (OSError, ValueError, RecursionError):
        return None
    return {"seen": seen, "report": report} if isinstance(report, dict) else None


def main() -> None:
    """Ansible's way in."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/srv/rackloom/boot/http/discovered"},
            "longest": {"type": "int", "default": 65536},
        },
        supports_check_mode=True,
    )
    folder = module.params["path"]
    names: list[str] = []
    try:
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    except OSError as error:
        module.fail_json(msg=f"{folder} cannot be read: {error.strerror}")
    machines = []
    unreadable = 0
    for name in names:
        match = NAME.fullmatch(name)
        found = read(os.path.join(folder, name), module.params["longest"]) if match else None
        if match is None or found is None:
            unreadable += 1
        else:
            machines.append({"mac": match[1].replace("-", ":"), **found})
    module.exit_json(changed=False, rackloom_facts={"machines": machines, "unreadable": unreadable})


if __name__ == "__main__":
    main()
