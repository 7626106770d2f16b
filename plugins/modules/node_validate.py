#!/usr/bin/python
"""Whether a node finds the others by name and follows the cluster's clock."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_validate
short_description: Ask a node whether names and time work on it
description:
  - Resolves names as any program on the node would, and asks chronyd which source it follows.
  - Changes nothing. A bad verdict is returned and does not fail the task.
options:
  host:
    description: The name under which this node is reported.
    type: str
    required: true
  names:
    description: Names that must be found, with the address that must be among the answers.
    type: dict
    default: {}
  time_servers:
    description: Addresses of which chronyd must follow one; when empty, or on a server itself, any clock will do.
    type: list
    elements: str
    default: []
  address:
    description: The node's own address.
    type: str
    default: ""
  timeout:
    description: Seconds in which chronyd must have chosen; it needs some after its start.
    type: int
    default: 60
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Ask the node
  rackloom.cluster.node_validate:
    host: "{{ inventory_hostname }}"
    names: {mgmt01: 192.0.2.11}
    time_servers: [192.0.2.11]
"""

RETURN = r"""
rackloom_checks:
  description: One entry a check.
  returned: always
  type: list
  elements: dict
  sample: [{service: base, name: time on gpu01, ok: true, skipped: "", detail: follows 192.0.2.11, seconds: 0.1}]
"""

import socket
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def names(wanted: dict[str, str]) -> str:
    """Return what is wrong with the names, or an empty string."""
    wrong = []
    for name, address in wanted.items():
        try:
            found = sorted({str(row[4][0]) for row in socket.getaddrinfo(name, None, socket.AF_INET)})
        except OSError as error:
            wrong.append(f"{name}: {error.strerror or error}")
            continue
        if address not in found:
            wrong.append(f"{name} is {', '.join(found)} and not {address}")
    return "; ".join(wrong)


def source(module: AnsibleModule) -> tuple[bool, str]:
    """Return whether chronyd follows one of the wanted servers, and a sentence on what it follows."""
    servers, own = module.params["time_servers"], module.params["address"]
    deadline = time.monotonic() + module.params["timeout"]
    while True:
        rc, out, err = module.run_command(["chronyc", "-n", "-c", "sources"])
        rows = [line.split(",") for line in out.splitlines() if line.count(",") > 2]
        chosen = [row[2] for row in rows if row[1] == "*"]
        if rc == 0 and own in servers:
            return True, f"serves; follows {chosen[0] if chosen else 'its own clock'}"
        if rc == 0 and chosen and (not servers or chosen[0] in servers):
            return True, f"follows {chosen[0]}"
        if time.monotonic() > deadline:
            seen = ", ".join(f"{row[2]} ({row[1]})" for row in rows)
            return (
                False,
                f"follows none of {', '.join(servers) or 'its sources'}: {err.strip() or seen or 'no sources'}",
            )
        time.sleep(0.5)


def main() -> None:
    """Ask, and return the verdicts."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "names": {"type": "dict", "default": {}},
            "time_servers": {"type": "list", "elements": "str", "default": []},
            "address": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    host, verdicts = module.params["host"], []

    def verdict(what: str, ok: bool, detail: str, began: float) -> dict[str, Any]:
        seconds = round(time.monotonic() - began, 2)
        name = f"{what} on {host}"
        return {
            "service": "base",
            "name": name,
            "ok": ok,
            "skipped": "",
            "detail": detail,
            "seconds": seconds,
        }

    began = time.monotonic()
    wrong = names(module.params["names"])
    found = f"finds {', '.join(module.params['names'])}"
    verdicts.append(verdict("names", not wrong, wrong or found, began))
    began = time.monotonic()
    verdicts.append(verdict("time", *source(module), began))
    module.exit_json(changed=False, rackloom_checks=verdicts)


if __name__ == "__main__":
    main()
