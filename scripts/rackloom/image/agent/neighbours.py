"""Which switch and which of its ports each network card hangs on, as LLDP tells it."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from . import programs

if TYPE_CHECKING:
    from collections.abc import Collection

PATIENCE = 35.0
"""Seconds to listen. Switches send every 30, unless they are told otherwise."""
_PAUSE = 1.0


def listen(cards: Collection[str], patience: float = PATIENCE) -> dict[str, dict[str, str]]:
    """Card -> {switch, port}, for those of `cards` whose other end spoke; ends early when all of them did.

    Only listens: this machine says nothing on the wire. An image without lldpd gives an empty answer.
    """
    found: dict[str, dict[str, str]] = {}
    if not cards:
        return found
    with contextlib.suppress(programs.ProgramError):
        programs.run("lldpd", "-r")
    until = time.monotonic() + patience
    while True:
        try:
            found = read(programs.run("lldpcli", "-f", "json0", "show", "neighbors"))
        except programs.ProgramError:
            return found
        if set(cards) <= set(found) or time.monotonic() > until:
            return found
        time.sleep(_PAUSE)


def read(text: str) -> dict[str, dict[str, str]]:
    """The answer of `lldpcli -f json0 show neighbors`; neighbours without a name or a port are left out."""
    found: dict[str, dict[str, str]] = {}
    try:
        told = json.loads(text)
        interfaces = [entry for part in told.get("lldp", []) for entry in part.get("interface", [])]
        for entry in interfaces:
            switch = _value(entry, "chassis", "name")
            port = _value(entry, "port", "id")
            if _first(_first(entry, "port"), "id").get("type") not in ("ifname", "local"):
                port = _value(entry, "port", "descr")  # the other kinds are hardware addresses and the like
            if switch and port:
                found.setdefault(str(entry["name"]), {"switch": switch, "port": port})
    except (ValueError, KeyError, TypeError, AttributeError):
        return found
    return found


def _first(entry: dict[str, Any], key: str) -> dict[str, Any]:
    values = entry.get(key) or [{}]
    return dict(values[0])


def _value(entry: dict[str, Any], part: str, key: str) -> str:
    return str(_first(_first(entry, part), key).get("value", "")).strip()
