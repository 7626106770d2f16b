#!/usr/bin/python
"""Members of etcd that leave with their nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_member
short_description: Take members out of a control plane's etcd
description:
  - Runs on a control-plane node that stays. Members are named as their nodes; one that was let in and never started has
    no name, and is named by its address. One that is not there is no error.
  - Refuses where etcd has no quorum, or would lose it.
options:
  names:
    description: The members that leave.
    type: list
    elements: str
    required: true
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Remove | etcd first
  rackloom.cluster.kube_member:
    names: [mgmt02]
"""

RETURN = r"""
removed:
  description: The members that were there.
  returned: always
  type: list
  elements: str
members:
  description: The names of those that stay.
  returned: always
  type: list
  elements: str
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.kube_client import KubeError, runner  # noqa: TID252 - how a collection's plugins find each other
from ..module_utils.kube_etcd import Etcd, called, leftovers, refusal  # noqa: TID252

PATIENCE = 60
"""Seconds for the ones that stay to be well, before another one leaves."""


def remove(
    etcd: Any,
    names: Sequence[str],
    removed: list[str],
    *,
    check: bool = False,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> list[str]:
    """Take these members out, noting each in `removed`; gives the names of those that stay. Raises KubeError."""
    end = clock() + PATIENCE
    while True:
        members = [member for member in etcd.members() if not check or called(member) not in removed]
        leaving = leftovers(members, names)
        if not leaving:
            return sorted(called(member) for member in members)
        # those that are not well first: each one that leaves makes the quorum easier to have
        member = min(leaving, key=lambda each: bool(each["healthy"]))
        name = called(member)
        if said := refusal(members, [name]):
            if removed and not check and clock() < end:
                pause(1)
                continue
            raise KubeError(f"{name} stays a member: {said}")
        removed.append(name)
        if not check:
            etcd.remove(str(member["id"]))


def main() -> None:
    """Remove one after the other."""
    module = AnsibleModule(
        argument_spec={"names": {"type": "list", "elements": "str", "required": True}},
        supports_check_mode=True,
    )
    removed: list[str] = []
    try:
        left = remove(Etcd(runner(module)), module.params["names"], removed, check=bool(module.check_mode))
    except (KubeError, OSError) as error:
        module.fail_json(msg=str(error), removed=removed)
    else:
        module.exit_json(changed=bool(removed), removed=removed, members=left)


if __name__ == "__main__":
    main()
