#!/usr/bin/python
"""Whether a node can run pods: its kernel, control groups, swap, file systems and resolver."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_host
short_description: Look whether a node can run pods, and make its kernel ready for them
description:
  - Names everything that is missing on a node in one error, with a cure for each, before anything has been changed.
  - With O(apply) loads the kernel modules of O(need) that are not there yet, and switches swap off where O(swap)
    wants it.
  - Uses what the survey of this run has found, and goes to the node only where there is none or where something has
    to be done. Looks at C(/proc) and C(/sys), so a feature that is built into the kernel counts.
options:
  need:
    description: Kernel modules that must be there, built in or to be loaded.
    type: list
    elements: str
    default: []
  layers:
    description: Folder that image layers are kept in; it must lie on a file system that can hold them. Empty for none.
    type: str
    default: ""
  pods:
    description: Whether control groups and swap are judged, which matters to the kubelet and not to containers alone.
    type: bool
    default: true
  swap:
    description: What to do about swap.
    type: str
    choices: [refuse, 'off', limited]
    default: refuse
  resolver:
    description: Whether a C(resolv.conf) is wanted that names other servers than the node itself.
    type: bool
    default: false
  tolerate:
    description: What is only warned of when it is missing. For test hosts.
    type: list
    elements: str
    choices: [cgroup_v1, swap, kernel]
    default: []
  apply:
    description: Whether the kernel is made ready; otherwise nothing is changed.
    type: bool
    default: false
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: host | The node can run pods
  rackloom.cluster.kube_host:
    need: [overlay, br_netfilter]
    layers: /var/lib/containerd
"""

RETURN = r"""
ansible_facts:
  description: C(rackloom_kernel), what was found.
  returned: always
  type: dict
actions:
  description: What was done, or would be in check mode.
  returned: always
  type: list
  elements: str
"""

import functools

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import node_kernel  # noqa: TID252 - how a collection's plugins find each other

ARGUMENTS = {
    "need": {"type": "list", "elements": "str", "default": []},
    "layers": {"type": "str", "default": ""},
    "pods": {"type": "bool", "default": True},
    "swap": {"type": "str", "choices": ["refuse", "off", "limited"], "default": "refuse"},
    "resolver": {"type": "bool", "default": False},
    "tolerate": {
        "type": "list",
        "elements": "str",
        "choices": ["cgroup_v1", "swap", "kernel"],
        "default": [],
    },
    "apply": {"type": "bool", "default": False},
}


def main() -> None:
    """Look, act where that is wanted, and look again."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    look = functools.partial(node_kernel.look, module.params["layers"], module.params["need"])
    kernel = look()
    done = []
    for action in node_kernel.to_do(kernel, module.params):
        # Of a module that nobody knows of it may turn out that it is built in.
        sure = kernel["features"].get(action[-1]) != "unknown"
        if not module.check_mode:
            rc, out, err = module.run_command(action)
            if rc != 0 and sure and "kernel" not in module.params["tolerate"]:
                module.fail_json(msg=f"{' '.join(action)}: {(err or out).strip()}")
        if sure:
            done.append(" ".join(action))
    if done and not module.check_mode:
        after = look()
        if after == kernel:
            done = []
        kernel = after
    module.exit_json(changed=bool(done), actions=done, ansible_facts={"rackloom_kernel": kernel})


if __name__ == "__main__":
    main()
