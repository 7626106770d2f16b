"""Inputs of the roles that keep and send logs: only data, under exactly the names that the roles declare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .fields_monitoring import disk_mb, span_seconds
from .models import ALL_NODES
from .resolved import Node, Site

STORE = "log_server"
SENDERS = "logged"
PORT = 9428
DAY = 86400

CONTAINERS = {"path": "/var/log/pods/*/*/*.log", "unit": "container", "format": "container"}
AUDIT = {"path": "/var/log/kubernetes/audit/*.log", "unit": "kube-audit", "format": "audit"}

Vars = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LoggingVars:
    """groups: group → its variables; hosts: host → those that are its own."""

    groups: dict[str, Vars]
    hosts: dict[str, Vars]


def logging_vars(site: Site) -> LoggingVars:
    """Nothing where no node keeps logs."""
    stores = site.group(STORE)
    if not stores:
        return LoggingVars({}, {})
    return LoggingVars(
        {STORE: _store(site), SENDERS: _senders(site, stores[0])},
        {node.name: {"log_shipper_files": files(site, node)} for node in site.group(SENDERS)},
    )


def address(node: Node) -> str:
    """Where nodes, people and programs find the store."""
    host = f"[{node.address}]" if ":" in node.address else node.address
    return f"https://{host}:{PORT}/logs"


def _store(site: Site) -> Vars:
    wanted = site.cluster.logging
    return {
        "log_shipper_server": address(site.group(STORE)[0]),
        "log_store_port": PORT,
        "log_store_path": wanted.path,
        "log_store_retention_days": max(1, span_seconds(wanted.retention.time) // DAY),
        "log_store_max_mb": disk_mb(wanted.retention.size) if wanted.retention.size else 0,
    }


def _senders(site: Site, store: Node) -> Vars:
    return {
        "log_shipper_server": address(store),
        "log_shipper_journal_max_mb": disk_mb(site.cluster.logging.journal),
    }


def files(site: Site, node: Node) -> list[Vars]:
    """Text files of a node: those of Kubernetes where it is part of one, and the site's own."""
    found: list[Vars] = []
    if node.name in site.groups["kubernetes"]:
        found.append(dict(CONTAINERS))
    if node.name in site.groups["kube_control_plane"]:
        found.append(dict(AUDIT))
    found += [
        {"path": wanted.path, "unit": wanted.unit, "format": wanted.format}
        for wanted in site.cluster.logging.files
        if any(name == ALL_NODES or node.name in site.groups.get(name, []) for name in wanted.nodes)
    ]
    return found
