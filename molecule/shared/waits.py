"""Waiting for what comes true later; the scenarios' tests import it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    condition: Callable[[], T], seconds: float = 120, what: str | Callable[[], str] = "it did not come true"
) -> T:
    """Ask again and again until something is so; returns it. `what` is told where it never is."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, what if isinstance(what, str) else what()
        time.sleep(0.3)
    return found
