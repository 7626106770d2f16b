#!/usr/bin/python
"""Whether an address is free for a group of nodes to keep up, and where it belongs on this one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: free_address
short_description: Find who has an address, and where it belongs on this node
description:
  - Fails where a stranger answers for the address on this node's network, that is a network card that belongs neither
    to this node nor to one of C(ours).
  - Tells the interface of this node that stands in the address's network. Changes nothing.
options:
  address:
    description: The address that is to be kept up.
    type: str
    required: true
  ours:
    description: Addresses of the other nodes that may hold it.
    type: list
    elements: str
    default: []
  interface:
    description: Interface that it belongs to; found when empty.
    type: str
    default: ""
  timeout:
    description: Seconds in which whoever has the address must have said so.
    type: float
    default: 2
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: look | Nobody else has the address
  rackloom.cluster.free_address:
    address: 192.0.2.10
    ours: [192.0.2.12, 192.0.2.13]
"""

RETURN = r"""
interface:
  description: The interface in the address's network.
  returned: always
  type: str
source:
  description: The node's own address on it.
  returned: always
  type: str
prefix:
  description: Length of the network's prefix.
  returned: always
  type: int
holder:
  description: Who has the address now, C(self), one of C(ours), or nobody.
  returned: always
  type: str
"""

import contextlib
import ipaddress
import json
import socket
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

Interface = dict[str, Any]


def place(interfaces: list[Interface], address: str, wanted: str = "") -> tuple[str, str, int] | None:
    """Interface, own address and prefix length in the network that the address is of; None where there is none."""
    target = ipaddress.ip_address(address)
    for each in interfaces:
        if wanted and each.get("ifname") != wanted:
            continue
        for entry in each.get("addr_info", []):
            own = ipaddress.ip_interface(f"{entry['local']}/{entry['prefixlen']}")
            # Once it is here it may stand beside the node's own address.
            if own.version == target.version and target in own.network and own.ip != target:
                return str(each["ifname"]), str(own.ip), int(entry["prefixlen"])
    return None


def here(interfaces: list[Interface], address: str) -> bool:
    """Whether this node has the address."""
    target = ipaddress.ip_address(address)
    return any(
        ipaddress.ip_address(entry["local"]) == target
        for each in interfaces
        for entry in each.get("addr_info", [])
    )


def card(neighbours: list[dict[str, Any]], address: str) -> str | None:
    """The network card that answers for an address: "" for none, None as long as it is not known."""
    for each in neighbours:
        if each.get("dst") != address:
            continue
        states = set(each.get("state", []))
        if each.get("lladdr") and states & {"REACHABLE", "PERMANENT", "NOARP"}:
            return str(each["lladdr"])
        if "FAILED" in states:
            return ""
    return None


class Look:
    """This node's view of its network."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def ip(self, *words: str) -> list[dict[str, Any]]:
        """What iproute2 tells."""
        _, out, _ = self.module.run_command(["ip", "-json", *words], check_rc=True)
        found: list[dict[str, Any]] = json.loads(out or "[]")
        return found

    def card_of(self, address: str, interface: str, timeout: float) -> str:
        """The network card that answers for an address; "" for none. What was known before is asked for anew."""
        self.module.run_command(["ip", "neigh", "del", address, "dev", interface])
        version = socket.AF_INET6 if ":" in address else socket.AF_INET
        end = time.monotonic() + timeout
        while True:
            with socket.socket(version, socket.SOCK_DGRAM) as sender, contextlib.suppress(OSError):
                sender.sendto(b"", (address, 9))
            found = card(self.ip("neigh", "show", "to", address, "dev", interface), address)
            if found is not None or time.monotonic() > end:
                return found or ""
            time.sleep(0.1)


def main() -> None:
    """Look and tell."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "ours": {"type": "list", "elements": "str", "default": []},
            "interface": {"type": "str", "default": ""},
            "timeout": {"type": "float", "default": 2},
        },
        supports_check_mode=True,
    )
    address, ours = module.params["address"], module.params["ours"]
    look = Look(module)
    interfaces = look.ip("address", "show")
    found = place(interfaces, address, module.params["interface"])
    if found is None:
        named = module.params["interface"]
        module.fail_json(
            msg=f"no network of this node{f' on {named}' if named else ''} has room for {address}: an address that "
            "moves between nodes is one of the network that they share"
        )
        return
    interface, source, prefix = found
    holder = "self" if here(interfaces, address) else ""
    if not holder:
        held = look.card_of(address, interface, module.params["timeout"])
        if held:
            holder = next((other for other in ours if look.card_of(other, interface, 1) == held), "")
            if not holder:
                module.fail_json(
                    msg=f"{address} is in use: the network card {held} on {interface} answers for it, which belongs to "
                    "none of the nodes that shall keep it up. Nothing has been installed. Give the endpoint an "
                    "address of its own, or free this one"
                )
                return
    module.exit_json(changed=False, interface=interface, source=source, prefix=prefix, holder=holder)


if __name__ == "__main__":
    main()
