"""Inputs of the roles that keep and send logs: only data, under exactly the names that the roles declare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .fields_monitoring import disk_mb, span_seconds
from .models import ALL_NODES
from .monitoring_vars import page
from .resolved import Node, Site

STORE = "log_server"
SENDERS = "logged"
ELASTICSEARCH = "elasticsearch"
KIBANA = "kibana"
BEATS = "filebeat"
PORT = 9428
ELASTICSEARCH_PORT = 9200
KIBANA_PORT = 5601
DAY = 86400
MOST_HEAP_MB = 31 * 1024
"""Above it Java's references to objects take twice the room."""

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
    if site.groups[ELASTICSEARCH]:
        return _elastic(site)
    stores = site.group(STORE)
    if not stores:
        return LoggingVars({}, {})
    return LoggingVars(
        {STORE: _store(site), SENDERS: _senders(site, stores[0])},
        {node.name: {"log_shipper_files": files(site, node)} for node in site.group(SENDERS)},
    )


def address(node: Node) -> str:
    """Where nodes, people and programs find the store."""
    return f"{_at(node, PORT)}/logs"


def _elastic(site: Site) -> LoggingVars:
    members = [{"name": node.name, "address": node.address} for node in site.group(ELASTICSEARCH)]
    servers = [_at(node, ELASTICSEARCH_PORT) for node in site.group(ELASTICSEARCH)]
    wanted = site.cluster.logging
    copies = min(2, len(members))
    keeps = {
        "filebeat_servers": servers,
        "elasticsearch_cluster": site.cluster.name,
        "elasticsearch_members": members,
        "elasticsearch_path": wanted.elasticsearch.path,
        "elasticsearch_snapshots": wanted.elasticsearch.snapshots,
        "elasticsearch_retention_days": max(1, span_seconds(wanted.retention.time) // DAY),
        "elasticsearch_replicas": copies - 1,
        "elasticsearch_room_mb": -(-disk_mb(wanted.retention.size) * copies // len(members))
        if wanted.retention.size
        else 0,
    }
    sends = {
        "filebeat_servers": servers,
        "filebeat_users": {"0": "root", **{str(user.uid): user.name for user in site.cluster.users}},
        "filebeat_journal_max_mb": disk_mb(wanted.journal),
    }
    shows = {
        "kibana_elasticsearch": servers,
        "kibana_external_url": page(site, "/kibana", next(iter(site.group(KIBANA)), None), KIBANA_PORT),
    }
    hosts: dict[str, Vars] = {
        node.name: {"filebeat_files": files(site, node)} for node in site.group(SENDERS)
    }
    for node in site.group(ELASTICSEARCH):
        hosts.setdefault(node.name, {})["elasticsearch_heap_mb"] = heap_mb(site, node)
    return LoggingVars({ELASTICSEARCH: keeps, KIBANA: shows, SENDERS: sends}, hosts)


def heap_mb(site: Site, node: Node) -> int:
    """What the site says, else half of the memory; 0 where nobody knows that, and Elasticsearch decides."""
    if told := site.cluster.logging.elasticsearch.heap:
        return disk_mb(told)
    memory = site.profiles[node.profile].memory.mb if node.profile else 0
    return min(memory // 2, MOST_HEAP_MB)


def _at(node: Node, port: int) -> str:
    return f"https://[{node.address}]:{port}" if ":" in node.address else f"https://{node.address}:{port}"


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
