#!/usr/bin/python
"""Local users and groups, all of them in one module call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: local_accounts
short_description: Bring local users and groups to their state in one call
description:
  - Reads the account files once and calls C(useradd), C(usermod) and their kin only for what differs.
  - Accounts have no password; a password that one of the listed users has is taken away.
  - An account or group that exists under another number is never renumbered, because its files would be lost to
    it. The module stops and says so.
options:
  groups:
    description: Groups that must exist.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the group.
        type: str
        required: true
      gid:
        description: Number of the group; the system chooses one when it is not given.
        type: int
  users:
    description: Users that must exist, with exactly these properties.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Login name.
        type: str
        required: true
      uid:
        description: Number of the user.
        type: int
        required: true
      gid:
        description: Number of the primary group, made with the user's name when there is none; default the uid.
        type: int
      groups:
        description: Names of all further groups.
        type: list
        elements: str
        default: []
      shell:
        description: Login shell.
        type: str
        default: /bin/bash
      comment:
        description: Full name.
        type: str
        default: ''
      home:
        description: Home directory; default is /home/<name>.
        type: str
        default: ''
      keys:
        description: Public keys that may log in, kept in O(keys_dir); with none, the user's file there is removed.
        type: list
        elements: str
        default: []
      admin:
        description: Taken so that a list that says it can be passed on as it is; rights are not this module's work.
        type: bool
        default: false
      state:
        description: C(absent) is the same as the name in O(absent).
        type: str
        choices: [present, absent]
        default: present
  create_home:
    description: Whether a new user's home is made; C(false) where homes live on a file server.
    type: bool
    default: true
  keys_dir:
    description: Directory of the files with the users' public keys, owned by root; empty to leave keys alone.
    type: path
    default: /etc/ssh/authorized_keys.d
  absent:
    description: Names of users that must not exist; their keys are removed, their homes are kept.
    type: list
    elements: str
    default: []
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
- name: Configure | Have the users
  rackloom.cluster.local_accounts:
    groups: [{name: project, gid: 3000}]
    users:
      - {name: alice, uid: 2001, groups: [project]}
    absent: [mallory]
"""

RETURN = r"""
commands:
  description: The commands that were run, or would be in check mode.
  returned: always
  type: list
  elements: str
key_files:
  description: The files of public keys that were written or removed, or would be in check mode.
  returned: always
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import node_records  # noqa: TID252 - how a collection's plugins find each other
from ..module_utils.node_accounts import Refused, apply  # noqa: TID252


def main() -> None:
    """Apply the parameters."""
    text, number = {"type": "str"}, {"type": "int"}
    names = {"type": "list", "elements": "str", "default": []}
    user = {
        "name": {**text, "required": True},
        "uid": {**number, "required": True},
        "gid": number,
        "groups": names,
        "shell": {**text, "default": "/bin/bash"},
        "comment": {**text, "default": ""},
        "home": {**text, "default": ""},
        "keys": {**names, "no_log": False},
        "admin": {"type": "bool", "default": False},
        "state": {**text, "default": "present", "choices": ["present", "absent"]},
    }
    group = {"name": {**text, "required": True}, "gid": number}
    module = AnsibleModule(
        argument_spec={
            "groups": {"type": "list", "elements": "dict", "default": [], "options": group},
            "users": {"type": "list", "elements": "dict", "default": [], "options": user},
            "create_home": {"type": "bool", "default": True},
            "keys_dir": {"type": "path", "default": "/etc/ssh/authorized_keys.d", "no_log": False},
            "absent": names,
            "record": node_records.OPTION,
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    try:
        commands, key_files = apply(module)
    except Refused as error:
        module.fail_json(msg=str(error))
    else:
        asked = {key: value for key, value in module.params.items() if key != "record"}
        node_records.write(module, "local_accounts", asked)
        diff = [{"before": "", "after": "".join(f"{command}\n" for command in commands)}, *key_files]
        module.exit_json(
            changed=bool(commands or key_files),
            commands=commands,
            key_files=[item["after_header"] for item in key_files],
            diff=diff if commands else key_files,
        )


if __name__ == "__main__":
    main()
