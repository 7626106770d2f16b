#!/usr/bin/python
"""A deploy never changes which release of Kubernetes a node runs, nor where the cluster keeps its data."""

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
options:
  release:
    description: The release of the site.
    type: str
    required: true
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
"""

import json
import os
from collections.abc import Sequence

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import kube_vip, node_members  # noqa: TID252 - how a collection's plugins find each other
from ..module_utils.kube_client import runner  # noqa: TID252
from ..module_utils.kube_etcd import apart, asked  # noqa: TID252
from ..module_utils.kube_running import JOINED, complaint, releases  # noqa: TID252

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


def main() -> None:
    """Compare, and fail where it differs."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str", "required": True},
            "store": {"type": "list", "elements": "str", "default": []},
            "endpoint": {"type": "str", "default": ""},
            "kube_vip": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    wanted = str(module.params["release"]).removeprefix("v")
    running = releases(runner(module)) if os.path.exists(JOINED) else {}
    said = complaint(wanted, running)
    store = list(asked())
    said = said or moved(module.params["store"], store)
    if running and not said:
        said = readdressed(module.params["endpoint"], by_kube_vip=module.params["kube_vip"])
    if said:
        module.fail_json(msg=said, running=running, store=store)
    module.exit_json(changed=False, release=wanted if running else "", store=store)


if __name__ == "__main__":
    main()
