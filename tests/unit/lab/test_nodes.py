"""How a node is asked of the engine, and what is learnt from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rackloom.lab.machine import Machine, Topology
from rackloom.lab.nodes import Booted, Fleet, NodeSpec, init_words, known_hosts, watches_wanted
from rackloom.lab.podman import VOLUMES, Container, Podman, owner_conflict

NODE = NodeSpec("gpu01", "10.96.1.51", "compute", 2)


def machine(
    *, cgroup: int = 2, runtime: str | None = None, limit: int | None = None, sudo: tuple[str, ...] = ()
) -> Machine:
    cpus = Topology(1, 2, 1, regular=True)
    return Machine(sudo, cgroup, runtime, limit, limit, ("192.0.2.1", "192.0.2.2"), cpus, 8000)


def argv_of(host: Machine, os: str = "debian-12") -> list[str]:
    fleet = Fleet(Podman(host), "demo", Path("/src/it"), "rackloom-demo", "image:tag", os, "rackloom-demo-")
    return fleet.podman.run_argv(fleet.box(NODE, "ssh-ed25519 AAAA admin"))


def test_a_capable_machine_needs_no_help() -> None:
    argv = argv_of(machine())
    assert argv[:2] == ["podman", "run"]
    assert "--ulimit" not in argv and "--runtime" not in argv
    for words in (
        ["--name", "rackloom-demo-gpu01"],
        ["--hostname", "gpu01"],
        ["--ip", "10.96.1.51"],
        ["--mac-address", "02:00:0a:60:01:33"],
        ["--label", "rackloom.lab=demo"],
        ["--label", "rackloom.root=/src/it"],
        ["--env", "RACKLOOM_GPUS=2"],
        ["--env", "RACKLOOM_RESOLVERS=192.0.2.1 192.0.2.2"],
    ):
        assert any(argv[at : at + 2] == words for at in range(len(argv))), words
    assert argv[-2:] == ["image:tag", "/usr/local/sbin/node-init"]


def test_what_a_machine_lacks_is_made_up_for() -> None:
    argv = argv_of(machine(cgroup=1, runtime="runc", limit=20000, sudo=("sudo", "-n", "--")))
    assert argv[:7] == ["sudo", "-n", "--", "podman", "--runtime", "runc", "run"]
    assert "nofile=20000:20000" in argv and "nproc=20000:20000" in argv


def test_a_container_engine_finds_a_disk_in_each_node() -> None:
    argv = argv_of(machine())
    volumes = {argv[at + 1] for at, word in enumerate(argv) if word == "--volume"}
    assert set(VOLUMES) <= volumes
    assert all(volume in VOLUMES or volume.endswith(":ro") for volume in volumes), (
        "only these are the node's own"
    )


@pytest.mark.parametrize(
    ("os", "cgroup", "count"),
    [("debian-12", 1, 0), ("debian-13", 1, 2), ("debian-13", 2, 0), ("ubuntu-24.04", 1, 0)],
)
def test_new_systemd_is_told_about_old_cgroups(os: str, cgroup: int, count: int) -> None:
    assert len(init_words(os, machine(cgroup=cgroup))) == count


def test_known_hosts_holds_only_nodes_that_spoke() -> None:
    booted = {"gpu01": Booted("running", (), ("ssh-ed25519 AAAA", "ssh-rsa BBBB"))}
    other = NodeSpec("gpu02", "10.96.1.52", "compute", 2)
    assert known_hosts([NODE, other], booted) == (
        "10.96.1.51,gpu01 ssh-ed25519 AAAA\n10.96.1.51,gpu01 ssh-rsa BBBB\n"
    )


def test_another_checkouts_lab_is_not_touched() -> None:
    container = Container("rackloom-lab-gpu01", "gpu01", "lab", "/elsewhere", "running")
    assert owner_conflict([container], Path("/elsewhere")) is None
    error = owner_conflict([container], Path("/here"))
    assert error is not None and "/elsewhere" in str(error) and "--name" in error.hint


def test_room_grows_with_the_nodes() -> None:
    assert watches_wanted(4) < 128 * 4 < watches_wanted(20)
