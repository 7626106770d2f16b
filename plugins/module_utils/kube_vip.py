"""What kube-vip is given, and the address that it moves; data in, data out, but for two calls of iproute2."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Mapping
from typing import Any

from .kube_client import KubeError, Run, bracketed

MANIFEST = "/etc/kubernetes/manifests/kube-vip.yaml"
CREDENTIAL = "/etc/rackloom/kubernetes/kube-vip.conf"
READ_AT = "/etc/kubernetes/admin.conf"
"""Where kube-vip looks for a credential, inside its container; every release knows this place."""
USER = "rackloom:kube-vip"
LEASE = "rackloom-kube-vip"
NAMESPACE = "kube-system"
HELD_SECONDS = 3600
"""So long a node has the address before kube-vip does; the kernel drops it by itself then."""
FOREVER = 4294967295

Document = dict[str, Any]


def digest(text: str) -> str:
    """A short digest."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prefix(address: str) -> int:
    """Length of the prefix that is this address alone."""
    return int(ipaddress.ip_address(address).max_prefixlen)


def environment(inputs: Mapping[str, Any]) -> dict[str, str]:
    """kube-vip's settings. It keeps up the control plane's address, and has nothing to do with services."""
    lease = inputs["lease"]
    ours = {
        "address": inputs["address"],
        "port": inputs["port"],
        "vip_interface": inputs["interface"],
        "vip_subnet": prefix(inputs["address"]),
        "vip_arp": "true",
        "cp_enable": "true",
        "cp_namespace": NAMESPACE,
        "svc_enable": "false",
        "vip_leaderelection": "true",
        "vip_leasename": LEASE,
        "vip_leaseduration": lease["duration"],
        "vip_renewdeadline": lease["renew"],
        "vip_retryperiod": lease["retry"],
        "vip_nodename": inputs["node"],
        # This node's own API server, by its address: whoever cannot reach that one must not have the address.
        "kubernetes_addr": f"https://{bracketed(inputs['node_address'])}:{inputs['port']}",
    }
    return {name: str(value) for name, value in {**ours, **(inputs.get("settings") or {})}.items()}


def manifest(inputs: Mapping[str, Any], credential: str) -> str:
    """The static pod. JSON is YAML as well, and can be read back where there is no YAML."""
    return json.dumps(pod(inputs, credential), indent=1, sort_keys=True) + "\n"


def pod(inputs: Mapping[str, Any], credential: str) -> Document:
    """The same, as an object. credential: its text, of which nothing but a digest is in here."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "kube-vip",
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/name": "kube-vip", "app.kubernetes.io/managed-by": "rackloom"},
            # It reads its credential once, so another one is another pod.
            "annotations": {"rackloom.cluster/credential": digest(credential)},
        },
        "spec": {
            "hostNetwork": True,
            "priorityClassName": "system-node-critical",
            "containers": [
                {
                    "name": "kube-vip",
                    "image": inputs["image"],
                    "imagePullPolicy": "IfNotPresent",
                    # An empty address: its metrics would be open to the network.
                    "args": ["manager", "--prometheusHTTPServer="],
                    "env": [
                        {"name": name, "value": value} for name, value in sorted(environment(inputs).items())
                    ],
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
                    },
                    "volumeMounts": [{"name": "credential", "mountPath": READ_AT, "readOnly": True}],
                }
            ],
            "volumes": [{"name": "credential", "hostPath": {"path": CREDENTIAL, "type": "File"}}],
        },
    }


def rights() -> list[Document]:
    """What kube-vip may do in the cluster: keep its one lease. Who makes a lease cannot be told which one."""
    about = {"name": "rackloom:kube-vip", "namespace": NAMESPACE}
    labels = {"app.kubernetes.io/managed-by": "rackloom"}
    group = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": f"{group}/v1",
            "kind": "Role",
            "metadata": {**about, "labels": labels},
            "rules": [
                {
                    "apiGroups": ["coordination.k8s.io"],
                    "resources": ["leases"],
                    "resourceNames": [LEASE],
                    "verbs": ["get", "update"],
                },
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
            ],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {**about, "labels": labels},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": about["name"]},
            "subjects": [{"apiGroup": group, "kind": "User", "name": USER}],
        },
    ]


def moved(text: str) -> tuple[str, str]:
    """Address and interface that a manifest of ours tells of; empty where it is none."""
    try:
        [container] = json.loads(text)["spec"]["containers"]
        told = {each["name"]: each.get("value", "") for each in container["env"]}
        return str(told["address"]), str(told["vip_interface"])
    except (KeyError, TypeError, ValueError):
        return "", ""


# --- The address on this node --------------------------------------------------------------


def entries(run: Run, address: str) -> list[Document]:
    """Where this node has the address: interface, prefix and seconds that are left."""
    rc, out, _ = run(["ip", "-json", "address", "show", "to", f"{address}/{prefix(address)}"], "")
    found = json.loads(out or "[]") if rc == 0 else []
    return [
        {
            "interface": each["ifname"],
            "prefix": int(entry["prefixlen"]),
            "seconds": int(entry.get("valid_life_time", FOREVER)),
        }
        for each in found
        # one that does not match is an empty object
        for entry in each.get("addr_info", [])
        if entry.get("local") == address
    ]


def hold(run: Run, address: str) -> bool:
    """
    Give the address to this node for a while. Raises KubeError.

    The first control-plane node has it until kube-vip takes over: kubeadm speaks to the new API server through it, and
    kube-vip cannot ask that one for anything before kubeadm has made the rights for it.
    """
    there = entries(run, address)
    if any(each["seconds"] >= FOREVER for each in there):
        return False
    interface = there[0]["interface"] if there else ""
    if not interface:
        rc, out, err = run(["ip", "-json", "route", "get", address], "")
        found = json.loads(out or "[]") if rc == 0 else []
        if not found or found[0].get("gateway"):
            raise KubeError(
                f"{address} is of no network of this node: {err.strip() or 'a router leads there'}"
            )
        interface = found[0]["dev"]
    words = [f"{address}/{prefix(address)}", "dev", interface, "valid_lft", str(HELD_SECONDS)]
    words += ["preferred_lft", "0", *(["nodad"] if ":" in address else [])]
    rc, out, err = run(["ip", "address", "replace", *words], "")
    if rc != 0:
        raise KubeError(f"{address} cannot be given to {interface}: {(err or out).strip()}")
    return True


def let_go(run: Run, address: str, *, always: bool = False) -> bool:
    """Take the address off this node: one that was given for a while, or any that kube-vip may have left."""
    done = False
    for each in entries(run, address):
        if each["prefix"] == prefix(address) and (always or each["seconds"] < FOREVER):
            run(["ip", "address", "del", f"{address}/{each['prefix']}", "dev", each["interface"]], "")
            done = True
    return done
