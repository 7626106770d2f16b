#!/usr/bin/python
"""Views and searches of Kibana, brought in from a file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kibana_objects
short_description: Bring saved objects into Kibana
description:
  - Waits until Kibana is available, and imports a file of saved objects when its content differs from what was imported
    last, or when the data view in it is not there.
options:
  url:
    description: URL of Kibana, with its base path.
    type: str
    required: true
  user:
    description: Name of a user who may do it.
    type: str
    required: true
  password:
    description: Its password.
    type: str
    required: true
  ca_file:
    description: File on this host with the authority that Kibana's certificate is checked against.
    type: path
    default: /etc/rackloom/ca.crt
  path:
    description: File on this host, one object a line, as Kibana exports them.
    type: path
    required: true
  view:
    description: The data view that is looked for.
    type: str
    required: true
  seconds:
    description: How long to wait for Kibana.
    type: int
    default: 300
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Bring in the searches
  rackloom.cluster.kibana_objects:
    url: https://192.0.2.1:5601/kibana
    user: elastic
    password: "{{ rackloom_secrets.elasticsearch_elastic_password }}"
    path: /etc/rackloom/kibana/objects.ndjson
    view: rackloom-logs
"""

RETURN = r"""
objects:
  description: How many objects were brought in.
  returned: success
  type: int
"""

import base64
import hashlib
import json
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

RECORD = Path("/var/lib/rackloom/kibana-objects")
"""Digest of what was imported last."""
BORDER = "rackloom-objects"
MISSING = 404


class Trouble(Exception):
    """Kibana does not do what it is asked; the text is for people."""


class Kibana:
    """Kibana's API."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.url = given["url"].rstrip("/")
        word = base64.b64encode(f"{given['user']}:{given['password']}".encode()).decode("ascii")
        self.headers = {"Authorization": f"Basic {word}", "kbn-xsrf": "rackloom"}
        self.context = ssl.create_default_context(cafile=given["ca_file"])

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> tuple[int, Any]:
        """Status and answer. Raises OSError."""
        headers = {**self.headers, **({"Content-Type": kind} if kind else {})}
        request = urllib.request.Request(self.url + path, body, headers, method=method)  # noqa: S310 - the site's own
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.context) as answer:  # noqa: S310
                return answer.status, _read(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _read(error.read())


def _read(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode("utf-8", "replace")[:300]


def wait(kibana: Kibana, seconds: float) -> None:
    """Until it is available. Raises Trouble."""
    end = time.monotonic() + seconds
    while True:
        try:
            code, answer = kibana.ask("GET", "/api/status")
            level = (
                answer.get("status", {}).get("overall", {}).get("level") if isinstance(answer, dict) else ""
            )
            if code == 200 and level == "available":
                return
            trouble = f"Kibana answers {code}, and is {level or 'not ready'}"
        except OSError as error:
            trouble = f"{kibana.url} does not answer: {error}"
        if time.monotonic() > end:
            raise Trouble(f"{trouble}; it was to be available within {seconds:.0f} s")
        time.sleep(2)


def has(kibana: Kibana, view: str) -> bool:
    """Whether a data view is there. Raises Trouble."""
    code, answer = kibana.ask("GET", f"/api/data_views/data_view/{view}")
    if code not in (200, MISSING):
        raise Trouble(f"Kibana answers {code}: {str(answer)[:300]}")
    return code == 200


def form(content: bytes) -> bytes:
    """The file as a form has it."""
    head = f'--{BORDER}\r\nContent-Disposition: form-data; name="file"; filename="objects.ndjson"\r\n'
    head += "Content-Type: application/ndjson\r\n\r\n"
    return head.encode() + content + f"\r\n--{BORDER}--\r\n".encode()


def load(kibana: Kibana, content: bytes) -> int:
    """Import all objects over those that are there; returns how many. Raises Trouble."""
    kind = f"multipart/form-data; boundary={BORDER}"
    code, answer = kibana.ask("POST", "/api/saved_objects/_import?overwrite=true", form(content), kind)
    if code != 200 or not isinstance(answer, dict) or not answer.get("success"):
        raise Trouble(f"Kibana answers {code} to the import: {str(answer)[:600]}")
    return int(answer["successCount"])


def bring(kibana: Kibana, content: bytes, digest: str) -> int:
    """Import, and remember what; returns how many. Raises Trouble or OSError."""
    count = load(kibana, content)
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(f"{digest}\n", encoding="ascii")
    return count


def main() -> None:
    """Wait, look and import."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "user": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "ca_file": {"type": "path", "default": "/etc/rackloom/ca.crt"},
            "path": {"type": "path", "required": True},
            "view": {"type": "str", "required": True},
            "seconds": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        content = Path(given["path"]).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        known = RECORD.read_text(encoding="ascii").strip() if RECORD.exists() else ""
        kibana = Kibana(given)
        if not module.check_mode:
            wait(kibana, given["seconds"])
        if has(kibana, given["view"]) and known == digest:
            module.exit_json(changed=False, objects=0)
        if module.check_mode:
            module.exit_json(changed=True, objects=content.count(b"\n"))
        module.exit_json(changed=True, objects=bring(kibana, content, digest))
    except (Trouble, OSError) as error:
        # Before the first run there is nobody to ask, and no file either.
        if module.check_mode:
            module.exit_json(changed=True, objects=0)
        module.fail_json(msg=f"{error}")


if __name__ == "__main__":
    main()
