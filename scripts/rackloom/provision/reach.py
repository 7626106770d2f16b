"""SSH to the nodes of a site from here: the command line, the host keys, and whether a node lets us in."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rackloom.site.resolved import Node, Site

_PATIENCE = 15


@dataclass(frozen=True)
class Reach:
    """How this site's nodes are reached, as its inventory tells Ansible."""

    user: str
    port: int
    key: Path | None
    known_hosts: Path

    @classmethod
    def of(cls, site: Site) -> Reach:
        """Read it from the site."""
        ssh, folder = site.cluster.ssh, site.config_dir.resolve()
        key = folder / (ssh.private_key or "ssh/id_ed25519")
        wanted = key if ssh.private_key or key.is_file() else None
        return cls(ssh.user, ssh.port, wanted, folder / ssh.known_hosts)

    def argv(self, address: str, *command: str, strict: str = "yes", user: str = "") -> list[str]:
        """Return the command line of a command on a node; it never asks anything."""
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "5",
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "StrictHostKeyChecking": strict,
            "UserKnownHostsFile": str(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "ControlPath": "none",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        if self.key:
            words += ["-o", "IdentitiesOnly=yes", "-i", str(self.key)]
        return ["ssh", "-T", *words, "-p", str(self.port), f"{user or self.user}@{address}", *command]

    def lets_in(self, address: str) -> bool:
        """Tell whether a node opens to our key; another host key than the one that is known is a no."""
        if not self.answers(address):
            return False
        try:
            done = subprocess.run(
                self.argv(address, "true", strict="accept-new"),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE * 2,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    def answers(self, address: str) -> bool:
        """Tell whether an SSH server speaks there; costs no process."""
        try:
            with socket.create_connection((address, self.port), timeout=2) as connection:
                connection.settimeout(_PATIENCE)
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def command_on(self, node: Node, *command: str) -> list[str]:
        """Return the command line of a command with root's rights on a node; on this machine where it is that."""
        own = node.vars.get("ansible_connection") == "local"
        root = (os.geteuid() == 0) if own else (self.user == "root")
        words = [*(() if root else ("sudo", "-n")), *command]
        return words if own else self.argv(node.address, *words, strict="accept-new")

    def label(self, node: str, address: str) -> str:
        """Return a node's names as a line of known_hosts begins with them."""
        standard = 22
        names = [name for name in (address, node) if name]
        return ",".join(names if self.port == standard else [f"[{name}]:{self.port}" for name in names])

    def record(self, keys: Mapping[tuple[str, str], Sequence[str]]) -> None:
        """Write the host keys of (name, address) into known_hosts; what was there of these nodes goes."""
        if not keys:
            return
        path = self.known_hosts
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            labels = {pair: self.label(*pair) for pair in keys}
            ours = {name for label in labels.values() for name in label.split(",")}
            old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            kept = [line for line in old if not (ours & set(line.partition(" ")[0].split(",")))]
            new = [
                f"{labels[pair]} {' '.join(key.split()[:2])}" for pair, found in keys.items() for key in found
            ]
            fresh = path.with_name(f".{path.name}.new")
            fresh.write_text("".join(f"{line}\n" for line in [*kept, *new]), encoding="utf-8")
            fresh.chmod(0o600)
            fresh.replace(path)
