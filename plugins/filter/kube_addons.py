"""Filters of the role kube_addons: what a site asked for, and what of it nobody knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def given_values(enabled: Mapping[str, Any]) -> dict[str, Any]:
    """The values of each add-on; none where a site wrote nothing after its name."""
    return {name: dict(values or {}) for name, values in enabled.items()}


def unknown_addons(
    enabled: Mapping[str, Any], known: Iterable[str], options: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Names of add-ons that there are not, and ADDON.OPTION where an add-on has options of its own and not this one."""
    names = set(known)
    unknown = [name for name in enabled if name not in names]
    unknown += [
        f"{name}.{option}"
        for name, values in given_values(enabled).items()
        if name in options
        for option in values
        if option not in options[name]
    ]
    return sorted(unknown)


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"given_values": given_values, "unknown_addons": unknown_addons}
