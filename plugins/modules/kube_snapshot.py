#!/usr/bin/python
"""Snapshots of a control plane's etcd: taken, and put where a new control plane begins with them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_snapshot
short_description: Take a snapshot of Kubernetes' etcd, or lay one out for a new control plane
description:
  - V(saved) asks the member on this control-plane node for a snapshot and has it verified.
  - V(restored) makes the data of a single, new member out of a snapshot, on a node without a control plane.
    C(kubeadm init) then begins with it, so the API is never seen without what was in it. O(mark) tells that.
  - Revisions go on well above those in the snapshot, so that nobody who watches takes old things for new.
options:
  path:
    description: The snapshot.
    type: path
    required: true
  state:
    description: V(looked_at) only verifies it.
    type: str
    choices: [saved, restored, looked_at]
    required: true
  name:
    description: With V(restored), the name of the member, which is that of the node.
    type: str
  address:
    description: With V(restored), the address of the node.
    type: str
  mark:
    description: With V(restored), the file that says so.
    type: path
    default: /var/lib/rackloom/etcd/restored
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Snapshot | Save everything
  rackloom.cluster.kube_snapshot:
    path: /var/lib/rackloom/etcd/by-hand.db
    state: saved
"""

RETURN = r"""
rackloom_facts:
  description: C(snapshot) has path, revision, keys, size and sha256.
  returned: always
  type: dict
"""

import contextlib
import hashlib
import json
import os
import shutil
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.kube_client import (  # noqa: TID252 - how a collection's plugins find each other
    KubeError,
    Run,
    runner,
)
from ..module_utils.kube_etcd import Etcd, reason  # noqa: TID252

STORE = "/var/lib/etcd"
HALF = ".restoring"
BUMP = 1_000_000_000
"""How far revisions jump: more than any cluster writes between two snapshots."""


def digest(path: str) -> str:
    """The sha256 of a file."""
    total = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def call(run: Run, *argv: str) -> str:
    """What etcdutl printed. Raises KubeError."""
    rc, out, err = run(["etcdutl", *argv], "")
    if rc != 0:
        raise KubeError(f"etcdutl {' '.join(argv[:2])}: {reason(err or out)}")
    return out


def about(run: Run, path: str) -> dict[str, Any]:
    """What a snapshot holds; fails on one that is damaged. Raises KubeError."""
    try:
        told = json.loads(call(run, "snapshot", "status", path, "--write-out=json"))
    except ValueError:
        raise KubeError("etcdutl snapshot status gave no JSON") from None
    return {
        "path": path,
        "revision": int(told.get("revision", 0)),
        "keys": int(told.get("totalKey", 0)),
        "size": os.path.getsize(path),
        "sha256": digest(path),
    }


def save(run: Run, path: str) -> None:
    """Take a snapshot; it has its name once it is whole and good. Raises KubeError."""
    fresh = f"{path}.new"
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    for stale in (fresh, f"{fresh}.part"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(stale)
    Etcd(run).save(fresh)
    os.chmod(fresh, 0o600)
    about(run, fresh)
    os.replace(fresh, path)


def restore(run: Run, params: dict[str, Any], sha256: str) -> bool:
    """Lay out the data of a member. Raises KubeError. Tells whether there was anything to do."""
    with contextlib.suppress(OSError), open(params["mark"], encoding="ascii") as stream:
        if stream.read().strip() == sha256 and os.path.isdir(os.path.join(STORE, "member")):
            return False
    half = os.path.join(STORE, HALF)
    shutil.rmtree(half, ignore_errors=True)
    if os.path.isdir(STORE) and os.listdir(STORE):
        raise KubeError(f"{STORE} is not empty; nothing was overwritten")
    peer = f"https://{params['address']}:2380"
    work = os.path.join(os.path.dirname(params["mark"]), "restoring")
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(os.path.dirname(work), mode=0o700, exist_ok=True)
    call(
        run, "snapshot", "restore", params["path"], f"--name={params['name']}",
        f"--initial-cluster={params['name']}={peer}", f"--initial-advertise-peer-urls={peer}",
        f"--data-dir={work}", f"--bump-revision={BUMP}", "--mark-compacted",
    )  # fmt: skip
    os.makedirs(STORE, mode=0o700, exist_ok=True)
    with open(params["mark"], "w", encoding="ascii") as stream:
        stream.write(f"{sha256}\n")
    # the store may be a file system of its own; there it gets its name once it is whole
    shutil.move(os.path.join(work, "member"), half)
    os.rename(half, os.path.join(STORE, "member"))
    shutil.rmtree(work)
    return True


def main() -> None:
    """Do it, and tell what the snapshot holds."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "required": True, "choices": ["saved", "restored", "looked_at"]},
            "name": {"type": "str"},
            "address": {"type": "str"},
            "mark": {"type": "path", "default": "/var/lib/rackloom/etcd/restored"},
        },
        required_if=[("state", "restored", ("name", "address"))],
        supports_check_mode=True,
    )
    params = dict(module.params)
    run = runner(module)
    changed = params["state"] != "looked_at"
    try:
        if params["state"] == "saved":
            if module.check_mode:
                module.exit_json(changed=True, rackloom_facts={})
            save(run, params["path"])
        found = about(run, params["path"])
        if params["state"] == "restored" and not module.check_mode:
            changed = restore(run, params, found["sha256"])
    except (KubeError, OSError) as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(changed=changed, rackloom_facts={"snapshot": found})


if __name__ == "__main__":
    main()
