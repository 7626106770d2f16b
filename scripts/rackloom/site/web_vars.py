"""Inputs of the roles that show pages: only data, under exactly the names that the roles declare."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from rackloom.dashboards import DASHBOARDS

from .hardware import gres
from .monitoring_vars import ALERTMANAGER, ALERTMANAGER_PORT, PROMETHEUS, PROMETHEUS_PORT, page, targets
from .ranges import fold_sorted
from .resolved import Node, Site

DOOR = "web_proxy"
GRAFANA = "grafana"
GRAFANA_PORT = 3000
STORE = "log_server"
STORE_PORT = 9428
_SERVICES = {
    "login": "Log in",
    "slurm_controller": "Slurm's controllers",
    "slurm_accounting": "Slurm's accounting",
    "slurm_node": "Nodes of Slurm",
    "kube_control_plane": "Kubernetes' control plane",
    "kube_node": "Nodes of Kubernetes",
    "name_server": "Names",
    "time_server": "Time",
    "provisioner": "Boot server",
    "mirror": "Mirror",
    PROMETHEUS: "Metrics",
    ALERTMANAGER: "Alerts",
    GRAFANA: "Dashboards",
    STORE: "Logs",
    "elasticsearch": "Logs",
}
"""Group → what people call it, in the order in which they look for it."""

Vars = dict[str, Any]


@dataclass(frozen=True, slots=True)
class WebVars:
    """groups: group → its variables; hosts: host → those that are its own."""

    groups: dict[str, Vars]
    hosts: dict[str, Vars]


def web_vars(site: Site) -> WebVars:
    """Nothing where no node has a door or Grafana."""
    groups: dict[str, Vars] = {}
    if site.groups[DOOR]:
        groups[DOOR] = _door(site)
    if site.groups[GRAFANA]:
        groups[GRAFANA] = _grafana(site)
    hosts = {
        node.name: {"front_door_names": [node.name, f"{node.name}.{site.cluster.domain}"]}
        for node in site.group(DOOR)
    }
    return WebVars(groups, hosts)


def _at(node: Node, port: int) -> str:
    return f"[{node.address}]:{port}" if ":" in node.address else f"{node.address}:{port}"


def pages(site: Site) -> list[Vars]:
    """What is behind the door: the services that the site has."""
    # Name, title, what it is for, group, port, where to start, the user that the door comes as.
    known = (
        ("grafana", "Dashboards", "Grafana: the cluster, its nodes, GPUs and jobs", GRAFANA, GRAFANA_PORT, "", ""),
        ("prometheus", "Metrics", "Prometheus: ask it anything", PROMETHEUS, PROMETHEUS_PORT, "graph", "rackloom"),
        ("alertmanager", "Alerts", "What fires, and what is silenced", ALERTMANAGER, ALERTMANAGER_PORT, "", "rackloom"),
        ("logs", "Logs", "The journals of all nodes", STORE, STORE_PORT, "select/vmui/", "rackloom"),
        ("kibana", "Logs", "Kibana: the journals of all nodes", "kibana", 5601, "app/discover", ""),
    )  # fmt: skip
    return [
        {
            "name": name,
            "title": title,
            "description": text,
            "start": start,
            "user": user,
            "backends": [{"address": _at(node, port), "name": node.name} for node in site.group(group)],
        }
        for name, title, text, group, port, start, user in known
        if site.groups[group]
    ]


SECRETS = {
    "prometheus": "monitoring_web_password",
    "alertmanager": "monitoring_web_password",
    "logs": "log_store_password",
}
"""Page → the secret that the door says to it."""


def _facts(site: Site) -> list[Vars]:
    counts = Counter(node.role for node in site.nodes.values())
    gpus: Counter[str] = Counter()
    for node in site.nodes.values():
        if node.profile:
            for line in gres(site.profiles[node.profile]):
                gpus[line.type or "gpu"] += line.count
    rows = {
        "Domain": site.cluster.domain,
        "Nodes": ", ".join(f"{count} {role}" for role, count in sorted(counts.items(), reverse=True)),
        "GPUs": ", ".join(f"{count} × {kind}" for kind, count in sorted(gpus.items())),
        "Partitions": ", ".join(partition.name for partition in site.cluster.slurm.partitions),
    }
    return [{"title": title, "value": value} for title, value in rows.items() if value]


def _door(site: Site) -> Vars:
    told = site.cluster.web
    behind = pages(site)
    return {
        "front_door_certificate": told.certificate,
        "front_door_key": told.key,
        "front_door_sso": {key: value for key, value in told.sign_on.model_dump().items() if value}
        if told.sign_on.url
        else {},
        "front_door_pages": behind,
        "rackloom_page_secrets": {
            entry["name"]: SECRETS[entry["name"]] for entry in behind if entry["name"] in SECRETS
        },
        "front_door_cluster": {
            "name": site.cluster.name,
            "description": told.description,
            "facts": _facts(site),
            "services": [
                {"title": title, "hosts": [fold_sorted(site.groups[group])]}
                for group, title in _SERVICES.items()
                if site.groups.get(group)
            ],
        },
    }


def _grafana(site: Site) -> Vars:
    asked = targets(site)
    return {
        "grafana_external_url": page(site, "/grafana"),
        "grafana_scrape_interval": site.cluster.monitoring.scrape_interval,
        "grafana_prometheus": [
            {"url": f"https://{_at(node, PROMETHEUS_PORT)}/prometheus", "name": node.name}
            for node in site.group(PROMETHEUS)
        ],
        "grafana_alertmanager": [
            {"url": f"https://{_at(node, ALERTMANAGER_PORT)}/alertmanager", "name": node.name}
            for node in site.group(ALERTMANAGER)
        ],
        "grafana_dashboards": [
            board.uid for board in DASHBOARDS if not board.needs or asked.get(board.needs)
        ],
    }
