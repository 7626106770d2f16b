"""One node, or some beside each other."""

from __future__ import annotations

from rackloom.dashboards.model import Dashboard, Row

from .parts import DISKS, FILES, FULL, LOGS_BEHIND, NODE, PHYSICAL, bars, lines, stat, table

_N = 'node=~"$node"'

DASHBOARD = Dashboard(
    "rackloom-node",
    "Node",
    variables=(NODE,),
    rows=(
        Row(
            "Now",
            (
                stat("Up", f"time() - node_boot_time_seconds{{{_N}}}", "s", width=4),
                stat("CPUs", f'count by (node) (node_cpu_seconds_total{{{_N}, mode="idle"}})', width=4),
                stat("Memory", f"node_memory_MemTotal_bytes{{{_N}}}", "bytes", width=4),
                stat("Clock off by", f"node_timex_offset_seconds{{{_N}}}", "s", width=4),
                stat(
                    "Slurm",
                    f"slurm_node_state{{{_N}}}",
                    width=4,
                    help="The state stands in the series' name.",
                ),
                stat("Logs behind by", f"{LOGS_BEHIND}{{{_N}}}", "s", width=4),
                table(
                    "Units that failed",
                    f"count by (node, unit) (rackloom_failed_unit{{{_N}}})",
                    hide=("Value",),
                    quiet=True,
                ),
                table(
                    "System",
                    f"node_uname_info{{{_N}}}",
                    hide=("Value", "domainname", "sysname", "role", "profile", "nodename"),
                ),
            ),
        ),
        Row(
            "CPU and memory",
            (
                lines(
                    "CPU by kind",
                    (
                        f"100 * node_mode:cpu:ratio_rate5m{{{_N}}}",
                        "{{node}} {{mode}}",
                    ),
                    unit="percent",
                    stack=True,
                    high=100,
                ),
                lines(
                    "Load",
                    (f"node_load1{{{_N}}}", "{{node}} 1 min"),
                    (f"node_load15{{{_N}}}", "{{node}} 15 min"),
                ),
                lines(
                    "Memory in use",
                    (
                        f"node_memory_MemTotal_bytes{{{_N}}} - node_memory_MemAvailable_bytes{{{_N}}}",
                        "{{node}}",
                    ),
                    (
                        f"node_memory_SwapTotal_bytes{{{_N}}} - node_memory_SwapFree_bytes{{{_N}}}",
                        "{{node}} swap",
                    ),
                    unit="bytes",
                ),
                lines(
                    "Waiting for CPU, memory, disk",
                    (
                        f"rate(node_pressure_cpu_waiting_seconds_total{{{_N}}}[$__rate_interval])",
                        "{{node}} CPU",
                    ),
                    (
                        f"rate(node_pressure_memory_waiting_seconds_total{{{_N}}}[$__rate_interval])",
                        "{{node}} memory",
                    ),
                    (
                        f"rate(node_pressure_io_waiting_seconds_total{{{_N}}}[$__rate_interval])",
                        "{{node}} disk",
                    ),
                    unit="percentunit",
                    help="Share of the time in which something had to wait.",
                ),
                lines(
                    "Processes",
                    (f"node_procs_running{{{_N}}}", "{{node}} running"),
                    (f"node_procs_blocked{{{_N}}}", "{{node}} blocked"),
                ),
                lines(
                    "Temperatures",
                    (f"node_hwmon_temp_celsius{{{_N}}}", "{{node}} {{chip}} {{sensor}}"),
                    unit="celsius",
                    quiet=True,
                ),
            ),
        ),
        Row(
            "Programs",
            (
                lines(
                    "CPU by program",
                    (
                        (
                            "sum by (node, groupname) "
                            f"(rate(namedprocess_namegroup_cpu_seconds_total{{{_N}}}[$__rate_interval]))"
                        ),
                        "{{node}} {{groupname}}",
                    ),
                    help="In cores. users: whoever has a number of four digits or more; system: what has no name here.",
                ),
                lines(
                    "Memory by program",
                    (
                        f'namedprocess_namegroup_memory_bytes{{{_N}, memtype="resident"}}',
                        "{{node}} {{groupname}}",
                    ),
                    unit="bytes",
                ),
                bars(
                    "Open files, of those allowed",
                    f"100 * namedprocess_namegroup_worst_fd_ratio{{{_N}}}",
                    "{{node}} {{groupname}}",
                ),
                lines(
                    "How many of each",
                    (f"namedprocess_namegroup_num_procs{{{_N}}}", "{{node}} {{groupname}}"),
                ),
                table(
                    "Running for",
                    f"time() - namedprocess_namegroup_oldest_start_time_seconds{{{_N}}}",
                    unit="s",
                    width=8,
                    hide=("role", "profile", "instance", "job"),
                ),
                lines(
                    "Threads",
                    (f"namedprocess_namegroup_num_threads{{{_N}}}", "{{node}} {{groupname}}"),
                ),
            ),
        ),
        Row(
            "The machine, by its BMC",
            (
                lines(
                    "Temperatures of the board",
                    (f"node_ipmi_temperature_celsius{{{_N}}}", "{{node}} {{sensor}}"),
                    unit="celsius",
                    quiet=True,
                ),
                lines(
                    "Fans",
                    (f"node_ipmi_speed_rpm{{{_N}}}", "{{node}} {{sensor}}"),
                    unit="rotrpm",
                    quiet=True,
                ),
                lines(
                    "Power",
                    (f"node_ipmi_power_watts{{{_N}}}", "{{node}} {{sensor}}"),
                    unit="watt",
                    quiet=True,
                ),
            ),
        ),
        Row(
            "Network and disks",
            (
                lines(
                    "Received",
                    (
                        f"rate(node_network_receive_bytes_total{{{_N}, {PHYSICAL}}}[$__rate_interval])",
                        "{{node}} {{device}}",
                    ),
                    unit="Bps",
                ),
                lines(
                    "Sent",
                    (
                        f"rate(node_network_transmit_bytes_total{{{_N}, {PHYSICAL}}}[$__rate_interval])",
                        "{{node}} {{device}}",
                    ),
                    unit="Bps",
                ),
                lines(
                    "Packets lost",
                    (
                        (
                            f"rate(node_network_receive_drop_total{{{_N}, {PHYSICAL}}}[$__rate_interval])"
                            f" + rate(node_network_receive_errs_total{{{_N}, {PHYSICAL}}}[$__rate_interval])"
                        ),
                        "{{node}} {{device}} in",
                    ),
                    unit="pps",
                ),
                lines(
                    "Read and written",
                    (
                        f"rate(node_disk_read_bytes_total{{{_N}, {DISKS}}}[$__rate_interval])",
                        "{{node}} {{device}} read",
                    ),
                    (
                        f"rate(node_disk_written_bytes_total{{{_N}, {DISKS}}}[$__rate_interval])",
                        "{{node}} {{device}} written",
                    ),
                    unit="Bps",
                ),
                lines(
                    "Disk busy",
                    (
                        f"100 * rate(node_disk_io_time_seconds_total{{{_N}, {DISKS}}}[$__rate_interval])",
                        "{{node}} {{device}}",
                    ),
                    unit="percent",
                    high=100,
                ),
                bars(
                    "File systems",
                    f"100 * (1 - node_filesystem_avail_bytes{{{_N}, {FILES}}} / node_filesystem_size_bytes)",
                    "{{node}} {{mountpoint}}",
                    limits=FULL,
                ),
            ),
        ),
    ),
)
