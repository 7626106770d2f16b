#!/usr/bin/python
"""What a node's kernel and resolver run with, brought in line with what its files say."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_settings
short_description: Bring a running node's name, time zone, resolver and kernel settings to their state
description:
  - Compares with what the kernel says, not with a file, so a setting that drifted or that a killed run did not
    reach is made good. The files that hold the settings over a restart are not this module's work, except for
    the time zone and the resolver.
  - A container is left what belongs to its host; settings that the node refuses are told as a warning.
options:
  hostname:
    description: The host name without its domain.
    type: str
  timezone:
    description: Name of the time zone as tzdata has it.
    type: str
  sysctl:
    description:
      - Kernel settings by key. Keys that the node does not have or does not let us write are passed over.
        In a container, only keys that belong to it alone are set.
    type: dict
    default: {}
  resolver:
    description:
      - Contents of C(/etc/resolv.conf), which becomes a plain file. systemd-resolved then follows that file;
        NetworkManager and dhclient are told to leave it alone.
    type: dict
    suboptions:
      name_servers:
        description: Addresses asked first; when empty, the node's resolver is left alone.
        type: list
        elements: str
        default: []
      fallback:
        description: Addresses asked when those do not answer; when empty, the servers that the node had before.
        type: list
        elements: str
        default: []
      search:
        description: Domains searched.
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
- name: Apply | Run with the settings
  rackloom.cluster.host_settings:
    hostname: gpu001
    timezone: Etc/UTC
    sysctl: {net.core.somaxconn: "4096"}
    resolver: {name_servers: [192.0.2.1], search: [demo.example]}
"""

RETURN = r"""
actions:
  description: What was set, or would be in check mode.
  returned: always
  type: list
  elements: str
not_set:
  description: Kernel settings that this node does not have or does not let us write, with the reason.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import node_records  # noqa: TID252 - how a collection's plugins find each other
from ..module_utils.node_host import Host, Refused  # noqa: TID252


def main() -> None:
    """Apply the parameters."""
    addresses = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "hostname": {"type": "str"},
            "timezone": {"type": "str"},
            "sysctl": {"type": "dict", "default": {}},
            "resolver": {
                "type": "dict",
                "options": {"name_servers": addresses, "fallback": addresses, "search": addresses},
            },
            "record": node_records.OPTION,
        },
        supports_check_mode=True,
    )
    host = Host(module)
    wanted = module.params
    try:
        host.apply(wanted)
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error), actions=host.actions)
    node_records.write(module, "host_settings", {key: wanted[key] for key in wanted if key != "record"})
    module.exit_json(changed=bool(host.actions), actions=host.actions, not_set=host.not_set, diff=host.diffs)


if __name__ == "__main__":
    main()
