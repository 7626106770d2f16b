"""Inventory plugin: a site's cluster.yml and nodes.yml as Ansible's inventory."""

from __future__ import annotations

DOCUMENTATION = r"""
name: site
short_description: Reads a Rackloom site (cluster.yml and nodes.yml)
author: The Rackloom authors
description:
  - Turns a site's folder into hosts, service groups and role inputs, after checking it.
  - A site with mistakes is refused, with all of its mistakes.
  - Takes the path of cluster.yml, with nodes.yml beside it. Takes nodes.yml too, and adds nothing for it,
    so that C(ansible-playbook -i config) works on the folder.
  - Needs no configuration; C(rackloom.cluster.site) must be among C(enable_plugins).
"""

EXAMPLES = r"""
# ansible-inventory -i config --graph
# ansible-playbook -i config playbooks/site.yml --limit compute
"""

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.template import trust_as_template

try:
    from rackloom.site import SiteError, load_site
    from rackloom.site.inventory import build
except ImportError:
    # Plain ansible-playbook out of a checkout, where the package is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
    from rackloom.site import SiteError, load_site
    from rackloom.site.inventory import build

CLUSTER = "cluster.yml"
NODES = "nodes.yml"


def _plain(value: Any) -> Any:
    """The same data with its text marked as safe to use, but for text that a template engine would run.

    Without the mark, ansible-inventory prints every text as a mapping, and its readers stumble over it.
    """
    if isinstance(value, str):
        return value if "{{" in value or "{%" in value or "{#" in value else trust_as_template(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


class InventoryModule(BaseInventoryPlugin):  # type: ignore[misc]
    """Ansible's name for the plugin's class."""

    NAME = "rackloom.cluster.site"

    def verify_file(self, path: str) -> bool:
        """Whether this is one of a site's two files (not some other nodes.yml)."""
        file = Path(path)
        if not super().verify_file(path):
            return False
        return file.name == CLUSTER or (file.name == NODES and (file.parent / CLUSTER).is_file())

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add all groups, hosts and variables. Raises AnsibleParserError that lists all mistakes."""
        super().parse(inventory, loader, path, cache)
        if Path(path).name == NODES:
            return
        try:
            content = build(load_site(Path(path).parent))
        except SiteError as error:
            raise AnsibleParserError(str(error)) from None
        for group in content.hosts:
            inventory.add_group(group)
        for group, children in content.children.items():
            for child in children:
                inventory.add_child(group, child)
        for host, variables in content.hostvars.items():
            inventory.add_host(host)
            for name, value in variables.items():
                inventory.set_variable(host, name, _plain(value))
        for group, hosts in content.hosts.items():
            for host in hosts:
                inventory.add_child(group, host)
        shared: dict[int, Any] = {}
        for group, variables in content.vars.items():
            for name, value in variables.items():
                if id(value) not in shared:
                    shared[id(value)] = _plain(value)
                inventory.set_variable(group, name, shared[id(value)])
