"""What a plan is: steps in their order, or reasons why nothing is begun."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rackloom.lifecycle.seen import Member, Seen
from rackloom.result import Problem, Table

_RELEASE = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done, to one node or to none, and why it is needed."""

    what: str
    node: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """`refusals` is empty where it may be begun. `notes` are for people. `steps` is empty where all is done already."""

    steps: tuple[Step, ...] = ()
    refusals: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    def table(self) -> Table:
        """The steps for people."""
        rows = [
            (str(number), step.what, step.node, step.why) for number, step in enumerate(self.steps, start=1)
        ]
        return Table(("", "step", "node", "why"), rows)

    def as_dict(self) -> dict[str, Any]:
        """The steps for programs."""
        return {
            "steps": [{"what": step.what, "node": step.node, "why": step.why} for step in self.steps],
            "notes": list(self.notes),
        }


def release(text: str) -> tuple[int, int, int] | None:
    """Major, minor and patch of a release; None where it is none."""
    found = _RELEASE.fullmatch(text.strip())
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def quorum(members: int) -> int:
    """How many of so many members have to be well."""
    return members // 2 + 1


def store_refusal(members: Sequence[Member], leaving: Iterable[str]) -> str:
    """Why these members of etcd may not leave, as a sentence; '' where they may."""
    gone = set(leaving)
    voting = [member for member in members if not member.learner]
    staying = [member for member in voting if member.name not in gone]
    if len(staying) == len(voting):
        return ""
    well = sum(member.healthy for member in voting)
    if well < quorum(len(voting)):
        return (
            f"etcd has no quorum: {well} of {len(voting)} members are well, {quorum(len(voting))} have to be"
        )
    if not staying:
        return "no member of etcd would be left"
    left = sum(member.healthy for member in staying)
    if left < quorum(len(staying)):
        return (
            f"etcd would lose its quorum: {left} of the {len(staying)} members that stay are well, "
            f"{quorum(len(staying))} have to be"
        )
    return ""


def store_elsewhere(seen: Seen, groups: Mapping[str, Sequence[str]]) -> str:
    """Why the site's files do not fit a living cluster's etcd, as a sentence; '' where they do, or nobody can tell."""
    stores = groups.get("etcd", ())
    for name in groups.get("kube_control_plane", ()):
        host = seen.host(name)
        if host.control_plane and ("etcd" in host.manifests) == bool(stores):
            runs = "on the control-plane nodes" if stores else "on hosts of its own"
            wants = f"on {some(stores)}" if stores else "on the control-plane nodes"
            return f"etcd runs {runs} ({name} says so), and cluster.yml has it {wants}"
    return ""


STORE_CURE = "put cluster.yml back; the guide's page on etcd says how the data is moved"


def some(names: Iterable[str], most: int = 5) -> str:
    """Some names, and how many more."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
