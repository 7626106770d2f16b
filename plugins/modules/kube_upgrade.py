#!/usr/bin/python
"""A node's part of an upgrade, done by the kubeadm of the new release."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_upgrade
short_description: Bring a node's static pods and kubelet configuration to a release of Kubernetes
description:
  - Runs C(kubeadm upgrade apply) on the first control-plane node, C(kubeadm upgrade node) on the others and on workers,
    and nothing where the node is there already. What is there is read off the node and the API, so what a killed run
    left is gone on with by the next one.
  - The kubelet itself is not touched; the role C(kubelet) replaces it once the node is drained.
  - On a control-plane node a release is refused that is older than what its static pods run, or more than one minor
    above it.
options:
  release:
    description: The release to go to.
    type: str
    required: true
  kubeadm:
    description: The kubeadm of that release.
    type: path
    required: true
  state:
    description:
      - V(pulled) only brings the images onto a control-plane node, with the etcd and CoreDNS that the cluster has.
      - V(upgraded) does the node's part.
    type: str
    choices: [pulled, upgraded]
    default: upgraded
  first:
    description: Whether this is the control-plane node that moves the cluster's own configuration.
    type: bool
    default: false
  ignore:
    description: Errors of kubeadm's preflight that are let pass.
    type: list
    elements: str
    default: []
  patches:
    description: Folder of kubeadm patches; passed over where it does not exist.
    type: path
    default: /etc/rackloom/kubernetes/patches
  timeout:
    description: Seconds that kubeadm gets.
    type: int
    default: 900
  kubeconfig:
    description: Credentials of an administrator, on a control-plane node.
    type: path
    default: /etc/kubernetes/admin.conf
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Upgrade | The control plane's programs
  rackloom.cluster.kube_upgrade:
    release: X.Y.Z
    kubeadm: /var/lib/rackloom/kubernetes/X.Y.Z/kubeadm
    first: true
"""

RETURN = r"""
why:
  description: What was not of the release yet.
  returned: always
  type: list
  elements: str
said:
  description: The end of what kubeadm said.
  returned: when it ran
  type: list
  elements: str
"""

import os
import re
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.kube_client import (  # noqa: TID252 - how a collection's plugins find each other
    ADMIN,
    Kubectl,
    KubeError,
    Run,
    pull,
    runner,
    tag_of,
)
from ..module_utils.kube_running import RELEASED, installed, manifests  # noqa: TID252


def numbers(text: str) -> tuple[int, ...]:
    """Major, minor and patch of a release or a tag; none where it is neither."""
    match = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in match.groups()) if match else ()


def release_in(text: str) -> str:
    """The release in a ClusterConfiguration."""
    match = re.search(r"^kubernetesVersion:\s*v?(\S+)", text, re.MULTILINE)
    return match[1] if match else ""


class Upgrade:
    """One node on its way."""

    def __init__(self, run: Run, params: dict[str, Any]) -> None:
        self.run = run
        self.params = params
        self.release: str = params["release"].removeprefix("v")
        self.kubectl = Kubectl(run, params["kubeconfig"])
        self.static = manifests()

    @property
    def control_plane(self) -> bool:
        """Whether this node has an API server."""
        return "kube-apiserver" in self.static

    def cluster_configuration(self) -> str:
        """The ClusterConfiguration that kubeadm keeps in the API."""
        found = self.kubectl.find("configmap", "--namespace=kube-system", "kubeadm-config") or {}
        return str(found.get("data", {}).get("ClusterConfiguration", ""))

    def refusal(self) -> str:
        """Why this node's control plane may not go there from what it runs, as a sentence; '' where it may."""
        target = numbers(self.release)
        for name in RELEASED:
            tag = self.static.get(name, "")
            runs = numbers(tag)
            if not runs or not target:
                continue
            if runs > target:
                return f"{name} is {tag} here, and a control plane is never taken back to {self.release}"
            if target[0] != runs[0] or target[1] > runs[1] + 1:
                return (
                    f"{name} is {tag} here, and {self.release} is more than one minor release above it; go to a "
                    f"release of {runs[0]}.{runs[1] + 1} first"
                )
        return ""

    def why(self) -> list[str]:
        """What is not of the release yet, as far as kubeadm brings it there. Raises KubeError where it may not."""
        if said := self.refusal():
            raise KubeError(said)
        if not self.control_plane:
            now = installed(self.run, ("kubelet",)).get("kubelet", "")
            return [] if now == self.release else [f"kubelet {now or 'is not there'}"]
        found = [
            f"{name} {self.static[name]}"
            for name in RELEASED
            if self.static.get(name, "").removeprefix("v") not in ("", self.release)
        ]
        if self.params["first"]:
            now = release_in(self.cluster_configuration())
            found += [] if now == self.release else [f"configuration {now}"]
            proxy = self.kubectl.find("daemonset", "--namespace=kube-system", "kube-proxy")
            if proxy is not None:
                tag = tag_of(proxy["spec"]["template"]["spec"]["containers"][0]["image"])
                found += [] if tag.removeprefix("v") == self.release else [f"kube-proxy {tag}"]
        return found

    def argv(self) -> list[str]:
        """Kubeadm's command line."""
        first = self.control_plane and self.params["first"]
        argv = [self.params["kubeadm"], "upgrade"]
        argv += ["apply", f"v{self.release}", "--yes"] if first else ["node"]
        # the images of a control plane are here already, see pull()
        ignored = [*(["ImagePull"] if self.control_plane else []), *self.params["ignore"]]
        argv += [f"--ignore-preflight-errors={','.join(ignored)}"] if ignored else []
        if os.path.isdir(self.params["patches"]):
            argv.append(f"--patches={self.params['patches']}")
        return argv

    def check_kubeadm(self) -> None:
        """The program is of the release. Raises KubeError."""
        rc, out, err = self.run([self.params["kubeadm"], "version", "--output=short"], "")
        if rc != 0 or out.strip().removeprefix("v") != self.release:
            raise KubeError(f"{self.params['kubeadm']} is not of {self.release}: {(out or err).strip()}")

    def perform(self) -> list[str]:
        """Run kubeadm. Raises KubeError."""
        self.check_kubeadm()
        argv = ["timeout", str(self.params["timeout"]), *self.argv()]
        rc, out, err = self.run(argv, "")
        said = [line for line in (out + err).splitlines() if line.strip()]
        if rc != 0:
            told = next((line for line in reversed(said) if "error" in line.lower()), " ".join(said[-3:]))
            raise KubeError(f"kubeadm {' '.join(argv[3:6])} failed: {told or f'ended with {rc}'}")
        return said[-15:]

    def images(self) -> list[str]:
        """What the control plane is made of at the new release, with the cluster's own etcd and CoreDNS."""
        text = re.sub(
            r"^kubernetesVersion:.*$",
            f"kubernetesVersion: v{self.release}",
            self.cluster_configuration(),
            flags=re.MULTILINE,
        )
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as stream:
            stream.write(text)
            stream.flush()
            argv = [self.params["kubeadm"], "config", "images", "list", f"--config={stream.name}"]
            rc, out, err = self.run(argv, "")
        if rc != 0:
            raise KubeError(f"kubeadm config images list: {(err or out).strip()[-500:]}")
        return out.split()

    def pull(self) -> list[str]:
        """Bring the images that lack onto this node. Raises KubeError."""
        # here too: images come before anything is touched
        if said := self.refusal():
            raise KubeError(said)
        self.check_kubeadm()
        return pull(self.run, self.images(), self.params["timeout"])


def main() -> None:
    """Do what is left to do."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str", "required": True},
            "kubeadm": {"type": "path", "required": True},
            "state": {"type": "str", "default": "upgraded", "choices": ["pulled", "upgraded"]},
            "first": {"type": "bool", "default": False},
            "ignore": {"type": "list", "elements": "str", "default": []},
            "patches": {"type": "path", "default": "/etc/rackloom/kubernetes/patches"},
            "timeout": {"type": "int", "default": 900},
            "kubeconfig": {"type": "path", "default": ADMIN},
        },
        supports_check_mode=True,
    )
    upgrade = Upgrade(runner(module), dict(module.params))
    try:
        if module.params["state"] == "pulled":
            pulled = [] if module.check_mode or not upgrade.control_plane else upgrade.pull()
            module.exit_json(changed=bool(pulled), why=[], said=pulled)
        why = upgrade.why()
        said = upgrade.perform() if why and not module.check_mode else []
    except KubeError as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(changed=bool(why), why=why, said=said)


if __name__ == "__main__":
    main()
