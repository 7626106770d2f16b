"""What a lab is asked to be."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rackloom.lab.errors import LabError

MOST_COMPUTE = 200
MOST_MANAGEMENT = 9
MOST_GPUS = 64
CONTROL_PLANES = (1, 3, 5)
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,18}[a-z0-9])?")


@dataclass(frozen=True)
class LabOptions:
    """A lab's size and system: `compute` nodes with `gpus` each, `management` nodes, one login node."""

    name: str = "lab"
    compute: int = 2
    gpus: int = 2
    os: str = "debian-12"
    management: int = 1
    closed: bool = False
    """Whether nothing gets out of the lab's network; its site then needs a bundle."""
    kubernetes: bool = False
    """Whether the management nodes are Kubernetes' control plane and the first compute node its worker."""

    def check(self) -> LabOptions:
        """Return these options, or raise LabError for the first that cannot be."""
        if not _NAME.fullmatch(self.name):
            raise LabError(
                f"'{self.name}' is no name for a lab",
                "up to 20 of a-z, 0-9 and -, a letter first, no - at the end",
            )
        if self.name.startswith("molecule"):
            raise LabError("names that begin with 'molecule' belong to the role scenarios", "take another")
        for what, value, least, most in (
            ("compute", self.compute, 1, MOST_COMPUTE),
            ("management", self.management, 1, MOST_MANAGEMENT),
            ("gpus", self.gpus, 0, MOST_GPUS),
        ):
            if not least <= value <= most:
                raise LabError(f"--{what} {value} is out of range", f"{least} to {most}")
        if self.kubernetes and self.management not in CONTROL_PLANES:
            raise LabError(
                f"--management {self.management} makes no control plane of Kubernetes",
                "1, 3 or 5: its store wants a majority",
            )
        return self
