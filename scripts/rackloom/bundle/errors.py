"""What can go wrong with a bundle, said in sentences and with a cure each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class BundleError(Exception):
    """A bundle that cannot be made, read or compared. `cure` names the next step (may be empty)."""

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.cure = cure


class RequestError(BundleError, ValueError):
    """What was asked for, or a record of it, is wrong; nothing was touched. Tells all mistakes at once."""

    def __init__(self, mistakes: Sequence[str], cure: str = "") -> None:
        super().__init__("; ".join(mistakes), cure)
        self.mistakes = tuple(mistakes)


class SpaceError(BundleError):
    """The disk is too small for what is asked for, or became full."""


@dataclass(frozen=True)
class Failure:
    """One thing that could not be fetched, and everything that was tried for it."""

    label: str
    tried: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.label} could not be fetched: {'; '.join(self.tried)}"


class FetchError(BundleError):
    """Some things could not be fetched; the others are kept for the next try."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        super().__init__(
            "; ".join(str(failure) for failure in failures),
            "run the same command again: it goes on where it stopped",
        )
        self.failures = tuple(failures)
