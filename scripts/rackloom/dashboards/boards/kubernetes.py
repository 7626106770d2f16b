"""Kubernetes: the API, its store, the door before it, what objects lack, the kubelets and what pods take."""

from __future__ import annotations

from rackloom.dashboards.model import Dashboard, Row

from .parts import GOOD, ONE_IS_GOOD, WARN, ZERO_IS_GOOD, lines, stat, table

_SOME = ((None, GOOD), (1, WARN))
_ASKED = (
    '100 * sum by (node) (kube_pod_container_resource_requests{{resource="{0}"}})'
    ' / sum by (node) (kube_node_status_allocatable{{resource="{0}"}})'
)
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
            "The one address",
            (
                lines(
                    "API servers that HAProxy uses",
                    ('sum by (node) (haproxy_backend_active_servers{proxy="kubernetes"})', "{{node}}"),
                ),
                lines(
                    "Connections",
                    ('sum by (node) (haproxy_frontend_current_sessions{proxy="kubernetes"})', "{{node}}"),
                    help="The node that has the address has them.",
                ),
                lines(
                    "Through it",
                    (
                        'sum by (node) (rate(haproxy_frontend_bytes_in_total{proxy="kubernetes"}[$__rate_interval]))',
                        "{{node}} in",
                    ),
                    (
                        'sum by (node) (rate(haproxy_frontend_bytes_out_total{proxy="kubernetes"}[$__rate_interval]))',
                        "{{node}} out",
                    ),
                    unit="Bps",
                ),
            ),
        ),
        Row(
            "Objects",
            (
                stat(
                    "Nodes not ready",
                    'count(kube_node_status_condition{condition="Ready", status="true"} == 0) or vector(0)',
                    limits=ZERO_IS_GOOD,
                    width=4,
                ),
                stat("Nodes without new pods", "sum(kube_node_spec_unschedulable)", limits=_SOME, width=4),
                stat(
                    "Pods that wait",
                    'sum(kube_pod_status_phase{phase="Pending"})',
                    limits=_SOME,
                    width=4,
                ),
                stat(
                    "Pods that failed",
                    'sum(kube_pod_status_phase{phase=~"Failed|Unknown"})',
                    limits=_SOME,
                    width=4,
                ),
                stat(
                    "Deployments that lack pods",
                    "count(kube_deployment_spec_replicas > kube_deployment_status_replicas_available) or vector(0)",
                    limits=_SOME,
                    width=4,
                ),
                stat(
                    "Restarts in an hour",
                    "sum(increase(kube_pod_container_status_restarts_total[1h]))",
                    limits=_SOME,
                    width=4,
                ),
                lines("Pods by phase", ("sum by (phase) (kube_pod_status_phase)", "{{phase}}"), stack=True),
                lines(
                    "CPUs asked for",
                    (
                        _ASKED.format("cpu"),
                        "{{node}}",
                    ),
                    unit="percent",
                    help="Of what the node gives to pods. A node that is asked for all of it takes no more.",
                ),
                lines(
                    "Memory asked for",
                    (
                        _ASKED.format("memory"),
                        "{{node}}",
                    ),
                    unit="percent",
                ),
                table(
                    "Pods that do not run",
                    'sum by (namespace, pod, phase) (kube_pod_status_phase{phase=~"Pending|Failed|Unknown"} == 1)',
                    hide=("Value",),
                    quiet=True,
                ),
                table(
                    "Containers that wait, and why",
                    "sum by (namespace, pod, container, reason) (kube_pod_container_status_waiting_reason == 1)",
                    hide=("Value",),
                    quiet=True,
                ),
                lines(
                    "GPUs asked for by namespace",
                    (
                        'sum by (namespace) (kube_pod_container_resource_requests{resource=~"nvidia_com_.*"})',
                        "{{namespace}}",
                    ),
                    stack=True,
                    quiet=True,
                ),
                table(
                    "Jobs that failed",
                    'sum by (namespace, job_name) (kube_job_failed{condition="true"} == 1)',
                    width=8,
                    quiet=True,
                ),
                table(
                    "Volumes that wait",
                    "sum by (namespace, persistentvolumeclaim) "
                    '(kube_persistentvolumeclaim_status_phase{phase="Pending"} == 1)',
                    width=8,
                    hide=("Value",),
                    quiet=True,
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
