"""Kubernetes: the API, its store, the kubelets and what pods take."""

from __future__ import annotations

from rackloom.dashboards.model import Dashboard, Row

from .parts import ONE_IS_GOOD, lines, stat, table

_SLOW = 'apiserver_request_duration_seconds_bucket{verb!~"WATCH|CONNECT"}'

DASHBOARD = Dashboard(
    "rackloom-kubernetes",
    "Kubernetes",
    needs="apiserver",
    rows=(
        Row(
            "Now",
            (
                stat("API servers", 'sum(up{job="apiserver"})', limits=ONE_IS_GOOD, width=4),
                stat("Members with a leader", "sum(etcd_server_has_leader)", limits=ONE_IS_GOOD, width=4),
                stat("Kubelets", 'sum(up{job="kubelet"})', width=4),
                stat("Pods", "sum(kubelet_running_pods)", width=4),
                stat("Objects of pods", 'max(apiserver_storage_objects{resource="pods"})', width=4),
                stat(
                    "Requests that fail",
                    '100 * (sum(rate(apiserver_request_total{code=~"5.."}[5m])) or vector(0)) / sum(rate(apiserver_request_total[5m]))',  # noqa: E501
                    "percent",
                    width=4,
                ),
            ),
        ),
        Row(
            "API",
            (
                lines(
                    "Requests",
                    ("sum by (verb) (rate(apiserver_request_total[$__rate_interval]))", "{{verb}}"),
                    unit="reqps",
                ),
                lines(
                    "Answers",
                    ("sum by (code) (rate(apiserver_request_total[$__rate_interval]))", "{{code}}"),
                    unit="reqps",
                ),
                lines(
                    "Nine of ten take less than",
                    (
                        f"histogram_quantile(0.9, sum by (le, verb) (rate({_SLOW}[$__rate_interval])))",
                        "{{verb}}",
                    ),
                    unit="s",
                ),
                lines(
                    "In flight",
                    (
                        "sum by (node, request_kind) (apiserver_current_inflight_requests)",
                        "{{node}} {{request_kind}}",
                    ),
                ),
                lines("Objects", ("topk(8, max by (resource) (apiserver_storage_objects))", "{{resource}}")),
                lines(
                    "Memory of API servers",
                    ('process_resident_memory_bytes{job="apiserver"}', "{{node}}"),
                    unit="bytes",
                ),
            ),
        ),
        Row(
            "etcd",
            (
                lines("Size of the store", ("etcd_mvcc_db_total_size_in_bytes", "{{node}}"), unit="bytes"),
                lines(
                    "99 of 100 syncs to disk take less than",
                    (
                        "histogram_quantile(0.99, sum by (le, node) (rate(etcd_disk_wal_fsync_duration_seconds_bucket[$__rate_interval])))",  # noqa: E501
                        "{{node}}",
                    ),
                    unit="s",
                    help="Above 10 ms the disk is too slow for a store.",
                ),
                lines(
                    "Changes of the leader",
                    ("increase(etcd_server_leader_changes_seen_total[1h])", "{{node}}"),
                ),
            ),
        ),
        Row(
            "Pods",
            (
                lines("Running pods", ("kubelet_running_pods", "{{node}}"), stack=True),
                lines(
                    "CPU by namespace",
                    (
                        'sum by (namespace) (rate(container_cpu_usage_seconds_total{container!=""}[$__rate_interval]))',
                        "{{namespace}}",
                    ),
                    stack=True,
                ),
                lines(
                    "Memory by namespace",
                    (
                        'sum by (namespace) (container_memory_working_set_bytes{container!=""})',
                        "{{namespace}}",
                    ),
                    unit="bytes",
                    stack=True,
                ),
                table(
                    "Most CPU",
                    'topk(10, sum by (namespace, pod) (rate(container_cpu_usage_seconds_total{container!=""}[5m])))',
                    width=8,
                ),
                table(
                    "Most memory",
                    'topk(10, sum by (namespace, pod) (container_memory_working_set_bytes{container!=""}))',
                    unit="bytes",
                    width=8,
                ),
                lines(
                    "Trouble with the runtime",
                    (
                        (
                            "sum by (node) (rate(kubelet_runtime_operations_errors_total[$__rate_interval]))"
                            " or sum by (node) (0 * kubelet_running_pods)"
                        ),
                        "{{node}}",
                    ),
                ),
            ),
        ),
    ),
)
