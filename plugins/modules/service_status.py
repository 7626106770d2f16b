#!/usr/bin/python
"""What runs on a node, asked of systemd, and what a Slurm controller says of its nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_status
short_description: Tell whether services run, without changing anything
description:
  - Asks systemd for all units in one call.
  - On a Slurm controller it also asks which nodes cannot take jobs, and why.
  - On a control-plane node of Kubernetes it also asks which nodes are not ready, and why.
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
  kubeconfig:
    description: Also ask Kubernetes for its nodes, with this kubeconfig; not asked when empty.
    type: str
    default: ""
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

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.kube_client import PATH, ready, troubles  # noqa: TID252 - how a collection's plugins find each other


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


def kubernetes(module: AnsibleModule, host: str, kubeconfig: str) -> list[dict[str, Any]]:
    """Return one row for the API, one for all nodes that are ready and one for each that is not."""
    words = [
        "kubectl",
        f"--kubeconfig={kubeconfig}",
        "--request-timeout=10s",
        "get",
        "nodes",
        "--output=json",
    ]
    rc, out, err = module.run_command(words, environ_update={"PATH": PATH})
    if rc != 0:
        detail = (err or out).strip().splitlines()[-1:] or ["kubectl does not answer"]
        return [{"service": "kubernetes", "host": host, "ok": False, "detail": detail[0]}]
    nodes = json.loads(out)["items"]
    well = [node for node in nodes if ready(node)]
    cordoned = [str(node["metadata"]["name"]) for node in well if node["spec"].get("unschedulable")]
    detail = f"{len(well)} ready" + (f", of which cordoned: {', '.join(cordoned)}" if cordoned else "")
    rows = [
        {"service": "kubernetes", "host": host, "ok": True, "detail": "the API answers"},
        {"service": "kubernetes nodes", "host": host, "ok": True, "detail": detail},
    ]
    return rows + [
        {
            "service": "kubernetes nodes",
            "host": node["metadata"]["name"],
            "ok": False,
            "detail": troubles(node),
        }
        for node in nodes
        if not ready(node)
    ]


def main() -> None:
    """Ask, and return the rows."""
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "dict", "default": {}},
            "host": {"type": "str", "required": True},
            "slurm": {"type": "bool", "default": False},
            "kubeconfig": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    host = module.params["host"]
    rows = units(module, host, module.params["units"])
    if module.params["slurm"]:
        rows += slurm(module, host)
    if module.params["kubeconfig"]:
        rows += kubernetes(module, host, module.params["kubeconfig"])
    module.exit_json(changed=False, rackloom_status=rows)


if __name__ == "__main__":
    main()
