#!/usr/bin/python
"""Images of a boot server: what is missing there, and making what was copied public at one stroke."""

from __future__ import annotations

DOCUMENTATION = r"""
module: boot_images
short_description: Publish images on a boot server, each as a whole or not at all
description:
  - With O(state=wanted) returns the files that have to be copied to O(staging) first. An image that is published
    already wants none.
  - With O(state=published) checks the digests of what was copied, moves each image to its place under O(root), and
    lets C(current) lead to it. The link is switched atomically and after everything else, so that a machine that
    boots meanwhile gets the old image or the new one. A file with a wrong digest is removed from O(staging).
options:
  root:
    description: Folder that is served; an image comes to lie in C(NAME/ID) below it.
    type: str
    required: true
  staging:
    description: Folder on the same file system that files are copied to, as C(NAME-ID/FILE).
    type: str
    required: true
  state:
    description: What is to be done.
    type: str
    choices: [wanted, published]
    default: published
  images:
    description: The images.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the image.
        type: str
        required: true
      id:
        description: Its identity.
        type: str
        required: true
      manifest:
        description: Text of its C(image.json), which names its files with C(sha256) and C(size).
        type: str
        required: true
      script:
        description: Text of the script that boots it.
        type: str
        required: true
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Make public what was copied
  rackloom.cluster.boot_images:
    root: /srv/rackloom/boot/http/images
    staging: /srv/rackloom/boot/arriving
    images: "{{ images }}"
"""

RETURN = r"""
missing:
  description: Files to copy, each with C(name), C(id) and C(file).
  returned: always
  type: list
  elements: dict
published:
  description: Images that machines get from now on and did not get before, as NAME/ID.
  returned: always
  type: list
  elements: str
"""

import hashlib
import json
import os
import shutil
from typing import Any

from ansible.module_utils.basic import AnsibleModule

MANIFEST = "image.json"
SCRIPT = "boot.ipxe"


class Refused(Exception):
    """A sentence for the user: what is wrong with which image."""


def digest(path: str) -> str:
    """Return a file's sha256."""
    total = hashlib.sha256()
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            total.update(block)
    return total.hexdigest()


def write(path: str, text: str) -> None:
    """Replace a file atomically."""
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.chmod(temporary, 0o644)
    os.rename(temporary, path)


def text_of(path: str) -> str:
    """Return a file's text, nothing when there is no such file."""
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except FileNotFoundError:
        return ""


class Image:
    """One image and where it lies."""

    def __init__(self, wanted: dict[str, Any], root: str, staging: str) -> None:
        self.name: str = wanted["name"]
        self.id: str = wanted["id"]
        self.manifest: str = wanted["manifest"]
        self.script: str = wanted["script"]
        self.files: dict[str, dict[str, Any]] = self.declared()
        self.home = os.path.join(root, self.name, self.id)
        self.staged = os.path.join(staging, f"{self.name}-{self.id}")
        self.current = os.path.join(root, self.name, "current")

    def declared(self) -> dict[str, dict[str, Any]]:
        """Return the files that the manifest names; Refused when it is no manifest."""
        try:
            files = json.loads(self.manifest)["files"]
            broken = [
                name for name, entry in files.items() if not entry["sha256"] or os.path.basename(name) != name
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Refused(
                f"The image {self.name} has an {MANIFEST} that cannot be read; build it again."
            ) from None
        if broken:
            raise Refused(f"The image {self.name} names files that cannot be published: {', '.join(broken)}.")
        return dict(files)

    def missing(self) -> list[dict[str, str]]:
        """Return the files that have to be copied."""
        if os.path.isdir(self.home):
            return []
        found = []
        for name, entry in sorted(self.files.items()):
            path = os.path.join(self.staged, name)
            if not os.path.isfile(path) or os.path.getsize(path) != entry.get("size", os.path.getsize(path)):
                found.append({"name": self.name, "id": self.id, "file": name})
        return found

    def verify(self) -> None:
        """Compare what was copied with the manifest; Refused when it differs."""
        for name, entry in sorted(self.files.items()):
            path = os.path.join(self.staged, name)
            if not os.path.isfile(path):
                raise Refused(f"The image {self.name} {self.id}: {name} did not arrive.")
            found = digest(path)
            if found != entry["sha256"]:
                os.unlink(path)
                raise Refused(
                    f"The image {self.name} {self.id} is not published: {name} has the sha256 {found}, and its "
                    f"{MANIFEST} says {entry['sha256']}. Build it again with 'rackloom image build {self.name}'."
                )

    def publish(self, check: bool) -> bool:
        """Bring the image to its place; tells whether anything changed."""
        changed = False
        if not os.path.isdir(self.home):
            changed = True
            if not check:
                self.verify()
                write(os.path.join(self.staged, MANIFEST), self.manifest)
                write(os.path.join(self.staged, SCRIPT), self.script)
                for name in os.listdir(self.staged):
                    os.chmod(os.path.join(self.staged, name), 0o644)
                os.chmod(self.staged, 0o755)  # noqa: S103 - it is served to everybody
                os.makedirs(os.path.dirname(self.home), mode=0o755, exist_ok=True)
                os.rename(self.staged, self.home)
        elif text_of(os.path.join(self.home, SCRIPT)) != self.script:
            changed = True
            if not check:
                write(os.path.join(self.home, SCRIPT), self.script)
        return changed

    def switch(self, check: bool) -> bool:
        """Let machines have this image from now on; tells whether they had another."""
        if os.path.islink(self.current) and os.readlink(self.current) == self.id:
            return False
        if not check:
            temporary = f"{self.current}.{os.getpid()}"
            os.symlink(self.id, temporary)
            os.rename(temporary, self.current)
        return True


def main() -> None:
    """Tell what is missing, or publish."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "str", "required": True},
            "staging": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["wanted", "published"], "default": "published"},
            "images": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    key: {"type": "str", "required": True} for key in ("name", "id", "manifest", "script")
                },
            },
        },
        supports_check_mode=True,
    )
    wanted = module.params
    check = bool(module.check_mode)
    changed = False
    published: list[str] = []
    missing: list[dict[str, str]] = []
    try:
        images = [Image(entry, wanted["root"], wanted["staging"]) for entry in wanted["images"]]
        if wanted["state"] == "wanted":
            for image in images:
                missing += image.missing()
                if image.missing() and not check:
                    os.makedirs(image.staged, mode=0o755, exist_ok=True)
        else:
            for image in images:
                changed = image.publish(check) or changed
            published += [f"{image.name}/{image.id}" for image in images if image.switch(check)]
            if not check:
                shutil.rmtree(wanted["staging"], ignore_errors=True)
    except Refused as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    module.exit_json(changed=changed or bool(published), missing=missing, published=published)


if __name__ == "__main__":
    main()
