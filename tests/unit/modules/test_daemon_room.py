"""Ports that others have and disks that are too small are named before a daemon is installed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plugins.modules import daemon_room

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def port() -> Iterator[int]:
    """A port on which this process listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield int(taken.getsockname()[1])


def test_a_port_of_another_program_is_named(run_module: RunModule, port: int) -> None:
    told = run_module("daemon_room", unit="prometheus.service", ports=[port])
    assert told["failed"]
    assert f"Port {port} is taken by " in told["msg"]
    assert f"(process {os.getpid()})" in told["msg"]


def test_a_free_port_is_none(run_module: RunModule, port: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        told = run_module("daemon_room", unit="prometheus.service", ports=[int(free.getsockname()[1])])
    assert told == {**told, "changed": False}
    assert "failed" not in told
    assert port


def test_the_daemons_own_port_is_none(tmp_path: Path) -> None:
    proc = tmp_path
    (proc / "net").mkdir()
    row = "   0: 0B00000A:2382 00000000:0000 0A 00000000:00000000 00:00000000 00000000 102 0 777 1 0 100 0 0 10 0"
    (proc / "net" / "tcp").write_text(f"head\n{row}\n")
    (proc / "41" / "fd").mkdir(parents=True)
    (proc / "41" / "fd" / "7").symlink_to("socket:[777]")
    (proc / "41" / "comm").write_text("prometheus\n")
    for group, said in (
        ("0::/system.slice/prometheus.service\n", []),
        ("12:pids:/system.slice/prometheus.service\n1:name=systemd:/x\n", []),
        ("0::/system.slice/other.service\n", ["Port 9090 is taken by prometheus (process 41)."]),
        ("0::/system.slice/my-prometheus.service\n", ["Port 9090 is taken by prometheus (process 41)."]),
    ):
        (proc / "41" / "cgroup").write_text(group)
        assert daemon_room.taken([9090], "prometheus.service", proc) == said
    assert daemon_room.taken([9091], "prometheus.service", proc) == []


@pytest.mark.parametrize(("size", "fits"), [("1M", True), ("100000T", False)])
def test_a_size_is_compared_with_the_disk(
    run_module: RunModule, tmp_path: Path, size: str, fits: bool
) -> None:
    """Also where the folder is not there yet."""
    told = run_module(
        "daemon_room", unit="x.service", path=str(tmp_path / "a" / "b"), size=size, size_name="retention"
    )
    assert bool(told.get("failed")) is not fits
    at = os.statvfs(tmp_path)
    assert told["disk_bytes"] == at.f_blocks * at.f_frsize
    if not fits:
        assert "retention is 100000T" in told["msg"]


def test_all_that_is_wrong_is_said_at_once(run_module: RunModule, port: int, tmp_path: Path) -> None:
    told = run_module("daemon_room", unit="x.service", ports=[port], path=str(tmp_path), size="100000T")
    assert str(port) in told["msg"]
    assert "100000T" in told["msg"]


def test_a_size_that_is_none(run_module: RunModule, tmp_path: Path) -> None:
    told = run_module("daemon_room", unit="x.service", path=str(tmp_path), size="much")
    assert "'much' is no size" in told["msg"]
