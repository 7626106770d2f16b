"""host_settings makes resolv.conf ours without losing the way out, and sets what the kernel lets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plugins.module_utils import node_host
from plugins.module_utils.node_host import name_servers_in, resolv_conf, sysctl_path


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node whose files lie in a directory, and on which nothing owns the resolver."""
    monkeypatch.setattr(node_host, "RESOLV_CONF", str(tmp_path / "resolv.conf"))
    monkeypatch.setattr(node_host, "BEHIND_STUB", (str(tmp_path / "behind-stub"),))
    monkeypatch.setattr(
        node_host, "OWNERS", ((str(tmp_path / "nm"), str(tmp_path / "nm/conf.d/dns"), "x\n"),)
    )
    monkeypatch.setattr(node_host, "sysctl_path", lambda key: str(tmp_path / key))
    return tmp_path


def resolver(run_module: Any, *servers: str, check: bool = False) -> dict[str, Any]:
    done: dict[str, Any] = run_module(
        "host_settings", resolver={"name_servers": list(servers), "search": ["demo.example"]}, check=check
    )
    return done


def test_own_servers_stay_behind_the_clusters(run_module: Any, node: Path) -> None:
    path = node / "resolv.conf"
    path.write_text("nameserver 192.0.2.53\n")
    assert resolver(run_module, "10.0.0.1", check=True)["changed"]
    assert path.read_text() == "nameserver 192.0.2.53\n"
    assert resolver(run_module, "10.0.0.1", "10.0.0.2", "10.0.0.3")["changed"]
    lines = [line for line in path.read_text().splitlines() if line.startswith("nameserver")]
    assert lines == ["nameserver 10.0.0.1", "nameserver 10.0.0.2", "nameserver 192.0.2.53"]
    assert not resolver(run_module, "10.0.0.1", "10.0.0.2", "10.0.0.3")["changed"]
    # A cluster's server that is gone is not taken for one of the node's own.
    resolver(run_module, "10.0.0.9")
    assert name_servers_in(path.read_text()) == ["192.0.2.53"]
    assert "10.0.0.1" not in path.read_text()


def test_link_to_a_stub_becomes_a_file(run_module: Any, node: Path) -> None:
    (node / "stub").write_text("nameserver 127.0.0.53\n")
    (node / "behind-stub").write_text("nameserver 192.0.2.7\n")
    (node / "resolv.conf").symlink_to(node / "stub")
    resolver(run_module, "10.0.0.1")
    assert not (node / "resolv.conf").is_symlink()
    assert "nameserver 192.0.2.7" in (node / "resolv.conf").read_text()
    assert (node / "stub").read_text() == "nameserver 127.0.0.53\n"


def test_owner_is_told_to_leave_it_alone(run_module: Any, node: Path) -> None:
    (node / "nm").mkdir()
    resolver(run_module, "10.0.0.1")
    assert (node / "nm/conf.d/dns").read_text() == "x\n"


def test_no_servers_leave_the_resolver_alone(run_module: Any, node: Path) -> None:
    assert not resolver(run_module)["changed"]
    assert not (node / "resolv.conf").exists()


def test_resolv_conf_holds_what_the_c_library_reads() -> None:
    assert resolv_conf(["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"], [], []).count("nameserver") == 3
    assert "search" not in resolv_conf(["1.1.1.1"], [], [])


def test_kernel_settings(run_module: Any, node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.exists", lambda _: False)
    (node / "net.a").write_text("4096\t131072\n")
    (node / "net.b").write_text("1\n")
    wanted = {"net.a": "4096 131072", "net.b": "2", "net.none": "1"}
    done = run_module("host_settings", sysctl=wanted)
    assert done["actions"] == ["sysctl net.b"]
    assert list(done["not_set"]) == ["net.none"]
    assert not run_module("host_settings", sysctl=wanted)["changed"]


def test_container_leaves_the_hosts_kernel_alone(
    run_module: Any, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.path.exists", lambda path: path == "/run/systemd/container")
    (node / "vm.swappiness").write_text("60\n")
    done = run_module("host_settings", sysctl={"vm.swappiness": "10"})
    assert not done["changed"]
    assert (node / "vm.swappiness").read_text() == "60\n"


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.core.somaxconn", "net/core/somaxconn"),
        ("net/ipv4/conf/eth0.5/forwarding", "net/ipv4/conf/eth0.5/forwarding"),
        ("net.ipv4.conf.eth0/5.forwarding", "net/ipv4/conf/eth0.5/forwarding"),
    ],
)
def test_where_a_key_lies(key: str, path: str) -> None:
    assert sysctl_path(key) == f"/proc/sys/{path}"


def test_unknown_time_zone_is_refused(
    run_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_host, "ZONES", str(tmp_path))
    assert "Mars/Base" in run_module("host_settings", timezone="Mars/Base")["msg"]
