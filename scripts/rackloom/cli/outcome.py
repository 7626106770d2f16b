"""A run's outcome as a command's result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rackloom.result import Block, ExitCode, Result, Status, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rackloom.run.deploy import RunOutcome

_MOST_ROWS = 40


def as_result(command: str, outcome: RunOutcome) -> Result:
    """For commands that run a playbook to change something."""
    view: list[Block] = []
    if outcome.run_dir:
        view += [hosts_table(outcome.hosts), ""]
        if outcome.checks:
            view += [checks_table(outcome.checks), ""]
        view.append(_sentence(outcome))
        if outcome.resume:
            view.append(f"To go on: {outcome.resume}")
    return Result(command, outcome.exit_code, outcome.as_dict(), outcome.problems, view, status_of(outcome))


def status_of(outcome: RunOutcome) -> Status:
    """Partial where some hosts made it and some did not."""
    if outcome.exit_code == ExitCode.OK:
        return Status.SUCCESS
    good = [counts for counts in outcome.hosts.values() if not counts["failed"] and not counts["unreachable"]]
    return Status.PARTIAL if good and outcome.run_dir else Status.ERROR


def _sentence(outcome: RunOutcome) -> str:
    counts = outcome.counts
    how = {
        ExitCode.OK: "Done",
        ExitCode.FAILED: "Failed",
        ExitCode.VERDICT: "Deployed, but a service is not well",
        ExitCode.UNREACHABLE: "Done, but for hosts that could not be reached",
        ExitCode.INTERRUPTED: "Stopped",
    }.get(outcome.exit_code, "Ended")
    return (
        f"{how} in {outcome.seconds:.1f} s: {_count(len(outcome.hosts), 'host')}, "
        f"{_count(counts.get('tasks', 0), 'task')}, {_count(counts.get('changed', 0), 'change')}. {outcome.run_dir}"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def hosts_table(hosts: Mapping[str, Mapping[str, int]]) -> Table:
    """Hosts with their counts; of very many, those that are not simply fine."""
    columns = ("host", "state", "ok", "changed", "skipped", "failed", "unreachable")
    rows: list[tuple[str, ...]] = []
    plain = 0
    for name, counts in hosts.items():
        state = "failed" if counts["failed"] else "unreachable" if counts["unreachable"] else "ok"
        if state == "ok" and len(hosts) > _MOST_ROWS:
            plain += 1
            continue
        rows.append((name, state, *(str(counts[key]) for key in columns[2:])))
    if plain:
        rows.append((f"{plain} more", "ok", *("" for _ in columns[2:])))
    return Table(columns, rows)


def checks_table(checks: Sequence[Mapping[str, Any]]) -> Table:
    """Services' answers."""
    rows = [
        (
            str(check.get("service", "")),
            str(check.get("name", "")),
            "ok" if check.get("ok") else "failed",
            f"{float(check['seconds']):.1f} s" if check.get("seconds") is not None else "",
            str(check.get("detail") or ""),
        )
        for check in checks
    ]
    return Table(("service", "check", "verdict", "time", "detail"), rows)
