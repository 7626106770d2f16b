#!/usr/bin/python
"""A line in a node's journal that nothing else could have written."""

from __future__ import annotations

DOCUMENTATION = r"""
module: log_mark
short_description: Write a unique line into the node's journal
description:
  - Writes one line as a program would, and returns a word of it that no other line has, so that
    M(rackloom.cluster.logging_validate) can look for it where the logs are kept.
options: {}
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Write a line
  rackloom.cluster.log_mark:
  register: written
"""

RETURN = r"""
mark:
  description: The word.
  returned: always
  type: str
  sample: rackloom0f3c8e6d5b4a4d1c
written:
  description: When it was written, in seconds since 1970, by the node's clock.
  returned: always
  type: float
"""

import secrets
import socket
import time

from ansible.module_utils.basic import AnsibleModule

JOURNAL = "/run/systemd/journal/socket"


def write(mark: str, path: str = JOURNAL) -> None:
    """Hand a line to the journal, in its own protocol."""
    text = f"MESSAGE=a line to look for: {mark}\nPRIORITY=6\nSYSLOG_IDENTIFIER=rackloom-check\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(text.encode(), path)


def main() -> None:
    """Write the line; in check mode, only think of it."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    mark = f"rackloom{secrets.token_hex(8)}"
    began = time.time()
    if not module.check_mode:
        try:
            write(mark)
        except OSError as error:
            module.fail_json(msg=f"the journal takes no line at {JOURNAL}: {error.strerror or error}")
    module.exit_json(changed=False, mark=mark, written=began)


if __name__ == "__main__":
    main()
