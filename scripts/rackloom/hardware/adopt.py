"""Machines that reported themselves become nodes: what to write into nodes.yml, decided before anything is written."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from rackloom.site.models import Profile
from rackloom.site.ranges import expand, fold, natural_key
from rackloom.site.resolved import Site

from .discovery import Machine, Match, fits, profile_name, profile_text, usable_bmc
from .nodes_file import NodesText

_TAIL = re.compile(r"(.*?)([0-9]+)")


class AdoptError(ValueError):
    """What was asked for cannot be written. `cure` says how to ask."""

    def __init__(self, message: str, cure: str) -> None:
        super().__init__(message)
        self.cure = cure


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the person at the keyboard said: names of the new machines in order, their first address, list, profile."""

    names: str = ""
    address: str = ""
    part: str = "compute"
    profile: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was written: which node (or profile), the field, and its value."""

    name: str
    field: str
    value: str


def adopt(site: Site, found: Sequence[Match], wanted: Wanted, text: NodesText) -> list[Change]:
    """Change the text for all machines: fill in and correct nodes that are known, add those that are new.

    Raises AdoptError (and EditError from the text); the text is then to be thrown away.
    """
    changes: list[Change] = []
    seen: set[str] = set()
    for match in found:
        if match.state == "new":
            continue
        if match.node in seen:
            message = f"Two machines say that they are {match.node}."
            raise AdoptError(message, "Name the MAC of the right one: rackloom node discover MAC --write")
        seen.add(match.node)
        for field, value in match.missing:
            text.put(match.node, field, value)
            changes.append(Change(match.node, field, value))
    fresh = [match.machine for match in found if match.state == "new"]
    if not wanted.names:
        return changes
    names = expand(wanted.names)
    if len(names) != len(fresh):
        message = f"{wanted.names} is {len(names)} names, but {len(fresh)} machines are new."
        raise AdoptError(
            message, "Write as many names as there are new machines, or name the machines' MACs."
        )
    twice = next((name for name in names if names.count(name) > 1 or name in seen), None)
    if twice is not None:
        raise AdoptError(f"{twice} would be two machines.", "Name each node once.")
    addresses = _addresses([name for name in names if name not in site.nodes], wanted)
    profiles = dict(site.profiles)
    for name, one in zip(names, fresh, strict=True):
        if name in site.nodes:
            changes += _fill(site, name, one, text)
            continue
        profile = wanted.profile or next((key for key, kind in profiles.items() if fits(kind, one)), "")
        if not profile:
            profile = _new_profile(one, set(profiles))
            kind = profile_text(one)
            profiles[profile] = Profile.model_validate(yaml.safe_load(kind))
            text.add_profile(profile, kind)
            changes.append(Change(profile, "profile", kind))
        fields = {
            "name": name,
            "address": addresses[name],
            "profile": profile,
            "mac": one.mac,
            "serial": one.serial,
            "bmc": usable_bmc(site, one),
        }
        text.add_node(wanted.part, fields)
        changes += [
            Change(name, field, value) for field, value in fields.items() if value and field != "name"
        ]
    return changes


def _fill(site: Site, name: str, one: Machine, text: NodesText) -> list[Change]:
    """A node that was planned, or whose machine was replaced: it gets this machine."""
    node = site.nodes[name]
    wanted = {"mac": one.mac, "serial": one.serial, "bmc": usable_bmc(site, one) if not node.bmc else ""}
    changes = [
        Change(name, field, value)
        for field, value in wanted.items()
        if value and value != getattr(node, field)
    ]
    for change in changes:
        text.put(name, change.field, change.value)
    return changes


def _addresses(names: Sequence[str], wanted: Wanted) -> dict[str, str]:
    if not names:
        return {}
    if not wanted.address:
        message = f"{fold(names)} is not in nodes.yml yet, and has no address."
        raise AdoptError(message, "Add --address with the first of them.")
    try:
        first = ipaddress.ip_address(wanted.address)
        return {name: str(first + number) for number, name in enumerate(names)}
    except ValueError:
        raise AdoptError(f"{wanted.address} is no address.", "Write one like 10.10.1.5.") from None


def _new_profile(one: Machine, taken: set[str]) -> str:
    """A free name. A machine that told too little of itself gets no profile, and the reason is said."""
    if not one.whole:
        message = f"The machine {one.mac} did not tell its processors and memory."
        raise AdoptError(message, "Name a profile: --profile NAME")
    name = profile_name(one)
    return name if name not in taken else f"{name}_{one.mac.replace(':', '')[-6:]}"


def suggestion(site: Site, found: Sequence[Match]) -> str:
    """A command that takes the new machines in, going on where the compute nodes end; "" if there are none."""
    count = sum(match.state == "new" for match in found)
    compute = sorted(site.group("compute"), key=lambda node: natural_key(node.name))
    match = _TAIL.fullmatch(compute[-1].name) if compute else None
    if not count or match is None:
        return ""
    head, number = match.groups()
    names = [f"{head}{int(number) + step:0{len(number)}d}" for step in range(1, count + 1)]
    used = {node.address for node in site.nodes.values()}
    address = ipaddress.ip_address(compute[-1].address) + 1
    while any(str(address + step) in used for step in range(count)):
        address += 1
    return f"rackloom node discover --write --name '{fold(names)}' --address {address}"
