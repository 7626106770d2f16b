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
  - A store's own file (C(member/snap/db) of a member that is stopped) is taken too. It lacks the checksum of snapshots.
options:
  path:
    description: The snapshot.
    type: path
    required: true
  state:
    description:
      - V(looked_at) verifies it and lays it out beside the store, for a trial. What could not be restored fails here,
        before anything is taken down for it.
    type: str
    choices: [saved, restored, looked_at]
    required: true
  name:
    description: With V(restored) and V(looked_at), the name of the member, which is that of the node.
    type: str
  address:
    description: With V(restored) and V(looked_at), the address of the node.
    type: str
  mark:
    description: With V(restored), the file that says so. Trials are made in its folder.
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
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.kube_client import (  # noqa: TID252 - how a collection's plugins find each other
    KubeError,
    Run,
    bracketed,
    runner,
)
from ..module_utils.kube_etcd import Etcd, reason  # noqa: TID252

STORE = "/var/lib/etcd"
LOST = "lost+found"
"""What a file system of its own has at its root."""
HALF = ".restoring"
BUMP = 1_000_000_000
"""How far revisions jump: more than any cluster writes between two snapshots."""
SECTOR = 512
RESERVE = 512 << 20
"""Bytes that a snapshot leaves free: etcd goes on writing, often to the same disk."""


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


def room(folder: str) -> None:
    """Raises KubeError where a snapshot could fill the disk. Of a store on another host the size is not known."""
    size = 0
    with contextlib.suppress(OSError):
        size = os.path.getsize(os.path.join(STORE, "member", "snap", "db"))
    free, wanted = shutil.disk_usage(folder).free, size + RESERVE
    if free < wanted:
        raise KubeError(
            f"no snapshot is made: {free >> 20} MiB are free for {folder}, and {wanted >> 20} MiB have to be, so that "
            "etcd can go on writing. Remove old copies, or give it a larger disk"
        )


def save(run: Run, path: str) -> None:
    """Take a snapshot; it has its name once it is whole and good. Raises KubeError."""
    fresh = f"{path}.new"
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    for stale in (fresh, f"{fresh}.part"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(stale)
    room(os.path.dirname(path))
    Etcd(run).save(fresh)
    os.chmod(fresh, 0o600)
    about(run, fresh)
    os.replace(fresh, path)


def unhashed(path: str) -> bool:
    """
    Whether this is a store's own file, which consists of whole sectors.

    A snapshot has a checksum of 32 bytes behind them; whatever has another size is neither, and etcdutl refuses it.
    """
    return os.path.getsize(path) % SECTOR == 0


def lay_out(run: Run, params: Mapping[str, Any]) -> str:
    """Make a member's data out of a snapshot, in a folder beside the mark. Raises KubeError."""
    peer = f"https://{bracketed(params['address'])}:2380"
    work = os.path.join(os.path.dirname(params["mark"]), "restoring")
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(os.path.dirname(work), mode=0o700, exist_ok=True)
    try:
        call(
            run, "snapshot", "restore", params["path"], f"--name={params['name']}",
            f"--initial-cluster={params['name']}={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--data-dir={work}", f"--bump-revision={BUMP}", "--mark-compacted",
            *(["--skip-hash-check"] if unhashed(params["path"]) else []),
        )  # fmt: skip
    except KubeError:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return work


def attempt(run: Run, params: Mapping[str, Any]) -> None:
    """Lay the data out, and remove it again. Raises KubeError."""
    shutil.rmtree(lay_out(run, params))


def restore(run: Run, params: Mapping[str, Any], sha256: str) -> bool:
    """Lay out the data of a member. Raises KubeError. Tells whether there was anything to do."""
    with contextlib.suppress(OSError), open(params["mark"], encoding="ascii") as stream:
        if stream.read().strip() == sha256 and os.path.isdir(os.path.join(STORE, "member")):
            return False
    half = os.path.join(STORE, HALF)
    shutil.rmtree(half, ignore_errors=True)
    if os.path.isdir(STORE) and set(os.listdir(STORE)) - {LOST}:
        raise KubeError(f"{STORE} is not empty; nothing was overwritten")
    work = lay_out(run, params)
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
        required_if=[("state", state, ("name", "address")) for state in ("restored", "looked_at")],
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
        if params["state"] == "looked_at" and not module.check_mode:
            attempt(run, params)
        if params["state"] == "restored" and not module.check_mode:
            changed = restore(run, params, found["sha256"])
    except (KubeError, OSError) as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(changed=changed, rackloom_facts={"snapshot": found})


if __name__ == "__main__":
    main()
