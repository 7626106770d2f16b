#!/usr/bin/python
"""What a Kubernetes cluster knows of its nodes and users, kept as the inventory has it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_settings
short_description: Keep labels, taints, administrators and users' kubeconfigs as the inventory has them
description:
  - Runs on one control-plane node. All nodes are read in one question, and only those that differ are written.
  - Of labels and taints only those count that were given here before or are given now. What others put on a node stays;
    what is no longer given is taken off.
  - Users that may do everything are the subjects of one binding, by their names. Who is no longer named loses that at
    once, whatever certificate he still has.
  - Each user has a kubeconfig of his own with a client certificate of a year, which says his name and groups. It lies
    in O(folder), for root alone, and is made anew before it ends, and when groups or the API's address change.
options:
  endpoint:
    description: The API's address and port, for users' kubeconfigs.
    type: str
    required: true
  nodes:
    description: Name, labels and taints of nodes; those that are not in the cluster are left out.
    type: list
    elements: dict
    default: []
  users:
    description: Name, groups and whether all is allowed.
    type: list
    elements: dict
    default: []
  folder:
    description: Where kubeconfigs lie on the node.
    type: path
    default: /etc/kubernetes/users
  renew_days:
    description: Days before its end at which a certificate is made anew.
    type: int
    default: 30
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: settings | Keep nodes and users as the inventory has them
  rackloom.cluster.kube_settings:
    endpoint: 192.0.2.10:7443
    nodes: [{name: gpu001, labels: {rack: r1}, taints: ["gpu=yes:NoSchedule"]}]
    users: [{name: alice, admin: true}]
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: ["gpu001: label rack=r1"]
"""

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import kube_documents  # noqa: TID252 - how a collection's plugins find each other
from ..module_utils.kube_client import ADMIN, Kubectl, KubeError, runner  # noqa: TID252

LABELS = "rackloom.cluster/labels"
TAINTS = "rackloom.cluster/taints"
BINDING = "rackloom-administrators"
CONFIG = f"{kube_documents.FOLDER}/kubeadm.json"
YEAR = "8760h"
CHANGED = "the object has been modified"
"""What the API says where somebody has written to an object since it was read."""

Object = dict[str, Any]


def taint_key(taint: Object) -> str:
    """What makes a taint the same one: key and effect."""
    return f"{taint['key']}:{taint['effect']}"


def listed(text: str | None) -> list[str]:
    """Names that an annotation keeps."""
    return [each for each in (text or "").split(",") if each]


def node_patch(node: Object, wanted: Object) -> tuple[Object, list[str]]:
    """The patch that a node needs, and in words what it does; empty where it needs none."""
    metadata = node["metadata"]
    notes = metadata.get("annotations") or {}
    patch: Object = {}
    words: list[str] = []

    labels = {str(key): str(value) for key, value in (wanted.get("labels") or {}).items()}
    current = metadata.get("labels") or {}
    changed: Object = {key: value for key, value in labels.items() if current.get(key) != value}
    changed |= {key: None for key in listed(notes.get(LABELS)) if key not in labels and key in current}
    words += [
        f"label {key}={value}" if value is not None else f"no label {key}"
        for key, value in sorted(changed.items())
    ]

    taints = kube_documents.taints(wanted.get("taints") or [])
    there = (node.get("spec") or {}).get("taints") or []
    ours = {taint_key(taint): taint for taint in taints}
    former = set(listed(notes.get(TAINTS))) - set(ours)
    kept = [taint for taint in there if taint_key(taint) not in former]
    held = {taint_key(taint): taint for taint in kept}
    result = [
        {**taint, "value": ours[key].get("value", "")} if key in ours else taint
        for key, taint in held.items()
    ]
    result = [{k: v for k, v in taint.items() if v != ""} for taint in result]
    result += [taint for key, taint in ours.items() if key not in held]
    plain = [{k: v for k, v in taint.items() if v != ""} for taint in there]
    if result != plain:
        patch["spec"] = {"taints": result}
        # Two who write at once would undo each other.
        patch["metadata"] = {"resourceVersion": metadata["resourceVersion"]}
        words.append(f"taints {', '.join(map(taint_key, result)) or 'none'}")

    kept_notes: Object = {}
    for name, keys in ((LABELS, sorted(labels)), (TAINTS, sorted(ours))):
        text = ",".join(keys) or None
        if notes.get(name) != text:
            kept_notes[name] = text
    if changed:
        patch.setdefault("metadata", {})["labels"] = changed
    if kept_notes:
        patch.setdefault("metadata", {})["annotations"] = kept_notes
        words = words or ["noted which labels and taints are the inventory's"]
    return patch, words


def binding(names: list[str]) -> Object:
    """The binding that lets users do everything."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": BINDING, "labels": {"app.kubernetes.io/managed-by": "rackloom"}},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name} for name in names
        ],
    }


class Settings:
    """The cluster, seen from one of its control-plane nodes."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.run = runner(module)
        self.kubectl = Kubectl(self.run)
        self.actions: list[str] = []

    def nodes(self) -> None:
        """Labels and taints."""
        wanted = {each["name"]: each for each in self.params["nodes"]}
        for node in json.loads(self.kubectl.call("get", "nodes", "-o", "json"))["items"]:
            name = node["metadata"]["name"]
            if name in wanted:
                self.actions += [f"{name}: {word}" for word in self.keep(node, wanted[name])]

    def keep(self, node: Object, wanted: Object) -> list[str]:
        """Labels and taints of one node; returns in words what was done."""
        name = node["metadata"]["name"]
        end = self.kubectl.clock() + self.kubectl.patience
        while True:
            patch, words = node_patch(node, wanted)
            if not patch or self.module.check_mode:
                return words
            try:
                self.kubectl.call("patch", "node", name, "--type=merge", "--patch", json.dumps(patch))
            except KubeError as error:
                # Its kubelet and the cluster write to it too, most of all when it has only just joined.
                if CHANGED not in str(error) or self.kubectl.clock() >= end:
                    raise
                node = self.kubectl.get("node", name)
            else:
                return words

    def administrators(self) -> None:
        """The one binding."""
        wanted = sorted(str(user["name"]) for user in self.params["users"] if user.get("admin"))
        found = self.kubectl.call(
            "get", "clusterrolebinding", BINDING, "--ignore-not-found", "-o", "json"
        ).strip()
        there = json.loads(found) if found else {}
        held = sorted(str(each["name"]) for each in there.get("subjects") or [])
        if held == wanted and (there or not wanted):
            return
        if not self.module.check_mode:
            self.kubectl.call("apply", "-f", "-", data=json.dumps(binding(wanted)))
        self.actions.append(f"administrators: {', '.join(wanted) or 'none'}")

    def users(self) -> None:
        """Everybody's kubeconfig."""
        folder = Path(self.params["folder"])
        wanted = {
            str(user["name"]): [str(group) for group in user.get("groups") or []]
            for user in self.params["users"]
        }
        for path in sorted(folder.glob("*.conf")):
            if path.stem not in wanted:
                if not self.module.check_mode:
                    path.unlink()
                self.actions.append(f"{path.stem}: no kubeconfig any more")
        for name, groups in sorted(wanted.items()):
            path = folder / f"{name}.conf"
            if self.good(path, name, groups):
                continue
            if not self.module.check_mode:
                self.make(path, name, groups)
            self.actions.append(f"{name}: a kubeconfig")

    def good(self, path: Path, name: str, groups: list[str]) -> bool:
        """Whether a kubeconfig still serves."""
        try:
            text = path.read_text(encoding="utf-8")
            mode = path.stat().st_mode & 0o777
        except OSError:
            return False
        certificate = re.search(r"client-certificate-data:\s*(\S+)", text)
        if not certificate or mode != 0o600 or f"server: https://{self.params['endpoint']}\n" not in text:
            return False
        pem = base64.b64decode(certificate[1]).decode()
        seconds = str(self.params["renew_days"] * 86400)
        argv = ["openssl", "x509", "-noout", "-subject", "-nameopt", "multiline,-align", "-checkend", seconds]
        rc, out, _ = self.run(argv, pem)
        told = [line.strip().partition(" = ") for line in out.splitlines() if " = " in line]
        held = sorted(value for key, _, value in told if key == "organizationName")
        names = [value for key, _, value in told if key == "commonName"]
        return rc == 0 and names == [name] and held == sorted(groups)

    def make(self, path: Path, name: str, groups: list[str]) -> None:
        """Make a kubeconfig; nobody but root reads it."""
        argv = [
            "kubeadm",
            "kubeconfig",
            "user",
            f"--config={CONFIG}",
            f"--client-name={name}",
            f"--validity-period={YEAR}",
        ]
        argv += [f"--org={group}" for group in groups]
        rc, out, err = self.run(argv, "")
        if rc != 0:
            raise KubeError(f"kubeadm kubeconfig user: {err.strip() or out.strip()}")
        path.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = path.with_name(f".{name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(out)
        temporary.replace(path)

    def apply(self) -> None:
        """All of it."""
        if not os.path.exists(ADMIN):
            if self.module.check_mode:
                self.actions.append(
                    "would keep labels, taints and users of a cluster that is still to be made"
                )
                return
            raise KubeError(f"this node has no {ADMIN}; it is no control-plane node yet")
        self.nodes()
        self.administrators()
        self.users()


def main() -> None:
    """Look and put right."""
    module = AnsibleModule(
        argument_spec={
            "endpoint": {"type": "str", "required": True},
            "nodes": {"type": "list", "elements": "dict", "default": []},
            "users": {"type": "list", "elements": "dict", "default": []},
            "folder": {"type": "path", "default": "/etc/kubernetes/users"},
            "renew_days": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    settings = Settings(module)
    try:
        settings.apply()
    except (KubeError, OSError) as error:
        module.fail_json(msg=str(error), actions=settings.actions)
    module.exit_json(changed=bool(settings.actions), actions=settings.actions)


if __name__ == "__main__":
    main()
