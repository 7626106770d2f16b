#!/usr/bin/python
"""Which DHCP servers answer on a network, asked by nmap."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dhcp_servers
short_description: Find the DHCP servers of a network
description:
  - Lets nmap ask for an address with a MAC address that nobody has, and returns who offers one. No address is
    taken. Changes nothing.
  - A server that only answers machines it knows stays silent and is not found.
options:
  address:
    description: An address of this host; the interface that holds it is asked on, unless O(interface) is given.
    type: str
    required: true
  interface:
    description: Interface to ask on.
    type: str
    default: ""
  timeout:
    description: Seconds to wait for answers.
    type: int
    default: 5
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Look for other DHCP servers
  rackloom.cluster.dhcp_servers:
    address: 10.10.0.11
  register: found
"""

RETURN = r"""
interface:
  description: Where it was asked.
  returned: always
  type: str
servers:
  description:
    - Who answered, this host excepted; each with C(address), and as far as told C(offered), C(router) and C(domain).
  returned: always
  type: list
  elements: dict
"""

import json
import shutil
from typing import Any
from xml.etree import ElementTree as ET  # what is parsed was written by nmap on this host

from ansible.module_utils.basic import AnsibleModule

FIELDS = {
    "Server Identifier": "address",
    "IP Offered": "offered",
    "Router": "router",
    "Domain Name": "domain",
}


def answers(text: str) -> list[dict[str, str]]:
    """Return who answered, from nmap's XML."""
    found: dict[str, dict[str, str]] = {}
    # The document is nmap's own; no part of it comes from the network unescaped.
    for script in ET.fromstring(text).iter("script"):  # noqa: S314
        if script.get("id") != "broadcast-dhcp-discover":
            continue
        # One response is a table of its own, or, in newer releases, several of them are.
        for table in [script, *script.iter("table")]:
            server = {
                FIELDS[str(element.get("key"))]: element.text or ""
                for element in table.findall("elem")
                if element.get("key") in FIELDS
            }
            if server.get("address"):
                found.setdefault(server["address"], server)
    return [found[key] for key in sorted(found)]


def interface_of(module: AnsibleModule, address: str) -> str:
    """Return the interface that holds an address; ends the module when none does."""
    rc, out, err = module.run_command(["ip", "-json", "-4", "address", "show"])
    if rc != 0:
        module.fail_json(msg=f"ip address show: {err.strip()}")
    for link in json.loads(out):
        if any(entry.get("local") == address for entry in link.get("addr_info", [])):
            return str(link["ifname"])
    module.fail_json(msg=f"No interface of this host holds the address {address}; correct provision.address.")
    raise AssertionError  # fail_json does not return


def main() -> None:
    """Ask and tell."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "interface": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    wanted: dict[str, Any] = module.params
    if module.check_mode and shutil.which("nmap") is None:
        module.exit_json(changed=False, interface="", servers=[])
    interface = wanted["interface"] or interface_of(module, wanted["address"])
    command = ["nmap", "--script", "broadcast-dhcp-discover", "-e", interface, "-oX", "-"]
    command += ["--script-args", f"broadcast-dhcp-discover.timeout={wanted['timeout']}"]
    rc, out, err = module.run_command(command)
    if rc != 0:
        module.fail_json(msg=f"nmap: {(err or out).strip()[-1000:]}")
    try:
        servers = [server for server in answers(out) if server["address"] != wanted["address"]]
    except ET.ParseError as error:
        module.fail_json(msg=f"nmap did not write what can be read: {error}")
        raise AssertionError from error
    module.exit_json(changed=False, interface=interface, servers=servers)


if __name__ == "__main__":
    main()
