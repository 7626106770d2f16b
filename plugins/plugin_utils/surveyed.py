"""Action side of modules that keep a record on the node: no call where the survey says that nothing is to be done."""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any, ClassVar

from ansible.plugins.action import ActionBase

FACT = "rackloom_survey"


class SurveyedAction(ActionBase):  # type: ignore[misc]
    """Runs the module of its name, unless the survey of this run has found that its request still holds."""

    _requires_connection = True
    _supports_check_mode = True
    _supports_async = False
    NOTHING: ClassVar[dict[str, Any]] = {}
    """What the module returns when it has nothing to do."""

    def key(self) -> str:
        """Return the name of the task's record: the same in every run, another for every task of a role."""
        role = self._task._role  # noqa: SLF001 - Ansible gives a task's role no public name
        where = role.get_name() if role else "playbook"
        name = self._task.get_name().rpartition(" : ")[2]
        module = self._task.action.rpartition(".")[2]
        return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{where}.{module}.{name}")[:180]

    def surveyed(
        self,
        arguments: dict[str, Any],
        asked: object,
        variables: dict[str, Any],
        *,
        skippable: bool = True,
    ) -> dict[str, Any]:
        """
        Return the module's result, or that of a request that still holds.

        asked is all that the request depends on, as JSON can write it. A request that watches files which other
        tasks write is not skippable: they may have been written since the survey.
        """
        text = json.dumps(asked, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()
        key = self.key()
        facts = variables.get("ansible_facts", {})
        if skippable and facts.get(FACT, {}).get(key) == digest:
            return {**self.NOTHING, "changed": False, "surveyed": True}
        result: dict[str, Any] = self._execute_module(
            module_name=self._task.action,
            module_args={**arguments, "record": {"key": key, "digest": digest}},
            task_vars=variables,
        )
        if result.get("changed") and facts.get(FACT):
            # What has been done may touch what other records say, so from here on each task asks for itself.
            result["ansible_facts"] = {**result.get("ansible_facts", {}), FACT: {}}
        return result


def own(path: str, written: list[str]) -> bool:
    """Tell whether a watched path is one of the written ones, or a directory above one of them."""
    folder = path.rstrip(os.sep) + os.sep
    return any(other == path or other.startswith(folder) for other in written)
