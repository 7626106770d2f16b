"""What can go wrong with an image, said in one sentence and with a cure."""

from __future__ import annotations


class ImageError(Exception):
    """An image that cannot be built, found or compared.

    `str(error)` is the sentence for people; `cure` names the next step (may be empty).
    """

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.cure = cure
