#!/usr/bin/python
"""A deploy changes neither a node's release of Kubernetes, nor where the cluster keeps its data, nor its keys."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_release_guard
short_description: Fail where a node runs another release of Kubernetes than it should, or keeps its data elsewhere
description:
  - Compares the kubelet that is installed on a joined node, and the releases of its static pods, with the site's
    release. Where they differ, the deploy ends before it changed anything, and says how to go on.
  - A node that has not joined may get any release.
  - The same is done with the hosts of etcd. Which ones a living API server asks is read off its manifest.
  - And with the API's address, which is noted on each member, and with kube-vip, where it has that address.
  - It also tells what a deploy has to know of all nodes together before it touches any. That is whether a living
    cluster's keys are others than the site's, and whether any control-plane node holds the cluster that workers are in.
    These two are no failures here, because one node alone cannot judge them.
options:
  release:
    description: The release of the site; not looked at where it is empty.
    type: str
    default: ""
  store:
    description: Endpoints of etcd where the site has hosts for it; empty where it runs on the control-plane nodes.
    type: list
    elements: str
    default: []
  endpoint:
    description: Address and port of the site's API; not looked at where it is empty.
    type: str
    default: ""
  kube_vip:
    description: Whether kube-vip keeps that address up.
    type: bool
    default: false
  control_plane:
    description: Whether the node is one of the control plane. One that holds no cluster then asks O(endpoint) for it.
    type: bool
    default: false
  fingerprints:
    description:
      - SHA-256 of what the site's vault would write, with all white space left out. C(cluster), C(front_proxy) and
        C(etcd) are certificates of authorities, C(accounts) the public key of service accounts, C(encryption) the key
        that secrets are encrypted with at rest. What is not named is not compared.
    type: dict
    default: {}
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Kubernetes | The release stays what it is
  rackloom.cluster.kube_release_guard:
    release: X.Y.Z
"""

RETURN = r"""
release:
  description: What runs; empty on a node that has not joined.
  returned: always
  type: str
store:
  description: Where this node's API server is told to find etcd; empty on a node without one.
  returned: always
  type: list
  elements: str
joined:
  description: Whether the node's kubelet belongs to a cluster.
  returned: always
  type: bool
holds:
  description:
    - Whether there is a cluster as far as this node can tell, for it has a control plane, or data of etcd, or, with
      O(control_plane), the API answers.
  returned: always
  type: bool
other:
  description: What of O(fingerprints) a node that is part of a cluster has otherwise.
  returned: always
  type: list
  elements: str
"""

import hashlib
import http.client
import json
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import kube_documents, kube_vip, node_members  # noqa: TID252 - how a collection's plugins find each other
from ..module_utils.kube_client import runner  # noqa: TID252
from ..module_utils.kube_etcd import apart, asked  # noqa: TID252
from ..module_utils.kube_running import JOINED, STORE, complaint, releases  # noqa: TID252

PKI = "/etc/kubernetes/pki"
ENCRYPTION = f"{kube_documents.SERVER_FOLDER}/encryption.json"
KEPT = {
    "cluster": ("the cluster's authority", (f"{PKI}/ca.crt",)),
    "front_proxy": ("the front proxy's authority", (f"{PKI}/front-proxy-ca.crt",)),
    "etcd": ("etcd's authority", (f"{PKI}/etcd/ca.crt", "/etc/rackloom/etcd/ca.crt")),
    "accounts": ("the key of service accounts", (f"{PKI}/sa.pub",)),
    "encryption": ("the key that secrets are encrypted with", (ENCRYPTION,)),
}
"""What a deploy would replace, what people call it, and where it lies."""
API = f"{node_members.MANIFESTS}/kube-apiserver.yaml"
INTENT = "/var/lib/rackloom/kubernetes/intent.json"
"""What kube_membership has begun on the node."""
RESTORED = "/var/lib/rackloom/etcd/restored"
STORE_UNIT = "/etc/systemd/system/multi-user.target.wants/rackloom-etcd.service"
PATIENCE = 3.0

WAY = (
    "a deploy moves no living cluster's data. Put cluster.yml back; or save a snapshot, and restore it with the new "
    "cluster.yml (the guide's page on etcd has the steps)"
)


def moved(wanted: Sequence[str], running: Sequence[str]) -> str:
    """Why a deploy may not go on, as a sentence; '' where the cluster keeps its data where it was."""
    if not running:
        return ""
    now = apart(running)
    if not wanted and now:
        return f"this node's API server keeps its data at {', '.join(now)}, and the site has no hosts for etcd; {WAY}"
    if wanted and not now:
        return f"this cluster keeps its data on the control-plane nodes, and the site names hosts for etcd; {WAY}"
    if wanted and not set(wanted) & set(now):
        said = (
            f"this node's API server keeps its data at {', '.join(now)}, and the site has {', '.join(wanted)}"
        )
        return f"{said}: none of the members would be left; {WAY}"
    return ""


def readdressed(endpoint: str, *, by_kube_vip: bool) -> str:
    """Why the API may not have this address, or not in this way; '' where it may."""
    try:
        with open(node_members.MARK, encoding="utf-8") as stream:
            former = str(json.load(stream).get("endpoint", endpoint))
    except (OSError, ValueError):
        return ""
    if endpoint and former != endpoint:
        return (
            f"this node is a member of a cluster at {former}, and the config says {endpoint}; the address of a living "
            "cluster stays, because certificates and kubeconfigs have it. Put it back"
        )
    if os.path.exists(kube_vip.MANIFEST) and not by_kube_vip:
        return (
            f"kube-vip has the API's address {former}, and the config says that somebody else does; they would take it "
            "from each other. Have the other one ready, remove "
            f"{kube_vip.MANIFEST} on every control-plane node, and deploy again; or write `by: kube-vip`"
        )
    return ""


def text_of(path: str) -> str:
    """A file's content; '' where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def fingerprint(text: str) -> str:
    """The digest of a text. However it was stored and wrapped, white space is no difference."""
    return hashlib.sha256("".join(text.split()).encode()).hexdigest()


def kept(path: str) -> list[str]:
    """Fingerprints of what a file keeps; none where it keeps nothing."""
    text = text_of(path)
    if path == ENCRYPTION:
        # as JSON or YAML, and each of the keys: data may be there that only a later one reads
        return [fingerprint(found) for found in re.findall(r"""\bsecret["']?:\s*["']?([\w+/=-]+)""", text)]
    return [fingerprint(text)] if text.strip() else []


def part_of_cluster() -> bool:
    """
    Whether what is on this node is in use.

    What a cluster has left that was taken down counts no more, and a snapshot that was laid out begins with the site's
    keys: neither may keep a site from beginning anew.
    """
    if os.path.exists(JOINED) or os.path.exists(STORE_UNIT):
        return True
    return os.path.isdir(STORE) and not os.path.exists(RESTORED)


def others(wanted: Mapping[str, str]) -> list[str]:
    """What this node has otherwise than the site."""
    if not part_of_cluster():
        return []
    return [
        title
        for name, (title, paths) in KEPT.items()
        if name in wanted and any(set(kept(path)) - {wanted[name]} for path in paths)
    ]


def answers(endpoint: str) -> bool:
    """Whether an API server is ready there. Whose it is, is for those who join through it."""
    host, _, port = endpoint.rpartition(":")
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 - nothing is told to it, and nothing believed
    try:
        connection = http.client.HTTPSConnection(
            host.strip("[]"), int(port), timeout=PATIENCE, context=context
        )
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, ValueError, http.client.HTTPException):
        return False


def holds() -> bool:
    """Whether this node has anything of a control plane that must not be passed over when one is made."""
    if os.path.exists(JOINED) and os.path.exists(API):
        return True
    marked, begun = os.path.exists(node_members.MARK), text_of(INTENT)
    if os.path.isdir(STORE):
        # a join that was cut off has no more than a copy, or the beginning of one
        return marked or action(begun) != "join"
    return os.path.exists(JOINED) and not marked and not begun


def action(intent: str) -> str:
    """What was begun on a node and not ended."""
    try:
        told: Any = json.loads(intent)
    except ValueError:
        return ""
    return str(told.get("action", "")) if isinstance(told, dict) else ""


def main() -> None:
    """Compare, and fail where it differs."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str", "default": ""},
            "store": {"type": "list", "elements": "str", "default": []},
            "endpoint": {"type": "str", "default": ""},
            "kube_vip": {"type": "bool", "default": False},
            "control_plane": {"type": "bool", "default": False},
            "fingerprints": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = str(params["release"]).removeprefix("v")
    joined = os.path.exists(JOINED)
    running = releases(runner(module)) if wanted and joined else {}
    said = complaint(wanted, running)
    store = list(asked())
    said = said or moved(params["store"], store)
    if running and not said:
        said = readdressed(params["endpoint"], by_kube_vip=params["kube_vip"])
    told = {
        "store": store,
        "joined": joined,
        "holds": holds() or (params["control_plane"] and answers(params["endpoint"])),
        "other": others(params["fingerprints"]),
    }
    if said:
        module.fail_json(msg=said, running=running, **told)
    module.exit_json(changed=False, release=wanted if running else "", **told)


if __name__ == "__main__":
    main()
