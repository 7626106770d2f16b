"""Nodes: boot them all at once, wait until each is up, learn their host keys."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rackloom.lab.errors import LabError
from rackloom.lab.image import INIT
from rackloom.lab.machine import Machine
from rackloom.lab.podman import LABEL_LAB, LABEL_NODE, LABEL_ROOT, NodeBox, Podman
from rackloom.lab.shell import run

BOOT_TIMEOUT = 180.0
_SETTLE_TIMEOUT = 15.0
_WATCHES = Path("/proc/sys/fs/inotify/max_user_instances")
_WATCHES_OF_HOST, _WATCHES_OF_NODE = 128, 64
_T = TypeVar("_T")
_R = TypeVar("_R")
_REPORT = (
    "systemctl is-system-running --wait; "
    "systemctl --failed --plain --no-legend; echo; "
    "cat /etc/ssh/ssh_host_*_key.pub"
)


@dataclass(frozen=True)
class NodeSpec:
    """A node of a lab."""

    name: str
    address: str
    role: str
    """management, login or compute (for role scenarios: any word)."""
    gpus: int = 0

    @property
    def mac(self) -> str:
        """The network card's address: of this node for good, so nobody's ARP cache is wrong after a restart."""
        return "02:00:" + ":".join(f"{int(part):02x}" for part in self.address.split("."))


@dataclass(frozen=True)
class Fleet:
    """The nodes of one lab, as containers on this machine."""

    podman: Podman
    lab: str
    root: Path
    """The checkout they belong to."""
    network: str
    image: str
    os: str
    prefix: str
    """What container names begin with."""

    def container(self, node: str) -> str:
        """Return the container's name of a node."""
        return f"{self.prefix}{node}"

    def box(self, node: NodeSpec, admin_key: str) -> NodeBox:
        """Return what the engine needs to make `node`; `admin_key` is the key it lets in."""
        machine = self.podman.machine
        return NodeBox(
            name=self.container(node.name),
            node=node.name,
            address=node.address,
            mac=node.mac,
            network=self.network,
            image=self.image,
            labels={LABEL_LAB: self.lab, LABEL_ROOT: str(self.root), LABEL_NODE: node.name},
            environment={
                "RACKLOOM_ADMIN_KEY": admin_key,
                "RACKLOOM_RESOLVERS": " ".join(machine.resolvers),
                "RACKLOOM_GPUS": str(node.gpus),
            },
            command=(INIT, *init_words(self.os, machine)),
        )

    def present(self) -> dict[str, bool]:
        """Return the nodes there are and whether each runs.

        An interrupted run may have left the engine at work on some: they are waited for, and what
        never gets anywhere is removed.
        """
        deadline = time.monotonic() + _SETTLE_TIMEOUT
        while True:
            found = self.podman.containers(lab=self.lab)
            unsettled = [container.name for container in found if not container.settled]
            if not unsettled:
                return {container.node: container.running for container in found}
            if time.monotonic() > deadline:
                self.podman.remove(unsettled)
            else:
                time.sleep(0.2)

    def start(self, nodes: Sequence[NodeSpec], admin_key: str) -> list[str]:
        """Create the nodes that are missing and power on those that are off, all at the same time.

        Returns the names of the nodes created.
        """
        existing = self.present()
        make_room(self.podman, sum(not existing.get(node.name) for node in nodes))

        def one(node: NodeSpec) -> str | None:
            if node.name not in existing:
                try:
                    self.podman.run_node(self.box(node, admin_key))
                except LabError:
                    # An interrupted run's engine may have been faster by a moment.
                    if node.name not in self.present():
                        raise
                return node.name
            if not existing[node.name]:
                self.podman.call("start", self.container(node.name))
            return None

        return [name for name in at_once(one, nodes) if name]

    def wait(self, nodes: Sequence[NodeSpec], timeout: float = BOOT_TIMEOUT) -> dict[str, Booted]:
        """Wait until every node has booted; returns what each said. Raises LabError with a node's log."""
        deadline = time.monotonic() + timeout
        said = at_once(lambda node: self._wait_one(node, deadline), nodes)
        return {node.name: booted for node, booted in zip(nodes, said, strict=True)}

    def _wait_one(self, node: NodeSpec, deadline: float) -> Booted:
        container = self.container(node.name)
        # sshd comes late in the boot and costs nothing to ask; only then is the engine bothered.
        while not _answers(node.address, 22):
            if time.monotonic() > deadline:
                log = self.podman.call("logs", "--tail", "20", container, check=False)
                raise LabError(
                    f"node {node.name} did not boot: no SSH on {node.address} in time; it said: {log}"
                )
            time.sleep(0.1)
        said = self.podman.exec(container, "sh", "-c", _REPORT)
        state, _, rest = said.partition("\n")
        failed, _, keys = rest.partition("\n\n") if not rest.startswith("\n") else ("", "", rest)
        return Booted(
            state=state.strip(),
            failed=tuple(line.split()[0] for line in failed.splitlines() if line.strip()),
            host_keys=tuple(" ".join(line.split()[:2]) for line in keys.splitlines() if line.strip()),
        )


@dataclass(frozen=True)
class Booted:
    """What a node said when it was up."""

    state: str
    """systemd's word: running, degraded, …"""
    failed: tuple[str, ...]
    """Units that failed."""
    host_keys: tuple[str, ...]
    """Its public host keys, as 'type key'."""


def watches_wanted(running: int) -> int:
    """Return how many inotify instances the machine should allow for this many running nodes."""
    return _WATCHES_OF_HOST + _WATCHES_OF_NODE * running


def make_room(podman: Podman, more: int) -> None:
    """Let `more` nodes boot beside what already runs.

    All nodes draw on one number of inotify instances, root's, and most systems allow 128: systemd
    units begin to fail at the twentieth node. It is raised until the machine's next start.
    """
    if not more:
        return
    wanted = watches_wanted(more + len(podman.call("ps", "--quiet").split()))
    if int(_WATCHES.read_text()) < wanted:
        run([*podman.machine.sudo, "tee", str(_WATCHES)], stdin=f"{wanted}\n", check=False)


def init_words(os_id: str, machine: Machine) -> tuple[str, ...]:
    """Return the words systemd needs on its command line.

    From version 256 on (Debian 13) it refuses a legacy cgroup hierarchy unless told twice.
    """
    if machine.cgroup == 1 and os_id not in ("debian-12", "ubuntu-22.04", "ubuntu-24.04"):
        return ("systemd.unified_cgroup_hierarchy=0", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1")
    return ()


def at_once(work: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Do `work` on all items in parallel; returns results in order, raises the first error."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(pool.map(work, items))


def _answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


def known_hosts(nodes: Iterable[NodeSpec], booted: Mapping[str, Booted]) -> str:
    """Return known_hosts lines, from the keys the nodes themselves showed over the engine."""
    return "".join(
        f"{node.address},{node.name} {key}\n"
        for node in nodes
        if node.name in booted
        for key in booted[node.name].host_keys
    )


def make_key(path: Path, comment: str) -> str:
    """Make an Ed25519 key pair at `path` unless it is there; returns the public line."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
    return path.with_name(path.name + ".pub").read_text().strip()


def close_connections(sockets: Iterable[Path]) -> None:
    """End the SSH connections kept open behind these control sockets; what is no socket is left alone."""
    for path in sockets:
        if path.is_socket():
            run(["ssh", "-o", f"ControlPath={path}", "-O", "exit", "node"], check=False)
            path.unlink(missing_ok=True)
