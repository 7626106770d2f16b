"""Who watches the watchers: Prometheus, Alertmanager, exporters and logs."""

from __future__ import annotations

from rackloom.dashboards.model import Dashboard, Row

from .parts import LOGS_BEHIND, ONE_IS_GOOD, ZERO_IS_GOOD, lines, stat, table

DASHBOARD = Dashboard(
    "rackloom-monitoring",
    "Monitoring",
    rows=(
        Row(
            "Now",
            (
                stat("Prometheus", 'sum(up{job="prometheus"})', limits=ONE_IS_GOOD, width=4),
                stat("Alertmanager", 'sum(up{job="alertmanager"})', limits=ONE_IS_GOOD, width=4),
                stat("Targets", "count(up)", width=4),
                stat("Silent", "count(up == 0) or vector(0)", limits=ZERO_IS_GOOD, width=4),
                stat("Series", "sum(prometheus_tsdb_head_series)", width=4),
                stat(
                    "Rules that fail",
                    "sum(rate(prometheus_rule_evaluation_failures_total[5m]))",
                    limits=ZERO_IS_GOOD,
                    width=4,
                ),
            ),
        ),
        Row(
            "Prometheus",
            (
                lines(
                    "Samples a second",
                    ("rate(prometheus_tsdb_head_samples_appended_total[$__rate_interval])", "{{node}}"),
                ),
                lines(
                    "Memory", ('process_resident_memory_bytes{job="prometheus"}', "{{node}}"), unit="bytes"
                ),
                lines("On the disk", ("prometheus_tsdb_storage_blocks_bytes", "{{node}}"), unit="bytes"),
                lines(
                    "A scrape takes at most", ("max by (job) (scrape_duration_seconds)", "{{job}}"), unit="s"
                ),
                lines("Series of a scrape", ("sum by (job) (scrape_samples_scraped)", "{{job}}")),
                table(
                    "Silent targets by job",
                    "sum by (job) (1 - up)",
                    width=8,
                ),
            ),
        ),
        Row(
            "Alerts and logs",
            (
                lines("Alerts at Alertmanager", ("alertmanager_alerts", "{{node}} {{state}}")),
                lines(
                    "Told to receivers",
                    (
                        "sum by (integration) (increase(alertmanager_notifications_total[1h]))",
                        "{{integration}} an hour",
                    ),
                    (
                        "sum by (integration) (increase(alertmanager_notifications_failed_total[1h]))",
                        "{{integration}} failed",
                    ),
                    quiet=True,
                ),
                lines("Logs behind by", (f"topk(10, {LOGS_BEHIND})", "{{node}}"), unit="s"),
                lines(
                    "Elasticsearch, where it keeps the logs",
                    ('elasticsearch_cluster_health_status{color="green"}', "{{node}} well"),
                    ("elasticsearch_cluster_health_unassigned_shards", "{{node}} copies without a place"),
                    quiet=True,
                ),
            ),
        ),
    ),
)
