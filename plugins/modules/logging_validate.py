#!/usr/bin/python
"""Whether the log store has what nodes have written."""

from __future__ import annotations

DOCUMENTATION = r"""
module: logging_validate
short_description: Look in the log store for a line of each node
description:
  - Asks the log store for the words that M(rackloom.cluster.log_mark) has returned, until all are found with the right
    node's name or the time is over. It asks once for all nodes.
  - Changes nothing. A bad verdict is returned, and fails the task only where O(strict) says so.
options:
  server:
    description: URL of the log store, without the part that says what is done there.
    type: str
    required: true
  store:
    description: Which program it is.
    type: str
    choices: [victorialogs, elasticsearch]
    default: victorialogs
  user:
    description: Name under which it lets itself be searched.
    type: str
    default: rackloom
  password:
    description: Its password.
    type: str
    required: true
  ca_file:
    description: File on this host with the authority that the store's certificate is checked against.
    type: path
    default: /etc/rackloom/ca.crt
  marks:
    description: The word to look for, by node; empty for a node that could not be reached.
    type: dict
    required: true
  seconds:
    description: How long to look.
    type: float
    default: 30
  strict:
    description: Whether a line that was written and is not found fails the task.
    type: bool
    default: false
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Look for the lines
  rackloom.cluster.logging_validate:
    server: https://192.0.2.1:9428/logs
    password: "{{ rackloom_secrets.log_store_password }}"
    marks: {gpu01: rackloom0f3c8e6d5b4a4d1c}
"""

RETURN = r"""
rackloom_checks:
  description: One entry a node.
  returned: always
  type: list
  elements: dict
  sample: [{service: logging, name: logs of gpu01, ok: true, skipped: "", detail: found after 1.2 s, seconds: 1.2}]
"""

import base64
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from ansible.module_utils.basic import AnsibleModule

AT_ONCE = 200
"""Words in one query: a query of a thousand would be longer than a store likes."""


class Store:
    """The log store, as one who searches sees it."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.elastic = given.get("store") == "elasticsearch"
        place = "/logs-rackloom-*/_search" if self.elastic else "/select/logsql/query"
        self.url = given["server"].rstrip("/") + place
        word = base64.b64encode(f"{given['user']}:{given['password']}".encode()).decode("ascii")
        self.headers = {"Authorization": f"Basic {word}"}
        self.context = None
        if self.url.startswith("https:"):
            self.context = ssl.create_default_context(cafile=given["ca_file"])

    def nodes(self, marks: list[str]) -> dict[str, str]:
        """Of these words those that it has, with the node that it has them from. Raises OSError."""
        if self.elastic:
            found = json.loads(self.ask(json.dumps(search(marks)).encode(), "application/json"))
            rows = [hit["_source"] for hit in found["hits"]["hits"]]
        else:
            query = f"_time:1h program:rackloom-check ({' or '.join(marks)}) | fields _msg, node"
            answer = self.ask(urllib.parse.urlencode({"query": query}).encode())
            rows = [json.loads(row) for row in answer.splitlines() if row]
        said = "message" if self.elastic else "_msg"
        return {str(row.get(said, "")).rpartition(" ")[2]: str(row.get("node", "")) for row in rows}

    def ask(self, data: bytes, kind: str = "application/x-www-form-urlencoded") -> bytes:
        """What it answers. Raises OSError."""
        headers = {**self.headers, "Content-Type": kind}
        request = urllib.request.Request(self.url, data, headers)  # noqa: S310 - the site's own
        with urllib.request.urlopen(request, timeout=15, context=self.context) as answer:  # noqa: S310
            return bytes(answer.read())


def search(marks: list[str]) -> dict[str, Any]:
    """The words, as Elasticsearch is asked for them."""
    recent = {"range": {"@timestamp": {"gte": "now-1h"}}}
    words = {"bool": {"should": [{"match": {"message": mark}} for mark in marks], "minimum_should_match": 1}}
    return {
        "size": 2 * AT_ONCE,
        "_source": ["message", "node"],
        "query": {"bool": {"filter": [recent, {"term": {"program": "rackloom-check"}}, words]}},
    }


def look(given: dict[str, Any]) -> tuple[dict[str, tuple[str, float]], str]:
    """For each word found the node and the seconds that it took, and the last trouble with the store."""
    store = Store(given)
    began = time.monotonic()
    found: dict[str, tuple[str, float]] = {}
    trouble = ""
    while True:
        open_marks = [mark for mark in given["marks"].values() if mark and mark not in found]
        try:
            for first in range(0, len(open_marks), AT_ONCE):
                for mark, node in store.nodes(open_marks[first : first + AT_ONCE]).items():
                    found.setdefault(mark, (node, round(time.monotonic() - began, 1)))
            trouble = ""
        except urllib.error.HTTPError as error:
            trouble = f"the log store answers {error.code} {error.reason}"
        except (OSError, ValueError) as error:
            trouble = f"the log store {given['server']} does not answer: {error}"
        if all(mark in found for mark in open_marks) or time.monotonic() - began > given["seconds"]:
            return found, trouble
        time.sleep(0.5)


def verdicts(
    given: dict[str, Any], found: dict[str, tuple[str, float]], trouble: str
) -> list[dict[str, Any]]:
    """One verdict a node."""
    made = []
    for node, mark in sorted(given["marks"].items()):
        origin, seconds = found.get(mark, ("", 0.0)) if mark else ("", 0.0)
        if not mark:
            detail = f"{node} was not reached, so it wrote no line"
        elif not origin:
            detail = trouble or f"a line of {node} is not at the log store after {given['seconds']:.0f} s"
        elif origin != node:
            detail = f"a line of {node} is at the log store under the name {origin}"
        else:
            detail = f"found after {seconds} s"
        ok = origin == node
        made.append(
            {
                "service": "logging",
                "name": f"logs of {node}",
                "ok": ok,
                "skipped": "",
                "detail": detail,
                "seconds": seconds if ok else float(given["seconds"] if mark else 0),
            }
        )
    return made


def main() -> None:
    """Look, and return the verdicts."""
    module = AnsibleModule(
        argument_spec={
            "server": {"type": "str", "required": True},
            "store": {"type": "str", "choices": ["victorialogs", "elasticsearch"], "default": "victorialogs"},
            "user": {"type": "str", "default": "rackloom"},
            "password": {"type": "str", "required": True, "no_log": True},
            "ca_file": {"type": "path", "default": "/etc/rackloom/ca.crt"},
            "marks": {"type": "dict", "required": True},
            "seconds": {"type": "float", "default": 30},
            "strict": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, rackloom_checks=[])
    made = verdicts(module.params, *look(module.params))
    # A node that was not reached is a failure of its own already.
    wrong = [one["detail"] for one in made if not one["ok"] and module.params["marks"][one["name"][8:]]]
    if wrong and module.params["strict"]:
        module.fail_json(msg="; ".join(wrong[:5]), rackloom_checks=made)
    module.exit_json(changed=False, rackloom_checks=made)


if __name__ == "__main__":
    main()
