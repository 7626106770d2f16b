"""Action side of host_settings: goes to the node only where the survey says that there is something to do."""

from __future__ import annotations

from typing import Any, ClassVar

from ..plugin_utils.surveyed import SurveyedAction  # noqa: TID252 - how a collection's plugins find each other


class ActionModule(SurveyedAction):
    """Hand the arguments over as they are."""

    NOTHING: ClassVar[dict[str, Any]] = {"actions": [], "not_set": {}}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        result.update(self.surveyed(arguments, arguments, task_vars or {}))
        return result
