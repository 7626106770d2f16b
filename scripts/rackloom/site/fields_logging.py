"""The kinds of value that the section `logging:` has beside those of all files."""

from __future__ import annotations

from .fields import choice

LineFormat = choice("text", "container", "audit")
LogStore = choice("victorialogs", "elasticsearch")
