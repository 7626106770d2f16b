"""What the lab reads off the machine, from files laid out like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from rackloom.lab.machine import Topology, cgroup_version, may_raise_limits, memory_mb, resolvers, topology


def write(root: Path, name: str, text: str = "") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def cpus(root: Path, *places: tuple[int, int]) -> None:
    for number, (package, core) in enumerate(places):
        write(root, f"sys/devices/system/cpu/cpu{number}/topology/physical_package_id", f"{package}\n")
        write(root, f"sys/devices/system/cpu/cpu{number}/topology/core_id", f"{core}\n")
    write(root, "sys/devices/system/cpu/cpufreq/boost", "1")


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([(0, 0), (0, 1)], Topology(1, 2, 1, regular=True)),
        ([(0, 0), (0, 0), (0, 1), (0, 1)], Topology(1, 2, 2, regular=True)),
        ([(0, 0), (0, 1), (1, 0), (1, 1)], Topology(2, 2, 1, regular=True)),
        ([(0, 0), (0, 0), (0, 1)], Topology(1, 3, 1, regular=False)),  # a big core and a small one
        ([(0, 0), (0, 1), (1, 0)], Topology(1, 3, 1, regular=False)),
    ],
)
def test_topology(tmp_path: Path, places: list[tuple[int, int]], expected: Topology) -> None:
    cpus(tmp_path, *places)
    assert topology(tmp_path) == expected


def test_cgroup_version(tmp_path: Path) -> None:
    assert cgroup_version(tmp_path) == 1
    write(tmp_path, "sys/fs/cgroup/cgroup.controllers", "cpu memory")
    assert cgroup_version(tmp_path) == 2


def test_a_local_resolver_is_looked_through(tmp_path: Path) -> None:
    write(tmp_path, "etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0\n")
    assert resolvers(tmp_path) == ()
    write(tmp_path, "run/systemd/resolve/resolv.conf", "nameserver 192.0.2.1\nnameserver 192.0.2.2\n")
    assert resolvers(tmp_path) == ("192.0.2.1", "192.0.2.2")
    write(tmp_path, "etc/resolv.conf", "nameserver 198.51.100.1\n")
    assert resolvers(tmp_path) == ("198.51.100.1",)


def test_memory(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", "MemFree: 1 kB\nMemTotal:       24683656 kB\n")
    assert memory_mb(tmp_path) == 24105


@pytest.mark.parametrize(("bounding", "may"), [("000001ffffffffff", True), ("000001fffeffffff", False)])
def test_limits_need_a_capability(tmp_path: Path, bounding: str, *, may: bool) -> None:
    write(tmp_path, "proc/self/status", f"Name:\tx\nCapBnd:\t{bounding}\n")
    assert may_raise_limits(tmp_path) is may
