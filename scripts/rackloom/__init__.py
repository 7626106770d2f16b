"""Rackloom: from bare racks to a running GPU cluster."""

from __future__ import annotations

__version__ = "0.1.0"
