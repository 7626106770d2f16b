"""Disks, file systems, arrays and the database."""

from __future__ import annotations

from rackloom.dashboards.model import Dashboard, Row

from .parts import DISKS, FILES, FULL, NODE, ZERO_IS_GOOD, bars, lines, stat, table

_N = 'node=~"$node"'
_FREE = f"node_filesystem_avail_bytes{{{_N}, {FILES}}}"
_SIZE = f"node_filesystem_size_bytes{{{_N}, {FILES}}}"

DASHBOARD = Dashboard(
    "rackloom-storage",
    "Storage",
    variables=(NODE,),
    since="now-24h",
    rows=(
        Row(
            "Now",
            (
                stat(
                    "Read-only",
                    f"sum(node_filesystem_readonly{{{_N}, {FILES}}})",
                    limits=ZERO_IS_GOOD,
                    width=4,
                ),
                stat(
                    "Full within four days",
                    f"count(predict_linear({_FREE}[6h], 4 * 86400) < 0) or vector(0)",
                    limits=ZERO_IS_GOOD,
                    width=4,
                ),
                stat(
                    "Disks of arrays that failed",
                    f'sum(node_md_disks{{{_N}, state="failed"}}) or vector(0)',
                    limits=ZERO_IS_GOOD,
                    width=4,
                ),
                stat(
                    "Disks that SMART calls unwell",
                    f"count(smartmon_device_smart_healthy{{{_N}}} == 0) or vector(0)",
                    limits=ZERO_IS_GOOD,
                    width=4,
                ),
                stat("Free", f"sum({_FREE})", "bytes", width=4),
                stat("Database up", f"min(mysql_up{{{_N}}})", width=4),
            ),
        ),
        Row(
            "File systems",
            (
                bars(
                    "Full", f"100 * (1 - {_FREE} / {_SIZE})", "{{node}} {{mountpoint}}", width=12, limits=FULL
                ),
                bars(
                    "Inodes",
                    f"100 * (1 - node_filesystem_files_free{{{_N}, {FILES}}} / (node_filesystem_files{{{_N}, {FILES}}} > 0))",  # noqa: E501
                    "{{node}} {{mountpoint}}",
                    width=12,
                    limits=FULL,
                ),
                lines("Free over time", (_FREE, "{{node}} {{mountpoint}}"), unit="bytes", width=12),
                lines(
                    "Free on named volumes",
                    (f"rackloom_volume_free_bytes{{{_N}}}", "{{node}} {{volume}}"),
                    unit="bytes",
                    width=12,
                    quiet=True,
                ),
            ),
        ),
        Row(
            "Disks",
            (
                lines(
                    "Requests",
                    (
                        f"rate(node_disk_reads_completed_total{{{_N}, {DISKS}}}[$__rate_interval])",
                        "{{node}} {{device}} read",
                    ),
                    (
                        f"rate(node_disk_writes_completed_total{{{_N}, {DISKS}}}[$__rate_interval])",
                        "{{node}} {{device}} write",
                    ),
                    unit="iops",
                ),
                lines(
                    "A write takes",
                    (
                        (
                            f"rate(node_disk_write_time_seconds_total{{{_N}, {DISKS}}}[$__rate_interval]) / "
                            f"rate(node_disk_writes_completed_total{{{_N}, {DISKS}}}[$__rate_interval])"
                        ),
                        "{{node}} {{device}}",
                    ),
                    unit="s",
                ),
                lines(
                    "Busy",
                    (
                        f"100 * rate(node_disk_io_time_seconds_total{{{_N}, {DISKS}}}[$__rate_interval])",
                        "{{node}} {{device}}",
                    ),
                    unit="percent",
                    high=100,
                ),
                table(
                    "SMART",
                    f"smartmon_device_smart_healthy{{{_N}}}",
                    width=12,
                    hide=("role", "profile"),
                    quiet=True,
                ),
                lines(
                    "Temperature of disks",
                    (f"smartmon_temperature_celsius_raw_value{{{_N}}}", "{{node}} {{disk}}"),
                    (f"nvme_temperature_celsius{{{_N}}}", "{{node}} {{device}}"),
                    unit="celsius",
                    width=12,
                    quiet=True,
                ),
                lines(
                    "Life of NVMe used up",
                    (f"100 * nvme_percentage_used_ratio{{{_N}}}", "{{node}} {{device}}"),
                    unit="percent",
                    width=12,
                    high=100,
                    quiet=True,
                ),
                lines(
                    "Sectors that could not be read",
                    (f"smartmon_current_pending_sector_raw_value{{{_N}}}", "{{node}} {{disk}}"),
                    (f"nvme_media_errors_total{{{_N}}}", "{{node}} {{device}}"),
                    width=12,
                    quiet=True,
                ),
            ),
        ),
        Row(
            "Backups and the database",
            (
                table(
                    "Age of backups",
                    f"time() - rackloom_backup_newest_timestamp_seconds{{{_N}}}",
                    unit="s",
                    hide=("role", "profile"),
                    quiet=True,
                ),
                lines(
                    "Memory of the database",
                    ("mysql_global_status_innodb_buffer_pool_bytes_data", "{{node}} in use"),
                    ("mysql_global_variables_innodb_buffer_pool_size", "{{node}} at most"),
                    unit="bytes",
                    width=12,
                ),
            ),
        ),
    ),
)
