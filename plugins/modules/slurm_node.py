#!/usr/bin/python
"""Nodes of Slurm: looked at, drained until their jobs have ended, or taken back into service."""

from __future__ import annotations

DOCUMENTATION = r"""
module: slurm_node
short_description: Look at nodes of Slurm, drain them, or let them take jobs again
description:
  - Runs on a controller. Nodes that Slurm does not know are passed over.
  - A drained node takes no new jobs; running ones end by themselves. When they have not in time, the error names them,
    and the node stays drained. Jobs are cancelled with O(cancel_jobs) alone.
  - V(resumed) takes a node back that is drained for a reason of ours; what somebody else drained stays so.
options:
  names:
    description: The nodes.
    type: list
    elements: str
    required: true
  state:
    description: V(seen) only looks.
    type: str
    choices: [seen, drained, resumed]
    default: seen
  reason:
    description: Written on a drained node; V(resumed) takes back nodes whose reason begins with "rackloom".
    type: str
    default: "rackloom: maintenance"
  timeout:
    description: Seconds in which jobs must have ended, or resumed nodes must be idle.
    type: int
    default: 600
  cancel_jobs:
    description: Whether jobs that run when the time is over are cancelled.
    type: bool
    default: false
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Move | Slurm gives the node up
  rackloom.cluster.slurm_node:
    names: [gpu01]
    state: drained
    reason: "rackloom: move"
"""

RETURN = r"""
rackloom_facts:
  description: C(slurm) has C(nodes), name to state and reason, and C(jobs), each with id, user, state and nodes.
  returned: always
  type: dict
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

OURS = "rackloom"
GONE = ("down", "drained", "not_responding", "fail", "unknown", "future")
"""States in which no job runs on a node, whatever squeue says."""

Run = Callable[[Sequence[str]], "tuple[int, str, str]"]


class SlurmError(Exception):
    """Slurm did not do what it was asked; the text is for people."""


class Slurm:
    """A controller, through its own programs."""

    def __init__(
        self,
        run: Run,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run = run
        self.pause = pause
        self.clock = clock

    def call(self, *argv: str) -> str:
        """What a program printed. Raises SlurmError."""
        rc, out, err = self.run(argv)
        if rc != 0:
            raise SlurmError(f"{' '.join(argv[:3])}: {(err or out).strip() or f'ended with {rc}'}")
        return out

    def nodes(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """State and reason of the nodes that Slurm knows."""
        found = {}
        for line in self.call("sinfo", "-h", "-N", "-o", "%N|%T|%E").splitlines():
            name, state, why = (*line.split("|", 2), "", "")[:3]
            if name in names:
                found[name] = {"state": state, "reason": "" if why == "none" else why}
        return found

    def jobs(self, names: Sequence[str]) -> list[dict[str, str]]:
        """Jobs that are on these nodes."""
        if not names:
            return []
        out = self.call("squeue", "-h", "-w", ",".join(names), "-t", "R,CG,S,ST,SO,CF", "-o", "%i|%u|%T|%N")
        rows = [line.split("|", 3) for line in out.splitlines() if line.count("|") >= 3]
        return [{"id": r[0], "user": r[1], "state": r[2], "nodes": r[3]} for r in rows]

    def drain(self, names: Sequence[str], reason: str, timeout: float, *, cancel: bool) -> None:
        """Drain, and wait for the jobs. Raises SlurmError."""
        fresh = [name for name, row in self.nodes(names).items() if not draining(row["state"])]
        if fresh:
            self.call("scontrol", "update", f"NodeName={','.join(fresh)}", "State=DRAIN", f"Reason={reason}")
        end = self.clock() + timeout
        while jobs := self.jobs(names):
            if self.clock() >= end:
                if not cancel:
                    raise SlurmError(
                        f"{told(jobs)} on {', '.join(names)} after {timeout:.0f} s. The nodes stay drained, so no new "
                        "job starts there; run this again, with a longer --timeout, or end the jobs"
                    )
                self.call("scancel", *(job["id"] for job in jobs))
                cancel, end = False, self.clock() + 120
            self.pause(1)

    def resume(self, names: Sequence[str], timeout: float) -> list[str]:
        """Let nodes take jobs again that we drained, or that went down meanwhile. Raises SlurmError."""
        missing = [name for name in names if name not in self.nodes(names)]
        if missing:
            raise SlurmError(f"Slurm does not know {', '.join(missing)}")
        changed: set[str] = set()
        end = self.clock() + timeout
        while True:
            rows = self.nodes(names)
            waiting = {name: row for name, row in rows.items() if not serves(row["state"])}
            if not waiting:
                return sorted(changed)
            for name, row in waiting.items():
                foreign = draining(row["state"]) and not row["reason"].startswith(OURS)
                if foreign:
                    raise SlurmError(
                        f"{name} is drained by somebody else: {row['reason'] or 'no reason given'}"
                    )
                if name not in changed:
                    changed.add(name)
                    # refused where the node is neither drained nor down; then it comes by itself
                    self.run(["scontrol", "update", f"NodeName={name}", "State=RESUME"])
            if self.clock() >= end:
                rest = ", ".join(
                    f"{name} is {row['state']} {row['reason']}".strip() for name, row in waiting.items()
                )
                raise SlurmError(f"Slurm does not get the nodes after {timeout:.0f} s: {rest}")
            self.pause(1)


def draining(state: str) -> bool:
    """Whether a node takes no new jobs because somebody said so."""
    return state.rstrip("*~#!%$@^-").lower() in ("drained", "draining", "drain")


def serves(state: str) -> bool:
    """Whether a node takes jobs, now or when those on it have ended."""
    return not state.endswith("*") and state.rstrip("~#!%$@^-+").lower() in (
        "idle",
        "mixed",
        "allocated",
        "completing",
        "planned",
        "reserved",
    )


def told(jobs: Sequence[dict[str, str]], most: int = 5) -> str:
    """Jobs in words."""
    names = ", ".join(f"{job['id']} of {job['user']}" for job in jobs[:most])
    more = f" and {len(jobs) - most} more" if len(jobs) > most else ""
    return f"{'job' if len(jobs) == 1 else 'jobs'} {names}{more} still {'runs' if len(jobs) == 1 else 'run'}"


def main() -> None:
    """Do it, and tell what there is."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "default": "seen", "choices": ["seen", "drained", "resumed"]},
            "reason": {"type": "str", "default": "rackloom: maintenance"},
            "timeout": {"type": "int", "default": 600},
            "cancel_jobs": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params: dict[str, Any] = module.params

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        try:
            rc, out, err = module.run_command(
                list(argv), environ_update={"LC_ALL": "C.UTF-8"}, handle_exceptions=False
            )
        except OSError as error:
            return 127, "", f"{argv[0]}: {error.strerror}"
        return int(rc), str(out), str(err)

    slurm = Slurm(run)
    changed = False
    try:
        before = slurm.nodes(params["names"])
        if params["state"] == "drained":
            changed = any(not draining(row["state"]) for row in before.values())
            if before and not module.check_mode:
                slurm.drain(list(before), params["reason"], params["timeout"], cancel=params["cancel_jobs"])
        elif params["state"] == "resumed" and not module.check_mode:
            changed = bool(slurm.resume(params["names"], params["timeout"]))
        seen = {"nodes": slurm.nodes(params["names"]), "jobs": slurm.jobs(list(before))}
    except SlurmError as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(changed=changed, rackloom_facts={"slurm": seen})


if __name__ == "__main__":
    main()
