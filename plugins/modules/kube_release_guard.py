#!/usr/bin/python
"""A deploy never changes which release of Kubernetes a node runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_release_guard
short_description: Fail where a node runs another release of Kubernetes than it should
description:
  - Compares the kubelet that is installed on a joined node, and the releases of its static pods, with the site's
    release. Where they differ, the deploy ends before it changed anything, and says how to go on.
  - A node that has not joined may get any release.
options:
  release:
    description: The release of the site.
    type: str
    required: true
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Kubernetes | The release stays what it is
  rackloom.cluster.kube_release_guard:
    release: X.Y.Z
"""

RETURN = r"""
release:
  description: What runs; empty on a node that has not joined.
  returned: always
  type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.kube_client import runner  # noqa: TID252 - how a collection's plugins find each other
from ..module_utils.kube_running import JOINED, complaint, releases  # noqa: TID252


def main() -> None:
    """Compare, and fail where it differs."""
    module = AnsibleModule(
        argument_spec={"release": {"type": "str", "required": True}}, supports_check_mode=True
    )
    wanted = str(module.params["release"]).removeprefix("v")
    running = releases(runner(module)) if os.path.exists(JOINED) else {}
    said = complaint(wanted, running)
    if said:
        module.fail_json(msg=said, running=running)
    module.exit_json(changed=False, release=wanted if running else "")


if __name__ == "__main__":
    main()
