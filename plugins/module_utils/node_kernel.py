"""What a node's kernel gives to containers, and what of it is missing for running pods."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .node_host import BEHIND_STUB, RESOLV_CONF, name_servers_in, read

FEATURES: dict[str, tuple[str, str]] = {
    "overlay": ("OVERLAY_FS", "layers of container images"),
    "br_netfilter": ("BRIDGE_NETFILTER", "packets of pods on a bridge are seen by the firewall"),
    "veth": ("VETH", "a network card of its own for each pod"),
    "vxlan": ("VXLAN", "the pod network between nodes"),
    "nf_conntrack": ("NF_CONNTRACK", "services"),
    "nf_tables": ("NF_TABLES", "services by nftables"),
}
"""Module of the kernel: the setting it is built by, and what it is for."""
CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
SYS_RESOURCE = 24
"""CAP_SYS_RESOURCE: whoever lacks it cannot give a process a lower OOM score."""
LAYERS_NOT_ON = ("overlay", "tmpfs", "ramfs", "nfs", "nfs4", "aufs")
"""File systems that an overlay's upper layers cannot lie on, or should not because they are lost or in memory."""

LAYERS = ("/var/lib/containerd", "/var/lib/containers")
"""Where layers of images lie unless somebody wants it otherwise."""

Kernel = Mapping[str, Any]


def configuration(root: str, release: str) -> str | None:
    """Return the settings that the running kernel was built with, None where nobody tells."""
    with contextlib.suppress(OSError), gzip.open(f"{root}/proc/config.gz", "rt", encoding="ascii") as handle:
        return handle.read()
    for path in (f"{root}/boot/config-{release}", f"{root}/lib/modules/{release}/config"):
        if text := read(path):
            return text
    return None


def features(more: Iterable[str] = (), root: str = "", release: str = "") -> dict[str, str]:
    """Return for each feature: live, loadable, gone (a module that does not lie there), missing or unknown."""
    release = release or os.uname().release
    folder = f"{root}/lib/modules/{release}"
    config = configuration(root, release)
    listed = read(f"{folder}/modules.dep")
    builtin = read(f"{folder}/modules.builtin")
    loaded = {line.split()[0] for line in read(f"{root}/proc/modules").splitlines() if line}

    def one(name: str) -> str:
        option = FEATURES.get(name, ("", ""))[0]
        found = re.search(rf"^CONFIG_{option}=([ym])$", config or "", re.MULTILINE) if option else None
        pattern = rf"/{name.replace('_', '[_-]')}\.ko"
        if name in loaded or (found and found[1] == "y") or re.search(pattern, builtin):
            return "live"
        if os.path.exists(f"{root}/sys/module/{name}"):
            return "live"
        if re.search(pattern, listed):
            return "loadable"
        if found:
            return "gone"
        return "missing" if listed or (option and config is not None) else "unknown"

    return {name: one(name) for name in (*FEATURES, *more)}


def cgroup(root: str = "") -> tuple[int, list[str]]:
    """Return the version of the control groups, and the controllers that are on."""
    if os.path.exists(f"{root}/sys/fs/cgroup/cgroup.controllers"):
        return 2, sorted(read(f"{root}/sys/fs/cgroup/cgroup.controllers").split())
    rows = [line.split() for line in read(f"{root}/proc/cgroups").splitlines() if not line.startswith("#")]
    return 1, sorted(row[0] for row in rows if len(row) > 3 and row[3] == "1")


def swaps(root: str = "") -> list[str]:
    """Return what the node swaps to."""
    return [line.split()[0] for line in read(f"{root}/proc/swaps").splitlines()[1:] if line.strip()]


def can(capability: int, root: str = "") -> bool:
    """Tell whether services of the node may have a capability."""
    found = re.search(r"^CapBnd:\s*([0-9a-f]+)", read(f"{root}/proc/1/status"), re.MULTILINE)
    return found is None or bool(int(found[1], 16) >> capability & 1)


def file_system(path: str, root: str = "") -> str:
    """Return the type of the file system that a path lies on, or would lie on."""
    best, kind = "", ""
    for row in (line.split() for line in read(f"{root}/proc/self/mounts").splitlines()):
        if len(row) > 2:
            point = row[1].rstrip("/")
            if (path == point or path.startswith(point + "/")) and len(point) >= len(best):
                best, kind = point, row[2]
    return kind


def resolv_conf() -> str:
    """Return the file with name servers that are not this node itself, '' where there is none."""
    told = read(RESOLV_CONF)
    addresses = re.findall(r"^nameserver\s+(\S+)", told, re.MULTILINE)
    if addresses and not any(address.startswith("127.") or address == "::1" for address in addresses):
        return RESOLV_CONF
    return next((path for path in BEHIND_STUB if name_servers_in(read(path))), "")


def look(layers: str = "", need: Iterable[str] = ()) -> dict[str, Any]:
    """Return what there is; asked for by name are one more folder's file system and further kernel modules."""
    version, controllers = cgroup()
    return {
        "release": os.uname().release,
        "cgroup": version,
        "controllers": controllers,
        "swap": swaps(),
        "container": os.path.exists("/run/systemd/container") or os.path.exists("/run/.containerenv"),
        "lowers_oom_score": can(SYS_RESOURCE),
        "features": features(need),
        "file_systems": {path: file_system(path) for path in {*LAYERS, layers} - {""}},
        "resolv_conf": resolv_conf(),
    }


def _feature(kernel: Kernel, name: str) -> str:
    state = kernel["features"].get(name, "unknown")
    what = f"the kernel module {name}" + (f" ({FEATURES[name][1]})" if name in FEATURES else "")
    if state == "gone":
        return (
            f"{what} does not lie there for the running kernel {kernel['release']}; "
            "start the node anew if its kernel was updated, or install the package with the kernel's further modules"
        )
    if state == "missing":
        return f"{what} is not part of the kernel {kernel['release']}; install the distribution's standard kernel"
    return ""


def _groups(kernel: Kernel) -> list[tuple[str, str]]:
    found = []
    absent = [name for name in CONTROLLERS if name not in kernel["controllers"]]
    if absent:
        found.append(
            (
                "kernel",
                (
                    f"the control group controllers {', '.join(absent)} are off; "
                    "add cgroup_enable=memory, or what turns them on, to the kernel's command line"
                ),
            )
        )
    if kernel["cgroup"] != 2:
        found.append(
            (
                "cgroup_v1",
                (
                    "the node runs control groups of version 1, which Kubernetes gives up; "
                    "start it with systemd.unified_cgroup_hierarchy=1 on the kernel's command line"
                ),
            )
        )
    return found


def _swap(kernel: Kernel, swap: str) -> list[tuple[str, str]]:
    found = []
    if kernel["swap"] and swap == "refuse":
        found.append(
            (
                "swap",
                (
                    f"the node swaps to {', '.join(kernel['swap'])}; let it be switched off with kubelet_swap: 'off', "
                    "or give pods a part of it with kubelet_swap: limited"
                ),
            )
        )
    elif kernel["swap"] and swap == "off" and kernel["container"]:
        found.append(
            ("swap", "the node is a container, and its swap belongs to its host; switch it off there")
        )
    return found


def lacking(
    kernel: Kernel,
    *,
    need: Iterable[str] = (),
    layers: str = "",
    pods: bool = True,
    swap: str = "refuse",
    resolver: bool = False,
) -> list[tuple[str, str]]:
    """Return what is missing: the word by which it is tolerated ('' for none), and a sentence with the cure."""
    found = [("kernel", said) for name in need if (said := _feature(kernel, name))]
    found += _groups(kernel) + _swap(kernel, swap) if pods else []
    kind = kernel["file_systems"].get(layers, "")
    if layers and kind in LAYERS_NOT_ON:
        found.append(
            (
                "",
                (
                    f"{layers} lies on {kind}, where container images cannot; mount an ext4 or xfs file system there"
                ),
            )
        )
    if resolver and not kernel["resolv_conf"]:
        found.append(
            (
                "",
                (
                    "no resolv.conf of the node names a server other than the node itself, so what pods ask would go "
                    "round in circles; set base_name_servers, or kubelet_resolv_conf to a file that names one"
                ),
            )
        )
    return found


def to_do(kernel: Kernel, wanted: Mapping[str, Any]) -> list[list[str]]:
    """Return the commands that make the kernel ready."""
    if not wanted.get("apply"):
        return []
    load = [
        name for name in wanted.get("need") or [] if kernel["features"].get(name) in ("loadable", "unknown")
    ]
    commands = [["modprobe", name] for name in load]
    if wanted.get("swap") == "off" and kernel["swap"] and not kernel["container"]:
        commands.append(["swapoff", "--all"])
    return commands
