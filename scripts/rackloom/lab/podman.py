"""The container engine, spoken to in lists of words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackloom.lab.errors import LabError
from rackloom.lab.machine import Machine
from rackloom.lab.shell import run

LABEL_LAB = "rackloom.lab"
LABEL_ROOT = "rackloom.root"
LABEL_NODE = "rackloom.node"

VOLUMES = ("/var/lib/containerd", "/var/lib/containers", "/var/lib/kubelet", "/var/lib/etcd")
"""Folders of a node that lie on this machine's own file system: where a container engine keeps layers it cannot stand
on layers of ours, and etcd wants a disk. They last as long as the node, off or on, and go with it."""
MODULES = Path("/lib/modules")


@dataclass(frozen=True)
class Container:
    """A node as the engine knows it."""

    name: str
    node: str
    lab: str
    root: str
    state: str
    """created, running, exited, …"""

    @property
    def running(self) -> bool:
        """Whether the node is powered on."""
        return self.state == "running"

    @property
    def settled(self) -> bool:
        """Whether the engine is done with it, for now."""
        return self.state in ("running", "exited", "stopped", "paused")


@dataclass(frozen=True)
class NodeBox:
    """What the engine needs to know to make one node."""

    name: str
    """The container's name, unique on this machine."""
    node: str
    """The node's own host name."""
    address: str
    mac: str
    network: str
    image: str
    labels: Mapping[str, str]
    environment: Mapping[str, str]
    command: tuple[str, ...]


@dataclass(frozen=True)
class Podman:
    """Podman on this machine, with what the machine lacks made up for by options."""

    machine: Machine

    def argv(self, *words: str) -> list[str]:
        """Return the full command line for `podman WORDS`."""
        runtime = ["--runtime", self.machine.runtime] if self.machine.runtime else []
        return [*self.machine.sudo, "podman", *runtime, *words]

    def call(self, *words: str, check: bool = True, timeout: float | None = None) -> str:
        """Run `podman WORDS` and return its output. Raises LabError on failure, with `check`."""
        return run(self.argv(*words), check=check, timeout=timeout, detached=True).stdout

    def call_status(self, *words: str) -> int:
        """Run `podman WORDS` and return its exit status."""
        return run(self.argv(*words), check=False, detached=True).returncode

    def image_exists(self, name: str) -> bool:
        """Whether an image of this name is stored."""
        return self.call_status("image", "exists", name) == 0

    def containers(self, **labels: str) -> list[Container]:
        """Return the nodes that carry all of `labels` (given without their `rackloom.` prefix)."""
        wanted = [f"label=rackloom.{key}={value}" for key, value in labels.items()]
        filters = [word for label in wanted for word in ("--filter", label)]
        rows: list[dict[str, Any]] = json.loads(
            self.call("ps", "--all", "--no-trunc", "--format", "json", *filters) or "[]"
        )
        return [
            Container(
                name=row["Names"][0],
                node=row["Labels"].get(LABEL_NODE, ""),
                lab=row["Labels"].get(LABEL_LAB, ""),
                root=row["Labels"].get(LABEL_ROOT, ""),
                state=row["State"],
            )
            for row in rows or []
            if LABEL_NODE in (row.get("Labels") or {})
        ]

    def networks(self) -> list[dict[str, Any]]:
        """Return every network's own description, as `network inspect` gives it."""
        names = self.call("network", "ls", "--quiet").split()
        # One may go while we ask: the others are described all the same.
        told = self.call("network", "inspect", *names, check=False)
        described: list[dict[str, Any]] = json.loads(told or "[]")
        return described

    def create_network(self, name: str, subnet: str, labels: Mapping[str, str]) -> None:
        """Make a network of fixed addresses with a way out and no name server. Raises LabError."""
        words = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
        self.call("network", "create", "--disable-dns", "--subnet", subnet, *words, name)

    def run_argv(self, box: NodeBox) -> list[str]:
        """Return the command line that creates and starts a node."""
        limits = [
            word
            for limit, value in (("nofile", self.machine.nofile), ("nproc", self.machine.nproc))
            if value is not None
            for word in ("--ulimit", f"{limit}={value}:{value}")
        ]
        volumes = [*VOLUMES, *([f"{MODULES}:{MODULES}:ro"] if MODULES.is_dir() else [])]
        return self.argv(
            "run",
            "--detach",
            "--name",
            box.name,
            "--hostname",
            box.node,
            "--network",
            box.network,
            "--ip",
            box.address,
            "--mac-address",
            box.mac,
            # Names and resolvers are the cluster's business, not the engine's.
            "--no-hosts",
            "--dns=none",
            "--privileged",
            "--systemd=always",
            "--cgroupns=private",
            "--pids-limit=-1",
            # A reboot ends the container; as on a server, the node starts again. One that is switched off stays off.
            "--restart=on-failure",
            "--pull=never",
            "--log-driver=k8s-file",
            "--log-opt=max-size=1mb",
            "--stop-timeout=20",
            *limits,
            *(word for volume in volumes for word in ("--volume", volume)),
            *(word for key, value in box.labels.items() for word in ("--label", f"{key}={value}")),
            *(word for key, value in box.environment.items() for word in ("--env", f"{key}={value}")),
            box.image,
            *box.command,
        )

    def run_node(self, box: NodeBox) -> None:
        """Create and start a node. Raises LabError with the engine's words.

        Should we be killed meanwhile the engine goes on alone: what it has half made (an address
        given out, a container without one) could not be taken back.
        """
        run(self.run_argv(box), detached=True)

    def exec(self, name: str, *command: str, check: bool = True, timeout: float | None = 120) -> str:
        """Run a command inside a node and return its output."""
        return self.call("exec", name, *command, check=check, timeout=timeout)

    def remove(self, names: list[str]) -> None:
        """Remove containers at once, with their anonymous volumes."""
        if names:
            self.call("kill", "--signal", "KILL", *names, check=False)  # nobody is left to say goodbye to
            self.call("rm", "--force", "--volumes", *names)


def owner_conflict(found: list[Container], root: Path) -> LabError | None:
    """Return the error to raise where containers of this name were made by another checkout."""
    for container in found:
        if container.root != str(root):
            return LabError(
                f"a lab named '{container.lab}' already runs from {container.root}",
                "choose another --name, or take that one down first",
            )
    return None
