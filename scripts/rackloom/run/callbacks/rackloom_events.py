"""ansible-runner's event callback, lighter, and with what a timeline needs.

Runs inside ansible-playbook. Against its parent it writes no event when a host starts a task (half of
all events), leaves out the bulk of results that nobody reads (facts, invocations), and tells each
play's tags, file and hosts.
"""

from __future__ import annotations

DOCUMENTATION = """
name: rackloom_events
short_description: Events for Rackloom's progress and timeline
description:
  - Sends play, task and result events to the program that started ansible-playbook.
type: stdout
extends_documentation_fragment:
  - default_callback
requirements:
  - ansible-runner's awx_display on the callback path
"""

from datetime import datetime, timezone  # noqa: E402
from typing import Any  # noqa: E402

from ansible.plugins.loader import callback_loader  # noqa: E402

Base: Any = callback_loader.get("awx_display", class_only=True)

# Ansible may still be older than the enum `datetime.UTC` on other controllers; keep timezone.utc.
_KEPT_FACTS = ("distribution", "distribution_version", "kernel", "architecture")
_DROPPED = {
    "ansible_facts",
    "invocation",
    "diff",
    "results",
    "warnings",
    "deprecations",
    "stdout_lines",
    "stderr_lines",
}
_LONGEST = 4000
_OURS = "rackloom_"


def slim(res: dict[str, Any]) -> dict[str, Any]:
    """A good result without its bulk: short values, our own keys whole, four facts."""
    kept = {
        key: value
        for key, value in res.items()
        if key.startswith(_OURS) or (key not in _DROPPED and len(str(value)) <= _LONGEST)
    }
    facts = res.get("ansible_facts")
    if isinstance(facts, dict):
        found = {key: facts.get(key, facts.get(f"ansible_{key}")) for key in _KEPT_FACTS}
        if any(found.values()):
            kept["rackloom_facts"] = {key: value for key, value in found.items() if value}
        kept.update({key: value for key, value in facts.items() if key.startswith(_OURS)})
    for item in res.get("results") or []:
        if isinstance(item, dict) and not item.get("_ansible_no_log"):
            kept.update({key: value for key, value in item.items() if key.startswith(_OURS)})
    return kept


class CallbackModule(Base):  # type: ignore[misc]
    """See the module's docstring."""

    CALLBACK_NAME = "rackloom_events"
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"

    def capture_event_data(self, event: str, **event_data: Any) -> Any:
        """Slim good results before they are written; failures stay whole. no_log is the parent's work."""
        res = event_data.get("res")
        if event == "runner_on_ok" and isinstance(res, dict) and not res.get("_ansible_no_log"):
            event_data["res"] = slim(res)
        if event == "playbook_on_play_start":
            event_data.update(self._next_play)
        return super().capture_event_data(event, **event_data)

    def _handle_exception(self, result: Any, use_stderr: bool = False) -> None:
        """Keep still about a hidden result: Ansible 2.19 prints an action's error even under no_log."""
        if "censored" in result or result.get("_ansible_no_log"):
            result.pop("exception", None)
            return
        super()._handle_exception(result, use_stderr=use_stderr)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Add the play's tags, `file:line` and the hosts it will reach (with --limit applied)."""
        try:
            inventory = play.get_variable_manager()._inventory  # noqa: SLF001 - no public way to it
            hosts = [host.get_name() for host in inventory.get_hosts(play.hosts, order=play.order)]
        except Exception:  # noqa: BLE001 - progress is never worth a failed run
            hosts = []
        self._next_play = {"tags": list(play.tags), "path": play.get_path(), "hosts": hosts}
        super().v2_playbook_on_play_start(play)

    def v2_runner_on_start(self, host: Any, _task: Any) -> None:
        """Only remember the time; results carry it."""
        self._host_start[host.get_name()] = datetime.now(timezone.utc)  # noqa: UP017
