#!/usr/bin/python
"""What an Elasticsearch cluster holds beside its data: policies, templates, roles, users, snapshots."""

from __future__ import annotations

DOCUMENTATION = r"""
module: elasticsearch_content
short_description: Bring policies, templates, users and their passwords of Elasticsearch to their state
description:
  - Waits until the cluster answers and has the wanted health. Then writes the documents that differ from what was
    asked for, and sets the passwords that do not open.
  - Each document carries a digest of what was asked for, where Elasticsearch has room for notes; otherwise its own
    values are compared. A second run asks and writes nothing.
options:
  servers:
    description: URLs of hosts of the cluster; the first that answers is asked.
    type: list
    elements: str
    required: true
  user:
    description: Name of a user who may do all of it.
    type: str
    required: true
  password:
    description: Its password.
    type: str
    required: true
  ca_file:
    description: File on this host with the authority that the servers' certificates are checked against.
    type: path
    default: /etc/rackloom/ca.crt
  status:
    description: Health to wait for.
    type: str
    choices: [yellow, green]
    default: yellow
  seconds:
    description: How long to wait for it.
    type: int
    default: 300
  documents:
    description: What the cluster is to hold, in this order. C(path) is where, C(body) what.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the document.
        type: str
        required: true
      body:
        description: The document.
        type: dict
        required: true
  passwords:
    description: Password by user.
    type: dict
    default: {}
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Keep logs for a month
  rackloom.cluster.elasticsearch_content:
    servers: [https://192.0.2.1:9200]
    user: rackloom-setup
    password: "{{ rackloom_secrets.elasticsearch_setup_password }}"
    documents:
      - path: /_ilm/policy/logs
        body: {policy: {phases: {delete: {min_age: 30d, actions: {delete: {}}}}}}
"""

RETURN = r"""
written:
  description: Paths of the documents that were written, or would be in check mode.
  returned: always
  type: list
  elements: str
passwords_set:
  description: Users whose password was set, or would be in check mode.
  returned: always
  type: list
  elements: str
"""

import base64
import hashlib
import json
import secrets
import ssl
import time
import urllib.error
import urllib.request
from typing import Any

from ansible.module_utils.basic import AnsibleModule

NOTES = {
    "/_ilm/policy/": ("policy", "_meta"),
    "/_index_template/": ("_meta",),
    "/_slm/policy/": ("config", "metadata"),
    "/_security/role/": ("metadata",),
    "/_security/user/": ("metadata",),
}
"""Where a document of a kind has room for notes."""
NOTE = "rackloom_digest"
USERS = "/_security/user/"
MISSING = 404
REFUSED = 401


class Trouble(Exception):
    """Elasticsearch does not do what it is asked; the text is for people."""


class Cluster:
    """Elasticsearch, asked over HTTPS."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.servers = [server.rstrip("/") for server in given["servers"]]
        self.login = (given["user"], given["password"])
        self.context = ssl.create_default_context(cafile=given["ca_file"])

    def ask(
        self, method: str, path: str, body: Any = None, login: tuple[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and answer of the first server that answers. Raises Trouble where none does."""
        word = base64.b64encode(":".join(login or self.login).encode()).decode("ascii")
        headers = {"Authorization": f"Basic {word}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        trouble = "no server is named"
        for server in self.servers:
            request = urllib.request.Request(server + path, data, headers, method=method)  # noqa: S310 - the site's own
            try:
                with urllib.request.urlopen(request, timeout=60, context=self.context) as answer:  # noqa: S310
                    return answer.status, _read(answer.read())
            except urllib.error.HTTPError as error:
                return error.code, _read(error.read())
            except (OSError, ValueError) as error:
                trouble = f"{server} does not answer: {error}"
        raise Trouble(trouble)

    def must(self, method: str, path: str, body: Any = None) -> Any:
        """The answer. Raises Trouble where it is none."""
        status, answer = self.ask(method, path, body)
        if status >= 300:
            raise Trouble(f"Elasticsearch answers {status} to {method} {path}: {_reason(answer)}")
        return answer


def _read(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode("utf-8", "replace")[:300]


def _reason(answer: Any) -> str:
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    return str(error.get("reason", error) if isinstance(error, dict) else error)[:500]


def wait(cluster: Cluster, status: str, seconds: float) -> None:
    """Until the cluster has the health. Raises Trouble."""
    end = time.monotonic() + seconds
    while True:
        try:
            code, answer = cluster.ask("GET", f"/_cluster/health?wait_for_status={status}&timeout=20s")
            if code < 300 and not answer.get("timed_out"):
                return
            said = f"is {answer['status']}" if code < 300 else f"answers {code}: {_reason(answer)}"
            trouble = f"the cluster {said}"
        except Trouble as error:
            code, trouble = 0, str(error)
        if code == REFUSED:
            raise Trouble(f"Elasticsearch does not let the user {cluster.login[0]} in")
        if time.monotonic() > end:
            raise Trouble(f"{trouble}; it was to be {status} within {seconds:.0f} s")
        time.sleep(1)


def digest(body: dict[str, Any]) -> str:
    """What was asked for, in a word."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]


def noted(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The document with its digest in it, where there is room."""
    place = next((steps for start, steps in NOTES.items() if path.startswith(start)), None)
    made: dict[str, Any] = json.loads(json.dumps(body))
    if place is not None:
        inner = made
        for step in place:
            inner = inner.setdefault(step, {})
        inner[NOTE] = digest(body)
    return made


def find(answer: Any, key: str) -> Any:
    """The first value of a key, however deep."""
    if isinstance(answer, dict):
        if key in answer:
            return answer[key]
        answer = list(answer.values())
    if isinstance(answer, list):
        return next((value for value in (find(item, key) for item in answer) if value is not None), None)
    return None


def within(wanted: Any, held: Any) -> bool:
    """Whether all that is wanted is held; Elasticsearch gives numbers and truth values back as text."""
    if isinstance(wanted, dict):
        return isinstance(held, dict) and all(within(value, held.get(key)) for key, value in wanted.items())
    if isinstance(wanted, bool):
        return str(held).lower() == str(wanted).lower()
    return wanted == held or str(wanted) == str(held)


def is_there(path: str, body: dict[str, Any], answer: Any) -> bool:
    """Whether the document that was found is the one that is wanted."""
    if any(path.startswith(start) for start in NOTES):
        return bool(find(answer, NOTE) == digest(body))
    return isinstance(answer, dict) and any(within(body, held) for held in answer.values())


def bring(cluster: Cluster, given: dict[str, Any], *, only_look: bool) -> tuple[list[str], list[str]]:
    """Write what differs; returns the paths, and the users whose password did not open. Raises Trouble."""
    written: list[str] = []
    for document in given["documents"]:
        path, body = document["path"], document["body"]
        status, answer = cluster.ask("GET", path)
        if status not in (200, MISSING):
            raise Trouble(f"Elasticsearch answers {status} to GET {path}: {_reason(answer)}")
        if status == MISSING or not is_there(path, body, answer):
            written.append(path)
            if not only_look:
                made = noted(path, body)
                if path.startswith(USERS) and status == MISSING:
                    # A new user has to have one; nobody ever knows this one.
                    made["password"] = given["passwords"].get(path[len(USERS) :]) or secrets.token_urlsafe(32)
                cluster.must("PUT", path, made)
    opened: list[str] = []
    for user, password in given["passwords"].items():
        status, answer = cluster.ask("GET", "/_security/_authenticate", login=(user, password))
        if status == 200:
            continue
        if status != REFUSED:
            raise Trouble(f"Elasticsearch answers {status} to the user {user}: {_reason(answer)}")
        opened.append(user)
        if not only_look:
            cluster.must("PUT", f"{USERS}{user}/_password", {"password": password})
    return written, opened


def main() -> None:
    """Wait, look and write."""
    module = AnsibleModule(
        argument_spec={
            "servers": {"type": "list", "elements": "str", "required": True},
            "user": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "ca_file": {"type": "path", "default": "/etc/rackloom/ca.crt"},
            "status": {"type": "str", "choices": ["yellow", "green"], "default": "yellow"},
            "seconds": {"type": "int", "default": 300},
            "documents": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "body": {"type": "dict", "required": True},
                },
            },
            "passwords": {"type": "dict", "default": {}, "no_log": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    written: list[str] = []
    opened: list[str] = []
    try:
        cluster = Cluster(given)
        if not module.check_mode:
            wait(cluster, given["status"], given["seconds"])
        written, opened = bring(cluster, given, only_look=module.check_mode)
    except (Trouble, OSError) as error:
        # Before the first run there is nobody to ask.
        if not module.check_mode:
            module.fail_json(msg=f"{error}")
        written = [document["path"] for document in given["documents"]]
    module.exit_json(changed=bool(written or opened), written=written, passwords_set=opened)


if __name__ == "__main__":
    main()
