"""What was last asked of a node, kept there, so that one look tells whether it still is as it was left."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

RECORDS = "/var/lib/rackloom/records"

OPTION: dict[str, Any] = {
    "type": "dict",
    "options": {"key": {"type": "str", "no_log": False}, "digest": {"type": "str"}},
}
"""Argument of the modules that keep a record; set by their action side."""


def write(module: AnsibleModule, kind: str, request: dict[str, Any]) -> None:
    """
    Keep what was asked, once all of it has been done.

    request holds no secret: contents of files stand in it as digests. A record that is missing or wrong costs
    time, never correctness, because what it says is looked at on the node before it is believed.
    """
    record = module.params.get("record")
    if not record or module.check_mode:
        return
    path = os.path.join(RECORDS, record["key"] + ".json")
    text = json.dumps({"kind": kind, "digest": record["digest"], "request": request}, sort_keys=True)
    try:
        with open(path, encoding="utf-8") as handle:
            if handle.read() == text:
                return
    except (OSError, ValueError):
        os.makedirs(RECORDS, mode=0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(text)
    os.rename(temporary, path)


def read() -> dict[str, dict[str, Any]]:
    """Return all records by key; a broken one counts as none."""
    found: dict[str, dict[str, Any]] = {}
    try:
        names = sorted(os.listdir(RECORDS))
    except FileNotFoundError:
        return found
    for name in names:
        if not name.endswith(".json"):
            continue
        try:
            with open(os.path.join(RECORDS, name), encoding="utf-8") as handle:
                record = json.load(handle)
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and {"kind", "digest", "request"} <= set(record):
            found[name.removesuffix(".json")] = record
    return found
