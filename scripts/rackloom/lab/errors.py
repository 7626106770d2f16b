"""What can go wrong in the lab, said in one sentence and with a cure."""

from __future__ import annotations


class LabError(Exception):
    """A lab operation that cannot go on.

    `str(error)` is the sentence for people; `hint` names the next step (may be empty).
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
