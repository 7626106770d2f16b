"""Action side of component: renders templates on the controller, then makes one module call."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.template import trust_as_template

from ..plugin_utils.surveyed import SurveyedAction, own  # noqa: TID252 - how a collection's plugins find each other

_SOURCES = ("template", "copy", "content", "content_b64", "line")
_KEYS = {
    *_SOURCES,
    "path",
    "state",
    "owner",
    "group",
    "mode",
    "target",
    "validate",
    "secret",
    "force",
    "match",
}
_MANAGED = "Managed by Rackloom: changes made here are overwritten by the next deploy."
_STATES = ("file", "directory", "absent", "link")


def _ended(text: str) -> bytes:
    """Return text as bytes that end with a newline, which templating drops from a value's end."""
    return (text if not text or text.endswith("\n") else text + "\n").encode()


class ActionModule(SurveyedAction):
    """Turn the task's file list into one payload, so that N files cost one round trip and not 2 N."""

    NOTHING: ClassVar[dict[str, Any]] = {"missing": [], "changed_paths": [], "actions": []}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result; raises AnsibleActionFail naming the file that is wrong."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        entries = arguments.pop("files", [])
        if not isinstance(entries, list):
            raise AnsibleActionFail("component: 'files' must be a list of mappings")
        payload = [self._entry(entry, number, variables) for number, entry in enumerate(entries, 1)]
        # One opaque string: file contents stay out of the invocation that a module logs on the node.
        packed = base64.b64encode(json.dumps(payload).encode()).decode()
        written = [entry["path"] for entry in payload]
        watched = [
            path
            for unit in arguments.get("units", [])
            for option in ("restart_on", "reload_on")
            for path in unit.get(option, [])
        ]
        result.update(
            self.surveyed(
                {**arguments, "payload": packed},
                [arguments, payload],
                variables,
                skippable=all(own(path, written) for path in watched),
            )
        )
        return result

    def _entry(self, entry: object, number: int, variables: dict[str, Any]) -> dict[str, Any]:
        where = f"component: file {number}"
        if not isinstance(entry, Mapping):
            raise AnsibleActionFail(f"{where} is no mapping")
        item = {str(key): value for key, value in entry.items() if value is not None}
        unknown = sorted(set(item) - _KEYS)
        if unknown:
            raise AnsibleActionFail(f"{where} has unknown keys: {', '.join(unknown)}")
        path = str(item.get("path", ""))
        if not path.startswith("/"):
            raise AnsibleActionFail(f"{where}: 'path' must be an absolute path, not {path!r}")
        state = str(item.get("state", "file"))
        if state not in _STATES:
            raise AnsibleActionFail(
                f"{where} ({path}): 'state' is one of {', '.join(_STATES)}, not {state!r}"
            )
        if "mode" in item and not isinstance(item["mode"], str):
            raise AnsibleActionFail(f"{where} ({path}): write 'mode' as a quoted octal string, as \"0644\"")
        if (state == "link") != ("target" in item):
            raise AnsibleActionFail(f"{where} ({path}): 'target' goes with state link, and with no other")
        given = [name for name in _SOURCES if name in item]
        if ("line" in item) != ("match" in item):
            raise AnsibleActionFail(f"{where} ({path}): 'line' and 'match' go together")
        if state == "file" and len(given) != 1:
            raise AnsibleActionFail(f"{where} ({path}): a file takes exactly one of {', '.join(_SOURCES)}")
        out: dict[str, Any] = {
            key: str(item[key]) for key in ("owner", "group", "mode", "target", "validate") if key in item
        }
        out.update(path=path, state=state, secret=bool(item.get("secret", False)))
        out["force"] = bool(item.get("force", True))
        if state == "file" and "line" in item:
            out.update(line=str(item["line"]), match=str(item["match"]))
        elif state == "file":
            data = self._content(given[0], item[given[0]], f"{where} ({path})", variables)
            out["content"] = base64.b64encode(data).decode()
        return out

    def _content(self, kind: str, value: Any, where: str, variables: dict[str, Any]) -> bytes:
        if kind == "content":
            return _ended(str(value))
        if kind == "content_b64":
            try:
                return base64.b64decode(str(value), validate=True)
            except (binascii.Error, ValueError):
                raise AnsibleActionFail(f"{where}: 'content_b64' is no valid base64") from None
        if kind == "copy":
            with open(self._find_needle("files", str(value)), "rb") as handle:
                return handle.read()
        source = self._find_needle("templates", str(value))
        search = [os.path.dirname(source)]
        for folder in variables.get("ansible_search_path", []):
            search += [os.path.join(folder, "templates"), folder]
        templar = self._templar.copy_with_new_env(
            searchpath=search, available_variables={"ansible_managed": _MANAGED, **variables}
        )
        with open(source, encoding="utf-8") as handle:
            text = trust_as_template(handle.read())
        rendered = templar.template(
            text, escape_backslashes=False, overrides={"trim_blocks": True, "lstrip_blocks": True}
        )
        return _ended(str(rendered))
