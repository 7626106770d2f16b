#!/usr/bin/python
"""The cluster is well, or nothing that is risky goes on."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_health
short_description: Wait until API, etcd and all nodes of Kubernetes are well
description:
  - Runs on a control-plane node. Changes nothing. Fails with the first that is not well when the time is over.
options:
  but:
    description: Nodes that need not be well, as those that are being worked on.
    type: list
    elements: str
    default: []
  own:
    description: Also wait until this node's own static pods are well, under this name.
    type: str
    default: ""
  store:
    description: Whether etcd runs beside the API server and is asked too.
    type: bool
    default: true
  timeout:
    description: Seconds.
    type: int
    default: 180
  kubeconfig:
    description: Credentials of an administrator.
    type: path
    default: /etc/kubernetes/admin.conf
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Upgrade | All is well before the next node
  rackloom.cluster.kube_health:
    but: [gpu01]
"""

RETURN = r"""
nodes:
  description: How many nodes are well.
  returned: always
  type: int
"""

import time
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.kube_client import (  # noqa: TID252 - how a collection's plugins find each other
    ADMIN,
    Kubectl,
    KubeError,
    is_mirror,
    ready,
    runner,
    troubles,
)
from ..module_utils.kube_etcd import Etcd  # noqa: TID252


def pod_ready(pod: dict[str, Any]) -> bool:
    """Whether all of a pod's containers serve."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def complaint(kubectl: Kubectl, etcd: Etcd | None, but: Sequence[str], own: str) -> tuple[str, int]:
    """What is not well, '' when all is, and how many nodes are."""
    try:
        kubectl.call("get", "--raw=/readyz")
        nodes = kubectl.items("nodes")
        bad = [
            f"{node['metadata']['name']} is not ready: {troubles(node)}"
            for node in nodes
            if node["metadata"]["name"] not in but and not ready(node)
        ]
        if etcd is not None:
            bad += [
                f"etcd's member {member['name'] or member['id']} does not answer"
                for member in etcd.members()
                if not member["healthy"] and member["name"] not in but
            ]
        if own:
            pods = kubectl.items("pods", "--namespace=kube-system", f"--field-selector=spec.nodeName={own}")
            bad += [
                f"{pod['metadata']['name']} is not ready"
                for pod in pods
                if is_mirror(pod) and not pod_ready(pod)
            ]
    except (KubeError, OSError) as error:
        return str(error), 0
    return "; ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else ""), len(nodes) - len(bad)


def main() -> None:
    """Ask until all is well."""
    module = AnsibleModule(
        argument_spec={
            "but": {"type": "list", "elements": "str", "default": []},
            "own": {"type": "str", "default": ""},
            "store": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 180},
            "kubeconfig": {"type": "path", "default": ADMIN},
        },
        supports_check_mode=True,
    )
    params = module.params
    run = runner(module)
    kubectl = Kubectl(run, params["kubeconfig"], patience=5)
    etcd = Etcd(run) if params["store"] else None
    end = time.monotonic() + params["timeout"]
    while True:
        said, well = complaint(kubectl, etcd, params["but"], params["own"])
        if not said:
            module.exit_json(changed=False, nodes=well)
        if time.monotonic() >= end or module.check_mode:
            module.fail_json(msg=f"the cluster is not well: {said}")
        time.sleep(1)


if __name__ == "__main__":
    main()
