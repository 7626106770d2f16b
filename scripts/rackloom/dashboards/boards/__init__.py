"""All dashboards, in the order in which people look at them."""

from __future__ import annotations

from rackloom.dashboards.model import Dashboard

from . import boot, cluster, gpu, job, kubernetes, monitoring, node, slurm, storage

DASHBOARDS: tuple[Dashboard, ...] = (
    cluster.DASHBOARD,
    node.DASHBOARD,
    gpu.DASHBOARD,
    slurm.DASHBOARD,
    job.DASHBOARD,
    kubernetes.DASHBOARD,
    storage.DASHBOARD,
    boot.DASHBOARD,
    monitoring.DASHBOARD,
)
