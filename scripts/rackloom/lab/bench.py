"""How long a deployment takes, measured against the bare package manager on the same nodes in the same run.

    python -m rackloom.lab.bench [--compute N] [--os OS] [--rounds R] [--json]

A round makes a lab of new nodes, deploys twice, and notes which packages each node got. Then it makes the nodes
anew and installs just those packages on all of them at once with apt-get. Ratios are taken within a round, so a
slow machine, mirror or neighbour weighs on both sides.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rackloom.lab import manage
from rackloom.lab.errors import LabError
from rackloom.lab.nodes import at_once
from rackloom.lab.options import LabOptions
from rackloom.result import ExitCode
from rackloom.run.deploy import RunOutcome, deploy

NAME = "bench"
LIST = "dpkg-query -W -f '${Package}\\n'"
INSTALL = (
    "export DEBIAN_FRONTEND=noninteractive; apt-get -qq update && apt-get -qq install --no-install-recommends"
)


@dataclass(frozen=True)
class Round:
    """Seconds of one round, with what the deployments did; `packages` is the number over all nodes."""

    first: float
    second: float
    bare: float
    packages: int
    evaluations: int
    skipped_share: float
    shell_share: float

    @property
    def first_to_bare(self) -> float:
        """The first deployment as a multiple of the bare install."""
        return self.first / self.bare

    @property
    def second_to_first(self) -> float:
        """The second deployment as a part of the first."""
        return self.second / self.first


class BenchError(Exception):
    """A step that has to succeed for a figure to mean anything did not."""


def seconds(work: Callable[[], Any]) -> float:
    """Return how long a call took."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def on_nodes(state: manage.LabState, commands: Mapping[str, str]) -> dict[str, str]:
    """Run a command on each node at once; returns what they printed. Raises BenchError."""

    def one(node: str) -> tuple[str, str]:
        argv = [*manage.ssh_command(state.options.name, node), commands[node]]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"{node}: {commands[node]}: {done.stderr.strip()[-2000:]}")
        return node, done.stdout

    return dict(at_once(one, commands))


def deployed(state: manage.LabState) -> RunOutcome:
    """Deploy all stages. Raises BenchError with what went wrong."""
    outcome = deploy(state.config_dir)
    if outcome.exit_code is not ExitCode.OK:
        raise BenchError(
            "; ".join(problem.message for problem in outcome.problems) or "the deployment failed"
        )
    return outcome


def measure(options: LabOptions, say: Callable[[str], None]) -> Round:
    """Measure one round and leave nothing behind."""
    outcomes: list[RunOutcome] = []
    try:
        state = manage.up(options, say, deploy=False)
        names = [node.name for node in state.nodes]
        before = on_nodes(state, dict.fromkeys(names, LIST))
        say("first deploy")
        first = seconds(lambda: outcomes.append(deployed(state)))
        say(f"first deploy: {first:.1f} s")
        second = seconds(lambda: outcomes.append(deployed(state)))
        say(f"second deploy: {second:.1f} s")
        after = on_nodes(state, dict.fromkeys(names, LIST))
        new = {name: sorted(set(after[name].split()) - set(before[name].split())) for name in names}
        manage.down(options.name, progress=say)
        state = manage.up(options, say, deploy=False)
        say("the same packages with apt-get alone")
        install = {name: f"{INSTALL} -y {' '.join(packages)}" for name, packages in new.items() if packages}
        bare = seconds(lambda: on_nodes(state, install))
        say(f"apt-get alone: {bare:.1f} s")
    finally:
        manage.down(options.name, progress=say)
    counts = outcomes[-1].counts
    return Round(
        first=first,
        second=second,
        bare=bare,
        packages=sum(len(packages) for packages in new.values()),
        evaluations=int(counts["evaluations"]),
        skipped_share=float(counts["skipped_share"]),
        shell_share=float(counts["shell_share"]),
    )


def table(rounds: list[Round]) -> str:
    """Return the figures as lines, the median last when there are several rounds."""
    lines = ["round  bare apt-get  first deploy  second deploy  first/bare  second/first"]
    for number, row in enumerate(rounds, 1):
        lines.append(
            f"{number:5}  {row.bare:10.1f} s  {row.first:10.1f} s  {row.second:11.1f} s"
            f"  {row.first_to_bare:10.2f}  {row.second_to_first:12.2f}"
        )
    middle = [
        statistics.median(getattr(row, name) for row in rounds)
        for name in ("first_to_bare", "second_to_first")
    ]
    last = rounds[-1]
    lines.append(f"median: first/bare {middle[0]:.2f}, second/first {middle[1]:.2f}")
    lines.append(
        f"{last.packages} packages over all nodes; a second deploy makes {last.evaluations} task evaluations,"
        f" {last.skipped_share:.1%} of them skips, {last.shell_share:.1%} shell or command"
    )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure and print. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench.sh", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--compute", type=int, default=2, help="compute nodes (2)")
    parser.add_argument("--os", default="debian-12", help="system of the nodes (debian-12)")
    parser.add_argument("--rounds", type=int, default=1, help="how often to measure (1)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    wanted = parser.parse_args(argv)

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    options = LabOptions(name=NAME, compute=wanted.compute, os=wanted.os)
    try:
        rounds = [measure(options, say) for _ in range(max(1, wanted.rounds))]
    except (BenchError, LabError) as error:
        say(f"bench: {error}")
        return 1
    if wanted.json:
        figures = [
            asdict(row) | {"first_to_bare": row.first_to_bare, "second_to_first": row.second_to_first}
            for row in rounds
        ]
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    else:
        sys.stdout.write(table(rounds) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
