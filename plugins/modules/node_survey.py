#!/usr/bin/python
"""One look at a node: its operating system, and which of the things asked of it still hold."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_survey
short_description: Look once at a node and find what still is as it was left
description:
  - Returns the facts about the operating system that roles read, under the names that C(setup) gives them.
  - Nodes keep a record of what M(rackloom.cluster.component), M(rackloom.cluster.local_accounts) and
    M(rackloom.cluster.host_settings) were asked. This module looks whether each of them still holds, packages,
    contents of files, owners, modes, units, what they have read and whether they answer, and returns the digests
    of those that do as the fact C(rackloom_survey).
  - What the kernel gives to containers comes along as the fact C(rackloom_kernel).
  - A task whose request has one of these digests has nothing to do and does not go to the node. Once a task of
    these kinds has changed a node, the rest of the run no longer relies on the survey of this node.
  - Changes nothing.
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Look at the nodes
  rackloom.cluster.node_survey:
"""

RETURN = r"""
ansible_facts:
  description:
    - C(os_family), C(distribution), C(distribution_version) and their like, C(rackloom_survey) and
      C(rackloom_kernel).
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.facts.system.distribution import Distribution

from ..module_utils import node_kernel, node_looks, node_records  # noqa: TID252 - how a collection's plugins find each other


def main() -> None:
    """Look and tell."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    facts = Distribution(module).get_distribution_facts()
    records = node_records.read()
    installed = node_looks.packages(module, records.values())
    facts["rackloom_survey"] = {
        key: record["digest"]
        for key, record in records.items()
        if node_looks.holds(module, record, installed)
    }
    facts["rackloom_kernel"] = node_kernel.look()
    module.exit_json(changed=False, ansible_facts=facts)


if __name__ == "__main__":
    main()
