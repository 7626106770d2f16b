"""Whether a node still is the member of a Kubernetes cluster that it was left as. Nothing is changed."""

from __future__ import annotations

import _ssl
import json
import os
import socket
import ssl
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

MARK = "/var/lib/kubelet/rackloom.json"
"""Lies where `kubeadm reset` clears, so it never outlives the membership it tells of."""
KUBELET = "/etc/kubernetes/kubelet.conf"
CLIENT = "/var/lib/kubelet/pki/kubelet-client-current.pem"
"""What the kubelet shows to the API; it renews it by itself, as long as it can ask."""
MANIFESTS = "/etc/kubernetes/manifests"
PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def listens(port: int) -> bool:
    """Whether something on this node takes connections on a port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False


def ended(path: str) -> bool:
    """Whether the first certificate of a file has ended; what cannot be read has not."""
    try:
        # the one decoder that is on every node: OpenSSL's own program need not be there
        until = str(_ssl._test_decode_cert(path)["notAfter"])  # type: ignore[attr-defined]  # noqa: SLF001
    except (OSError, KeyError, ssl.SSLError):
        return False
    return ssl.cert_time_to_seconds(until) < time.time()


def holds(module: AnsibleModule, request: dict[str, Any]) -> bool:
    """Tell whether the node is marked as it was left, and what it runs for the cluster runs."""
    with open(MARK, encoding="utf-8") as handle:
        if json.load(handle) != request["mark"]:
            return False
    if not os.path.exists(KUBELET) or ended(CLIENT):
        return False
    parts = [part for part in PARTS if part != "etcd" or "store" not in request["mark"]]
    if request["mark"]["role"] == "control_plane" and not (
        all(os.path.exists(f"{MANIFESTS}/{part}.yaml") for part in parts) and listens(6443)
    ):
        return False
    status, _, _ = module.run_command(["systemctl", "is-active", "--quiet", "kubelet.service"])
    return bool(status == 0)
