#!/usr/bin/python
"""One component of a node: its packages, its files and its services, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: component
short_description: Bring a component's packages, files and services to their state in one call
description:
  - Does what most roles are made of, install packages, write files, run units, in this order. A node is asked
    once, however many of them there are, so a second run costs one round trip a role.
  - Templates are rendered on the controller. All files with O(files[].validate) are checked before the first of
    them is replaced. A file is replaced atomically; where that is impossible, as on a bind mount, it is written
    in place. Missing parent directories are made, with mode 0755 and owned by root.
  - A unit is restarted or reloaded when the files it reads differ from what it read when it last started. Their
    digest is kept under C(/var/lib/rackloom/units), so a run that was killed between writing a file and
    restarting the unit is made good by the next run, which a handler would have forgotten.
  - Packages are looked up in the package database alone. Package lists are refreshed only when something has to
    be installed, and then when they are older than O(lists_max_age) or than the package sources. What a killed
    package manager left half done is finished first. Knows C(apt) and C(dnf).
options:
  packages:
    description: Package names; C(name=version) asks for one version, in which C(*) matches anything.
    type: list
    elements: str
    default: []
  start_services:
    description:
      - Whether packages may start the services they bring. Without it a service first runs with the
        configuration that lies on disk when its unit's turn comes. Only C(apt) starts any.
    type: bool
    default: false
  recommends:
    description: Whether packages that are only recommended come along.
    type: bool
    default: false
  lists_max_age:
    description: Seconds after which the package lists count as old.
    type: int
    default: 86400
  files_first:
    description: Write the files before the packages are installed, as package sources need it.
    type: bool
    default: false
  files:
    description: Files, directories and links, in the order they are to be applied.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path on the node.
        type: str
        required: true
      state:
        description: What the path is to be.
        type: str
        choices: [file, directory, absent, link]
        default: file
      template:
        description: Jinja2 template, found as the template module finds it; blocks are trimmed on both sides.
        type: str
      copy:
        description: File of the controller, found as the copy module finds it.
        type: str
      content:
        description: The content itself; a newline is added at its end when it has none.
        type: str
      content_b64:
        description: The content itself, base64-encoded, for keys and other bytes.
        type: str
      line:
        description: One line that the file must have, put at its top when nothing in it matches O(files[].match).
        type: str
      match:
        description: Regular expression by which O(files[].line), or the site's form of it, is known.
        type: str
      owner:
        description: Owner; root for a new file when not given.
        type: str
      group:
        description: Group; root for a new file when not given.
        type: str
      mode:
        description: Quoted octal mode; 0644 for a new file, 0755 for a new directory when not given.
        type: str
      target:
        description: Where a link points to.
        type: str
      validate:
        description: Command that checks the new content; C(%s) stands for its path. A failure changes no file.
        type: str
      secret:
        description: Keep the content out of diffs and messages.
        type: bool
        default: false
      force:
        description: Whether an existing file is replaced; C(false) only makes missing ones.
        type: bool
        default: true
  units:
    description: systemd units, in the order they are to be started.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The unit's full name.
        type: str
        required: true
      state:
        description: Whether the unit is to run.
        type: str
        choices: [started, stopped]
        default: started
      enabled:
        description: Whether the unit starts at boot. Units without an install section are left alone.
        type: bool
        default: true
      masked:
        description: Mask or unmask the unit.
        type: bool
      restart_on:
        description: Files or directories; a change of their content since the unit last started restarts it.
        type: list
        elements: str
        default: []
      reload_on:
        description: Files or directories; a change of their content since the unit last read them reloads it.
        type: list
        elements: str
        default: []
      wait_for:
        description: What must answer before the task is done; one of C(tcp) and C(socket).
        type: dict
        suboptions:
          tcp:
            description: Port that must accept a connection.
            type: int
          host:
            description: Address that is asked.
            type: str
            default: 127.0.0.1
          socket:
            description: Path of a socket that must accept a connection, or must exist if it is a datagram socket.
            type: str
          timeout:
            description: Seconds until the task fails, with the end of the unit's journal.
            type: int
            default: 60
  record:
    description: Set by the action side; names the record that the node keeps of what was asked of it.
    type: dict
    suboptions:
      key:
        description: Name of the record.
        type: str
      digest:
        description: Digest of what is asked.
        type: str
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: apply | Install munge, give it the key and run it
  rackloom.cluster.component:
    packages: [munge]
    files:
      - {path: /etc/munge/munge.key, content_b64: "{{ munge_key }}", owner: munge, mode: "0400", secret: true}
    units:
      - name: munge.service
        restart_on: [/etc/munge/munge.key]
        wait_for: {socket: /run/munge/munge.socket.2}
"""

RETURN = r"""
missing:
  description: The packages that were installed, or would be in check mode.
  returned: always
  type: list
  elements: str
changed_paths:
  description: The paths that were changed, or would be in check mode.
  returned: always
  type: list
  elements: str
actions:
  description: What was done with units, or would be in check mode, in order.
  returned: always
  type: list
  elements: str
  sample: [chrony.service enabled, chrony.service restarted]
"""

import base64
import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import node_files, node_packages, node_records, node_units  # noqa: TID252 - how a collection's plugins find each other

UNIT = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
    "enabled": {"type": "bool", "default": True},
    "masked": {"type": "bool"},
    "restart_on": {"type": "list", "elements": "str", "default": []},
    "reload_on": {"type": "list", "elements": "str", "default": []},
    "wait_for": {
        "type": "dict",
        "options": {
            "tcp": {"type": "int"},
            "host": {"type": "str", "default": "127.0.0.1"},
            "socket": {"type": "str"},
            "timeout": {"type": "int", "default": 60},
        },
    },
}


def main() -> None:
    """Apply what the action side handed over."""
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "default": []},
            "start_services": {"type": "bool", "default": False},
            "recommends": {"type": "bool", "default": False},
            "lists_max_age": {"type": "int", "default": 86400},
            "files_first": {"type": "bool", "default": False},
            # The files with their contents, packed so that they stay out of what a module logs on the node.
            "payload": {"type": "str", "default": "", "no_log": True},
            "units": {"type": "list", "elements": "dict", "options": UNIT, "default": []},
            "record": node_records.OPTION,
        },
        supports_check_mode=True,
    )
    wanted = module.params
    entries = json.loads(base64.b64decode(wanted["payload"])) if wanted["payload"] else []
    files = node_files.Files(module)
    if wanted["files_first"]:
        files.apply(entries)
    missing = node_packages.ensure(
        module,
        wanted["packages"],
        start_services=wanted["start_services"],
        recommends=wanted["recommends"],
        lists_max_age=wanted["lists_max_age"],
    )
    if not wanted["files_first"]:
        files.apply(entries)
    actions: list[str] = []
    for unit in wanted["units"]:
        one = node_units.Unit(module, unit)
        one.apply()
        actions += [f"{one.name} {action}" for action in one.actions]
    asked = {"packages": wanted["packages"], "units": wanted["units"]}
    node_records.write(
        module, "component", {**asked, "files": [node_files.recorded(entry) for entry in entries]}
    )
    diff: list[dict[str, Any]] = list(files.diffs)
    if missing:
        diff.insert(0, {"before": "", "after": "".join(f"package {name}\n" for name in missing)})
    module.exit_json(
        changed=bool(missing or files.changed or actions),
        missing=missing,
        changed_paths=files.changed,
        actions=actions,
        diff=diff,
    )


if __name__ == "__main__":
    main()
