#!/usr/bin/python
"""What a node of Kubernetes really runs, and what a control-plane node says of the whole cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_look
short_description: Look at a node of Kubernetes, and through it at the cluster, without changing anything
description:
  - Tells which releases are installed on the node and which its static pods run.
  - On a control-plane node it also asks the API for nodes, budgets and the release of the cluster, and etcd for its
    members. What cannot be asked is told as C(trouble), and is no failure.
  - Plans of upgrades and removals are made from this, so they follow from what is there and not from what was meant.
options:
  cluster:
    description: Also ask for the whole cluster.
    type: bool
    default: false
  kubeconfig:
    description: Credentials of an administrator.
    type: path
    default: /etc/kubernetes/admin.conf
  patience:
    description: Seconds in which an API that does not answer is asked again.
    type: int
    default: 5
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Look | Ask the node
  rackloom.cluster.kube_look:
    cluster: "{{ 'kube_control_plane' in group_names }}"
"""

RETURN = r"""
rackloom_facts:
  description:
    - C(kubernetes) has C(node) (installed, manifests, joined, store, active) and C(cluster) (server, release, proxy,
      nodes, members), which is empty where it was not asked or did not answer; then C(trouble) says why. A member of
      etcd that never started has no name, and is called by its address.
  returned: always
  type: dict
  sample: {kubernetes: {node: {installed: {kubelet: X.Y.Z}}, cluster: {}, trouble: "kubectl: connection refused"}}
"""

import os
import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.kube_client import (  # noqa: TID252 - how a collection's plugins find each other
    ADMIN,
    Kubectl,
    KubeError,
    Run,
    holding,
    node_row,
    runner,
    tag_of,
    unmanaged,
)
from ..module_utils.kube_etcd import Etcd, called  # noqa: TID252
from ..module_utils.kube_running import JOINED, STORE, installed, manifests  # noqa: TID252

UNITS = ("kubelet.service", "slurmd.service")


def active(run: Run) -> list[str]:
    """Units of this node that run."""
    _, out, _ = run(["systemctl", "is-active", *UNITS], "")
    return [unit for unit, state in zip(UNITS, out.split()) if state == "active"]  # noqa: B905 - Python 3.9


def cluster(kubectl: Kubectl, etcd: Etcd) -> dict[str, Any]:
    """What this control-plane node says of all. Raises KubeError."""
    server = _server(kubectl)
    config = kubectl.find("configmap", "--namespace=kube-system", "kubeadm-config") or {}
    text = str(config.get("data", {}).get("ClusterConfiguration", ""))
    release = re.search(r"^kubernetesVersion:\s*v?(\S+)", text, re.MULTILINE)
    proxy = kubectl.find("daemonset", "--namespace=kube-system", "kube-proxy")
    pods: dict[str, list[dict[str, Any]]] = {}
    for pod in kubectl.items("pods", "--all-namespaces"):
        pods.setdefault(pod.get("spec", {}).get("nodeName") or "", []).append(pod)
    budgets = kubectl.items("poddisruptionbudgets", "--all-namespaces")
    nodes = []
    for node in kubectl.items("nodes"):
        row = node_row(node)
        own = pods.get(row["name"], [])
        row["held"] = [
            {"budget": name, "stands": stands, "pods": held} for name, stands, held in holding(own, budgets)
        ]
        row["unmanaged"] = unmanaged(own)
        nodes.append(row)
    told: dict[str, Any] = {
        "server": server,
        "release": release[1] if release else "",
        "proxy": tag_of(proxy["spec"]["template"]["spec"]["containers"][0]["image"]) if proxy else "",
        "nodes": nodes,
        "members": [],
        "store_trouble": "",
    }
    try:
        told["members"] = [{**member, "name": called(member)} for member in etcd.members()]
    except (KubeError, OSError) as error:
        told["store_trouble"] = str(error)
    return told


def _server(kubectl: Kubectl) -> str:
    """The release of the API server that answered."""
    match = re.search(r'"gitVersion":\s*"v?([^"]+)"', kubectl.call("get", "--raw=/version"))
    return match[1] if match else ""


def main() -> None:
    """Look, and return what was seen."""
    module = AnsibleModule(
        argument_spec={
            "cluster": {"type": "bool", "default": False},
            "kubeconfig": {"type": "path", "default": ADMIN},
            "patience": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    params = module.params
    run = runner(module)
    seen: dict[str, Any] = {
        "node": {
            "installed": installed(run),
            "manifests": manifests(),
            "joined": os.path.exists(JOINED),
            "store": os.path.isdir(STORE),
            "active": active(run),
        },
        "cluster": {},
        "trouble": "",
    }
    if params["cluster"]:
        if os.path.exists(params["kubeconfig"]):
            kubectl = Kubectl(run, params["kubeconfig"], patience=params["patience"])
            try:
                seen["cluster"] = cluster(kubectl, Etcd(run))
            except (KubeError, OSError) as error:
                seen["trouble"] = str(error)
        else:
            seen["trouble"] = f"there is no {params['kubeconfig']}"
    module.exit_json(changed=False, rackloom_facts={"kubernetes": seen})


if __name__ == "__main__":
    main()
