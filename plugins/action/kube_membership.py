"""Action side of kube_membership: issues a joining node's credential, and skips a member that is as it was left."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail

from ..plugin_utils.surveyed import FACT, SurveyedAction  # noqa: TID252 - how a collection's plugins find each other

try:
    from rackloom.site.kube_credentials import JOINING, issue_client
except ImportError:
    # Plain ansible-playbook out of a checkout, where the package is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
    from rackloom.site.kube_credentials import JOINING, issue_client

_ASKED = ("role", "endpoint", "address", "parts")


class ActionModule(SurveyedAction):
    """One call of the module a node, and none for a member that is well."""

    NOTHING: ClassVar[dict[str, Any]] = {"found": "member", "api": [], "actions": []}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result; raises AnsibleActionFail where the authority is not sound."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = {key: value for key, value in self._task.args.items() if value is not None}
        key = arguments.pop("ca_key", "")
        if arguments.get("state") == "looked":
            return {**result, **self._look(arguments, variables)}
        if key:
            arguments["credential"] = self._credential(
                str(key), str(arguments.get("ca_certificate", "")), variables
            )
        asked = {name: arguments.get(name) for name in _ASKED}
        result.update(self.surveyed(arguments, asked, variables))
        return result

    def _look(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """What the survey calls a member is one."""
        known = variables.get("ansible_facts", {}).get(FACT, {})
        role = self.key().rpartition(".kube_membership.")[0]
        if any(name.startswith(f"{role}.kube_membership.") for name in known):
            return {**self.NOTHING, "changed": False}
        looked: dict[str, Any] = self._execute_module(
            module_name=self._task.action, module_args=arguments, task_vars=variables
        )
        return looked

    def _credential(self, key: str, certificate: str, variables: dict[str, Any]) -> dict[str, str]:
        name = f"system:bootstrap:{variables.get('inventory_hostname', 'node')}"
        try:
            made = issue_client(key, certificate, name, [JOINING])
        except ValueError as error:
            raise AnsibleActionFail(f"kube_membership: {error}") from None
        return {"key": made.key, "certificate": made.certificate}
