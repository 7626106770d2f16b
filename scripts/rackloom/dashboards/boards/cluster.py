"""The whole cluster on one page: is it well, is it busy, who waits.

What is drawn over time reads sums that Prometheus keeps (roles/prometheus/files/rules/recorded.yml).
"""

from __future__ import annotations

from rackloom.dashboards.model import Dashboard, Row

from .parts import FILES, FULL, GOOD, WARN, ZERO_IS_GOOD, bars, lines, stat, table

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
                    ("100 * cluster:cpu_busy:avg", "all"),
                    ("100 * cluster:cpu_busy:max", "busiest node"),
                    unit="percent",
                    high=100,
                ),
                lines(
                    "Memory",
                    ("100 * cluster:memory_used:avg", "all"),
                    ("100 * cluster:memory_used:max", "fullest node"),
                    unit="percent",
                    high=100,
                ),
                lines(
                    "GPUs",
                    ("cluster:gpu_utilisation:avg", "use"),
                    ("100 * cluster:gpus_allocated:ratio", "allocated"),
                    unit="percent",
                    high=100,
                ),
                lines(
                    "Network",
                    ("cluster:network_receive_bytes:rate5m", "in"),
                    ("cluster:network_transmit_bytes:rate5m", "out"),
                    unit="Bps",
                ),
                lines("Power of the GPUs", ("cluster:gpu_power_watts:sum", "all"), unit="watt"),
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
