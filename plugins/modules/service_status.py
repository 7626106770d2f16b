#!/usr/bin/python
"""What runs on a node, asked of systemd, and what a Slurm controller says of its nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_status
short_description: Tell whether services run, without changing anything
description:
  - Asks systemd for all units in one call.
  - On a Slurm controller it also asks which nodes cannot take jobs, and why.
options:
  units:
    description: Service name to the unit that carries it on this node.
    type: dict
    default: {}
  host:
    description: The name under which this node is reported.
    type: str
    required: true
  slurm:
    description: Also ask Slurm for its controller and nodes.
    type: bool
    default: false
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Status | Ask the services
  rackloom.cluster.service_status:
    host: "{{ inventory_hostname }}"
    units: {sshd: ssh.service, chrony: chrony.service}
"""

RETURN = r"""
rackloom_status:
  description: One entry a service of this node.
  returned: always
  type: list
  elements: dict
  sample: [{service: chrony, host: gpu01, ok: true, detail: active since Sat 2026-11-21 10:00:00 UTC}]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule


def units(module: AnsibleModule, host: str, wanted: dict[str, str]) -> list[dict[str, Any]]:
    """Return one row a unit; a unit that is not installed is not ok."""
    if not wanted:
        return []
    names = [str(unit) for unit in wanted.values()]
    _, out, _ = module.run_command(
        ["systemctl", "show", "-p", "ActiveState,SubState,LoadState,ActiveEnterTimestamp", *names]
    )
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in out.split("\n\n")
    ]
    rows = []
    for (service, unit), block in zip(wanted.items(), blocks, strict=False):
        state = block.get("ActiveState", "unknown")
        detail = (
            f"{state} since {block['ActiveEnterTimestamp']}" if block.get("ActiveEnterTimestamp") else state
        )
        if block.get("LoadState") == "not-found":
            detail = f"{unit} is not installed"
        rows.append({"service": service, "host": host, "ok": state == "active", "detail": detail})
    return rows


def slurm(module: AnsibleModule, host: str) -> list[dict[str, Any]]:
    """Return one row for the controller and one for every set of nodes that cannot take jobs."""
    rc, out, err = module.run_command(["scontrol", "ping"])
    up = rc == 0 and "UP" in out
    rows = [{"service": "slurm", "host": host, "ok": up, "detail": (out or err).strip().replace("\n", "; ")}]
    if not up:
        return rows
    _, summary, _ = module.run_command(["sinfo", "-h", "-o", "%T|%D|%N"])
    seen = sorted(set(summary.splitlines()))
    text = ", ".join(f"{row.split('|')[1]} {row.split('|')[0]} ({row.split('|')[2]})" for row in seen)
    rows.append({"service": "slurm nodes", "host": host, "ok": True, "detail": text})
    _, reasons, _ = module.run_command(["sinfo", "-h", "-R", "-o", "%N|%T|%E"])
    for line in sorted(set(reasons.splitlines())):
        names, state, reason = line.split("|", 2)
        rows.append({"service": "slurm nodes", "host": names, "ok": False, "detail": f"{state}: {reason}"})
    return rows


def main() -> None:
    """Ask, and return the rows."""
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "dict", "default": {}},
            "host": {"type": "str", "required": True},
            "slurm": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    host = module.params["host"]
    rows = units(module, host, module.params["units"])
    if module.params["slurm"]:
        rows += slurm(module, host)
    module.exit_json(changed=False, rackloom_status=rows)


if __name__ == "__main__":
    main()
