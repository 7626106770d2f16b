"""The collector of Slurm's metrics, fed with what Slurm once said."""

from __future__ import annotations

import re
from types import ModuleType

from tests.loading import loaded

from rackloom.docs_gen.tree import ROOT

SAID = ROOT / "tests" / "data" / "slurm"
RELEASES = sorted(path.name for path in SAID.iterdir() if path.is_dir())


def load() -> ModuleType:
    """The program as a module."""
    return loaded(ROOT / "roles/slurm_exporter/files/slurm-metrics.py")


def asked(release: str) -> float:
    """When the recording was made."""
    told = re.search(r"sdiag output at .*\((\d+)\)", (SAID / release / "scheduler.txt").read_text())
    assert told is not None
    return float(told[1])


def collected(release: str = RELEASES[0]) -> str:
    """All metrics of a recording, and a job with a GPU that has ended."""
    now = asked(release)
    times = f"{now - 90:.0f}|{now - 80:.0f}|{now - 20:.0f}"
    ended = f"90|COMPLETED|batch|research|alice|{times}|60|00:42|||cpu=1,gres/gpu=1\n"

    def ask(name: str) -> str:
        return (SAID / release / f"{name}.txt").read_text() + (ended if name == "accounting" else "")

    collector = load().Collector(ask, lambda: now, 5000)
    collector.queue("ctl")
    collector.accounting("ctl")
    text: str = collector.metrics.text()
    return text
