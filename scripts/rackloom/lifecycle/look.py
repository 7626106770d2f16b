"""One look at the nodes: the playbook is run, and what it gave is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rackloom.lifecycle.seen import Seen, read
from rackloom.result import ExitCode, Problem
from rackloom.run.deploy import Job, RunOutcome, run

if TYPE_CHECKING:
    from rackloom.run.progress import ProgressSink
    from rackloom.site import Site

Sink = Callable[[bool], "ProgressSink"]
"""Progress for the next run; true where it is a quick one."""


@dataclass(frozen=True, slots=True)
class Looked:
    """`problems` is empty where the look could be made; then `site` and `seen` are there."""

    problems: tuple[Problem, ...] = ()
    site: Site | None = None
    seen: Seen = field(default_factory=Seen)


def look(
    config_dir: Path, names: Sequence[str], sink: Sink, reboots: Callable[[Site], Sequence[str]] | None = None
) -> Looked:
    """Look at Kubernetes, Slurm and these nodes. Never raises for what goes wrong on nodes.

    `reboots` chooses nodes of the site that are asked whether they have to be rebooted, and nothing else.
    """
    from rackloom.run.preflight import look as preflight  # noqa: PLC0415 - slow to load

    checked = preflight(config_dir)
    if checked.problems:
        return Looked(problems=checked.problems)
    site: Site = checked.site
    asked = list(reboots(site)) if reboots else []
    variables = {
        "look_at": list(names) or asked or ["kubernetes"],
        "look_members": list(names) or ([] if reboots else ["kubernetes"]),
        "look_reboots": asked,
    }
    job = Job("look", "playbooks/lifecycle/look.yml", extra_vars=variables, exclusive=False)
    outcome = run(config_dir, job, sink(True))
    if outcome.run_dir is None or outcome.exit_code in (ExitCode.INTERRUPTED, ExitCode.MISTAKES):
        return Looked(problems=outcome.problems or (Problem("look", "the nodes could not be looked at"),))
    addresses = {name: node.address for name, node in site.nodes.items() if node.address}
    return Looked(site=site, seen=replace(seen_in(outcome, site.groups), addresses=addresses))


def seen_in(outcome: RunOutcome, groups: Mapping[str, Sequence[str]]) -> Seen:
    """What a look's outcome holds."""
    silent = [name for name, counts in outcome.hosts.items() if counts.get("unreachable")]
    facts: Mapping[str, Mapping[str, Any]] = outcome.facts
    return read(facts, silent, groups.get("kube_control_plane", ()))
