"""A checked site with its ranges expanded: what inventory, roles and reports are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .models import ClusterFile, NodesFile, Profile


@dataclass(slots=True)
class Node:
    """One machine. role: management, login or compute; empty strings where the site says nothing.

    bmc: address, or URL of the Redfish system. image: what provisioning gives it, "" = it is not provisioned.
    """

    name: str
    role: str
    address: str
    profile: str = ""
    mac: str = ""
    bmc: str = ""
    serial: str = ""
    switch_port: str = ""
    image: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[str] = field(default_factory=list)
    vars: dict[str, Any] = field(default_factory=dict)
    line: int = 0


@dataclass(slots=True)
class Site:
    """Everything known about a cluster. groups: group → host names in order, with all derived and profile groups."""

    config_dir: Path
    cluster: ClusterFile
    nodes_file: NodesFile
    nodes: dict[str, Node]
    groups: dict[str, list[str]]

    @property
    def profiles(self) -> dict[str, Profile]:
        """Hardware by name."""
        return self.nodes_file.profiles

    def group(self, name: str) -> list[Node]:
        """The nodes of a group, in order."""
        return [self.nodes[host] for host in self.groups[name]]
