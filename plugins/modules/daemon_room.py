#!/usr/bin/python
"""Whether a host has what a daemon is going to need: free ports, and disk for what it may keep."""

from __future__ import annotations

DOCUMENTATION = r"""
module: daemon_room
short_description: Look whether a daemon's ports are free and its disk is large enough
description:
  - Made for the moment before a daemon is installed or restarted. Fails with a sentence that names the program which
    has the port, or the disk that is too small. Changes nothing.
  - What listens in the daemon's own unit is the daemon itself, and no trouble.
options:
  unit:
    description: The daemon's systemd unit.
    type: str
    required: true
  ports:
    description: TCP ports that it is going to listen on.
    type: list
    elements: int
    default: []
  path:
    description: Folder in which it keeps data; it need not be there yet.
    type: path
  size:
    description: How much it may keep there, as C(50G); nothing is looked at without it.
    type: str
    default: ""
  size_name:
    description: What the size is called where it is set, for the message.
    type: str
    default: size
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Look whether Prometheus has room
  rackloom.cluster.daemon_room:
    unit: prometheus.service
    ports: [9090]
    path: /var/lib/prometheus/metrics2
    size: 50G
"""

RETURN = r"""
disk_bytes:
  description: Size of the disk that the folder is on.
  returned: when a size was given
  type: int
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
LISTENS = "0A"


def size_bytes(text: str) -> int:
    """Return bytes of a size as 50G; raises ValueError."""
    match = re.fullmatch(r"([0-9]+)([KMGT])(?:i?B)?", text)
    if match is None:
        raise ValueError(f"{text!r} is no size")
    return int(match.group(1)) * UNITS[match.group(2)]


def listening(ports: list[int], proc: Path) -> dict[int, str]:
    """Return those of the ports on which somebody listens, each with the inode of a socket."""
    found: dict[int, str] = {}
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            port = int(words[1].rpartition(":")[2], 16)
            if words[3] == LISTENS and port in ports:
                found.setdefault(port, words[9])
    return found


def holders(inodes: set[str], proc: Path) -> Iterator[tuple[str, Path]]:
    """Yield each of the sockets with the folder of a process that has it open."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    for process in proc.glob("[0-9]*"):
        try:
            for link in (process / "fd").iterdir():
                target = os.readlink(link)
                if target in wanted:
                    yield wanted[target], process
        except OSError:
            continue  # it ended meanwhile


def taken(ports: list[int], unit: str, proc: Path = Path("/proc")) -> list[str]:
    """Return a sentence for each port that a program outside of the unit has."""
    found = listening(ports, proc)
    owners = dict(holders(set(found.values()), proc))
    said = []
    for port, inode in sorted(found.items()):
        process = owners.get(inode)
        if process is None:
            said.append(f"Port {port} is taken, by a program that is not of this host's.")
            continue
        try:
            group = (process / "cgroup").read_text()
            name = (process / "comm").read_text().strip()
        except OSError:
            continue
        if not re.search(rf"/{re.escape(unit)}(/|$)", group, re.MULTILINE):
            said.append(f"Port {port} is taken by {name} (process {process.name}).")
    return said


def disk(path: str) -> int:
    """Return the size of the disk on which a folder is, or would be."""
    place = Path(path)
    while not place.exists() and place != place.parent:
        place = place.parent
    at = os.statvfs(place)
    return at.f_blocks * at.f_frsize


def main() -> None:
    """Look, and fail with all that is wrong."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "ports": {"type": "list", "elements": "int", "default": []},
            "path": {"type": "path"},
            "size": {"type": "str", "default": ""},
            "size_name": {"type": "str", "default": "size"},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    wrong = taken(wanted["ports"], wanted["unit"])
    result: dict[str, int] = {}
    if wanted["size"] and wanted["path"]:
        size = 0
        try:
            size = size_bytes(wanted["size"])
        except ValueError as error:
            module.fail_json(msg=f"{wanted['size_name']}: {error}.")
        result["disk_bytes"] = disk(wanted["path"])
        if size > result["disk_bytes"]:
            has = result["disk_bytes"] / UNITS["G"]
            wrong.append(
                f"{wanted['size_name']} is {wanted['size']}, and the disk of {wanted['path']} has {has:.0f}G."
            )
    if wrong:
        module.fail_json(msg=" ".join(wrong) + " Nothing was changed.", **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
