"""GPUs: how busy, how warm, how well, and whose. The names are those of NVIDIA's DCGM exporter."""

from __future__ import annotations

from rackloom.dashboards.model import Dashboard, Row, Variable

from .parts import BAD, GOOD, WARN, ZERO_IS_GOOD, bars, lines, stat, table

_N = 'node=~"$node"'
_EACH = "{{node}} {{gpu}}"
_IDLE = "(avg_over_time(DCGM_FI_DEV_GPU_UTIL[15m]) < 5) * on (node, gpu) group_left (jobid, user, account) slurm_job_gpu"  # noqa: E501

DASHBOARD = Dashboard(
    "rackloom-gpu",
    "GPU",
    help="From NVIDIA's DCGM exporter, the health check of each node, and Slurm's map of jobs to GPUs.",
    variables=(Variable("node", "node", "DCGM_FI_DEV_GPU_UTIL", "Node"),),
    needs="dcgm",
    rows=(
        Row(
            "Now",
            (
                stat("GPUs", f"count(DCGM_FI_DEV_GPU_UTIL{{{_N}}})"),
                stat(
                    "Lost",
                    f"sum(rackloom_gpu_expected{{{_N}}} - rackloom_gpu_count{{{_N}}})",
                    limits=ZERO_IS_GOOD,
                    help="GPUs that the inventory names and the node does not have.",
                ),
                stat(
                    "Unwell",
                    f'count(rackloom_gpu_healthy{{{_N}, gpu!="all"}} == 0) or vector(0)',
                    limits=ZERO_IS_GOOD,
                ),
                stat("Use", f"avg(DCGM_FI_DEV_GPU_UTIL{{{_N}}})", "percent"),
                stat(
                    "Allocated",
                    f"100 * sum(slurm_node_gpus_allocated{{{_N}}}) / sum(slurm_node_gpus{{{_N}}})",
                    "percent",
                ),
                stat(
                    "Allocated and idle",
                    f"count({_IDLE}) or vector(0)",
                    limits=((None, GOOD), (1, WARN)),
                    help="A job has them and has not used them for a quarter of an hour.",
                ),
                stat("Power", f"sum(DCGM_FI_DEV_POWER_USAGE{{{_N}}})", "watt"),
                stat(
                    "Hottest",
                    f"max(DCGM_FI_DEV_GPU_TEMP{{{_N}}})",
                    "celsius",
                    limits=((None, GOOD), (80, WARN), (90, BAD)),
                ),
            ),
        ),
        Row(
            "Whose",
            (
                lines(
                    "Use by account",
                    ("sum by (account) (account_user:gpus_busy:sum)", "{{account}}"),
                    stack=True,
                    help="In whole GPUs.",
                    quiet=True,
                ),
                lines(
                    "Use by user",
                    ("sum by (user) (account_user:gpus_busy:sum)", "{{user}}"),
                    stack=True,
                    help="In whole GPUs.",
                    quiet=True,
                ),
                table(
                    "Use by job",
                    "sort_desc(avg by (jobid, user, account) (DCGM_FI_DEV_GPU_UTIL"
                    " * on (node, gpu) group_left (jobid, user, account) slurm_job_gpu))",
                    unit="percent",
                    width=8,
                    quiet=True,
                ),
            ),
        ),
        Row(
            "Busy",
            (
                lines("Each GPU's use", (f"DCGM_FI_DEV_GPU_UTIL{{{_N}}}", _EACH), unit="percent", high=100),
                lines(
                    "Tensor cores",
                    (f"100 * DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{{{_N}}}", _EACH),
                    unit="percent",
                    high=100,
                    help="What a GPU's use does not show: whether the fast part of it works.",
                ),
                lines(
                    "Memory of the GPUs",
                    (
                        f"100 * DCGM_FI_DEV_FB_USED{{{_N}}} / (DCGM_FI_DEV_FB_USED{{{_N}}} + DCGM_FI_DEV_FB_FREE{{{_N}}})",  # noqa: E501
                        _EACH,
                    ),
                    unit="percent",
                    high=100,
                ),
                lines("Power of each", (f"DCGM_FI_DEV_POWER_USAGE{{{_N}}}", _EACH), unit="watt"),
                lines("Temperature", (f"DCGM_FI_DEV_GPU_TEMP{{{_N}}}", _EACH), unit="celsius", low=None),
                lines("Clock", (f"DCGM_FI_DEV_SM_CLOCK{{{_N}}} * 1e6", _EACH), unit="hertz"),
                lines(
                    "PCIe",
                    (f"DCGM_FI_PROF_PCIE_RX_BYTES{{{_N}}}", _EACH + " in"),
                    (f"DCGM_FI_PROF_PCIE_TX_BYTES{{{_N}}}", _EACH + " out"),
                    unit="Bps",
                ),
                lines(
                    "NVLink", (f"rate(DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL{{{_N}}}[$__rate_interval])", _EACH)
                ),
                lines(
                    "Memory's bandwidth",
                    (f"100 * DCGM_FI_PROF_DRAM_ACTIVE{{{_N}}}", _EACH),
                    unit="percent",
                    high=100,
                ),
            ),
        ),
        Row(
            "Well",
            (
                table(
                    "Last XID of each GPU",
                    f"DCGM_FI_DEV_XID_ERRORS{{{_N}}}",
                    width=8,
                    hide=(
                        "UUID",
                        "device",
                        "pci_bus_id",
                        "DCGM_FI_DRIVER_VERSION",
                        "Hostname",
                        "role",
                        "profile",
                        "modelName",
                    ),
                ),
                lines(
                    "Memory errors",
                    (f"DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{{{_N}}}", _EACH + " double"),
                    (f"DCGM_FI_DEV_ECC_SBE_VOL_TOTAL{{{_N}}}", _EACH + " single"),
                ),
                lines(
                    "Rows remapped",
                    (f"DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS{{{_N}}}", _EACH + " uncorrectable"),
                    (f"DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS{{{_N}}}", _EACH + " correctable"),
                ),
                lines(
                    "Slowed down",
                    (
                        f"rate(DCGM_FI_DEV_THERMAL_VIOLATION{{{_N}}}[$__rate_interval]) / 1e9",
                        _EACH + " by heat",
                    ),
                    (
                        f"rate(DCGM_FI_DEV_POWER_VIOLATION{{{_N}}}[$__rate_interval]) / 1e9",
                        _EACH + " by power",
                    ),
                    unit="percentunit",
                ),
                lines(
                    "PCIe retries",
                    (f"rate(DCGM_FI_DEV_PCIE_REPLAY_COUNTER{{{_N}}}[$__rate_interval])", _EACH),
                ),
                bars(
                    "Health check",
                    f'100 * rackloom_gpu_healthy{{{_N}, gpu!="all"}}',
                    "{{node}} {{gpu}} {{reason}}",
                    limits=((None, BAD), (100, GOOD)),
                ),
            ),
        ),
    ),
)
