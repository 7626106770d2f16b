"""How anything here fails: with a sentence and a cure, which go to the boot server."""

from __future__ import annotations


class TroubleError(Exception):
    """The node cannot go on. `str()` is the sentence; `cure` is what the sysadmin can do."""

    def __init__(self, message: str, cure: str) -> None:
        super().__init__(message)
        self.cure = cure
