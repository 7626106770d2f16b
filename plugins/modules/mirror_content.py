#!/usr/bin/python
"""A bundle's content, brought to the mirror's host over Ansible's own connection."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mirror_content
short_description: Lay out a bundle on the mirror's host, whole or not at all
description:
  - Copies what a bundle holds from the controlling machine to the host. What the host has already is not copied
    again, also where an older bundle brought it. Each file is checked against the digest in C(bundle.lock) and gets
    its name only then, so nothing half-written is ever served.
  - Bundles lie beside each other in C(bundles/), and C(current) points to the one that is served. It is switched in
    one step when all is there.
  - Package lists are signed on the controlling machine; the key never gets here.
options:
  path:
    description: Folder of the mirror on the host.
    type: str
    required: true
  record:
    description: Folder on the controlling machine with the bundle's C(bundle.lock) and its unsigned C(Release) files.
    type: str
    required: true
  source:
    description: Folder on the controlling machine with the bundle itself; needed only when something is missing.
    type: str
    default: ""
  signing_key:
    description: Private key that package lists are signed with, PEM.
    type: str
    required: true
  signing_certificate:
    description: Its certificate, armoured OpenPGP.
    type: str
    required: true
  keep:
    description: Bundles that stay when the others are removed.
    type: list
    elements: str
    default: []
  prune:
    description: Whether bundles that are neither this one nor in O(keep) are removed.
    type: bool
    default: false
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: content | Lay out the bundle
  rackloom.cluster.mirror_content:
    path: /srv/rackloom/mirror
    record: config/bundles/current
    source: /media/disk/bundle
    signing_key: "{{ mirror_signing_key }}"
    signing_certificate: "{{ mirror_signing_certificate }}"
"""

RETURN = r"""
bundle:
  description: Id of the bundle.
  returned: always
  type: str
copied:
  description: Files that were copied, or would be in check mode.
  returned: always
  type: int
copied_bytes:
  description: Their size.
  returned: always
  type: int
reused:
  description: Files that an older bundle on the host gave.
  returned: always
  type: int
removed:
  description: Bundles that were removed.
  returned: always
  type: list
  elements: str
"""

import base64
import contextlib
import hashlib
import json
import os
import platform
import shutil
from typing import Any

from ansible.module_utils.basic import AnsibleModule

CHUNK = 1 << 20
PARTIAL = ".partial"


class Store:
    """The mirror's folder on this host."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.path: str = module.params["path"]
        self.bundle: str = module.params["bundle"]
        self.bundles = os.path.join(self.path, "bundles")
        self.folder = os.path.join(self.bundles, self.bundle)
        self.request: dict[str, Any] = json.loads(base64.b64decode(module.params["payload"]))

    def place(self, name: str) -> str:
        """Path of one of the bundle's files; refuses names that lead out of it."""
        path = os.path.normpath(os.path.join(self.folder, name))
        if not path.startswith(self.folder + os.sep):
            self.module.fail_json(msg=f"bundle.lock names {name}, which is no file inside the bundle")
        return path

    def missing(self) -> list[int]:
        """Numbers of the entries that are not here in full."""
        found = []
        for number, (name, _, size) in enumerate(self.request["entries"]):
            try:
                there = os.lstat(self.place(name)).st_size == size
            except OSError:
                there = False
            if not there:
                found.append(number)
        return found

    def others(self) -> list[str]:
        """The other bundles that lie here."""
        try:
            return sorted(name for name in os.listdir(self.bundles) if name != self.bundle)
        except FileNotFoundError:
            return []

    def reuse(self, numbers: list[int]) -> int:
        """Link what another bundle has by the same digest; returns how many that were."""
        known: dict[tuple[str, int], str] = {}
        for other in self.others():
            folder = os.path.join(self.bundles, other)
            try:
                with open(os.path.join(folder, "bundle.lock"), encoding="utf-8") as handle:
                    entries = json.load(handle)
            except (OSError, ValueError):
                continue
            entries = entries.get("entries", []) if isinstance(entries, dict) else entries
            for entry in entries:
                known[entry["sha256"], entry["size"]] = os.path.join(folder, entry["path"])
        count = 0
        for number in numbers:
            name, sha256, size = self.request["entries"][number]
            source = known.get((sha256, size))
            if source is None:
                continue
            with contextlib.suppress(OSError):
                if os.lstat(source).st_size == size:
                    target = self.place(name)
                    self.make_parent(target)
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(target)
                    os.link(source, target)
                    count += 1
        return count

    def make_parent(self, path: str) -> None:
        """Make the folder of a file; everybody may read what the mirror serves, whatever root's umask is."""
        os.makedirs(os.path.dirname(path), exist_ok=True)

    def take(self, blob: str) -> None:
        """Write the parts that the blob holds one after another; a file that is whole is checked and named."""
        with open(blob, "rb") as stream:
            for name, sha256, size, offset, length in self.request["parts"]:
                target = self.place(name)
                self.make_parent(target)
                partial = target + PARTIAL
                with open(partial, "r+b" if offset else "wb") as out:
                    out.seek(offset)
                    left = length
                    while left:
                        data = stream.read(min(CHUNK, left))
                        if not data:
                            self.module.fail_json(msg=f"{name} arrived cut off; run it again")
                        out.write(data)
                        left -= len(data)
                if offset + length == size:
                    self.settle(name, partial, target, sha256)

    def settle(self, name: str, partial: str, target: str, sha256: str) -> None:
        """Give a file its name if it is what the lock says."""
        total = hashlib.sha256()
        with open(partial, "r+b") as stream:
            while data := stream.read(CHUNK):
                total.update(data)
            os.fsync(stream.fileno())
        if total.hexdigest() != sha256:
            os.unlink(partial)
            self.module.fail_json(
                msg=f"{name} is not what bundle.lock says: its sha256 is {total.hexdigest()}. "
                "The bundle on the controlling machine is damaged; run `rackloom bundle verify` on it."
            )
        os.chmod(partial, 0o644)
        os.replace(partial, target)

    def unfinished(self) -> bool:
        """Whether the small files or the link to the served bundle differ from what they should be."""
        for name, content in self.request["files"].items():
            try:
                with open(self.place(name), encoding="utf-8") as handle:
                    if handle.read() != content:
                        return True
            except OSError:
                return True
        return self.current() != self.target()

    def target(self) -> str:
        """What the link to the served bundle is to say."""
        return os.path.join("bundles", self.bundle)

    def current(self) -> str:
        """What it says."""
        try:
            return os.readlink(os.path.join(self.path, "current"))
        except OSError:
            return ""

    def finish(self) -> None:
        """Write the small files and serve this bundle."""
        if left := self.missing():
            name = self.request["entries"][left[0]][0]
            self.module.fail_json(msg=f"{len(left)} files of the bundle did not arrive, {name} among them")
        for name, content in self.request["files"].items():
            target = self.place(name)
            self.make_parent(target)
            with open(target + PARTIAL, "w", encoding="utf-8") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            os.chmod(target + PARTIAL, 0o644)
            os.replace(target + PARTIAL, target)
        for folder, _, names in os.walk(self.folder):
            for name in names:
                if name.endswith(PARTIAL):
                    os.unlink(os.path.join(folder, name))
        link = os.path.join(self.path, "current")
        if self.current() != self.target():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(link + PARTIAL)
            os.symlink(self.target(), link + PARTIAL)
            os.replace(link + PARTIAL, link)

    def too_many(self) -> list[str]:
        """Bundles that are to go."""
        return [name for name in self.others() if name not in self.request["keep"]]


def main() -> None:
    """Do one of the steps that the action side asks for: look, take, finish."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "str", "required": True},
            "bundle": {"type": "str", "required": True},
            "step": {"type": "str", "choices": ["look", "take", "finish"], "required": True},
            "payload": {"type": "str", "required": True},
            "blob": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    store = Store(module)
    step = module.params["step"]
    try:
        if step == "take":
            store.take(module.params["blob"])
            module.exit_json(changed=True)
        if step == "finish":
            store.finish()
            removed = store.too_many() if store.request["prune"] else []
            for name in removed:
                shutil.rmtree(os.path.join(store.bundles, name))
            module.exit_json(changed=True, removed=removed)
        missing = store.missing()
        reused = 0
        if missing and not module.check_mode:
            reused = store.reuse(missing)
            missing = store.missing() if reused else missing
        anchor = store.path
        while not os.path.isdir(anchor):
            anchor = os.path.dirname(anchor)
        module.exit_json(
            changed=bool(reused),
            missing=missing,
            reused=reused,
            unfinished=bool(missing) or store.unfinished(),
            removable=store.too_many() if store.request["prune"] else [],
            machine=platform.machine(),
            free=shutil.disk_usage(anchor).free,
        )
    except OSError as error:
        module.fail_json(msg=f"{error.filename or store.path}: {error.strerror}")


if __name__ == "__main__":
    main()
