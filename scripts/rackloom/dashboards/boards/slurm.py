"""Slurm: the queue, who waits for what, nodes out of service, and the scheduler itself."""

from __future__ import annotations

from rackloom.dashboards.model import Dashboard, Row

from .parts import GOOD, ONE_IS_GOOD, WARN, lines, stat, table

_CPUS = "sum(slurm_node_cpus_allocated) / sum(slurm_node_cpus)"

DASHBOARD = Dashboard(
    "rackloom-slurm",
    "Slurm",
    needs="slurm",
    rows=(
        Row(
            "Now",
            (
                stat("Controller", "max(slurm_up)", limits=ONE_IS_GOOD),
                stat("Running", 'sum(slurm_partition_jobs{state="running"})'),
                stat("Pending", 'sum(slurm_partition_jobs{state="pending"})'),
                stat("Longest wait by now", 'max(slurm_pending_wait_seconds{quantile="1"})', "s"),
                stat("CPUs allocated", f"100 * {_CPUS}", "percent"),
                stat(
                    "GPUs allocated", "100 * sum(slurm_node_gpus_allocated) / sum(slurm_node_gpus)", "percent"
                ),
                stat(
                    "GPUs free",
                    "sum((slurm_node_gpus - slurm_node_gpus_allocated) * on (node) group_left "
                    'slurm_node_state{state=~"idle|mixed|allocated|planned|completing"})',
                    help="On nodes that take jobs.",
                ),
                stat(
                    "Out of service",
                    'sum(slurm_node_state{state!~"idle|mixed|allocated|planned|completing"}) or vector(0)',
                    limits=((None, GOOD), (1, WARN)),
                ),
            ),
        ),
        Row(
            "Queue",
            (
                lines("Jobs by state", ("sum by (state) (slurm_jobs)", "{{state}}"), stack=True, quiet=True),
                lines(
                    "Pending by partition",
                    ('sum by (partition) (slurm_partition_jobs{state="pending"})', "{{partition}}"),
                    stack=True,
                ),
                lines(
                    "Pending by reason",
                    ("sum by (reason) (slurm_pending_jobs)", "{{reason}}"),
                    stack=True,
                    quiet=True,
                ),
                lines(
                    "Waiting by now",
                    ('slurm_pending_wait_seconds{quantile="0.5"}', "{{partition}} half of them"),
                    ('slurm_pending_wait_seconds{quantile="1"}', "{{partition}} longest"),
                    unit="s",
                    help="Jobs that could run and do not.",
                ),
                lines(
                    "Had waited when they started",
                    ('slurm_started_wait_seconds{quantile="0.5"}', "{{partition}} half of them"),
                    ('slurm_started_wait_seconds{quantile="0.9"}', "{{partition}} nine of ten"),
                    unit="s",
                    help="Jobs that started in the last hour.",
                    quiet=True,
                ),
                lines(
                    "GPUs asked for by who waits",
                    ("sum by (partition) (slurm_pending_gpus)", "{{partition}}"),
                ),
            ),
        ),
        Row(
            "Who",
            (
                lines(
                    "CPUs by account",
                    ("sum by (account) (slurm_job_cpus_allocated)", "{{account}}"),
                    stack=True,
                    quiet=True,
                ),
                lines(
                    "GPUs by account",
                    ("sum by (account) (slurm_job_gpus_allocated)", "{{account}}"),
                    stack=True,
                    quiet=True,
                ),
                lines(
                    "GPUs by user",
                    ("topk(10, sum by (user) (slurm_job_gpus_allocated))", "{{user}}"),
                    stack=True,
                    quiet=True,
                ),
                table(
                    "Running jobs",
                    "slurm_job_gpus * on (jobid) group_left (user, account, partition, name) slurm_job_info",
                    width=24,
                    quiet=True,
                ),
            ),
        ),
        Row(
            "What became of jobs",
            (
                lines(
                    "Ended in the last hour",
                    ("sum by (state) (slurm_ended_jobs)", "{{state}}"),
                    stack=True,
                    quiet=True,
                ),
                lines(
                    "Efficiency of jobs that ended",
                    ("100 * avg(slurm_ended_job_cpu_efficiency_ratio)", "CPU"),
                    ("100 * avg(slurm_ended_job_memory_efficiency_ratio)", "memory"),
                    unit="percent",
                    quiet=True,
                ),
                table(
                    "Least of the CPU time that they had",
                    "bottomk(10, 100 * slurm_ended_job_cpu_efficiency_ratio)",
                    unit="percent",
                    width=8,
                    quiet=True,
                ),
                table(
                    "Most GPU time of jobs that ended",
                    "topk(10, sum by (user, account) (slurm_ended_job_gpu_seconds))",
                    unit="s",
                    width=12,
                    quiet=True,
                ),
                table(
                    "Accounts by jobs that failed",
                    'sum by (account, state) (slurm_ended_jobs{state!="completed"})',
                    width=12,
                    quiet=True,
                ),
            ),
        ),
        Row(
            "Nodes",
            (
                lines("Nodes by state", ("sum by (state) (slurm_node_state)", "{{state}}"), stack=True),
                table(
                    "Out of service, with the reason",
                    "time() - slurm_node_reason_timestamp_seconds",
                    unit="s",
                    width=16,
                    help="For how long.",
                    quiet=True,
                ),
            ),
        ),
        Row(
            "Scheduler",
            (
                lines(
                    "A round takes",
                    ("slurm_scheduler_mean_cycle_seconds", "{{scheduler}} on average"),
                    ("slurm_scheduler_last_cycle_seconds", "{{scheduler}} the last"),
                    unit="s",
                ),
                lines(
                    "Jobs", ("rate(slurm_scheduler_jobs_total[$__rate_interval]) * 60", "{{result}} a minute")
                ),
                lines(
                    "Requests by user",
                    ("topk(10, rate(slurm_rpc_user_total[$__rate_interval]))", "{{user}}"),
                    unit="reqps",
                    help="Who asks the controller all the time.",
                ),
                lines(
                    "Requests by type",
                    ("topk(10, rate(slurm_rpc_total[$__rate_interval]))", "{{type}}"),
                    unit="reqps",
                ),
                lines(
                    "Queues",
                    ("slurm_scheduler_agent_queue", "to nodes"),
                    ("slurm_database_queue", "to the accounting"),
                    ("slurm_scheduler_threads", "threads that answer"),
                ),
                lines(
                    "Database",
                    ("rate(mysql_global_status_queries[$__rate_interval])", "queries a second"),
                    ("mysql_global_status_threads_connected", "connections"),
                ),
                lines(
                    "Age of these figures",
                    ("time() - slurm_collector_timestamp_seconds", "{{part}}"),
                    unit="s",
                ),
            ),
        ),
    ),
)
