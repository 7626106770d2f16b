"""The machines themselves: power and boot order through their BMCs, and what machines report of their hardware."""

from __future__ import annotations

from .bmc import Bmc, BmcError, BmcTarget, Device, Power, Wish
from .connect import connect
from .targets import select, targets
from .waves import BmcResult, run_wave, switch

__all__ = [
    "Bmc",
    "BmcError",
    "BmcResult",
    "BmcTarget",
    "Device",
    "Power",
    "Wish",
    "connect",
    "run_wave",
    "select",
    "switch",
    "targets",
]
