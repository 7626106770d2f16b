"""inventory/groups.yml as typed data: which groups exist and who is in them unless a site says otherwise."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from .paths import groups_file

LISTS = ("management", "login", "compute")


class Group(BaseModel):
    """One group; the fields are explained in inventory/groups.yml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    list: bool = False
    members: Literal["management", "login", "compute", "first_management", "none"] = "none"
    odd: bool = False
    max: int | None = None
    without: tuple[str, ...] = Field((), alias="except")
    requires: tuple[str, ...] = ()
    joins_with: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    sees_nodes: bool = False

    @property
    def service(self) -> bool:
        """Whether a site may name it under `services:`."""
        return not self.list and not self.children


@cache
def _load(path: Path) -> dict[str, Group]:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: Group.model_validate(group) for name, group in data["groups"].items()}


def groups(path: Path | None = None) -> dict[str, Group]:
    """All groups in the order of the file."""
    return _load(path or groups_file())


def derived(group: Group, lists: dict[str, list[str]], known: dict[str, list[str]]) -> list[str]:
    """Hosts that are in a service group unless the site overrides it; `known` has the groups it is without."""
    if group.members == "first_management":
        members = lists["management"][:1]
    else:
        members = [] if group.members == "none" else lists[group.members]
    others = {host for name in group.without for host in known[name]}
    return [host for host in members if host not in others]
