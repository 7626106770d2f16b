"""One job over its life: its nodes and its GPUs."""

from __future__ import annotations

from rackloom.dashboards.model import Dashboard, Row, Variable

from .parts import DISKS, lines, stat, table

_JOB = 'jobid="$jobid"'
_JOBS = '{__name__=~"slurm_job_info|slurm_ended_job_end_timestamp_seconds"}'
_GPU = f"* on (node, gpu) group_left (jobid) slurm_job_gpu{{{_JOB}}}"
_NODE = f"* on (node) group_left (jobid) slurm_job_node{{{_JOB}}}"
_EACH = "{{node}} {{gpu}}"
_ON = 'node=~"$members"'
"""The job's nodes alone: without it a query joins the GPUs of all nodes first, 20 s of work at a thousand nodes."""
_DISKS = f"{DISKS}, {_ON}"

DASHBOARD = Dashboard(
    "rackloom-job",
    "Job",
    help="A job's nodes and GPUs while it had them. Others may have run on the same nodes; GPUs are its own.",
    variables=(
        Variable("jobid", "jobid", _JOBS, "Job", many=False),
        Variable("members", "node", 'slurm_job_node{jobid=~"$jobid"}', "Its nodes", hidden=True),
    ),
    needs="slurm",
    since="now-24h",
    rows=(
        Row(
            "The job",
            (
                table(
                    "Who and where",
                    f"last_over_time(slurm_job_info{{{_JOB}}}[$__range])",
                    hide=("Value", "node", "role", "profile"),
                ),
                stat(
                    "Runs for",
                    f"max_over_time((time() - slurm_job_start_timestamp_seconds{{{_JOB}}})[$__range:])",
                    "s",
                ),
                stat("CPUs", f"max_over_time(slurm_job_cpus{{{_JOB}}}[$__range])"),
                stat("GPUs", f"max_over_time(slurm_job_gpus{{{_JOB}}}[$__range])"),
                stat(
                    "Use of its GPUs",
                    f"avg(avg_over_time((DCGM_FI_DEV_GPU_UTIL{{{_ON}}} {_GPU})[$__range:]))",
                    "percent",
                    help="Over its life so far.",
                ),
                stat(
                    "CPU time used",
                    f"100 * last_over_time(slurm_ended_job_cpu_efficiency_ratio{{{_JOB}}}[$__range])",
                    "percent",
                    width=6,
                    help="Of what it had; known when it has ended.",
                ),
                stat(
                    "Memory used",
                    f"100 * last_over_time(slurm_ended_job_memory_efficiency_ratio{{{_JOB}}}[$__range])",
                    "percent",
                    width=6,
                    help="Of what it had; known when it has ended.",
                ),
            ),
        ),
        Row(
            "Its GPUs",
            (
                lines("Use", (f"DCGM_FI_DEV_GPU_UTIL{{{_ON}}} {_GPU}", _EACH), unit="percent", high=100),
                lines(
                    "Tensor cores",
                    (f"100 * DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{{{_ON}}} {_GPU}", _EACH),
                    unit="percent",
                    high=100,
                ),
                lines("Memory", (f"DCGM_FI_DEV_FB_USED{{{_ON}}} * 2^20 {_GPU}", _EACH), unit="bytes"),
                lines("Power", (f"DCGM_FI_DEV_POWER_USAGE{{{_ON}}} {_GPU}", _EACH), unit="watt"),
                lines(
                    "Temperature", (f"DCGM_FI_DEV_GPU_TEMP{{{_ON}}} {_GPU}", _EACH), unit="celsius", low=None
                ),
                lines("Last XID", (f"DCGM_FI_DEV_XID_ERRORS{{{_ON}}} {_GPU}", _EACH)),
            ),
        ),
        Row(
            "Its nodes",
            (
                lines(
                    "CPU",
                    (
                        f"100 * sum by (node) (node:cpu_busy:ratio_rate5m{{{_ON}}}) {_NODE}",
                        "{{node}}",
                    ),
                    unit="percent",
                    high=100,
                ),
                lines(
                    "Memory of the nodes",
                    (
                        f"(node_memory_MemTotal_bytes{{{_ON}}} - node_memory_MemAvailable_bytes{{{_ON}}}) {_NODE}",
                        "{{node}}",
                    ),
                    unit="bytes",
                ),
                lines(
                    "Network",
                    (
                        f"sum by (node) (node:network_receive_bytes:rate5m{{{_ON}}}) {_NODE}",
                        "{{node}} in",
                    ),
                    (
                        f"sum by (node) (node:network_transmit_bytes:rate5m{{{_ON}}}) {_NODE}",
                        "{{node}} out",
                    ),
                    unit="Bps",
                ),
                lines(
                    "Disks",
                    (
                        f"sum by (node) (rate(node_disk_read_bytes_total{{{_DISKS}}}[$__rate_interval])) {_NODE}",
                        "{{node}} read",
                    ),
                    (
                        f"sum by (node) (rate(node_disk_written_bytes_total{{{_DISKS}}}[$__rate_interval])) {_NODE}",
                        "{{node}} written",
                    ),
                    unit="Bps",
                ),
            ),
        ),
    ),
)
