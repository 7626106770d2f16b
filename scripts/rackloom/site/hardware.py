"""What Slurm is told about a hardware profile: memory a job may have, GPUs and MIG slices as typed GRES."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .models import Gpu, Profile
from .ranges import expand, fold

SLICE = re.compile(r"([1-7])g\.([0-9]+)gb(?:\+(?:me|gfx|me\.all))?(?:\.[a-z]+)?")
"""A MIG slice profile, like 3g.20gb or 1g.10gb+me; the first number is its share of seven."""

_NOMINAL_SHARE = 0.97
_RESERVE_SHARE = 0.02
_RESERVE_MOST = 8192


def declared_mb(profile: Profile) -> int:
    """MiB that Linux will report, by what the site wrote: a size in G or T is that on the parts list."""
    memory = profile.memory
    return int(memory.mb * _NOMINAL_SHARE) if memory.nominal else memory.mb


def reserved_mb(profile: Profile) -> int:
    """MiB kept for the system."""
    if profile.reserved_memory.mb >= 0:
        return profile.reserved_memory.mb
    return min(int(declared_mb(profile) * _RESERVE_SHARE), _RESERVE_MOST)


def real_memory_mb(profile: Profile) -> int:
    """RealMemory: what jobs may have. Never above what the node reports, or Slurm would drain it."""
    return max(1, declared_mb(profile) - reserved_mb(profile))


@dataclass(frozen=True, slots=True)
class Gres:
    """One gres.conf line's data for a node: files "" = left to autodetection."""

    type: str
    count: int
    files: str
    autodetect: str

    def __str__(self) -> str:
        return f"gpu:{self.type}:{self.count}"


def _slices(gpu: Gpu) -> int:
    return sum(gpu.mig.values()) * gpu.count


def devices(gpu: Gpu) -> int:
    """How many allocatable devices an entry makes: GPUs, or MIG slices."""
    return _slices(gpu) if gpu.mig else gpu.count


def gres(profile: Profile) -> list[Gres]:
    """The GRES of a node, one entry a type and run of device files.

    A GPU cut by MIG has no device file of its own, so a node with slices but without their files is left to
    NVML, wholly: Slurm takes one way a node.
    """
    detect = "nvml" if any(gpu.mig and not gpu.files for gpu in profile.gpus) else ""
    result: list[Gres] = []
    first = 0
    for gpu in profile.gpus:
        if detect:
            files = []
        elif gpu.files:
            files = expand(gpu.files)
        else:
            files = [f"/dev/nvidia{first + number}" for number in range(gpu.count)]
        first += gpu.count
        if not gpu.mig:
            result.append(Gres(gpu.type, gpu.count, fold(files), detect))
            continue
        start = 0
        for name, each in gpu.mig.items():
            count = each * gpu.count
            result.append(Gres(name, count, fold(files[start : start + count]), detect))
            start += count
    return _joined(result)


def _joined(lines: list[Gres]) -> list[Gres]:
    """Lines of one type as one: Slurm adds them up in slurm.conf."""
    by_type: dict[str, Gres] = {}
    for line in lines:
        old = by_type.get(line.type)
        if old is None:
            by_type[line.type] = line
        else:
            files = fold(expand(old.files) + expand(line.files)) if old.files and line.files else ""
            by_type[line.type] = Gres(line.type, old.count + line.count, files, old.autodetect)
    return list(by_type.values())


def gpu_count(profile: Profile) -> int:
    """Physical GPUs of a node."""
    return sum(gpu.count for gpu in profile.gpus)
