"""What all parts of a site's files have in common, whichever module describes them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from . import fields as f
from .mistakes import Path as Where


class Part(BaseModel):
    """Base of all parts of the files; remembers where in its file it stands."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    _where: Where = PrivateAttr(default=())

    @property
    def where(self) -> Where:
        """Path of keys and indexes from the top of the file."""
        return self._where


Count = Annotated[int, f.NoBool, Field(ge=1, le=4096)]
Whole = Annotated[int, f.NoBool, Field(ge=0, le=4294967293)]
