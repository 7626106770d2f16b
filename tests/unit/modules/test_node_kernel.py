"""What a node lacks for running pods is told from /proc and /sys alone, with a cure for each thing."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from plugins.module_utils import node_kernel as kernel

from .conftest import RunModule

RELEASE = "6.1.0-99-amd64"


def put(root: Path, path: str, text: str = "") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def state(root: Path, name: str = "br_netfilter") -> str:
    return kernel.features(root=str(root), release=RELEASE)[name]


def good(**more: Any) -> dict[str, Any]:
    """A node that lacks nothing."""
    return {
        "release": RELEASE,
        "cgroup": 2,
        "controllers": list(kernel.CONTROLLERS),
        "swap": [],
        "container": False,
        "lowers_oom_score": True,
        "features": dict.fromkeys(kernel.FEATURES, "live"),
        "file_systems": {"/var/lib/containerd": "ext4"},
        "resolv_conf": "/etc/resolv.conf",
        **more,
    }


def test_built_in_counts(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    with gzip.open(tmp_path / "proc/config.gz", "wt") as handle:
        handle.write("CONFIG_BRIDGE_NETFILTER=y\nCONFIG_VXLAN=m\n# CONFIG_VETH is not set\n")
    assert state(tmp_path) == "live"
    assert state(tmp_path, "veth") == "missing"
    # Its modules went with an update of the kernel; it would load after a restart.
    assert state(tmp_path, "vxlan") == "gone"


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        (
            f"lib/modules/{RELEASE}/modules.dep",
            "kernel/net/bridge/br_netfilter.ko.xz: kernel/x.ko.xz\n",
            "loadable",
        ),
        (f"lib/modules/{RELEASE}/modules.dep", "kernel/net/other.ko:\n", "missing"),
        (f"lib/modules/{RELEASE}/modules.builtin", "kernel/net/bridge/br_netfilter.ko\n", "live"),
        ("sys/module/br_netfilter/uevent", "", "live"),
        ("proc/modules", "br_netfilter 32768 0 - Live 0x0\n", "live"),
        (f"boot/config-{RELEASE}", "CONFIG_BRIDGE_NETFILTER=y\n", "live"),
        (f"boot/config-{RELEASE}", "CONFIG_NET=y\n", "missing"),
        ("etc/hostname", "one\n", "unknown"),
    ],
)
def test_every_sign_is_read(tmp_path: Path, path: str, text: str, told: str) -> None:
    put(tmp_path, path, text)
    assert state(tmp_path) == told


def test_control_groups_of_both_versions(tmp_path: Path) -> None:
    put(tmp_path, "proc/cgroups", "#subsys_name\thierarchy\tnum\tenabled\ncpu\t1\t2\t1\nmemory\t4\t1\t0\n")
    assert kernel.cgroup(str(tmp_path)) == (1, ["cpu"])
    put(tmp_path, "sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n")
    assert kernel.cgroup(str(tmp_path)) == (2, ["cpu", "memory", "pids"])


def test_swap_is_named(tmp_path: Path) -> None:
    put(tmp_path, "proc/swaps", "Filename\tType\tSize\n/dev/sda2 partition 1 0 -2\n/swapfile file 1 0 -3\n")
    assert kernel.swaps(str(tmp_path)) == ["/dev/sda2", "/swapfile"]


def test_the_capability_of_services_is_that_of_the_first_process(tmp_path: Path) -> None:
    put(tmp_path, "proc/1/status", "Name:\tinit\nCapBnd:\t000001fffeffffff\n")
    assert not kernel.can(kernel.SYS_RESOURCE, str(tmp_path))
    put(tmp_path, "proc/1/status", "CapBnd:\t000001ffffffffff\n")
    assert kernel.can(kernel.SYS_RESOURCE, str(tmp_path))


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    mounts = "overlay / overlay rw 0 0\n/dev/vda /var/lib ext4 rw 0 0\nn /var/lib/containers nfs4 rw 0 0\n"
    put(tmp_path, "proc/self/mounts", mounts)
    found = [
        kernel.file_system(path, str(tmp_path))
        for path in ("/srv", "/var/lib/containerd", "/var/lib/containers")
    ]
    assert found == ["overlay", "ext4", "nfs4"]


def test_a_resolver_that_leads_back_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, behind = tmp_path / "resolv.conf", tmp_path / "behind"
    monkeypatch.setattr(kernel, "RESOLV_CONF", str(own))
    monkeypatch.setattr(kernel, "BEHIND_STUB", (str(behind),))
    assert kernel.resolv_conf() == ""
    own.write_text("nameserver 127.0.0.53\n")
    assert kernel.resolv_conf() == ""
    behind.write_text("nameserver 192.0.2.53\n")
    assert kernel.resolv_conf() == str(behind)
    own.write_text("nameserver 192.0.2.1\n")
    assert kernel.resolv_conf() == str(own)


def test_nothing_is_missing_on_a_good_node() -> None:
    assert kernel.lacking(good(), need=kernel.FEATURES, layers="/var/lib/containerd", resolver=True) == []


@pytest.mark.parametrize(
    ("node", "wanted", "word", "said"),
    [
        ({"features": {"overlay": "gone"}}, {"need": ["overlay"]}, "kernel", "start the node anew"),
        ({"features": {"overlay": "missing"}}, {"need": ["overlay"]}, "kernel", "standard kernel"),
        ({"controllers": ["cpu", "cpuset", "pids"]}, {}, "kernel", "cgroup_enable=memory"),
        ({"cgroup": 1}, {}, "cgroup_v1", "unified_cgroup_hierarchy"),
        ({"swap": ["/dev/sda2"]}, {}, "swap", "kubelet_swap"),
        ({"swap": ["/dev/sda2"], "container": True}, {"swap": "off"}, "swap", "host"),
        ({"file_systems": {"/x": "overlay"}}, {"layers": "/x"}, "", "ext4 or xfs"),
        ({"resolv_conf": ""}, {"resolver": True}, "", "kubelet_resolv_conf"),
    ],
)
def test_each_thing_is_named_with_its_cure(
    node: dict[str, Any], wanted: dict[str, Any], word: str, said: str
) -> None:
    [(tolerated_by, sentence)] = kernel.lacking(good(**node), **wanted)
    assert tolerated_by == word
    assert said in sentence


def test_what_is_not_asked_for_is_not_missed() -> None:
    node = good(cgroup=1, swap=["/dev/sda2"], features={"vxlan": "missing"}, resolv_conf="")
    assert kernel.lacking(node, pods=False) == []
    assert not [word for word, _ in kernel.lacking(node, swap="limited") if word == "swap"]
    assert not [word for word, _ in kernel.lacking(node, swap="off") if word == "swap"]


def test_what_is_to_be_done() -> None:
    node = good(features={"overlay": "live", "br_netfilter": "loadable"}, swap=["/dev/sda2"])
    wanted = {"need": ["overlay", "br_netfilter"], "swap": "off", "apply": True}
    assert kernel.to_do(node, wanted) == [["modprobe", "br_netfilter"], ["swapoff", "--all"]]
    assert kernel.to_do({**node, "container": True}, wanted) == [["modprobe", "br_netfilter"]]
    assert kernel.to_do(node, {**wanted, "apply": False}) == []


def test_a_node_is_made_ready_once(
    run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """modprobe leaves a sign, as the kernel would."""
    signs = tmp_path / "loaded"
    monkeypatch.setattr(
        kernel,
        "look",
        lambda *_: good(features={"br_netfilter": "live" if signs.exists() else "loadable"}),
    )
    (tmp_path / "modprobe").write_text(f"#!/bin/sh\necho $1 >> {signs}\n")
    (tmp_path / "modprobe").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    wanted = {"need": ["br_netfilter"], "apply": True}
    assert run_module("kube_host", check=True, **wanted)["actions"] == ["modprobe br_netfilter"]
    assert not signs.exists()
    done = run_module("kube_host", **wanted)
    assert done["changed"]
    assert done["ansible_facts"]["rackloom_kernel"]["features"] == {"br_netfilter": "live"}
    assert not run_module("kube_host", **wanted)["changed"]
    assert signs.read_text() == "br_netfilter\n"


def test_a_module_that_nobody_knows_of_is_tried_and_changes_nothing(
    run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "look", lambda *_: good(features={"br_netfilter": "unknown"}))
    (tmp_path / "modprobe").write_text(f"#!/bin/sh\necho $1 >> {tmp_path}/tried\nexit 1\n")
    (tmp_path / "modprobe").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert not run_module("kube_host", need=["br_netfilter"], apply=True)["changed"]
    assert (tmp_path / "tried").read_text() == "br_netfilter\n"


def test_a_module_that_cannot_be_loaded_is_an_error(
    run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "look", lambda *_: good(features={"br_netfilter": "loadable"}))
    (tmp_path / "modprobe").write_text("#!/bin/sh\necho no such device >&2\nexit 1\n")
    (tmp_path / "modprobe").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert "no such device" in run_module("kube_host", need=["br_netfilter"], apply=True)["msg"]
    tolerated = run_module("kube_host", need=["br_netfilter"], apply=True, tolerate=["kernel"])
    assert not tolerated["changed"]
