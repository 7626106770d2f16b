"""Inputs of the roles that measure and alarm: only data, under exactly the names that the roles declare.

JOBS says what is asked for metrics, PROBES which services are knocked at. A new exporter is a row here; the lists of
targets follow from the site's groups, so a new node is in all of them by being in nodes.yml.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from rackloom.dashboards.ask import questions

from .kubernetes_vars import addons, endpoint, store_hosts
from .models_monitoring import Receiver, SiteJob
from .provision_vars import boot_address
from .ranges import expand
from .resolved import Node, Site

MONITORED = "monitored"
PROMETHEUS = "prometheus"
ALERTMANAGER = "alertmanager"
PROMETHEUS_PORT = 9090
ALERTMANAGER_PORT = 9093
CLUSTER_PORT = 9094
NODE_PORT = 9100
PROCESS_PORT = 9256
PROMETHEUS_PREFIX = "/prometheus"
ALERTMANAGER_PREFIX = "/alertmanager"
ETCD_SNAPSHOTS = "/var/lib/rackloom/etcd"
ETCD_METRICS = "127.0.0.1:2381"
HAPROXY_METRICS = "127.0.0.1:7444"
ELASTICSEARCH = "elasticsearch"
ELASTICSEARCH_METRICS = "127.0.0.1:9114"
KUBE_STATE = "kube_state_metrics"
KUBE_STATE_PATH = (
    "/api/v1/namespaces/kube-state-metrics/services/http:kube-state-metrics:metrics/proxy/metrics"
)
"""The add-on's own port is open to pods alone; who is outside asks the API server for it, which knows who may."""

Vars = dict[str, Any]
Auth = Literal["scrape", "web", "kubernetes", "none"]


@dataclass(frozen=True, slots=True)
class Job:
    """One kind of exporter: whose hosts have it, where it listens, and how it is asked.

    auth: "scrape" (the user of exporters), "web" (that of Prometheus' and Alertmanager's pages), "kubernetes" (a client
    certificate of the cluster's authority) or "none". honor_labels: labels of the exporter win over the target's.
    at: where it is asked if it is of no host; the group's hosts then only say whether it is there.
    drop: metrics that are not kept, as a pattern of their names.
    """

    name: str
    group: str
    port: int
    path: str = "/metrics"
    auth: Auth = "scrape"
    scheme: str = "https"
    honor_labels: bool = False
    drop: str = ""
    on: Callable[[Site, Node], bool] | None = None
    at: Callable[[Site], str] | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """One service that is knocked at from outside; module is one of the role blackbox_exporter.

    at: what it is asked for, where that is not the host's address with the port.
    """

    service: str
    group: str
    port: int | Callable[[Site], int]
    module: str
    at: Callable[[Site, Node], str] | None = None


def _ssh_port(site: Site) -> int:
    return site.cluster.ssh.port


def _has_dcgm(site: Site, _: Node) -> bool:
    gpu = site.cluster.gpu
    return gpu.dcgm.enabled and gpu.dcgm.exporter


def _has_kubelet(site: Site, node: Node) -> bool:
    return node.name in {*site.groups["kube_control_plane"], *site.groups["kube_node"]}


def _has_kube_state(site: Site, _: Node) -> bool:
    return KUBE_STATE in addons(site)


def _kube_endpoint(site: Site) -> str:
    address, port = endpoint(site)
    return f"{_bracketed(address)}:{port}"


def _boot_page(site: Site, _: Node) -> str:
    """The first thing that every machine asks for when it boots."""
    return f"http://{_bracketed(boot_address(site))}:{site.cluster.provision.http_port}/boot.ipxe"


JOBS: tuple[Job, ...] = (
    Job("node", MONITORED, NODE_PORT),
    # Half of what it tells of each program, which nobody asks for; bytes read and written it cannot see.
    Job(
        "process",
        MONITORED,
        PROCESS_PORT,
        drop=r"namedprocess_namegroup_(context_switches|major_page_faults|minor_page_faults|read_bytes|write_bytes)_total"
        "|namedprocess_namegroup_(states|threads_wchan)|go_.*|promhttp_.*",
    ),
    Job("prometheus", PROMETHEUS, PROMETHEUS_PORT, path=f"{PROMETHEUS_PREFIX}/metrics", auth="web"),
    Job("alertmanager", ALERTMANAGER, ALERTMANAGER_PORT, path=f"{ALERTMANAGER_PREFIX}/metrics", auth="web"),
    Job("slurm", "slurm_controller", 9341, honor_labels=True),
    Job("mysqld", "slurm_database", 9104),
    Job("dcgm", "gpu_host", 9400, on=_has_dcgm),
    Job("log_store", "log_server", 9428, path="/logs/metrics"),
    Job("apiserver", "kube_control_plane", 6443, auth="kubernetes"),
    Job("kubelet", "kubernetes", 10250, auth="kubernetes", on=_has_kubelet),
    Job("cadvisor", "kubernetes", 10250, path="/metrics/cadvisor", auth="kubernetes", on=_has_kubelet),
    Job(
        "kube_state",
        "kube_control_plane",
        6443,
        path=KUBE_STATE_PATH,
        auth="kubernetes",
        honor_labels=True,
        on=_has_kube_state,
        at=_kube_endpoint,
    ),
)
PING = "ping"
BLACKBOX = "blackbox"
"""Two more jobs, which ask the prober beside Prometheus: every node, and every service of PROBES."""

PROBES: tuple[Probe, ...] = (
    Probe("dns", "name_server", 53, "dns"),
    Probe("login", "login", _ssh_port, "ssh"),
    Probe("slurmctld", "slurm_controller", 6817, "tcp"),
    Probe("slurmdbd", "slurm_accounting", 6819, "tcp"),
    Probe("mirror", "mirror", 8443, "tls"),
    Probe("registry", "mirror", 5000, "tls"),
    Probe("boot-http", "provisioner", lambda site: site.cluster.provision.http_port, "http", at=_boot_page),
    Probe("kubernetes-api", "kube_control_plane", 6443, "tls_any"),
    Probe("prometheus", PROMETHEUS, PROMETHEUS_PORT, "tls"),
    Probe("alertmanager", ALERTMANAGER, ALERTMANAGER_PORT, "tls"),
    Probe("front-door", "web_proxy", 443, "tls_any"),
    Probe("log-store", "log_server", 9428, "tls"),
    Probe("elasticsearch", ELASTICSEARCH, 9200, "tls"),
    Probe("kibana", "kibana", 5601, "tls"),
)


@dataclass(frozen=True, slots=True)
class MonitoringVars:
    """groups: group → its variables; hosts: host → those that are its own."""

    groups: dict[str, Vars]
    hosts: dict[str, Vars]


def monitoring_vars(site: Site) -> MonitoringVars:
    """Nothing where no node has Prometheus."""
    if not site.groups[PROMETHEUS]:
        return MonitoringVars({}, {})
    groups: dict[str, Vars] = {PROMETHEUS: _prometheus(site)}
    if site.groups[ALERTMANAGER]:
        groups[ALERTMANAGER] = _alertmanager(site)
    watched = [*site.groups[MONITORED], *site.groups[PROMETHEUS], *site.groups[ALERTMANAGER]]
    return MonitoringVars(groups, {name: _host(site, site.nodes[name]) for name in dict.fromkeys(watched)})


def switches(site: Site) -> dict[str, str]:
    """Node → the switch it hangs on, where the site says so: by its port, or else by Slurm's topology."""
    found: dict[str, str] = {}
    for switch in site.cluster.slurm.topology:
        for name in expand(switch.nodes):
            found.setdefault(name, switch.switch)
    for node in site.nodes.values():
        if node.switch_port:
            found[node.name] = node.switch_port.partition("/")[0]
    return found


def page(site: Site, path: str, node: Node | None = None, port: int = 0) -> str:
    """Where people find a page: behind the cluster's one door, or on the host itself where there is none."""
    told = site.cluster.monitoring.address
    doors = site.group("web_proxy")
    if told:
        return f"{told.rstrip('/')}{path}/"
    if doors:
        return f"https://{doors[0].name}.{site.cluster.domain}{path}/"
    return f"https://{_bracketed(node.address)}:{port}{path}/" if node else ""


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _at(node: Node, port: int) -> str:
    return f"{_bracketed(node.address)}:{port}"


def _labels(node: Node, on_switch: dict[str, str]) -> dict[str, str]:
    labels = {"node": node.name, "role": node.role}
    if node.profile:
        labels["profile"] = node.profile
    if node.name in on_switch:
        labels["switch"] = on_switch[node.name]
    return labels


def _rows(nodes: Iterable[Node], port: int, on_switch: dict[str, str], **more: str) -> list[dict[str, Any]]:
    return [{"targets": [_at(node, port)], "labels": {**_labels(node, on_switch), **more}} for node in nodes]


def _knock(site: Site, probe: Probe, node: Node, on_switch: dict[str, str]) -> dict[str, Any]:
    port = probe.port if isinstance(probe.port, int) else probe.port(site)
    [row] = _rows([node], port, on_switch, service=probe.service, __param_module=probe.module)
    return row | {"targets": [probe.at(site, node)]} if probe.at else row


def targets(site: Site) -> dict[str, list[dict[str, Any]]]:
    """Job → the targets of it, as Prometheus' file discovery reads them. Jobs without targets are left out."""
    on_switch = switches(site)
    found: dict[str, list[dict[str, Any]]] = {}
    for job in JOBS:
        nodes = [node for node in site.group(job.group) if job.on is None or job.on(site, node)]
        found[job.name] = (
            [{"targets": [job.at(site)], "labels": {}}]
            if job.at and nodes
            else _rows(nodes, job.port, on_switch)
        )
    found[PING] = [
        {"targets": [node.address], "labels": _labels(node, on_switch)} for node in site.group(MONITORED)
    ]
    found[BLACKBOX] = [
        _knock(site, probe, node, on_switch) for probe in PROBES for node in site.group(probe.group)
    ]
    if site.groups["kube_api_balancer"]:
        # It moves between hosts, so it is of no node.
        endpoint = site.cluster.kubernetes.endpoint
        labels = {"service": "kubernetes-endpoint", "__param_module": "tls_any"}
        place = f"{_bracketed(endpoint.address)}:{endpoint.real_port}"
        found[BLACKBOX].append({"targets": [place], "labels": labels})
    for own in site.cluster.monitoring.jobs:
        found[own.name] = [{"targets": list(own.targets), "labels": dict(own.labels)}]
    return {name: rows for name, rows in found.items() if rows}


def _job(name: str, **more: Any) -> Vars:
    return {
        "name": name,
        "scheme": "https",
        "path": "/metrics",
        "auth": "none",
        "honor_labels": False,
        "drop": "",
        "probe": "",
        "interval": "",
        "user": "",
        "secret": "",
        "ca": "",
        **more,
    }


def _site_job(job: SiteJob) -> Vars:
    told = job.model_dump(include={"name", "scheme", "path", "interval", "user", "secret", "ca"})
    return _job(**told)


def jobs(site: Site) -> list[Vars]:
    """How each job is asked, in the order of the table."""
    asked = [
        _job(
            job.name,
            scheme=job.scheme,
            path=job.path,
            auth=job.auth,
            honor_labels=job.honor_labels,
            drop=job.drop,
        )
        for job in JOBS
    ]
    asked += [_job(PING, probe="icmp"), _job(BLACKBOX, probe="by_target")]
    asked += [_site_job(job) for job in site.cluster.monitoring.jobs]
    known = targets(site)
    return [job for job in asked if job["name"] in known]


def _prometheus(site: Site) -> Vars:
    told = site.cluster.monitoring
    hosts = site.group(PROMETHEUS)
    runbooks = told.runbooks.rstrip("/") or page(site, "/runbooks", hosts[0], PROMETHEUS_PORT).rstrip("/")
    return {
        "prometheus_cluster": site.cluster.name,
        "prometheus_external_url": page(site, PROMETHEUS_PREFIX),
        "prometheus_retention": told.retention.model_dump(),
        "prometheus_path": told.path,
        "prometheus_scrape_interval": told.scrape_interval,
        "prometheus_jobs": jobs(site),
        "prometheus_targets": targets(site),
        "prometheus_alertmanagers": [_at(node, ALERTMANAGER_PORT) for node in site.group(ALERTMANAGER)],
        "prometheus_remote_write": [write.model_dump() for write in told.remote_write],
        # Their paths and not their text: rules are full of braces that Ansible would take for its own.
        "prometheus_rules": [str(site.config_dir.resolve() / name) for name in told.rules],
        "prometheus_runbooks": runbooks,
        "prometheus_secret_names": _secret_names(
            [write.secret for write in told.remote_write] + [job.secret for job in told.jobs]
        ),
        "blackbox_exporter_dns_name": f"{site.group('management')[0].name}.{site.cluster.domain}",
        "monitoring_check_targets": {
            job: sorted(
                {row["labels"].get("node", "") or target for row in rows for target in row["targets"]}
            )
            for job, rows in targets(site).items()
        },
        "monitoring_check_alertmanagers": len(site.group(ALERTMANAGER)),
        "monitoring_check_queries": queries(site),
    }


def queries(site: Site) -> list[Vars]:
    """What the dashboards ask, each question once; quiet: an answer is not wanted, it only has to be understood."""
    told: dict[str, Vars] = {}
    for question in questions({*targets(site), *facts(site)}):
        name = f"{question.dashboard.removeprefix('rackloom-')}: {question.panel}"
        asked = told.setdefault(question.expr, {"name": name, "expr": question.expr, "quiet": question.quiet})
        asked["quiet"] = asked["quiet"] and question.quiet
    return list(told.values())


def facts(site: Site) -> set[str]:
    """What some nodes have beside the jobs' exporters, in the names of rackloom.dashboards.ask."""
    of_hosts = [_host(site, node) for node in site.group(MONITORED)]
    found = {name for own in of_hosts for name in own.get("node_exporter_local", {})}
    for fact, variable in {"backup": "node_exporter_backups", "volume": "node_exporter_volumes"}.items():
        if any(variable in own for own in of_hosts):
            found.add(fact)
    found |= {
        fact
        for fact, group in {"mirror": "mirror", "gpus": "gpu_node", "logs": "logged"}.items()
        if site.groups[group]
    }
    return found


def _secret_names(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name))


def _receiver(receiver: Receiver) -> Vars:
    told: Vars = {"name": receiver.name, "resolved": receiver.resolved}
    return told | {way: getattr(receiver, way).model_dump() for way in receiver.ways}


def _alertmanager(site: Site) -> Vars:
    told = site.cluster.monitoring
    used = [told.smtp.secret]
    for receiver in told.receivers:
        used += [getattr(getattr(receiver, way), "secret", "") for way in receiver.ways]
    return {
        "alertmanager_external_url": page(site, ALERTMANAGER_PREFIX),
        "alertmanager_peers": [_at(node, CLUSTER_PORT) for node in site.group(ALERTMANAGER)],
        "alertmanager_smtp": told.smtp.model_dump(),
        "alertmanager_receivers": [_receiver(receiver) for receiver in told.receivers],
        "alertmanager_routes": [route.model_dump() for route in told.routes],
        "alertmanager_receiver": told.receiver or (told.receivers[0].name if told.receivers else ""),
        "alertmanager_dead_man": told.dead_man,
        "alertmanager_secret_names": _secret_names(used),
        "monitoring_check_alertmanagers": len(site.group(ALERTMANAGER)),
    }


def _host(site: Site, node: Node) -> Vars:
    """What the node exporter of one node looks at beside the machine; left out where it is nothing."""
    backups = dict(site.cluster.monitoring.backups)
    volumes: dict[str, str] = {}
    own: Vars = {}
    local: dict[str, str] = {}
    if node.name in store_hosts(site):
        backups.setdefault("etcd", ETCD_SNAPSHOTS)
        local["etcd"] = ETCD_METRICS
    if node.name in site.groups["kube_api_balancer"]:
        local["haproxy"] = HAPROXY_METRICS
    if node.name in site.groups[ELASTICSEARCH]:
        local[ELASTICSEARCH] = ELASTICSEARCH_METRICS
    if local:
        own["node_exporter_local"] = local
    if node.name in site.groups["mirror"]:
        volumes["mirror"] = site.cluster.mirror.path
    if node.name in site.groups[PROMETHEUS]:
        volumes["metrics"] = site.cluster.monitoring.path
    if node.bmc:
        own["node_exporter_hardware"] = True
    if node.name in site.groups[PROMETHEUS]:
        own["monitoring_check_prometheus"] = f"https://{_at(node, PROMETHEUS_PORT)}{PROMETHEUS_PREFIX}"
    if node.name in site.groups[ALERTMANAGER]:
        own["monitoring_check_alertmanager"] = f"https://{_at(node, ALERTMANAGER_PORT)}{ALERTMANAGER_PREFIX}"
    if backups:
        own["node_exporter_backups"] = backups
    if volumes:
        own["node_exporter_volumes"] = volumes
    return own
