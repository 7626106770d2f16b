#!/usr/bin/python
"""Nodes of Kubernetes as the API knows them: drained with respect, serving again, or gone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_node
short_description: Drain nodes of Kubernetes, let them serve again, or forget them
description:
  - Runs on a control-plane node, about others or itself.
  - A drain respects PodDisruptionBudgets. Where it does not end in time, the error names the budgets that hold it, how
    they stand and the pods; the node stays cordoned.
  - A node that was cordoned by this module has an annotation that says so. Only such a node is let serve again, so one
    that somebody cordoned by hand stays so.
  - Pods that nothing would make anew are never lost without O(delete_unmanaged_pods).
options:
  names:
    description: The nodes. Those that the API does not know are passed over.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(drained) cordons and empties them, V(serving) waits until they are ready and takes the cordon away, V(absent)
        removes them from the API.
    type: str
    choices: [drained, serving, absent]
    required: true
  reason:
    description: What they are drained for.
    type: str
    default: maintenance
  release:
    description: With V(serving), the release that their kubelets must run.
    type: str
    default: ""
  timeout:
    description: Seconds in which it must be done, for each node.
    type: int
    default: 600
  delete_unmanaged_pods:
    description: Whether pods may go that no controller makes anew.
    type: bool
    default: false
  evict_despite_budgets:
    description: Whether pods are deleted that a budget still holds when the time is over.
    type: bool
    default: false
  kubeconfig:
    description: Credentials of an administrator.
    type: path
    default: /etc/kubernetes/admin.conf
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Remove | Drain the nodes
  rackloom.cluster.kube_node:
    names: [gpu01]
    state: drained
    reason: remove
"""

RETURN = r"""
nodes:
  description: The nodes that were changed.
  returned: always
  type: list
  elements: str
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.kube_client import (  # noqa: TID252 - how a collection's plugins find each other
    ADMIN,
    CORDONED,
    Kubectl,
    KubeError,
    holding,
    node_row,
    runner,
    to_evict,
    unmanaged,
)

STEP = 30
"""Seconds of one attempt to drain; after each one looks at what holds it."""


class Nodes:
    """The module's work, apart from Ansible."""

    def __init__(self, kubectl: Kubectl, params: dict[str, Any], *, check: bool) -> None:
        self.kubectl = kubectl
        self.params = params
        self.check = check
        self.changed: list[str] = []

    def work(self, name: str) -> None:
        """Bring one node to its state. Raises KubeError."""
        node = self.kubectl.find("node", name)
        if node is None:
            if self.params["state"] == "serving":
                raise KubeError(f"Kubernetes does not know the node {name}")
            return
        {"drained": self.drain, "serving": self.serve, "absent": self.forget}[self.params["state"]](
            name, node_row(node)
        )

    # --- drained ---

    def pods(self, name: str) -> list[dict[str, Any]]:
        """All pods of a node."""
        return self.kubectl.items("pods", "--all-namespaces", f"--field-selector=spec.nodeName={name}")

    def drain(self, name: str, row: dict[str, Any]) -> None:
        """Cordon and empty a node."""
        pods = self.pods(name)
        if row["cordoned"] and not to_evict(pods):
            return
        bare = unmanaged(pods)
        if bare and not self.params["delete_unmanaged_pods"]:
            raise KubeError(
                f"{name} has pods that nothing would make anew: {few(bare)}; delete them yourself, or allow it with "
                "--delete-unmanaged-pods"
            )
        self.changed.append(name)
        if self.check:
            return
        if not row["cordoned"]:
            # the mark first: a node with a mark and no cordon does no harm, one with a cordon and no mark stays out
            self.kubectl.call("annotate", "node", name, "--overwrite", f"{CORDONED}={self.params['reason']}")
            self.kubectl.call("cordon", name)
        self.empty(name)

    def empty(self, name: str) -> None:
        """Evict until nothing is left, or the time is over."""
        end = self.kubectl.clock() + self.params["timeout"]
        words = ["drain", name, "--ignore-daemonsets", "--delete-emptydir-data"]
        words += ["--force"] if self.params["delete_unmanaged_pods"] else []
        while True:
            left = max(1, int(end - self.kubectl.clock()))
            step = min(STEP, left)
            try:
                # no request timeout: kubectl waits by itself
                self.kubectl.call(*words, f"--timeout={step}s", timeout=0)
            except KubeError as error:
                if self.kubectl.clock() < end:
                    self.kubectl.pause(1)
                    continue
                if self.params["evict_despite_budgets"]:
                    self.kubectl.call(
                        *words, "--disable-eviction", f"--timeout={self.params['timeout']}s", timeout=0
                    )
                    return
                raise KubeError(self.held(name, str(error))) from None
            return

    def held(self, name: str, said: str) -> str:
        """What holds a drain, as a sentence."""
        pods = self.pods(name)
        budgets = holding(pods, self.kubectl.items("poddisruptionbudgets", "--all-namespaces"))
        after = f"{name} is not empty after {self.params['timeout']} s"
        if budgets:
            told = "; ".join(
                f"the budget {budget} holds {few(held)} ({stands})" for budget, stands, held in budgets
            )
            return f"{after}: {told}. It stays cordoned; give the workload what its budget wants, and run this again"
        rest = few(
            sorted(f"{p['metadata'].get('namespace', '')}/{p['metadata']['name']}" for p in to_evict(pods))
        )
        return f"{after}: {rest or 'nobody knows why'} ({said[-300:]}). It stays cordoned; run this again"

    # --- serving, absent ---

    def serve(self, name: str, row: dict[str, Any]) -> None:
        """Wait until a node is well, and take our cordon away."""
        end = self.kubectl.clock() + self.params["timeout"]
        release = self.params["release"].removeprefix("v")
        while not self.check:
            if row["ready"] and release in ("", row["kubelet"]):
                break
            if self.kubectl.clock() >= end:
                trouble = row["trouble"] or f"its kubelet says that it is {row['kubelet']}, not {release}"
                raise KubeError(f"{name} is not well after {self.params['timeout']} s: {trouble}")
            self.kubectl.pause(1)
            row = node_row(self.kubectl.get("node", name))
        if not row["cordoned_for"]:
            return
        self.changed.append(name)
        if self.check:
            return
        if row["cordoned"]:
            self.kubectl.call("uncordon", name)
        self.kubectl.call("annotate", "node", name, f"{CORDONED}-")

    def forget(self, name: str, _row: dict[str, Any]) -> None:
        """Remove a node from the API. What ran on it is made anew elsewhere."""
        self.changed.append(name)
        if not self.check:
            self.kubectl.call("delete", "node", name, "--ignore-not-found", "--timeout=60s", timeout=0)


def few(names: list[str], most: int = 5) -> str:
    """Some names, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def main() -> None:
    """Do it, and tell what was changed."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "required": True, "choices": ["drained", "serving", "absent"]},
            "reason": {"type": "str", "default": "maintenance"},
            "release": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 600},
            "delete_unmanaged_pods": {"type": "bool", "default": False},
            "evict_despite_budgets": {"type": "bool", "default": False},
            "kubeconfig": {"type": "path", "default": ADMIN},
        },
        supports_check_mode=True,
    )
    params = dict(module.params)
    kubectl = Kubectl(runner(module), params["kubeconfig"], pause=time.sleep)
    nodes = Nodes(kubectl, params, check=bool(module.check_mode))
    try:
        for name in params["names"]:
            nodes.work(name)
    except KubeError as error:
        module.fail_json(msg=str(error), nodes=nodes.changed)
    module.exit_json(changed=bool(nodes.changed), nodes=nodes.changed)


if __name__ == "__main__":
    main()
