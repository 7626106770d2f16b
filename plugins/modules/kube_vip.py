#!/usr/bin/python
"""kube-vip on a control-plane node: the API's address moves between the nodes whose API server answers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_vip
short_description: Keep up the API's address with kube-vip
description:
  - Runs on a control-plane node. One that has not joined yet is left alone.
  - C(prepared) has the image and the credential there, and takes an address off the node that it had until kube-vip
    comes. C(placed) gives kube-vip its rights in the cluster, lays its static pod out and awaits the address. So no
    kube-vip takes the address as long as any other node still holds it in another way.
  - The credential is a client certificate of its own, which may keep one lease and nothing else.
options:
  state:
    description: How far to go.
    type: str
    choices: [prepared, placed]
    default: placed
  address:
    description: The API's address.
    type: str
    required: true
  port:
    description: Port of the API servers, and so of the address.
    type: int
    default: 6443
  interface:
    description: Interface that gets the address.
    type: str
    required: true
  node:
    description: Name of the node.
    type: str
    required: true
  node_address:
    description: Address of this node, at which its own API server answers.
    type: str
    required: true
  image:
    description: kube-vip's image.
    type: str
    required: true
  lease:
    description: Seconds that the lease lasts, within which it is renewed, and between two tries.
    type: dict
    required: true
  settings:
    description: Further environment variables of kube-vip; they win.
    type: dict
    default: {}
  must:
    description: Whether the address has to answer in the end. Otherwise what can be done is done.
    type: bool
    default: true
  renew_days:
    description: Days before its end at which the credential is made anew.
    type: int
    default: 30
  timeout:
    description: Seconds for the image, and for the address to answer.
    type: int
    default: 240
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: place | Lay kube-vip out
  rackloom.cluster.kube_vip:
    address: 192.0.2.10
    interface: eth0
    node: mgmt01
    node_address: 192.0.2.11
    image: ghcr.io/kube-vip/kube-vip:vX.Y.Z
    lease: {duration: 10, renew: 7, retry: 2}
"""

RETURN = r"""
member:
  description: Whether the node is a control-plane node.
  returned: always
  type: bool
differs:
  description: Whether C(placed) has something to do.
  returned: always
  type: bool
actions:
  description: What was done, or would be in check mode.
  returned: always
  type: list
  elements: str
"""

import base64
import http.client
import json
import os
import re
import ssl
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import kube_documents, kube_vip, node_members  # noqa: TID252 - how a collection's plugins find each other
from ..module_utils.kube_client import ADMIN, Kubectl, KubeError, bracketed, pull, runner  # noqa: TID252

CONFIG = f"{kube_documents.FOLDER}/kubeadm.json"
DECADE = "87600h"
"""The credential ends with the authority: whoever reads it on its node can read the authority's key beside it."""


def read(path: str) -> str:
    """A file's text, empty where it is not there."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def write_private(path: str, text: str) -> None:
    """Write a file that only root reads, all of it or nothing. The kubelet passes over names with a dot before them."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def answers(address: str, port: int) -> bool:
    """Whether an API server that is ready answers at the address."""
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 - only asked how it is
    connection = http.client.HTTPSConnection(address, port, timeout=3, context=context)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Vip:
    """kube-vip of this node."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.check = bool(module.check_mode)
        self.run = runner(module)
        self.actions: list[str] = []
        self.differs = False

    def member(self) -> bool:
        """Whether this is a control-plane node that has joined."""
        return all(os.path.exists(path) for path in (node_members.MARK, node_members.KUBELET, ADMIN))

    def wanted(self) -> str:
        """The manifest as it should be."""
        return kube_vip.manifest(self.params, read(kube_vip.CREDENTIAL))

    # preparing

    def prepare(self) -> None:
        """Image, credential, and nobody who has the address in another way."""
        if not self.good():
            if not self.check:
                self.issue()
            self.actions.append("a credential")
        if read(kube_vip.MANIFEST) != self.wanted():
            self.differs = True
            if not self.check:
                pull(self.run, [self.params["image"]], self.params["timeout"])
        if (
            not read(kube_vip.MANIFEST)
            and not self.check
            and kube_vip.let_go(self.run, self.params["address"])
        ):
            self.actions.append("let go of the address, which kube-vip takes")
        self.differs = self.differs or not answers(self.params["address"], self.params["port"])

    def good(self) -> bool:
        """Whether the credential still serves."""
        found = re.search(r"client-certificate-data:\s*(\S+)", read(kube_vip.CREDENTIAL))
        if not found or os.stat(kube_vip.CREDENTIAL).st_mode & 0o777 != 0o600:
            return False
        seconds = str(self.params["renew_days"] * 86400)
        argv = ["openssl", "x509", "-noout", "-subject", "-nameopt", "multiline,-align", "-checkend", seconds]
        rc, out, _ = self.run(argv, base64.b64decode(found[1]).decode())
        return rc == 0 and f"commonName = {kube_vip.USER}\n" in out.replace("    ", "")

    def issue(self) -> None:
        """Make the credential with the authority that lies on every control-plane node."""
        argv = ["kubeadm", "kubeconfig", "user", f"--config={CONFIG}", f"--client-name={kube_vip.USER}"]
        rc, out, err = self.run([*argv, f"--validity-period={DECADE}"], "")
        if rc != 0:
            raise KubeError(f"kubeadm kubeconfig user: {err.strip() or out.strip()}")
        write_private(kube_vip.CREDENTIAL, out)

    # placing

    def place(self) -> None:
        """Rights, the static pod, an address that answers."""
        try:
            self.grant()
        except KubeError:
            if self.params["must"]:
                raise
        if read(kube_vip.MANIFEST) != self.wanted():
            if not self.check:
                write_private(kube_vip.MANIFEST, self.wanted())
            self.actions.append("kube-vip")
        if self.params["must"] and not self.check:
            self.await_address()

    def grant(self) -> None:
        """Have the rights in the cluster that kube-vip needs."""
        kubectl = Kubectl(self.run, patience=60 if self.params["must"] else 5)
        # of this node's own API server: nobody may have the address yet
        server = f"--server=https://{bracketed(self.params['node_address'])}:{self.params['port']}"
        lacking = []
        for each in kube_vip.rights():
            name, kind = each["metadata"]["name"], each["kind"].lower()
            there = kubectl.find(server, f"--namespace={kube_vip.NAMESPACE}", kind, name) or {}
            if any(
                there.get(part) != each[part] for part in ("rules", "roleRef", "subjects") if part in each
            ):
                lacking.append(each)
        if not lacking:
            return
        if not self.check:
            whole = {"apiVersion": "v1", "kind": "List", "items": lacking}
            kubectl.call("apply", server, "-f", "-", data=json.dumps(whole))
        self.actions.append("the rights of kube-vip")

    def await_address(self) -> None:
        """Wait for the address."""
        end = time.monotonic() + self.params["timeout"]
        while not answers(self.params["address"], self.params["port"]):
            if time.monotonic() > end:
                raise KubeError(
                    f"no API server answers at {self.params['address']}:{self.params['port']} within "
                    f"{self.params['timeout']} s; see: crictl logs $(crictl ps -a -q --name kube-vip)"
                )
            time.sleep(0.5)

    def perform(self) -> bool:
        """All of it; returns whether the node is a member."""
        if not self.member():
            return False
        if self.params["state"] == "prepared":
            self.prepare()
        else:
            self.place()
        return True


def main() -> None:
    """Look, and put right."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["prepared", "placed"], "default": "placed"},
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "default": 6443},
            "interface": {"type": "str", "required": True},
            "node": {"type": "str", "required": True},
            "node_address": {"type": "str", "required": True},
            "image": {"type": "str", "required": True},
            "lease": {"type": "dict", "required": True},
            "settings": {"type": "dict", "default": {}},
            "must": {"type": "bool", "default": True},
            "renew_days": {"type": "int", "default": 30},
            "timeout": {"type": "int", "default": 240},
        },
        supports_check_mode=True,
    )
    vip = Vip(module)
    told: dict[str, Any] = {"actions": vip.actions}
    try:
        told["member"] = vip.perform()
    except (KubeError, OSError) as error:
        module.fail_json(msg=str(error), **told)
    module.exit_json(changed=bool(vip.actions), differs=vip.differs, **told)


if __name__ == "__main__":
    main()
