"""What nodes boot and install from: names, boot server, mirror, registry."""

from __future__ import annotations

from rackloom.dashboards.model import Dashboard, Row

from .parts import GOOD, WARN, ZERO_IS_GOOD, bars, lines, stat, table

_SERVICES = 'service=~"dns|boot.*|mirror|registry"'
_UNITS = 'unit=~"rackloom-(boot|mirror|registry|name).*|dnsmasq.*"'
_SERVERS = 'role="management"'

DASHBOARD = Dashboard(
    "rackloom-boot",
    "Boot and install",
    help="The services that a node needs before it has anything of its own.",
    rows=(
        Row(
            "Now",
            (
                stat("Services that answer", f"sum(probe_success{{{_SERVICES}}})", width=4),
                stat(
                    "Services that do not",
                    f"count(probe_success{{{_SERVICES}}} == 0) or vector(0)",
                    limits=ZERO_IS_GOOD,
                    width=4,
                ),
                stat(
                    "Units that failed",
                    f"count(rackloom_failed_unit{{{_UNITS}}}) or vector(0)",
                    limits=ZERO_IS_GOOD,
                    width=4,
                ),
                stat(
                    "Booted within the hour",
                    "count(time() - node_boot_time_seconds < 3600) or vector(0)",
                    width=4,
                    help="Nodes that came up, for whatever reason.",
                ),
                stat("Nodes that answer", 'sum(probe_success{job="ping"})', width=4),
                stat(
                    "Mirror full",
                    '100 * (1 - sum(rackloom_volume_free_bytes{volume="mirror"}) / sum(rackloom_volume_size_bytes{volume="mirror"}))',  # noqa: E501
                    "percent",
                    limits=((None, GOOD), (80, WARN), (90, "red")),
                    width=4,
                ),
            ),
        ),
        Row(
            "Services",
            (
                lines(
                    "An answer takes",
                    (f"probe_duration_seconds{{{_SERVICES}}}", "{{node}} {{service}}"),
                    unit="s",
                ),
                bars(
                    "Answered in an hour",
                    f"100 * avg by (node, service) (avg_over_time(probe_success{{{_SERVICES}}}[1h]))",
                    "{{node}} {{service}}",
                    limits=((None, "red"), (95, WARN), (99.9, GOOD)),
                ),
                table(
                    "Certificates run out in",
                    "sort(min by (node, service) (probe_ssl_earliest_cert_expiry) - time())",
                    unit="s",
                    width=8,
                ),
            ),
        ),
        Row(
            "Load of the servers",
            (
                lines(
                    "Sent",
                    (
                        f"node:network_transmit_bytes:rate5m{{{_SERVERS}}}",
                        "{{node}}",
                    ),
                    unit="Bps",
                ),
                lines(
                    "CPU",
                    (
                        f"100 * node:cpu_busy:ratio_rate5m{{{_SERVERS}}}",
                        "{{node}}",
                    ),
                    unit="percent",
                    high=100,
                ),
                lines("Time since nodes came up", ("time() - node_boot_time_seconds", "{{node}}"), unit="s"),
            ),
        ),
    ),
)
