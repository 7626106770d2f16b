"""The whole cluster on one page: is it well, is it busy, who waits."""

from __future__ import annotations

from rackloom.dashboards.model import Dashboard, Row

from .parts import FILES, FULL, GOOD, PHYSICAL, WARN, ZERO_IS_GOOD, bars, lines, stat, table

_BUSY = '100 * (1 - avg by (node) (rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval])))'
_USED = "100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)"

DASHBOARD = Dashboard(
    "rackloom-cluster",
    "Cluster at a glance",
    help="Whether the cluster is well, how busy it is, and who waits.",
    rows=(
        Row(
            "Well",
            (
                stat("Nodes", 'count(up{job="node"})'),
                stat("Nodes down", 'count(up{job="node"} == 0) or vector(0)', limits=ZERO_IS_GOOD),
                stat("Targets down", "count(up == 0) or vector(0)", limits=ZERO_IS_GOOD),
                stat(
                    "Alerts",
                    'count(ALERTS{alertstate="firing", severity!="none"}) or vector(0)',
                    limits=((None, GOOD), (1, WARN)),
                ),
                stat(
                    "Services silent",
                    'count(probe_success{job="blackbox"} == 0) or vector(0)',
                    limits=ZERO_IS_GOOD,
                ),
                stat(
                    "GPUs unwell",
                    'count(rackloom_gpu_healthy{gpu!="all"} == 0) or vector(0)',
                    limits=ZERO_IS_GOOD,
                ),
                stat(
                    "Units failed",
                    "count(rackloom_failed_unit) or vector(0)",
                    limits=((None, GOOD), (1, WARN)),
                ),
                stat(
                    "Nodes out of service",
                    'sum(slurm_node_state{state!~"idle|mixed|allocated|planned|completing"}) or vector(0)',
                    limits=((None, GOOD), (1, WARN)),
                ),
                table(
                    "Alerts that fire",
                    'ALERTS{alertstate="firing"}',
                    width=16,
                    hide=("alertstate", "Value", "role", "profile"),
                    quiet=True,
                ),
                bars(
                    "Services by how often they answered in an hour",
                    '100 * avg by (service) (avg_over_time(probe_success{job="blackbox"}[1h]))',
                    "{{service}}",
                    limits=((None, "red"), (95, WARN), (99.9, GOOD)),
                ),
            ),
        ),
        Row(
            "Busy",
            (
                lines(
                    "CPU",
                    (f"avg({_BUSY})", "all"),
                    (f"max({_BUSY})", "busiest node"),
                    unit="percent",
                    high=100,
                ),
                lines(
                    "Memory",
                    (f"avg({_USED})", "all"),
                    (f"max({_USED})", "fullest node"),
                    unit="percent",
                    high=100,
                ),
                lines(
                    "GPUs",
                    ("avg(DCGM_FI_DEV_GPU_UTIL)", "use"),
                    ("100 * sum(slurm_node_gpus_allocated) / sum(slurm_node_gpus)", "allocated"),
                    unit="percent",
                    high=100,
                ),
                lines(
                    "Network",
                    (f"sum(rate(node_network_receive_bytes_total{{{PHYSICAL}}}[$__rate_interval]))", "in"),
                    (f"sum(rate(node_network_transmit_bytes_total{{{PHYSICAL}}}[$__rate_interval]))", "out"),
                    unit="Bps",
                ),
                lines("Power of the GPUs", ("sum(DCGM_FI_DEV_POWER_USAGE)", "all"), unit="watt"),
                bars(
                    "Fullest file systems",
                    "topk(8, 100 * (1 - node_filesystem_avail_bytes{"
                    + FILES
                    + "} / node_filesystem_size_bytes))",
                    "{{node}} {{mountpoint}}",
                    limits=FULL,
                ),
            ),
        ),
        Row(
            "Who waits",
            (
                lines(
                    "Jobs",
                    ('sum(slurm_partition_jobs{state="running"})', "running"),
                    ('sum(slurm_partition_jobs{state="pending"})', "pending"),
                ),
                lines(
                    "Longest wait",
                    ('max by (partition) (slurm_pending_wait_seconds{quantile="1"})', "{{partition}}"),
                    unit="s",
                ),
                lines(
                    "GPUs by account",
                    ("sum by (account) (slurm_job_gpus_allocated)", "{{account}}"),
                    stack=True,
                    quiet=True,
                ),
            ),
        ),
    ),
)
