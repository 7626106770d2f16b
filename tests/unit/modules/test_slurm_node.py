"""Slurm gives nodes up when their jobs have ended, and takes back those that we drained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from plugins.modules.slurm_node import Slurm, SlurmError, draining, serves


class Controller:
    """As much of a controller as sinfo, squeue, scontrol and scancel need."""

    def __init__(self, **nodes: str) -> None:
        self.now = 0.0
        self.nodes = {name: [state, "none"] for name, state in nodes.items()}
        self.jobs: list[str] = []
        self.said: list[str] = []
        self.on_pause: Callable[[], None] = lambda: None

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.on_pause()

    def run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        if argv[0] == "sinfo":
            return 0, "".join(f"{name}|{state}|{why}\n" for name, (state, why) in self.nodes.items()), ""
        if argv[0] == "squeue":
            return 0, "".join(f"{job}|alice|RUNNING|g1\n" for job in self.jobs), ""
        self.said.append(" ".join(argv))
        if argv[0] == "scancel":
            self.jobs = []
        for name in argv[2].partition("=")[2].split(",") if argv[0] == "scontrol" else ():
            if argv[3] == "State=DRAIN":
                self.nodes[name] = ["drained", argv[4].partition("=")[2]]
            elif self.nodes[name][0] == "drained":
                self.nodes[name] = ["idle", "none"]
        return 0, "", ""

    @property
    def slurm(self) -> Slurm:
        return Slurm(self.run, pause=self.pause, clock=lambda: self.now)


def test_a_drain_waits_for_jobs() -> None:
    it = Controller(g1="allocated", g2="idle")
    it.jobs = ["7"]
    it.on_pause = lambda: it.jobs.clear() if it.now > 20 else None
    it.slurm.drain(["g1"], "rackloom: move", 60, cancel=False)
    assert it.now > 20 and it.nodes["g1"] == ["drained", "rackloom: move"] and it.nodes["g2"][0] == "idle"


def test_jobs_are_not_killed() -> None:
    it = Controller(g1="allocated")
    it.jobs = ["7", "8"]
    with pytest.raises(SlurmError, match=r"jobs 7 of alice, 8 of alice still run on g1 after 60 s"):
        it.slurm.drain(["g1"], "rackloom: move", 60, cancel=False)
    assert it.jobs == ["7", "8"] and it.nodes["g1"][0] == "drained"
    assert not any("scancel" in said for said in it.said)


def test_jobs_are_cancelled_where_that_is_said_and_only_after_their_time() -> None:
    it = Controller(g1="allocated")
    it.jobs = ["7"]
    it.slurm.drain(["g1"], "rackloom: move", 60, cancel=True)
    assert it.now >= 60 and it.said[-1] == "scancel 7"


def test_who_is_drained_keeps_the_reason() -> None:
    it = Controller(g1="drained", g2="draining")
    it.nodes["g1"][1] = "broken fan"
    it.slurm.drain(["g1", "g2"], "rackloom: move", 60, cancel=False)
    assert it.said == [] and it.nodes["g1"][1] == "broken fan"


def test_ours_are_taken_back() -> None:
    it = Controller(g1="drained")
    it.nodes["g1"][1] = "rackloom: move"
    assert it.slurm.resume(["g1"], 60) == ["g1"]
    assert it.slurm.resume(["g1"], 60) == []


def test_others_are_not() -> None:
    it = Controller(g1="drained")
    it.nodes["g1"][1] = "broken fan"
    with pytest.raises(SlurmError, match="somebody else: broken fan"):
        it.slurm.resume(["g1"], 60)


def test_a_node_that_does_not_come_is_said() -> None:
    it = Controller(g1="down*")
    with pytest.raises(SlurmError, match=r"after 60 s: g1 is down\*"):
        it.slurm.resume(["g1"], 60)
    with pytest.raises(SlurmError, match="does not know g9"):
        it.slurm.resume(["g9"], 60)


@pytest.mark.parametrize("state", ["drained", "draining", "drained*", "drain"])
def test_states_in_which_nothing_starts(state: str) -> None:
    assert draining(state) and not serves(state)


@pytest.mark.parametrize("state", ["idle", "mixed", "allocated", "completing"])
def test_states_in_which_jobs_run(state: str) -> None:
    assert serves(state) and not draining(state) and not serves(f"{state}*")
