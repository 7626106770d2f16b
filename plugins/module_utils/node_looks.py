"""Looking at a node: whether what a record says was asked of it still holds. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from . import node_accounts, node_files, node_host, node_members, node_packages, node_units


class Differs(Exception):
    """What was asked does not hold, or cannot be told."""


class Onlooker:
    """What the parts that work on a node see of a module while they may only look."""

    check_mode = True
    _diff = False

    def __init__(self, module: AnsibleModule, params: dict[str, Any]) -> None:
        self.run_command = module.run_command
        self.params = params

    def fail_json(self, **told: Any) -> None:
        """Take a failure as a difference: the module itself will tell it, in its own place."""
        raise Differs(str(told.get("msg", "")))

    def warn(self, _message: str) -> None:
        """Say nothing: the module itself warns when it runs."""


def _component(module: AnsibleModule, request: dict[str, Any], installed: dict[str, str]) -> bool:
    if node_packages.missing_of(request["packages"], installed):
        return False
    if not all(node_files.unchanged(entry) for entry in request["files"]):
        return False
    for wanted in request["units"]:
        unit = node_units.Unit(Onlooker(module, {}), wanted)
        unit.apply()
        if unit.actions or (wanted["wait_for"] and node_units.unanswered(wanted["wait_for"])):
            return False
    return True


def _accounts(module: AnsibleModule, request: dict[str, Any], _installed: dict[str, str]) -> bool:
    return node_accounts.apply(Onlooker(module, request)) == ([], [])


def _host(module: AnsibleModule, request: dict[str, Any], _installed: dict[str, str]) -> bool:
    host = node_host.Host(Onlooker(module, request))
    host.apply(request)
    return not host.actions


def _membership(module: AnsibleModule, request: dict[str, Any], _installed: dict[str, str]) -> bool:
    return node_members.holds(module, request)


_LOOKS = {
    "component": _component,
    "local_accounts": _accounts,
    "host_settings": _host,
    "kube_membership": _membership,
}


def packages(module: AnsibleModule, records: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Return version by name of what is installed, for all records in one question."""
    names = sorted({name for record in records for name in record["request"].get("packages", [])})
    return node_packages.installed(module, names) if names else {}


def holds(module: AnsibleModule, record: dict[str, Any], installed: dict[str, str]) -> bool:
    """Tell whether a record's request would change nothing on this node."""
    look = _LOOKS.get(record["kind"])
    try:
        return look is not None and look(module, record["request"], installed)
    except (
        Differs,
        node_files.Refused,
        node_accounts.Refused,
        node_host.Refused,
        OSError,
        LookupError,
        ValueError,
    ):
        return False
