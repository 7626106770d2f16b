#!/usr/bin/python
"""Arm nodes on the boot server: the only way by which one gets to install."""

from __future__ import annotations

DOCUMENTATION = r"""
module: boot_arm
short_description: Let nodes install their operating system, once, at their next boot from the network
description:
  - Runs on the boot server and works on its files alone; nothing is switched on or restarted.
  - An armed node stays armed until it has reported success. Arming it again before that changes nothing, so an
    interrupted run can go on. After a failure it is armed anew.
  - A node that runs an operating system, or has installed one when it was armed before, is refused. Only
    O(reinstall_and_erase_disks) overrules that. The others are armed all the same, then the task fails.
  - A node that runs from memory has no disk to lose and is never refused; being armed lets it report.
options:
  path:
    description: Where the boot server keeps what it serves.
    type: path
    required: true
  nodes:
    description: The nodes to arm.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The node's name, for messages.
        type: str
        required: true
      mac:
        description: Hardware address of the card that it boots from.
        type: str
        required: true
      address:
        description: Its address; asked for an SSH server, because one that answers runs an operating system.
        type: str
        default: ""
      port:
        description: TCP port of that SSH server.
        type: int
        default: 22
      image:
        description: The image that it gets.
        type: str
        required: true
      mode:
        description: How it uses the image.
        type: str
        choices: [disk, memory, installer]
        default: disk
  state:
    description: V(disarmed) takes back an arming that has not been used.
    type: str
    choices: [armed, disarmed]
    default: armed
  reinstall_and_erase_disks:
    description: Also arm nodes that run an operating system. All that is on their disks is lost.
    type: bool
    default: false
  patience:
    description: Seconds to wait for an SSH server's first words.
    type: float
    default: 3
notes:
  - In check mode nothing is armed, and the answer tells what would be.
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Let two nodes install
  rackloom.cluster.boot_arm:
    path: "{{ boot_server_path }}"
    nodes: "{{ boot_server_nodes | selectattr('name', 'in', ['gpu001', 'gpu002']) }}"
"""

RETURN = r"""
rackloom_armed:
  description:
    - One entry a node. RV(ignore:state) is C(armed) (now), C(waiting) (armed earlier, has not reported success yet),
      C(running) (it runs an operating system), C(installed) (it installed one earlier and does not answer),
      C(missing) (there is no such image) or C(disarmed). C(age) is the number of seconds since it was armed.
  returned: always
  type: list
  elements: dict
  sample: [{name: gpu001, mac: "02:00:0a:0a:01:01", state: armed, token: 5d41402abc4b2a76, image_id: ""}]
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule

MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
REFUSED = ("running", "installed", "missing")
CURES = {
    "running": "it runs an operating system; to install it anew and lose what is on its disks, set "
    "reinstall_and_erase_disks",
    "installed": "it was installed {since} and does not answer; switch it on, or set reinstall_and_erase_disks to "
    "install it anew and lose what is on its disks",
    "missing": "there is no image {image} on the boot server; build and publish it first",
}


@dataclass(frozen=True)
class Place:
    """Where one node's arming lies on the boot server."""

    http: str
    mac: str

    @property
    def link(self) -> str:
        """The link that arms it."""
        return os.path.join(self.http, "nodes", self.mac.replace(":", "-"), "armed")

    @property
    def reports(self) -> str:
        """The folder with a folder of reports for each arming."""
        return os.path.join(self.http, "reports", self.mac.replace(":", "-"))

    @property
    def token(self) -> str:
        """The token in force, empty when it is not armed."""
        try:
            return os.path.basename(os.readlink(self.link))
        except OSError:
            return ""

    def report(self, token: str, stage: str) -> dict[str, Any] | None:
        """Return what the node reported under a token, None when it did not."""
        with contextlib.suppress(OSError, ValueError):
            with open(os.path.join(self.reports, token, f"{stage}.json"), encoding="utf-8") as handle:
                told = json.load(handle)
            return told if isinstance(told, dict) else {}
        # A report cut short by a power failure is a report.
        return {} if os.path.exists(os.path.join(self.reports, token, f"{stage}.json")) else None

    def tokens(self) -> list[str]:
        """Return every token there are reports of."""
        with contextlib.suppress(OSError):
            return sorted(os.listdir(self.reports))
        return []

    def installed(self) -> str | None:
        """Return when it reported that it was installed, None when it never did."""
        times = [
            os.path.getmtime(os.path.join(self.reports, token, "installed.json"))
            for token in self.tokens()
            if self.report(token, "installed") is not None
        ]
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(max(times))) if times else None


def answers(address: str, port: int, patience: float) -> bool:
    """Tell whether an SSH server speaks at an address."""
    if not address:
        return False
    try:
        with socket.create_connection((address, port), timeout=patience) as connection:
            connection.settimeout(patience)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def image_id(http: str, image: str) -> str:
    """Return the number of the image that is current, empty when there is none."""
    try:
        return os.path.basename(os.readlink(os.path.join(http, "images", image, "current")).rstrip("/"))
    except OSError:
        return ""


def verdict(
    node: dict[str, Any], place: Place, number: str, *, erase: bool, patience: float
) -> dict[str, Any]:
    """Say what is to be done about a node; nothing is changed."""
    told: dict[str, Any] = {
        "name": node["name"], "mac": node["mac"], "mode": node["mode"], "image": node["image"],
        "image_id": number, "token": "", "age": 0.0, "message": "",
    }  # fmt: skip
    token = place.token
    armed = place.report(token, "armed") if token else None
    done = "booted" if node["mode"] == "memory" else "installed"
    started = armed is not None and place.report(token, "started") is not None
    speaks = not erase and answers(node["address"], node["port"], patience)
    if (
        armed is not None
        and armed.get("image") == node["image"]
        and place.report(token, done) is None
        and place.report(token, "failed") is None
        # One that speaks and has not begun runs what its disks hold. Who has not begun gets the newest image.
        and (started or (not speaks and armed.get("image_id") in ("", number)))
    ):
        age = max(0.0, time.time() - float(armed.get("issued") or 0))
        return {**told, "state": "waiting", "token": token, "image_id": armed.get("image_id", ""), "age": age}
    if speaks:
        return {**told, "state": "running", "message": CURES["running"]}
    since = place.installed() if node["mode"] != "memory" and not erase else None
    if since:
        return {**told, "state": "installed", "message": CURES["installed"].format(since=since)}
    if not number and node["mode"] != "installer":
        return {**told, "state": "missing", "message": CURES["missing"].format(image=node["image"])}
    return {**told, "state": "armed"}


def arm(place: Place, told: dict[str, Any], owner: tuple[int, int]) -> None:
    """Arm a node under a new token: the link is the last thing made, and in one step."""
    token = secrets.token_hex(16)
    folder = os.path.join(place.reports, token)
    before = place.tokens()
    os.makedirs(place.reports, mode=0o755, exist_ok=True)
    os.makedirs(os.path.dirname(place.link), mode=0o755, exist_ok=True)
    os.mkdir(folder, 0o750)
    os.chown(folder, *owner)
    issue = {"token": token, "image": told["image"], "image_id": told["image_id"], "issued": int(time.time())}
    path = os.path.join(folder, "armed.json")
    with open(path, "w", encoding="utf-8") as handle:
        json.dump(issue, handle)
        handle.flush()
        os.fsync(handle.fileno())
    os.chmod(path, 0o644)
    if told["image_id"]:
        # An image published meanwhile is not for this node: what it loads fits together.
        os.symlink(f"../../../images/{told['image']}/{told['image_id']}", os.path.join(folder, "image"))
    temporary = f"{place.link}.{token}"
    os.symlink(f"../../reports/{os.path.basename(place.reports)}/{token}", temporary)
    os.rename(temporary, place.link)
    # Who still holds an older token is told so from now on.
    for old in before:
        shutil.rmtree(os.path.join(place.reports, old), ignore_errors=True)
    told["token"] = token


def disarm(place: Place, *, check: bool) -> bool:
    """Take an arming back unless it was used; returns whether there was one."""
    token = place.token
    if not token or place.report(token, "installed") is not None:
        return False
    if not check:
        os.unlink(place.link)
        shutil.rmtree(os.path.join(place.reports, token), ignore_errors=True)
    return True


def owner_of_reports(http: str) -> tuple[int, int]:
    """Return who the HTTP server writes as: the folder of discoveries is its own."""
    found = os.stat(os.path.join(http, "discovered"))
    return found.st_uid, found.st_gid


def apply(module: AnsibleModule) -> tuple[bool, list[dict[str, Any]]]:
    """Arm or disarm; returns whether anything changed, and one row a node."""
    wanted = module.params
    http = os.path.join(wanted["path"], "http")
    nodes = wanted["nodes"]
    for node in nodes:
        node["mac"] = node["mac"].lower()
        if not MAC.fullmatch(node["mac"]):
            module.fail_json(
                msg=f"{node['name']}: '{node['mac']}' is no hardware address; give its mac in nodes.yml"
            )
    places = [Place(http, node["mac"]) for node in nodes]
    numbers = {node["image"]: image_id(http, node["image"]) for node in nodes}

    def look(pair: tuple[dict[str, Any], Place]) -> dict[str, Any]:
        node, place = pair
        return verdict(
            node,
            place,
            numbers[node["image"]],
            erase=wanted["reinstall_and_erase_disks"],
            patience=wanted["patience"],
        )

    with ThreadPoolExecutor(max_workers=64) as pool:
        rows = list(pool.map(look, zip(nodes, places)))  # noqa: B905 - Python 3.9 knows no `strict`
    changed = False
    for place, told in zip(places, rows):  # noqa: B905 - as above
        if wanted["state"] == "disarmed":
            changed |= disarm(place, check=bool(module.check_mode))
            told.update(state="disarmed", token="", message="")
        elif told["state"] == "armed":
            changed = True
            if not module.check_mode:
                arm(place, told, owner_of_reports(http))
        elif told["state"] == "running" and told["mode"] != "memory":
            # What an interrupted run armed must not wait for this node's next start.
            changed |= disarm(place, check=bool(module.check_mode))
    return changed, rows


def main() -> None:
    """Apply the parameters."""
    text = {"type": "str", "required": True}
    node = {
        "name": text,
        "mac": text,
        "address": {"type": "str", "default": ""},
        "port": {"type": "int", "default": 22},
        "image": text,
        "mode": {"type": "str", "choices": ["disk", "memory", "installer"], "default": "disk"},
    }
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "nodes": {"type": "list", "elements": "dict", "required": True, "options": node},
            "state": {"type": "str", "choices": ["armed", "disarmed"], "default": "armed"},
            "reinstall_and_erase_disks": {"type": "bool", "default": False},
            "patience": {"type": "float", "default": 3},
        },
        supports_check_mode=True,
    )
    try:
        changed, rows = apply(module)
    except OSError as error:
        module.fail_json(
            msg=f"the boot server's files cannot be written: {error}; deploy it first: playbooks/provision.yml"
        )
    else:
        refused = [f"{row['name']}: {row['message']}" for row in rows if row["state"] in REFUSED]
        if refused:
            module.fail_json(msg="\n".join(refused), changed=changed, rackloom_armed=rows)
        module.exit_json(changed=changed, rackloom_armed=rows)


if __name__ == "__main__":
    main()
