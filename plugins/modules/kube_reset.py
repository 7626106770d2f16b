#!/usr/bin/python
"""Takes Kubernetes off a node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_reset
short_description: Take Kubernetes off a node, as far as kubeadm, the kubelet and pod networks put it there
description:
  - Stops the units that are named, lets C(kubeadm reset) stop the containers and remove what kubeadm wrote, and removes
    the pod network's interfaces, its configuration and the service proxy's rules.
  - The address that kube-vip may have left behind is taken off the node; somebody else has it by then.
  - Knows nothing of the cluster. Drain the node, and take its member out of etcd, before.
  - Keys and kubeconfigs are removed, those of people and of etcd too; the cluster that lives on still believes them.
  - The data of etcd is kept aside, unless O(erase) says otherwise. Snapshots stay in any case, since they may be the
    only ones. Programs, packages and images stay, so joining anew is quick.
options:
  units:
    description: Units that are stopped and disabled. Those that are not there are passed over.
    type: list
    elements: str
    default: [kubelet.service]
  erase:
    description: Whether the data of etcd is removed. Otherwise it is moved below O(aside).
    type: bool
    default: false
  aside:
    description: The folder for it.
    type: path
    default: /var/lib/rackloom/etcd
  timeout:
    description: Seconds that kubeadm gets.
    type: int
    default: 300
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Remove | Take Kubernetes off the node
  rackloom.cluster.kube_reset:
"""

RETURN = r"""
done:
  description: What was found and removed.
  returned: always
  type: list
  elements: str
aside:
  description: Where the data of etcd is now; empty where there was none.
  returned: always
  type: str
rackloom_facts:
  description: C(copies) are the snapshots and folders with data of etcd that are still on the node.
  returned: always
  type: dict
"""

import contextlib
import glob
import os
import re
import shutil
import time
from collections.abc import Iterable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import kube_vip, node_members  # noqa: TID252 - how a collection's plugins find each other
from ..module_utils.kube_client import Run, runner  # noqa: TID252

LEFT = (
    "/etc/kubernetes/manifests/*.yaml",
    "/etc/kubernetes/*.conf",
    "/etc/kubernetes/pki/*.crt",
    "/var/lib/kubelet/config.yaml",
)
"""What kubeadm leaves behind on a node that it has set up."""
CREDENTIALS = (
    "/etc/kubernetes/pki/*.key",
    "/etc/kubernetes/pki/etcd/*.key",
    "/etc/kubernetes/users/*",
    "/var/lib/kubelet/pki/*",
    "/etc/rackloom/kubernetes/*.conf",
    "/etc/rackloom/kubernetes/apiserver/encryption.json",
    "/etc/rackloom/etcd/*.key",
)
"""What opens the cluster, or a copy of what it keeps. kubeadm removes some of it, if it is there and does not fail."""
COPIES = (
    "/var/lib/rackloom/etcd/*.db",
    "/var/lib/rackloom/etcd/before-*/",
    "/var/lib/rackloom/kubernetes-restore.db",
    "/etc/kubernetes/tmp/kubeadm-backup-etcd-*/",
)
"""Where data of etcd lies beside the store, the last of it put there by kubeadm's upgrades."""
STORE = "/var/lib/etcd"
LOST = "lost+found"
"""What a file system of its own has at its root."""
NETWORKS = ("/etc/cni/net.d/*", "/var/lib/cni/*", "/run/flannel/*", "/run/calico/*", "/run/cilium/*")
LINKS = re.compile(
    r"cni0|flannel[\w.-]*|kube-bridge|kube-dummy-if|kube-ipvs0|vxlan\.calico|vxlan-v6\.calico|cali[0-9a-f]{11}"
    r"|cilium_\w+|lxc_health|nodelocaldns"
)
CHAINS = re.compile(r"KUBE-|CNI-|FLANNEL-|cali-|CILIUM_|:CILIUM|kube-router", re.IGNORECASE)
SOCKETS = ("/run/containerd/containerd.sock", "/run/crio/crio.sock")


class Reset:
    """One node."""

    def __init__(self, run: Run, params: dict[str, Any], *, check: bool) -> None:
        self.run = run
        self.params = params
        self.check = check
        self.done: list[str] = []
        self.aside = ""
        self.trouble = ""

    def perform(self) -> None:
        """Everything, in an order that a killed run can be gone on with."""
        if any(glob.glob(pattern) for pattern in LEFT):
            self.kubeadm()
        self.units()
        self.credentials()
        self.store()
        self.networks()
        self.rules()

    def kubeadm(self) -> None:
        """Let kubeadm stop the containers and remove its files."""
        self.done.append("kubeadm")
        if self.check:
            return
        address = moved_address()
        # what is noted of a member would have a deploy put back what is taken from it now, if this is killed
        with contextlib.suppress(FileNotFoundError):
            os.remove(node_members.MARK)
        # the kubelet first, or it starts containers anew while they are stopped
        self.run(["systemctl", "stop", "kubelet.service"], "")
        argv = ["timeout", str(self.params["timeout"]), "kubeadm", "reset", "--force"]
        # no kubeconfig: it would wait for an API that may be gone; members of etcd are not its business here
        argv += ["--kubeconfig=/nonexistent", "--skip-phases=remove-etcd-member"]
        sockets = [path for path in SOCKETS if os.path.exists(path)]
        argv += [f"--cri-socket=unix://{sockets[0]}"] if sockets else []
        rc, out, err = self.run(argv, "")
        if rc != 0:
            last = [line for line in (out + err).splitlines() if line.strip()][-2:]
            self.trouble = f"kubeadm reset failed: {' '.join(last) or f'ended with {rc}'}"
        for pattern in LEFT:
            for path in glob.glob(pattern):
                os.remove(path)
        # a container that is killed leaves what it has set
        if address and kube_vip.let_go(self.run, address, always=True):
            self.done.append(address)

    def units(self) -> None:
        """Stop units, and start them no more."""
        for unit in self.params["units"]:
            _, out, _ = self.run(["systemctl", "show", "-p", "LoadState,ActiveState,UnitFileState", unit], "")
            state = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
            on = state.get("ActiveState") in ("active", "activating", "reloading")
            if state.get("LoadState") != "loaded" or not (on or state.get("UnitFileState") == "enabled"):
                continue
            self.done.append(unit)
            if not self.check:
                self.run(["systemctl", "disable", "--now", unit], "")

    def credentials(self) -> None:
        """Remove what is believed by the cluster that this node is of no more."""
        for path in files(CREDENTIALS):
            self.done.append(path)
            if not self.check:
                os.remove(path)

    def store(self) -> None:
        """Move etcd's data aside, or remove it. The folder itself may be a mount."""
        entries = sorted(set(os.listdir(STORE)) - {LOST}) if os.path.isdir(STORE) else []
        if "member" not in entries:
            return
        self.done.append(STORE)
        if not self.params["erase"]:
            self.aside = os.path.join(self.params["aside"], time.strftime("before-%Y%m%d-%H%M%S"))
        if self.check:
            return
        if self.aside:
            os.makedirs(self.aside, mode=0o700)
        for entry in entries:
            path = os.path.join(STORE, entry)
            if self.aside:
                shutil.move(path, os.path.join(self.aside, entry))
            elif os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.remove(path)

    def networks(self) -> None:
        """Remove what the pod network left: its configuration and its interfaces."""
        for pattern in NETWORKS:
            for path in glob.glob(pattern):
                self.done.append(path)
                if self.check:
                    continue
                if os.path.isdir(path) and not os.path.islink(path):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    os.remove(path)
        names = os.listdir("/sys/class/net") if os.path.isdir("/sys/class/net") else []
        for name in sorted(names):
            if LINKS.fullmatch(name):
                self.done.append(name)
                if not self.check:
                    self.run(["ip", "link", "delete", name], "")

    def rules(self) -> None:
        """Remove the rules of service proxies and pod networks; all others stay as they are."""
        if self.check:
            return
        for family in ("ip", "ip6"):
            # fails where there is none
            self.run(["nft", "delete", "table", family, "kube-proxy"], "")
        for program in ("iptables", "ip6tables"):
            if shutil.which(f"{program}-save", path="/usr/sbin:/sbin:/usr/bin") is None:
                continue
            rc, out, _ = self.run([f"{program}-save"], "")
            kept = without_chains(out)
            if rc == 0 and kept != out:
                self.done.append(program)
                self.run([f"{program}-restore"], kept)


def files(patterns: Iterable[str]) -> list[str]:
    """The files and links of these patterns, each once."""
    found = {path for pattern in patterns for path in glob.glob(pattern)}
    return sorted(path for path in found if os.path.islink(path) or not os.path.isdir(path))


def copies() -> list[str]:
    """Snapshots, and folders with data of etcd, that are on this node."""
    return sorted(path.rstrip("/") for pattern in COPIES for path in glob.glob(pattern))


def moved_address() -> str:
    """The address that kube-vip of this node moves; empty where there is none."""
    if not os.path.exists(kube_vip.MANIFEST):
        return ""
    with open(kube_vip.MANIFEST, encoding="utf-8") as stream:
        return kube_vip.moved(stream.read())[0]


def without_chains(text: str) -> str:
    """iptables-save's text without the lines of our chains, and without counters' comments that change each time."""
    return "".join(line for line in text.splitlines(keepends=True) if not CHAINS.search(line))


def main() -> None:
    """Do it, and tell what was there."""
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "default": ["kubelet.service"]},
            "erase": {"type": "bool", "default": False},
            "aside": {"type": "path", "default": "/var/lib/rackloom/etcd"},
            "timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    reset = Reset(runner(module), dict(module.params), check=bool(module.check_mode))
    try:
        reset.perform()
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}", done=reset.done)
    if reset.trouble:
        module.warn(reset.trouble)
    module.exit_json(
        changed=bool(reset.done), done=reset.done, aside=reset.aside, rackloom_facts={"copies": copies()}
    )


if __name__ == "__main__":
    main()
