"""Action side of kube_host: judges what the survey has found, and goes to the node only where it has to."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..module_utils import node_kernel  # noqa: TID252 - how a collection's plugins find each other
from ..plugin_utils.surveyed import FACT  # noqa: TID252


class ActionModule(ActionBase):  # type: ignore[misc]
    """One look a run, and one sentence for each thing that is missing."""

    _requires_connection = True
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result; raises AnsibleActionFail naming all that is missing."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        wanted = {key: value for key, value in self._task.args.items() if value is not None}
        facts = variables.get("ansible_facts", {})
        kernel = facts.get("rackloom_kernel")
        layers = wanted.get("layers") or node_kernel.LAYERS[0]
        # What else was changed on the node since the survey, its resolver for one, may have changed what it found.
        stale = not kernel or not facts.get(FACT) or layers not in kernel["file_systems"]
        stale = stale or not set(wanted.get("need") or []) <= set(kernel["features"])
        if stale or node_kernel.to_do(kernel, wanted):
            told: dict[str, Any] = self._execute_module(
                module_name=self._task.action, module_args=wanted, task_vars=variables
            )
            result.update(told)
            if told.get("failed"):
                return result
            kernel = told["ansible_facts"]["rackloom_kernel"]
        else:
            result.update(changed=False, actions=[])
        self._judge(result, kernel, wanted)
        return result

    def _judge(self, result: dict[str, Any], kernel: dict[str, Any], wanted: dict[str, Any]) -> None:
        tolerate = wanted.get("tolerate") or []
        found = node_kernel.lacking(
            kernel,
            need=wanted.get("need") or [],
            layers=str(wanted.get("layers") or ""),
            pods=bool(wanted.get("pods", True)),
            swap=str(wanted.get("swap") or "refuse"),
            resolver=bool(wanted.get("resolver")),
        )
        grave = [
            f"{sentence}{f' (a test host tolerates it: {word})' if word else ''}"
            for word, sentence in found
            if word not in tolerate
        ]
        if grave:
            lines = "\n".join(f"- {line}." for line in grave)
            raise AnsibleActionFail(f"this node cannot run pods as it is. Nothing has been changed.\n{lines}")
        if found:
            warnings = [f"tolerated on this node: {sentence}" for _, sentence in found]
            result["warnings"] = [*result.get("warnings", []), *warnings]
