"""Checks of the section `kubernetes:` of cluster.yml, and of the nodes that it is about."""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Iterator
from dataclasses import dataclass

from . import bundles, versions
from . import fields as f
from .context import Context
from .groups import LISTS
from .mistakes import Path as Where
from .mistakes import suggest
from .models_kubernetes import ADDONS, API_PORT, KUBE_VIP, NEEDS_POOL, OURS, Kubernetes
from .ranges import fold_sorted
from .support import minor, support, too_old
from .versions import FILE, KUBERNETES, Record, Versions, VersionsError

CONTROL_PLANE = "kube_control_plane"
WORKER = "kube_node"
BALANCER = "kube_api_balancer"
STORE = "etcd"
TOP = ("kubernetes",)

NODE_PREFIX = 24
"""Length of the part of the pods' network that each node takes."""
LONGEST_SERVICES, SHORTEST_SERVICES = 28, 12
"""The API server takes service networks of these sizes and between."""
_WIDEST = 16
"""Bits between the pods' network and a node's part of it, at most: more parts the controller cannot count."""
NODE_PODS = 2 ** (32 - NODE_PREFIX) - 3
"""Pod addresses of a node: all but the network's own, its broadcast address and the bridge's."""

KUBELET_OWN = {
    "authentication": "It is set for you.",
    "authorization": "It is set for you.",
    "cgroupDriver": "It is systemd.",
    "clusterDNS": "It follows from `kubernetes.networks.services`.",
    "clusterDomain": "Write `kubernetes.domain`.",
    "containerRuntimeEndpoint": "It follows from `kubernetes.runtime`.",
    "cpuManagerPolicy": "Write `cpu_manager`.",
    "failCgroupV1": "Write `kubernetes.tolerate: [cgroup_v1]`.",
    "failSwapOn": "Write `kubernetes.tolerate: [swap]`.",
    "kubeReserved": "Write `reserved`.",
    "maxPods": "Write `max_pods`.",
    "memoryManagerPolicy": "Write `memory_manager`.",
    "rotateCertificates": "It is set for you.",
    "serverTLSBootstrap": "It is set for you.",
    "staticPodPath": "It is set for you.",
    "systemReserved": "Write `reserved`.",
    "topologyManagerPolicy": "Write `topology_manager`.",
}
"""Fields of the kubelet's configuration that have a key of their own, or none because they must be as they are."""
ARGUMENTS_OWN = {
    "apiserver": {
        *("advertise-address", "secure-port", "service-cluster-ip-range", "client-ca-file", "tls-cert-file"),
        *("tls-private-key-file", "service-account-issuer", "service-account-key-file"),
        *("service-account-signing-key-file", "encryption-provider-config", "authorization-mode"),
    },
    "controller_manager": {
        *("cluster-cidr", "service-cluster-ip-range", "allocate-node-cidrs", "kubeconfig", "cluster-name"),
        *("root-ca-file", "cluster-signing-cert-file", "cluster-signing-key-file", "node-cidr-mask-size"),
    },
    "scheduler": {"kubeconfig"},
    "etcd": {
        *("data-dir", "name", "config-file", "initial-cluster", "initial-cluster-state"),
        *("listen-client-urls", "advertise-client-urls", "listen-peer-urls", "initial-advertise-peer-urls"),
        *("client-cert-auth", "cert-file", "key-file", "trusted-ca-file"),
        *("peer-client-cert-auth", "peer-cert-file", "peer-key-file", "peer-trusted-ca-file"),
    },
}
"""Arguments of the control plane that follow from elsewhere."""
LABELS_OWN = {"kubernetes.io/hostname", "kubernetes.io/arch", "kubernetes.io/os"}
RESERVED_USERS = {"kubernetes-admin", "kubernetes-super-admin"}

CONTROL_PLANE_IMAGES = ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler")
OTHER_IMAGES = ("registry.k8s.io/coredns/coredns", "registry.k8s.io/etcd", "registry.k8s.io/pause")
KUBE_VIP_IMAGE = "ghcr.io/kube-vip/kube-vip"
RELEASE_FILES = (KUBERNETES, "kubelet", "kubectl")
RUNTIME_FILES = {"containerd": ("containerd", "runc", "cni-plugins", "crictl"), "crio": ("crio", "crictl")}


def place_balancer(ctx: Context, off: Container[str]) -> None:
    """Where keepalived keeps up the endpoint, it does so on the control-plane nodes, unless the site says otherwise."""
    if BALANCER in ctx.cluster_file.services or BALANCER in off:
        return
    if ctx.cluster_file.kubernetes.endpoint.kind == "keepalived":
        ctx.groups[BALANCER] = list(ctx.groups[CONTROL_PLANE])


@dataclass(frozen=True, slots=True)
class Span:
    """Addresses of one family in a row."""

    first: f.IpAddress
    last: f.IpAddress

    def holds(self, address: f.IpAddress) -> bool:
        """Whether an address is among them."""
        return address.version == self.first.version and int(self.first) <= int(address) <= int(self.last)

    def overlaps(self, other: Span) -> bool:
        """Whether the two have an address in common."""
        return self.holds(other.first) or other.holds(self.first)


def read_span(text: str) -> Span | None:
    """A network, first-last, or one address; None where it is none of these."""
    first, dash, last = (part.strip() for part in text.partition("-"))
    try:
        if dash:
            begin, end = ipaddress.ip_address(first), ipaddress.ip_address(last)
            return Span(begin, end) if begin.version == end.version and int(begin) <= int(end) else None
        if "/" in text:
            network = ipaddress.ip_network(text)
            return Span(network.network_address, network.broadcast_address)
        return Span(ipaddress.ip_address(first), ipaddress.ip_address(first))
    except ValueError:
        return None


class KubernetesCheck:
    """Everything about Kubernetes of a site that has it."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.say = ctx.cluster
        self.kubernetes: Kubernetes = ctx.cluster_file.kubernetes
        self.control_plane = ctx.groups[CONTROL_PLANE]
        self.workers = ctx.groups[WORKER]
        self.addresses = {
            ipaddress.ip_address(node.address): node.name for node in ctx.hosts.values() if node.address
        }

    def run(self) -> None:
        """All of it; only what is written wrong counts where no node is of Kubernetes."""
        self._labels()
        self._addons()
        self._settings()
        self._users()
        spans = self._pool()
        if not self.control_plane:
            return
        self._members()
        self._networks()
        self._network_plugin()
        self._endpoint(spans)
        self._versions()

    # ------------------------------------------------------------ nodes

    def _members(self) -> None:
        both = sorted(set(self.control_plane) & set(self.workers))
        if both:
            where = ("services", WORKER)
            message = f"{fold_sorted(both)} is in {WORKER} and in {CONTROL_PLANE}; a node is one of the two."
            cure = (
                "Remove it from one. Without a node in kube_node, the control plane carries the pods itself."
            )
            self.say(where, both[0], message, cure, "in-two-groups")
        for group, nodes, why in (
            (CONTROL_PLANE, self.control_plane, "Without hosts in etcd, it runs on the control-plane nodes."),
            (WORKER, self.workers, "Its disk and its memory are nothing to share with pods."),
        ):
            both = sorted(set(self.ctx.groups[STORE]) & set(nodes))
            if both:
                message = (
                    f"{fold_sorted(both)} is in {STORE} and in {group}; etcd has hosts of its own, or none."
                )
                cure = f"Remove it from one. {why}"
                self.say(("services", STORE), both[0], message, cure, "in-two-groups")

    def _labels(self) -> None:
        for part in [
            *self.ctx.nodes_file.profiles.values(),
            *(entry for name in LISTS for entry in getattr(self.ctx.nodes_file, name)),
        ]:
            for key in part.labels:
                if key in LABELS_OWN:
                    where = (*part.where, "labels", key)
                    message = f"The label {key} is the kubelet's own."
                    self.ctx.nodes(where, key, message, "Remove it.", "owned-setting", key=True)
            seen: set[tuple[str, str]] = set()
            for taint in part.taints:
                body, _, effect = taint.rpartition(":")
                known = (body.partition("=")[0], effect)
                if known in seen:
                    where = (*part.where, "taints")
                    message = f"The taint {known[0]} with {effect} is there twice."
                    self.ctx.nodes(where, taint, message, "Keep one of them.", "duplicate-name")
                seen.add(known)

    # ------------------------------------------------------------ networks

    def _networks(self) -> None:
        networks = self.kubernetes.networks
        where = (*TOP, "networks")
        cluster = self.ctx.cluster_file.networks.get("cluster")
        others = [(f"network {name}", one.cidr) for name, one in self.ctx.cluster_file.networks.items()]
        for name, network in (("pods", networks.pods), ("services", networks.services)):
            if cluster is not None and network.version != cluster.cidr.version:
                message = (
                    f"The {name} have IPv{network.version} and network cluster has IPv{cluster.cidr.version}."
                )
                self._at((*where, name), network, message, "Write a network of the same kind.", "bad-family")
            for what, other in others:
                if network.version == other.version and network.overlaps(other):
                    message = f"The network of the {name} ({network}) overlaps with {what} ({other})."
                    cure = "Give each its own range."
                    self._at((*where, name), network, message, cure, "overlapping-networks")
                    break
            others.append((f"the network of the {name}", network))
        self._pods(networks.pods, (*where, "pods"))
        services = networks.services
        if services.version == 4 and not SHORTEST_SERVICES <= services.prefixlen <= LONGEST_SERVICES:
            message = f"The API server takes no network of services of this size (/{services.prefixlen})."
            cure = f"Write one from /{SHORTEST_SERVICES} to /{LONGEST_SERVICES}."
            self._at((*where, "services"), services, message, cure, "network-size")

    def _pods(self, pods: f.IpNetwork, where: Where) -> None:
        if pods.version != 4:
            return
        count = len(self.control_plane) + len(self.workers)
        if pods.prefixlen > NODE_PREFIX or 2 ** (NODE_PREFIX - pods.prefixlen) < count:
            room = 2 ** (NODE_PREFIX - pods.prefixlen) if pods.prefixlen <= NODE_PREFIX else 0
            need = NODE_PREFIX - max(0, count - 1).bit_length()
            message = (
                f"{pods} has room for the pods of {room} nodes, each of which takes a /{NODE_PREFIX}, "
                f"and Kubernetes has {count} nodes."
            )
            self._at(where, pods, message, f"Write a network of /{need} or larger.", "network-size")
        elif NODE_PREFIX - pods.prefixlen > _WIDEST:
            message = f"{pods} is too large to be cut into /{NODE_PREFIX} for the nodes."
            cure = f"Write a network of /{NODE_PREFIX - _WIDEST} or smaller."
            self._at(where, pods, message, cure, "network-size")
        most = self.kubernetes.kubelet.max_pods
        if most > NODE_PODS and self.kubernetes.network.plugin == "flannel":
            message = f"A node has {NODE_PODS} addresses for pods, and max_pods is {most}."
            self._at((*TOP, "kubelet", "max_pods"), most, message, f"Write {NODE_PODS} or less.", "max-pods")

    def _network_plugin(self) -> None:
        network = self.kubernetes.network
        if network.plugin != "flannel" and network.backend == "wireguard":
            message = f"The backend wireguard is flannel's, and the plugin is {network.plugin}."
            cure = f"Remove it; {network.plugin} takes its own settings under `values`."
            self._at((*TOP, "network", "backend"), network.backend, message, cure, "bad-value")
        if self.kubernetes.domain == self.ctx.cluster_file.domain:
            message = (
                "The domain of services is that of the nodes, so nobody could find the nodes from a pod."
            )
            cure = "Choose another; cluster.local is usual."
            self._at((*TOP, "domain"), self.kubernetes.domain, message, cure, "duplicate-name")

    # ------------------------------------------------------------ addresses

    def _pool(self) -> list[Span]:
        """The load balancer's addresses; reports what is wrong with them."""
        where = (*TOP, "load_balancer", "pool")
        spans: list[Span] = []
        written = self.ctx.raw_at(where)
        for index, text in enumerate(self.kubernetes.load_balancer.pool):
            here = (*where, index) if isinstance(written, list) else where
            span = read_span(text)
            if span is None:
                cure = "Write a network like 10.10.9.0/28, a range like 10.10.9.1-10.10.9.50, or an address."
                self.say(here, text, f"{text} is no range of addresses.", cure, "bad-pool")
                continue
            trouble = self._span_trouble(span, spans)
            if trouble is not None:
                self.say(here, text, *trouble)
            spans.append(span)
        return spans

    def _span_trouble(self, span: Span, earlier: list[Span]) -> tuple[str, str, str] | None:
        """(message, cure, code) of the first thing wrong with addresses for services."""
        cluster = self.ctx.cluster_file.networks.get("cluster")
        if cluster is not None and (span.first not in cluster.cidr or span.last not in cluster.cidr):
            message = f"The pool has addresses outside network cluster ({cluster.cidr}), where nobody would find them."
            return message, "Choose addresses inside that no node has.", "outside-network"
        for address, name in self.addresses.items():
            if span.holds(address):
                return f"The pool holds {address}, the address of {name}.", "Leave it out.", "pool-overlap"
        for network_name, network in self.ctx.cluster_file.networks.items():
            if network.gateway and span.holds(ipaddress.ip_address(network.gateway)):
                message = f"The pool holds {network.gateway}, the gateway of network {network_name}."
                return message, "Leave it out.", "pool-overlap"
        dhcp = self._dhcp()
        if dhcp is not None and span.overlaps(dhcp):
            message = f"The pool overlaps with that of DHCP ({dhcp.first}-{dhcp.last})."
            return message, "Give each its own range.", "pool-overlap"
        if any(span.overlaps(other) for other in earlier):
            return "The pool has these addresses already.", "Name each once.", "pool-overlap"
        return None

    def _dhcp(self) -> Span | None:
        pool = self.ctx.cluster_file.provision.dhcp.pool
        return read_span("-".join(pool)) if len(pool) == 2 else None

    def _endpoint(self, spans: list[Span]) -> None:
        endpoint = self.kubernetes.endpoint
        where = (*TOP, "endpoint", "address")
        balancers = self.ctx.groups[BALANCER]
        if not endpoint.address:
            if len(self.control_plane) > 1 or endpoint.kind != "own":
                hosts = (
                    f"{len(self.control_plane)} control-plane nodes"
                    if endpoint.kind == "own"
                    else "this endpoint"
                )
                message = f"The API of {hosts} needs an address of its own."
                cure = "Write `endpoint: {address: …}` with a free address of network cluster."
                self._at(where, "", message, cure, "no-endpoint")
            elif balancers:
                message = f"{BALANCER} has hosts, but there is no address that they could keep up."
                cure = (
                    "Write `endpoint: {address: …}` with a free address of network cluster, or remove them."
                )
                self._at(where, "", message, cure, "no-endpoint")
            return
        if endpoint.kind == "keepalived" and not balancers:
            message = f"keepalived has the endpoint, and {BALANCER} has no hosts."
            cure = "Remove `kube_api_balancer: []`, or write `by: external`."
            self.say(("services", BALANCER), "[]", message, cure, "no-balancer")
        if endpoint.kind == "external" and balancers:
            message = f"{BALANCER} has hosts, and the endpoint is kept up by somebody else (`by: external`)."
            self.say(("services", BALANCER), balancers, message, "Remove one of the two.", "no-balancer")
        if endpoint.kind == KUBE_VIP and balancers:
            message = (
                f"{BALANCER} has hosts, and kube-vip keeps the endpoint up, which has no balancer behind it."
            )
            cure = "Remove one of the two; keepalived and HAProxy are `by: keepalived`."
            self.say(("services", BALANCER), balancers, message, cure, "no-balancer")
        trouble = self._address_trouble(ipaddress.ip_address(endpoint.address), spans)
        if trouble is not None:
            self._at(where, endpoint.address, *trouble)
        self._port(balancers)

    def _address_trouble(self, address: f.IpAddress, spans: list[Span]) -> tuple[str, str, str] | None:
        """(message, cure, code) of the first thing wrong with the endpoint's address."""
        ours = self.kubernetes.endpoint.kind in OURS
        owner = self.addresses.get(address, "")
        if owner and (ours or owner in self.control_plane):
            cure = "Choose an address that no machine has: it moves between them."
            if len(self.control_plane) == 1:
                cure = "Leave it out as long as there is one control-plane node, or choose one that no machine has."
            return f"{address} is the address of {owner}.", cure, "duplicate-address"
        networks = self.ctx.cluster_file.networks
        for name, network in networks.items():
            if str(address) == network.gateway:
                return f"{address} is the gateway of network {name}.", "Choose another.", "duplicate-address"
        cluster = networks.get("cluster")
        if ours and cluster is not None:
            if address not in cluster.cidr:
                message = f"{address} is outside network cluster ({cluster.cidr})."
                return message, "Choose a free address inside.", "outside-network"
            if cluster.cidr.num_addresses > 2 and address in (
                cluster.cidr.network_address,
                cluster.cidr.broadcast_address,
            ):
                message = f"{address} is the network's own or its broadcast address."
                return message, "Choose a free address inside.", "reserved-address"
        dhcp = self._dhcp()
        if dhcp is not None and dhcp.holds(address):
            message = f"{address} is in the pool of DHCP, which may give it to a machine."
            return message, "Choose one outside the pool.", "pool-overlap"
        if any(span.holds(address) for span in spans):
            message = f"{address} is in the load balancer's pool, which may give it to a service."
            return message, "Choose one outside the pool.", "pool-overlap"
        return None

    def _port(self, balancers: list[str]) -> None:
        """HAProxy shares its host with others; behind kube-vip there is nothing but the API servers."""
        endpoint = self.kubernetes.endpoint
        if endpoint.kind == KUBE_VIP and endpoint.real_port != API_PORT:
            message = f"Nobody listens at port {endpoint.real_port}: kube-vip moves an address, and no port."
            cure = f"Leave it out: it is that of the API servers, {API_PORT}."
            self._at((*TOP, "endpoint", "port"), endpoint.port, message, cure, "bad-port")
        if endpoint.kind != "keepalived":
            return
        taken: dict[int, str] = {}
        if not set(balancers).isdisjoint(self.ctx.groups["mirror"]):
            taken |= {8443: "the mirror", 5000: "the registry"}
        if not set(balancers).isdisjoint(self.control_plane):
            taken |= {API_PORT: "the API servers", 2379: "etcd", 2380: "etcd", 10250: "the kubelet"}
        if endpoint.real_port in taken:
            message = f"Port {endpoint.real_port} is taken on these hosts by {taken[endpoint.real_port]}."
            self._at((*TOP, "endpoint", "port"), endpoint.port, message, "Choose another.", "port-taken")

    # ------------------------------------------------------------ settings

    def _addons(self) -> None:
        where = (*TOP, "addons")
        for name in self.kubernetes.addons:
            if name not in ADDONS:
                cure = suggest(name, ADDONS) or f"Known: {', '.join(ADDONS)}."
                self.say((*where, name), name, f"There is no add-on {name}.", cure, "unknown-addon", key=True)
        addon = self.kubernetes.addons.get(NEEDS_POOL)
        if addon is not None and addon.enabled and not self.ctx.raw(self.say, *TOP, "load_balancer", "pool"):
            message = f"{NEEDS_POOL} has no addresses to give away."
            cure = "Write `load_balancer: {pool: […]}`."
            self.say((*where, NEEDS_POOL), NEEDS_POOL, message, cure, "bad-pool", key=True)

    def _settings(self) -> None:
        kubelet = self.kubernetes.kubelet
        owned = {name.lower(): (name, cure) for name, cure in KUBELET_OWN.items()}
        for name in kubelet.settings:
            if name.lower() in owned:
                known, cure = owned[name.lower()]
                where = (*TOP, "kubelet", "settings", name)
                message = f"{known} of the kubelet is not set here."
                self.say(where, name, message, cure, "owned-setting", key=True)
        for part, names in ARGUMENTS_OWN.items():
            for name in getattr(self.kubernetes.settings, part):
                plain = name.lstrip("-")
                if plain in names or plain != name:
                    where = (*TOP, "settings", part, name)
                    message = (
                        f"{plain} is set by Rackloom itself."
                        if plain in names
                        else f"{name} has dashes before it."
                    )
                    cure = "Remove it." if plain in names else f"Write {plain}."
                    code = "owned-setting" if plain in names else "bad-value"
                    self.say(where, name, message, cure, code, key=True)
        if kubelet.cpu_manager == "static" and not kubelet.reserved.cpu.strip("0.m"):
            message = "The static CPU manager needs a CPU, or a part of one, that is kept from pods."
            cure = "Write `reserved: {cpu: 500m}`, or more."
            self._at((*TOP, "kubelet", "reserved", "cpu"), kubelet.reserved.cpu, message, cure, "bad-value")

    def _users(self) -> None:
        seen: dict[str, int] = {}
        for user in self.kubernetes.users:
            where = (*user.where, "name")
            if user.name in RESERVED_USERS:
                message = f"{user.name} is the name of the cluster's own administrator."
                self.say(where, user.name, message, "Choose another.", "reserved-name")
            elif user.name in seen:
                message = f"User {user.name} is already in line {seen[user.name]}."
                self.say(where, user.name, message, "Name each user once.", "duplicate-name")
            seen.setdefault(user.name, self.say.line(where))

    # ------------------------------------------------------------ versions

    def _versions(self) -> None:
        try:
            held = versions.effective(self.ctx.config_dir)
        except VersionsError:
            return  # check_versions has told it
        where = (*TOP, "version")
        wanted = self.kubernetes.version
        if wanted and wanted not in held.releases():
            message = f"The versions file holds no Kubernetes {wanted}."
            cure = (
                f"Write one of {', '.join(held.releases())}; or add its records to {FILE} beside this file."
            )
            self._at(where, wanted, message, cure, "unknown-version")
            return
        plain = held.find("file", KUBERNETES)
        if not wanted and plain is None:
            message = "The versions file has no record of Kubernetes."
            self._at(where, "", message, f"Add the record {KUBERNETES}.", "missing-record")
            return
        release = wanted or (plain.version if plain else "")
        if minor(release) not in support().kubernetes:
            known = ", ".join(support().kubernetes)
            message = f"Kubernetes {minor(release)} is not supported."
            self._at(where, release, message, f"Choose a release of {known}.", "unsupported-version")
            return
        records = list(self._records(held, release))
        missing = [f"{kind} {name}" for kind, name, record in records if record is None]
        if missing:
            message = f"The versions file holds no {_some(missing)} for Kubernetes {release}."
            cure = f"Add the records to {FILE} beside this file."
            self._at(where, missing[0], message, cure, "missing-record")
        records += [("chart", chart.name, chart) for chart in self._charts(held)]
        self._combination(held, release)
        self._in_bundle([record for _, _, record in records if record is not None])

    def _records(self, held: Versions, release: str) -> Iterator[tuple[str, str, Record | None]]:
        """What a site takes for its nodes and its network."""
        for name in RELEASE_FILES:
            yield "file", name, held.find("file", name, release)
        for name in RUNTIME_FILES[self.kubernetes.runtime]:
            yield "file", name, held.find("file", name)
        for name in CONTROL_PLANE_IMAGES:
            whole = f"registry.k8s.io/{name}"
            yield "image", whole, held.find("image", whole, release)
        moved = [KUBE_VIP_IMAGE] if self.kubernetes.endpoint.kind == KUBE_VIP else []
        for name in (*OTHER_IMAGES, *moved):
            yield "image", name, held.find("image", name, release) or held.find("image", name)

    def _charts(self, held: Versions) -> list[Record]:
        """What the network and the add-ons are installed from; whatever is fetched is checked against its digest."""
        plugin = self.kubernetes.network.plugin
        wanted: dict[str, tuple[str, Where]] = {plugin: (plugin, (*TOP, "network", "plugin"))}
        for addon in self.kubernetes.enabled_addons(measured=bool(self.ctx.groups["prometheus"])):
            if ADDONS[addon].chart:
                wanted[ADDONS[addon].chart] = (addon, (*TOP, "addons", addon))
        found: list[Record] = []
        for name, (what, where) in wanted.items():
            chart = held.find("chart", name)
            if chart is None:
                message = (
                    f"{what} is installed from the chart {name}, and the versions file has no record of that."
                )
                self._at(where, name, message, f"Add one to {FILE} beside this file.", "missing-record")
                continue
            found.append(chart)
            if not chart.digest:
                message = (
                    f"The record of the chart {name} {chart.version} has no sha256, so it cannot be fetched."
                )
                cure = f"Run `rackloom bundle pin`, which looks it up and writes it into {FILE} beside this file."
                self._at(where, name, message, cure, "no-digest")
        return found

    def _combination(self, held: Versions, release: str) -> None:
        runtime = self.kubernetes.runtime
        found = held.find("file", runtime)
        oldest = too_old(release, runtime, found.version) if found else ""
        if found and oldest:
            message = f"Kubernetes {release} does not work with {runtime} {found.version}."
            cure = f"It needs {runtime} {oldest} or newer: correct the record, or choose an older release."
            self._at((*TOP, "runtime"), runtime, message, cure, "unsupported-version")
        store = held.find("image", "registry.k8s.io/etcd", release) or held.find(
            "image", "registry.k8s.io/etcd"
        )
        if self.ctx.groups[STORE]:
            store = held.find("file", "etcd")
        oldest = too_old(release, "etcd", store.version) if store else ""
        if store and oldest:
            message = f"Kubernetes {release} does not work with etcd {store.version}."
            cure = f"It needs etcd {oldest} or newer: correct the record, or choose an older release."
            self._at((*TOP, "version"), release, message, cure, "unsupported-version")

    def _in_bundle(self, records: list[Record]) -> None:
        """On a closed site all of it comes from the bundle that the mirror serves."""
        mirror = self.ctx.cluster_file.mirror
        bundle = bundles.current(self.ctx.config_dir)
        if not self.ctx.groups["mirror"] or bundle is None or mirror.outside:
            return
        own = {"file": mirror.files, "image": mirror.images, "chart": mirror.charts}
        needed = [record for record in records if not own[record.kind]]
        lacking = [record for record in needed if record.source != bundle.record / FILE]
        if (bundle.record / FILE).is_file():
            if lacking:
                names = _some([f"{record.kind} {record.name} {record.version}" for record in lacking])
                message = f"The site is closed, and its bundle ({bundle.id}) does not hold {names}."
                cure = "Make one with the stage kubernetes in it, and run `rackloom bundle install`."
                self._at((*TOP, "version"), bundle.id, message, cure, "not-in-bundle")
            return
        unknown = [record for record in lacking if record.kind == "image" and not record.digest]
        if unknown:
            names = _some([f"{record.kind} {record.name}" for record in unknown])
            message = f"The site is closed, and the records of {names} have no digest."
            cure = "Run `rackloom bundle pin` where the registries can be reached, and make the bundle anew."
            self._at((*TOP, "version"), unknown[0].name, message, cure, "no-digest")

    def _at(self, where: Where, value: object, message: str, cure: str, code: str) -> None:
        """At the value where the site wrote one, else at the section, else where the control plane is named."""
        steps = where
        while steps and self.ctx.raw_at(steps) is None:
            steps = steps[:-1]
        if steps:
            self.say(steps, value, message, cure, code, key=steps != where)
        else:
            self.say(("services", CONTROL_PLANE), value, message, cure, code, key=True)


def _some(names: list[str]) -> str:
    """The first three, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def check_kubernetes(ctx: Context) -> None:
    """Everything about Kubernetes; needs ctx.hosts and ctx.groups."""
    KubernetesCheck(ctx).run()
