"""Which releases of Kubernetes a node has and runs, read off the node itself."""

from __future__ import annotations

import os
import re

from .kube_client import Run, tag_of

MANIFESTS = "/etc/kubernetes/manifests"
STORE = "/var/lib/etcd/member"
JOINED = "/etc/kubernetes/kubelet.conf"
PROGRAMS = {
    "kubelet": ["kubelet", "--version"],
    "kubeadm": ["kubeadm", "version", "--output=short"],
    "containerd": ["containerd", "--version"],
    "crio": ["crio", "--version"],
    "etcd": ["etcd", "--version"],
}
RELEASED = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
"""Static pods whose version is that of the release."""
_VERSION = re.compile(r"\bv?(\d+\.\d+\.\d+)")


def installed(run: Run, names: tuple[str, ...] = tuple(PROGRAMS)) -> dict[str, str]:
    """Versions of the programs on this node; those that are not there are left out."""
    found = {}
    for name in names:
        rc, out, _ = run(PROGRAMS[name], "")
        match = _VERSION.search(out)
        if rc == 0 and match:
            found[name] = match[1]
    return found


def manifests(folder: str = MANIFESTS) -> dict[str, str]:
    """Tags of the images that the static pods are to run, by component."""
    found = {}
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    for name in names:
        if not name.endswith(".yaml") or name.startswith("."):
            continue
        with open(os.path.join(folder, name), encoding="utf-8") as stream:
            match = re.search(r"^\s*(?:- )?image:\s*[\"']?([^\s\"']+)", stream.read(), re.MULTILINE)
        if match:
            found[name[:-5]] = tag_of(match[1])
    return found


def releases(run: Run, folder: str = MANIFESTS) -> dict[str, str]:
    """What of this node has the release's version: the kubelet and the static pods."""
    found = installed(run, ("kubelet",))
    static = manifests(folder)
    found.update({name: static[name].removeprefix("v") for name in RELEASED if name in static})
    return found


def complaint(wanted: str, running: dict[str, str]) -> str:
    """Why a deploy may not go on, as a sentence; '' where all that runs is of the wanted release."""
    other = {name: release for name, release in running.items() if release != wanted}
    if not other:
        return ""
    told = ", ".join(f"{name} {release}" for name, release in sorted(other.items()))
    return (
        f"the site's release of Kubernetes is {wanted}, and this node runs {told}. A deploy changes no release; "
        f"to get there, or to go on with an upgrade that was stopped: rackloom upgrade kubernetes --to {wanted}; "
        f"to leave it as it is: version: {min(other.values())} under kubernetes in cluster.yml"
    )
