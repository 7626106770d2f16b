"""Settings of a running node: its name, time zone, kernel settings and name servers."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

ZONES = "/usr/share/zoneinfo"
RESOLV_CONF = "/etc/resolv.conf"
# Where to find a server's real address when resolv.conf names a stub on the node itself.
BEHIND_STUB = ("/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf")
HEADER = "# Managed by Rackloom"
OWN = "# The node's own servers"
MOST_SERVERS = 3  # the C library reads no more
# Keys that belong to a container itself; everything else under /proc/sys is shared with its host.
OF_A_CONTAINER = ("net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.", "user.")
OWNERS = (
    ("/etc/NetworkManager", "/etc/NetworkManager/conf.d/90-rackloom-dns.conf", "[main]\ndns=none\n"),
    (
        "/etc/dhcp/dhclient-enter-hooks.d",
        "/etc/dhcp/dhclient-enter-hooks.d/rackloom",
        "make_resolv_conf() { :; }\n",
    ),
)


class Refused(Exception):
    """A sentence for the user."""


def read(path: str) -> str:
    """Return a file's text, '' when there is none."""
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as handle:
        return handle.read()
    return ""


def name_servers_in(text: str) -> list[str]:
    """Return the servers that resolv.conf names which are not on the node itself; of a file of ours, its own ones."""
    if HEADER in text:
        text = text.partition(OWN)[2]
    found: list[str] = []
    for words in (line.split() for line in text.splitlines()):
        if len(words) > 1 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):
                if not ipaddress.ip_address(words[1].partition("%")[0]).is_loopback:
                    found.append(words[1])
    return found


def resolv_conf(servers: list[str], fallback: list[str], search: list[str]) -> str:
    """Return resolv.conf; one place of the three that the C library reads is kept for a fallback, if there is one."""
    spare = [address for address in fallback if address not in servers]
    first = servers[: MOST_SERVERS - 1] if spare else servers[:MOST_SERVERS]
    lines = [HEADER]
    lines += ["search " + " ".join(search)] if search else []
    lines += [f"nameserver {address}" for address in first]
    if spare:
        lines += [
            f"{OWN}, or those of the site",
            *(f"nameserver {a}" for a in spare[: MOST_SERVERS - len(first)]),
        ]
    return "\n".join([*lines, "options timeout:1 attempts:2", ""])


def sysctl_path(key: str) -> str:
    """Return the file of a key; a key whose first separator is a slash has dots inside its parts."""
    slash, dot = key.find("/"), key.find(".")
    plain = slash != -1 and (dot == -1 or slash < dot)
    return "/proc/sys/" + (key if plain else key.translate(str.maketrans("./", "/.")))


class Host:
    """This node, and what was done to it."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.check = bool(module.check_mode)
        self.actions: list[str] = []
        self.not_set: dict[str, str] = {}
        self.diffs: list[dict[str, str]] = []

    def note(self, what: str, before: str, after: str) -> None:
        """Record one change."""
        self.actions.append(what)
        self.diffs.append({"before_header": what, "after_header": what, "before": before, "after": after})

    def apply(self, wanted: dict[str, Any]) -> None:
        """Bring all that is wanted into force; Refused with a sentence where that is impossible."""
        if wanted["hostname"]:
            self.hostname(wanted["hostname"])
        if wanted["timezone"]:
            self.timezone(wanted["timezone"])
        self.sysctl(wanted["sysctl"])
        if wanted["resolver"]:
            self.resolver(wanted["resolver"])

    def hostname(self, wanted: str) -> None:
        """Set the kernel's host name."""
        now = socket.gethostname()
        if now == wanted:
            return
        if not self.check:
            try:
                socket.sethostname(wanted)
            except PermissionError:
                self.module.warn(f"this node keeps its name {now}: it is not allowed to change it")
                return
        self.note("hostname", f"{now}\n", f"{wanted}\n")

    def timezone(self, wanted: str) -> None:
        """Point /etc/localtime at the zone; Refused when tzdata does not know it."""
        zone, link = f"{ZONES}/{wanted}", "/etc/localtime"
        if os.path.isdir(ZONES) and not os.path.isfile(zone):
            raise Refused(f"there is no time zone {wanted!r} in {ZONES}")
        now = os.path.normpath(os.path.join("/etc", os.readlink(link))) if os.path.islink(link) else ""
        if now == zone:
            return
        self.note("timezone", f"{now}\n", f"{zone}\n")
        if not self.check:
            temporary = f"{link}.rackloom-{os.getpid()}"
            os.symlink(zone, temporary)
            os.rename(temporary, link)

    def sysctl(self, wanted: dict[str, str]) -> None:
        """Write the kernel settings that differ."""
        container = os.path.exists("/run/systemd/container") or os.path.exists("/run/.containerenv")
        for key, value in wanted.items():
            path, want = sysctl_path(key), " ".join(str(value).split())
            if container and not key.replace("/", ".").startswith(OF_A_CONTAINER):
                self.not_set[key] = "belongs to the container's host"
                continue
            try:
                with open(path, encoding="ascii") as handle:
                    now = " ".join(handle.read().split())
                if now == want:
                    continue
                if self.check:
                    if not os.access(path, os.W_OK):
                        self.not_set[key] = "is read-only"
                        continue
                else:
                    with open(path, "w", encoding="ascii") as handle:
                        handle.write(want)
                    if " ".join(read(path).split()) == now:
                        self.not_set[key] = f"the kernel keeps {now}"
                        continue
            except OSError as error:
                self.not_set[key] = str(error.strerror)
            else:
                self.note(f"sysctl {key}", f"{now}\n", f"{want}\n")
        refused = {key: why for key, why in self.not_set.items() if not container}
        if refused:
            self.module.warn(
                "kernel settings not set: " + "; ".join(f"{key}: {refused[key]}" for key in refused)
            )

    def resolver(self, wanted: dict[str, Any]) -> None:
        """Make resolv.conf ours; its other owners are told first, so an unfinished run is seen by the old file."""
        servers: list[str] = wanted["name_servers"] or []
        if not servers:
            return
        before = read(RESOLV_CONF)
        fallback: list[str] = wanted["fallback"] or name_servers_in(before)
        if not fallback and HEADER not in before:
            fallback = next(filter(None, (name_servers_in(read(path)) for path in BEHIND_STUB)), [])
        after = resolv_conf(servers, fallback, wanted["search"] or [])
        if before == after and not os.path.islink(RESOLV_CONF):
            return
        self.note("resolver", before, after)
        if self.check:
            return
        for folder, path, text in OWNERS:
            if os.path.isdir(folder):
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                replace(path, text)
        manager = "NetworkManager.service"
        if self.module.run_command(["systemctl", "is-active", "--quiet", manager])[0] == 0:
            self.module.run_command(["systemctl", "reload", manager], check_rc=True)
        replace(RESOLV_CONF, after)


def replace(path: str, text: str) -> None:
    """Replace a file or link by a file, atomically, or in place where it is mounted into a container."""
    descriptor, temporary = tempfile.mkstemp(prefix=".rackloom-", dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
        os.chmod(temporary, 0o644)
        try:
            os.rename(temporary, path)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EXDEV):
                raise
            with open(path, "w", encoding="utf-8") as handle:
                handle.write(text)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
