"""The dashboards' queries as questions to a Prometheus that lives, without Grafana in between."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from .boards import DASHBOARDS
from .model import Dashboard, Panel

_WINDOWS = {"$__rate_interval": "5m", "$__range": "1h"}


@dataclass(frozen=True, slots=True)
class Question:
    """One query of one panel, with everything chosen. quiet: no answer is good news."""

    dashboard: str
    panel: str
    expr: str
    quiet: bool


def questions(jobs: Collection[str]) -> Iterator[Question]:
    """What the dashboards would ask where these jobs are measured; those of other jobs are left out.

    Beside jobs, there may be what comes by the node exporter of some nodes, or with some hardware: etcd, haproxy,
    volume, mirror, backup, gpus, logs, elasticsearch.
    """
    for dashboard in DASHBOARDS:
        if not dashboard.needs or dashboard.needs in jobs:
            for panel in dashboard.panels():
                yield from _of(dashboard, panel, jobs)


def _of(dashboard: Dashboard, panel: Panel, jobs: Collection[str]) -> Iterator[Question]:
    # Where one has to be chosen, none is: only whether Prometheus takes the query can be asked then.
    chosen = any(not variable.many for variable in dashboard.variables)
    for query in panel.queries:
        expr = query.expr
        for name, window in _WINDOWS.items():
            expr = expr.replace(name, window)
        for variable in dashboard.variables:
            expr = re.sub(rf"\${variable.name}\b", ".*" if variable.many else "0", expr)
        yield Question(dashboard.uid, panel.title, expr, panel.quiet or chosen or not _measured(expr, jobs))


def _measured(expr: str, jobs: Collection[str]) -> bool:
    """Whether all exporters that the query asks for are among the jobs."""
    owners = {
        "namedprocess_": "process",
        "slurm_": "slurm",
        "slurm_node_gpus": "gpus",
        "slurm_pending_gpus": "gpus",
        "DCGM_": "dcgm",
        # What not every kind of GPU has.
        "DCGM_FI_PROF_": "gpu_profiling",
        "DCGM_FI_DEV_NVLINK_": "nvlink",
        "DCGM_FI_DEV_ECC_": "gpu_ecc",
        "DCGM_FI_DEV_CORRECTABLE_": "gpu_ecc",
        "DCGM_FI_DEV_UNCORRECTABLE_": "gpu_ecc",
        "rackloom_gpu_": "dcgm",
        # Sums that Prometheus keeps of these.
        "node:gpu_": "dcgm",
        "cluster:gpu_": "dcgm",
        "cluster:gpus_": "gpus",
        "account_user:": "dcgm",
        "mysql_": "mysqld",
        "apiserver_": "apiserver",
        "kubelet_": "kubelet",
        "container_": "cadvisor",
        "kube_": "kube_state",
        "etcd_": "etcd",
        "haproxy_": "haproxy",
        "alertmanager_": "alertmanager",
        "probe_": "blackbox",
        # What a machine may not have.
        "smartmon_": "smart",
        "nvme_": "smart",
        "node_ipmi_": "bmc",
        "node_hwmon_": "sensors",
        "node_md_": "raid",
        "node_pressure_": "pressure",
        "rackloom_backup_": "backup",
        "rackloom_volume_": "volume",
        "rackloom_log_": "logs",
        "elasticsearch_": "elasticsearch",
    }
    if 'volume="mirror"' in expr and "mirror" not in jobs:
        return False
    words = re.findall(r"[a-zA-Z_:][\w:]*", expr)
    return all(
        owner in jobs for start, owner in owners.items() if any(word.startswith(start) for word in words)
    )
