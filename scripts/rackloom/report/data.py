"""A run's files as what the page shows. Reads only; a missing or broken file leaves its part empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rackloom.run.rundirs import list_runs, read_json

MOST_HOSTS = 64
MOST_TASKS = 16


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a host's time. Seconds since the run's start; status as in the timeline."""

    start: float
    end: float
    status: str
    title: str


@dataclass(frozen=True, slots=True)
class TaskCost:
    """A task's wall time over all hosts, and the host that took longest."""

    title: str
    stage: str
    seconds: float
    hosts: int
    changed: int
    slowest: str


@dataclass(slots=True)
class RunData:
    """Everything about one run."""

    path: Path
    summary: dict[str, Any] = field(default_factory=dict)
    site: dict[str, Any] = field(default_factory=dict)
    timeline: dict[str, Any] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    checks_from: str = ""
    """The run that the verdicts are from."""

    @property
    def seconds(self) -> float:
        """The run's length; never 0, so that one can divide by it."""
        return max(0.1, float(self.timeline.get("seconds", 0.0)))

    @property
    def stages(self) -> list[dict[str, Any]]:
        """As in the timeline."""
        return list(self.timeline.get("stages", []))

    def costs(self) -> list[TaskCost]:
        """The tasks that took the time, the longest first."""
        tasks: Sequence[dict[str, Any]] = self.timeline.get("tasks", [])
        rows: dict[int, list[list[Any]]] = {}
        for row in self.timeline.get("rows", []):
            if row[4] != "skipped":
                rows.setdefault(row[0], []).append(row)
        found = []
        for number, mine in rows.items():
            task = tasks[number]
            slowest = max(mine, key=lambda row: row[3] - row[2])
            found.append(
                TaskCost(
                    title=f"{task['role']} : {task['name']}" if task.get("role") else task["name"],
                    stage=task["stage"],
                    seconds=max(row[3] for row in mine) - min(row[2] for row in mine),
                    hosts=len(mine),
                    changed=sum(1 for row in mine if row[4] == "changed"),
                    slowest=slowest[1],
                )
            )
        return sorted(found, key=lambda cost: -cost.seconds)[:MOST_TASKS]

    def spans(self) -> dict[str, list[Span]]:
        """Each host's time, in the site's order. Pieces too short to be seen are joined with their neighbours.

        Of more than MOST_HOSTS hosts: those that did not end well, those that are not compute nodes, and the busiest.
        """
        tasks: Sequence[dict[str, Any]] = self.timeline.get("tasks", [])
        shortest = self.seconds / 700  # a pixel or so
        found: dict[str, list[Span]] = {}
        busy: dict[str, float] = {}
        for number, host, start, end, status in sorted(self.timeline.get("rows", []), key=lambda row: row[2]):
            if status == "skipped":
                continue
            task = tasks[number]
            title = f"{task['role']} : {task['name']}" if task.get("role") else task["name"]
            mine = found.setdefault(host, [])
            busy[host] = busy.get(host, 0.0) + end - start
            last = mine[-1] if mine else None
            if (
                last
                and last.status == status
                and start - last.end < shortest
                and (end - start < shortest or last.end - last.start < shortest)
            ):
                longer = title if end - start > last.end - last.start else last.title
                mine[-1] = Span(last.start, max(end, last.end), status, longer)
            else:
                mine.append(Span(start, end, status, title))
        nodes = self.site.get("nodes", {})
        place = {host: number for number, host in enumerate(nodes)}
        hosts = sorted(found, key=lambda host: (place.get(host, len(place)), host))
        if len(hosts) > MOST_HOSTS:
            chosen = set(sorted(hosts, key=lambda host: (self._like_others(host), -busy[host]))[:MOST_HOSTS])
            hosts = [host for host in hosts if host in chosen]
        return {host: found[host] for host in hosts}

    @property
    def hosts(self) -> dict[str, dict[str, int]]:
        """Hosts with their counts."""
        found: dict[str, dict[str, int]] = self.summary.get("hosts", {})
        return found

    def _like_others(self, host: str) -> int:
        """How little there is to see on a host: 0 for one that did not end well, 2 for a compute node."""
        counts = self.hosts.get(host, {})
        if counts.get("failed") or counts.get("unreachable"):
            return 0
        return 2 if self.site.get("nodes", {}).get(host, {}).get("role") == "compute" else 1

    def services(self) -> dict[str, list[str]]:
        """Each host's services: the groups that are services, not lists, profiles or groups of groups."""
        found: dict[str, list[str]] = {}
        for name in self.site.get("services", []):
            for host in self.site.get("groups", {}).get(name, []):
                found.setdefault(host, []).append(name)
        return found


def load(run_dir: Path) -> RunData:
    """Read a run. Verdicts come from this run, or from the site's last run that has some."""
    data = RunData(run_dir)
    for name in ("summary", "site", "timeline"):
        found = read_json(run_dir / f"{name}.json")
        setattr(data, name, found if isinstance(found, dict) else {})
    others = list_runs(run_dir.parent.parent) if run_dir.parent.name == ".runs" else []
    for path in [run_dir, *reversed(others)]:
        verdict = read_json(path / "validation.json")
        if isinstance(verdict, dict) and isinstance(verdict.get("checks"), list):
            data.checks, data.checks_from = verdict["checks"], path.name
            break
    return data
