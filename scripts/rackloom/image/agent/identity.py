"""Make a root file system the root of one node: its name, network, clock, users and keys."""

from __future__ import annotations

import ipaddress
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import programs
from .trouble import TroubleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_KEY_TYPES = ("ed25519", "ecdsa")
_NEEDED = ("name", "address", "prefix", "mac")


def check(node: Mapping[str, Any]) -> None:
    """Refuse a node.json that would make a node nobody can reach. Raises TroubleError."""
    missing = [key for key in _NEEDED if not node.get(key)]
    if missing:
        raise TroubleError(f"node.json has no {missing[0]}", "deploy the boot server again")
    if not node.get("ssh_keys"):
        raise TroubleError(
            f"{node['name']} has no SSH key, so nobody could log in",
            "give an admin a key in cluster.yml, or see that the controlling machine has one",
        )


def write(root: Path, node: Mapping[str, Any], *, stable_id: bool) -> None:
    """Write who this node is below `root`.

    `stable_id` gives the system its machine-id for good; a system in memory has got one from systemd already.
    """
    for path, text in files(node).items():
        _write(root / path, text)
    zone = str(node.get("timezone") or "Etc/UTC")
    if (root / "usr/share/zoneinfo" / zone).is_file():
        _link(root / "etc/localtime", f"/usr/share/zoneinfo/{zone}")
    if stable_id:
        _write(root / "etc/machine-id", uuid.uuid4().hex + "\n", 0o444)
        _link(root / "var/lib/dbus/machine-id", "/etc/machine-id")
    _user(root, str(node.get("ssh_user") or "root"), node["ssh_keys"])


def files(node: Mapping[str, Any]) -> dict[str, str]:
    """Path -> text of what names this node and connects it."""
    name, domain = str(node["name"]), str(node.get("domain") or "")
    full = f"{name}.{domain} {name}" if domain else name
    servers = [str(server) for server in node.get("name_servers") or []]
    search = [str(one) for one in node.get("search") or ([domain] if domain else [])]
    resolver = [*(f"nameserver {server}" for server in servers[:3])]
    if search:
        resolver.append(f"search {' '.join(search)}")
    return {
        "etc/hostname": f"{name}\n",
        "etc/hosts": f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{node['address']} {full}\n",
        "etc/resolv.conf": "".join(f"{line}\n" for line in resolver),
        "etc/timezone": f"{node.get('timezone') or 'Etc/UTC'}\n",
        "etc/systemd/network/10-rackloom.network": network(node),
    }


def network(node: Mapping[str, Any]) -> str:
    """The boot interface's configuration for systemd-networkd: the address that the site gave this node."""
    address = ipaddress.ip_interface(f"{node['address']}/{node['prefix']}")
    lines = [
        "[Match]",
        f"MACAddress={node['mac']}",
        "Type=ether",
        "",
        "[Network]",
        f"Address={address}",
        "LinkLocalAddressing=ipv6",
        "IPv6AcceptRA=no",
        "LLDP=yes",
        "EmitLLDP=yes",
    ]
    if node.get("router"):
        lines.append(f"Gateway={node['router']}")
    lines += [f"NTP={server}" for server in node.get("time_servers") or []]
    return "\n".join(lines) + "\n"


def host_keys(root: Path) -> list[str]:
    """Make SSH host keys below `root`, new ones in place of any that are there; returns the public halves."""
    folder = root / "etc/ssh"
    for old in folder.glob("ssh_host_*"):
        old.unlink()
    found = []
    for kind in _KEY_TYPES:
        path = folder / f"ssh_host_{kind}_key"
        programs.run("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(path))
        found.append(path.with_suffix(".pub").read_text(encoding="ascii").strip())
    return found


def public_keys(root: Path) -> list[str]:
    """The public halves of the host keys below `root`."""
    return [
        path.read_text(encoding="ascii").strip() for path in sorted((root / "etc/ssh").glob("ssh_host_*.pub"))
    ]


def _user(root: Path, name: str, keys: Iterable[str]) -> None:
    """Let the holders of `keys` in as `name`; another user than root may become root."""
    home, uid, gid = root / "root", 0, 0
    if name != "root":
        home = root / "home" / name
        if not _has_user(root, name):
            inside = ("--root", str(root)) if root != Path("/") else ()
            programs.run("useradd", *inside, "--create-home", "--shell", "/bin/bash", name)
        _write(root / f"etc/sudoers.d/10-{name}", f"{name} ALL=(ALL) NOPASSWD: ALL\n", 0o440)
        uid, gid = _numbers(root, name)
    _write(home / ".ssh/authorized_keys", "".join(f"{key}\n" for key in keys), 0o600)
    (home / ".ssh").chmod(0o700)
    for path in (home / ".ssh", home / ".ssh/authorized_keys"):
        if os.geteuid() == 0:
            os.chown(path, uid, gid)


def _has_user(root: Path, name: str) -> bool:
    return any(line.startswith(f"{name}:") for line in _accounts(root))


def _numbers(root: Path, name: str) -> tuple[int, int]:
    fields = next(line.split(":") for line in _accounts(root) if line.startswith(f"{name}:"))
    return int(fields[2]), int(fields[3])


def _accounts(root: Path) -> list[str]:
    path = root / "etc/passwd"
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file anew; a link that stood there is replaced, not followed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink() if path.is_symlink() else None
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink() if path.is_symlink() or path.exists() else None
    path.symlink_to(target)
