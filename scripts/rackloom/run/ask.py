"""Runs that ask instead of change: `validate` has services prove themselves, `status` looks at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rackloom.result import ExitCode, Problem
from rackloom.run.deploy import Job, RunOutcome, run
from rackloom.run.progress import ProgressSink, names

Row = tuple[str, str, bool, str]


def validate(
    config_dir: Path, services: Sequence[str] = (), progress: ProgressSink | None = None
) -> RunOutcome:
    """Run the services' checks. Exit code 3 when one is not ok; 1 when the checks could not be made."""
    outcome = run(config_dir, Job("validate", "playbooks/validate.yml", tuple(services)), progress)
    if outcome.exit_code == ExitCode.OK and not outcome.checks:
        cure = "is the service on (does its group have hosts), and was the site deployed?"
        problem = Problem("no_checks", "no service answered", cure)
        return replace(outcome, exit_code=ExitCode.VERDICT, problems=(*outcome.problems, problem))
    return outcome


def status(config_dir: Path, limit: str | None = None, progress: ProgressSink | None = None) -> RunOutcome:
    """Look at the services without changing anything. Exit code 3 when one is not well."""
    job = Job("status", "playbooks/status.yml", limit=limit, exclusive=False)
    outcome = run(config_dir, job, progress)
    bad = [row for row in outcome.statuses if not row.get("ok")]
    if outcome.exit_code in (ExitCode.OK, ExitCode.UNREACHABLE) and bad:
        told = tuple(
            Problem("not_well", f"{service}: {detail}", "", {"host": hosts, "service": service})
            for service, hosts, ok, detail in fold_status(bad)
            if not ok
        )
        return replace(outcome, exit_code=ExitCode.VERDICT, problems=(*outcome.problems, *told))
    return outcome


def fold_status(statuses: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row a service and state, with the hosts folded: `(service, hosts, ok, detail)`.

    What differs from host to host only in its detail (a time, mostly) is one row.
    """
    found: dict[tuple[str, bool, str], tuple[list[str], str]] = {}
    for row in statuses:
        ok, detail = bool(row.get("ok")), str(row.get("detail") or "")
        key = (str(row.get("service", "")), ok, "" if ok else detail)
        found.setdefault(key, ([], detail))[0].append(str(row.get("host", "")))
    return [
        (service, names(hosts), ok, detail if len(hosts) == 1 or not ok else f"{len(hosts)} hosts")
        for (service, ok, _), (hosts, detail) in found.items()
    ]
