#!/usr/bin/python
"""What a Kubernetes cluster does and does not do, shown with real pods."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_validate
short_description: Show with real pods that a Kubernetes cluster works
description:
  - Runs on a control-plane node and asks through kubectl, with an administrator's kubeconfig.
  - All that it makes lies in one namespace with a name of its own, which is deleted in the end. What a run that was
    killed left is deleted by the next one. Two runs at once do not meet.
  - A check that cannot be made on this cluster is reported as skipped, with the reason.
options:
  kubeconfig:
    description: The administrator's kubeconfig.
    type: path
    default: /etc/kubernetes/admin.conf
  checks:
    description: Names of the checks to make; all when empty, but for gpu_isolation, which has to be named.
    type: list
    elements: str
    default: []
  image:
    description: Image with a shell, httpd, wget and nslookup, by name and digest or tag; busybox has them.
    type: str
    required: true
  endpoint:
    description: Address and port where everybody finds the API; left empty, what the kubeconfig says.
    type: str
    default: ""
  nodes:
    description: Names of the nodes that the cluster is to have; all that it has when empty.
    type: list
    elements: str
    default: []
  domain:
    description: The cluster's DNS domain.
    type: str
    default: cluster.local
  load_balancer:
    description: Whether services of type LoadBalancer get an address here.
    type: bool
    default: false
  gpus_played:
    description: Whether GPUs are played, and a pod is told of its own by name and has no device file.
    type: bool
    default: false
  certificate_days:
    description: Days that a certificate has to last; one that is issued for a short time, a tenth of that.
    type: int
    default: 21
  clock_seconds:
    description: Seconds by which clocks may differ.
    type: float
    default: 2
  strict:
    description: Whether a bad verdict fails the task; else it is only returned.
    type: bool
    default: false
  timeout:
    description: Seconds that any one check may take.
    type: int
    default: 120
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: Check | Run real pods
  rackloom.cluster.kube_validate:
    image: docker.io/library/busybox:latest
    checks: [dns, pod_to_pod]
"""

RETURN = r"""
rackloom_checks:
  description: One entry a check.
  returned: always
  type: list
  elements: dict
  sample: [{service: kubernetes, name: dns, ok: true, skipped: "", detail: "2 names from gpu01", seconds: 0.8}]
"""

import secrets
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import kube_certificates as certificates  # noqa: TID252 - how a collection's plugins find each other
from ..module_utils import kube_objects as objects  # noqa: TID252
from ..module_utils.kube_client import CHECK, ready  # noqa: TID252
from ..module_utils.kube_cluster import (  # noqa: TID252
    CONTROL_PLANE,
    Cluster,
    Failed,
    Limit,
    Object,
    Skipped,
    address_of,
    compare_nodes,
    condition,
    default_class,
    moment,
    name_of,
    places,
    skews,
    stale,
    why_not_ready,
)

AT_ONCE = 6
PATIENCE = 3.0
SLOW = 10.0
"""Seconds after which an answer that has not come is lost, and not only slow."""
SETTLE = 30.0
"""Seconds within which a node that has only just joined is ready."""
ENOUGH_NODES = 8
FOLDERS = ("/etc/kubernetes", "/etc/kubernetes/pki", "/etc/kubernetes/pki/etcd", "/var/lib/kubelet/pki")
API_PORT, KUBELET_PORT = 6443, 10250
GPU_RESOURCES = ("nvidia.com/gpu", "nvidia.com/mig-")
GPU_PROBE = (
    'for d in /dev/nvidia[0-9]*; do [ -e "$d" ] && echo "$d"; done; echo "visible=$NVIDIA_VISIBLE_DEVICES"'
)
STUCK_REQUEST = 60


def ask(address: str, port: int = 80, timeout: float = PATIENCE) -> str:
    """Return what a page on another machine says. Failed when it does not come."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url = f"http://{address}:{port}/"
    try:
        with opener.open(url, timeout=timeout) as answer:
            return str(answer.read().decode().strip())
    except (OSError, ValueError) as error:
        raise Failed(f"{url}: {getattr(error, 'reason', None) or error}") from None


class Poller(threading.Thread):
    """Asks a page again and again until it is told to stop, and keeps count."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.answers = 0
        self.failures: list[str] = []
        self.last = ""
        self._stop_asking = threading.Event()

    def run(self) -> None:
        """Ask, some twenty times a second."""
        while not self._stop_asking.wait(0.05):
            try:
                self.last = ask(self.address, timeout=SLOW)
                self.answers += 1
            except Failed as reason:
                self.failures.append(str(reason))

    def stop(self) -> None:
        """End it."""
        self._stop_asking.set()
        self.join()


class Checks:
    """Every method named check_* shows one thing and returns a sentence on what it saw."""

    def __init__(self, cluster: Cluster, params: dict[str, Any]) -> None:
        self.cluster = cluster
        self.params = params
        self.image: str = params["image"]
        self.space = objects.NAMESPACE + secrets.token_hex(4)
        self._node_lock, self._space_lock, self._stand_lock = (threading.Lock() for _ in range(3))
        self._made_space = False
        self._stand: list[str] | None = None
        self._why_no_stand = ""
        self._nodes: list[Object] | None = None

    # --- What several checks stand on ------------------------------------------------------

    def nodes(self, limit: Limit) -> list[Object]:
        """The nodes, asked once."""
        with self._node_lock:
            if self._nodes is None:
                self._nodes = self.cluster.items(["nodes"], limit)
            return self._nodes

    def places(self, limit: Limit) -> list[str]:
        """Names of the nodes that take pods, workers first. Failed when there is none."""
        found = places(self.nodes(limit))
        if not found:
            raise Failed("no node takes pods: " + "; ".join(compare_nodes(self.nodes(limit), [])))
        return found

    def namespace(self, limit: Limit) -> str:
        """The run's own namespace, made at the first need."""
        with self._space_lock:
            if not self._made_space:
                self.cluster.create([objects.namespace(self.space)], limit)
                self._made_space = True
                # Until it is there, which is a moment later, pods are refused.
                limit.await_that("the account of a new namespace", partial(self.has_account, limit))
        return self.space

    def has_account(self, limit: Limit) -> bool:
        """Whether the namespace has the account that its pods get."""
        words = ["get", "serviceaccount", "default", "-n", self.space, "-o", "name"]
        return self.cluster.run(words, limit)[0] == 0

    def stand(self, limit: Limit) -> list[str]:
        """Two pods a and b, each serving its name, on two nodes where there are two; and the service web before them.

        Returns their nodes. Whoever comes first makes them, the others wait. Failed says why they do not run.
        """
        space, where = self.namespace(limit), self.places(limit)[:2]
        with self._stand_lock:
            if self._stand is None and not self._why_no_stand:
                try:
                    pods = [
                        objects.server(
                            name, space, self.image, where[number % len(where)], app="web", pod=name
                        )
                        for number, name in enumerate(("a", "b"))
                    ]
                    self.cluster.create([*pods, objects.service("web", space, {"app": "web"})], limit)
                    self.await_pods(["a", "b"], limit)
                    self._stand = where
                except Failed as reason:
                    self._why_no_stand = str(reason)
        if self._stand is None:
            raise Failed(self._why_no_stand)
        return self._stand

    def await_pods(self, names: list[str], limit: Limit) -> None:
        """Await that pods are ready. Failed says of the first that is not, why."""
        words = [f"pod/{name}" for name in names]
        within = f"--timeout={limit.left():.0f}s"
        status, _, _ = self.cluster.run(
            ["wait", "-n", self.space, "--for=condition=Ready", within, *words], limit
        )
        if status == 0:
            return
        for pod in self.cluster.items(["pods", "-n", self.space], limit):
            name = name_of(pod)
            if name in names and not ready(pod):
                about = f"--field-selector=involvedObject.name={name}"
                events = self.cluster.items(["events", "-n", self.space, about], limit)
                raise Failed(f"pod {name} is not ready: {why_not_ready(pod, events)}")
        raise Failed(f"pods {', '.join(names)} were not ready in time")

    def page(self, pod: str, url: str, limit: Limit) -> str:
        """What a pod gets from a page. Failed when it gets nothing."""
        words = ["timeout", str(int(PATIENCE)), "wget", "-q", "-O", "-", f"http://{url}"]
        status, said = self.cluster.exec(self.space, pod, words, limit)
        if status != 0:
            raise Failed(f"pod {pod} does not reach {url}: {said}")
        return said.strip()

    def pod_address(self, name: str, limit: Limit) -> str:
        """The address of a pod."""
        pod = self.cluster.get(["pod", name, "-n", self.space], limit)
        return str(pod["status"]["podIP"])

    def service(self, name: str, limit: Limit) -> Object:
        """The inside of a service."""
        inside: Object = self.cluster.get(["service", name, "-n", self.space], limit)["spec"]
        return inside

    # --- The checks ------------------------------------------------------------------------

    def check_api(self, limit: Limit) -> str:
        """The API answers at the address that everybody uses, and says that it is well."""
        endpoint = self.params["endpoint"]
        server = [f"--server=https://{endpoint}"] if endpoint else []
        said = self.cluster.must([*server, "get", "--raw", "/readyz"], limit)
        if said != "ok":
            raise Failed(f"the API says of itself: {said}")
        version = self.cluster.must([*server, "version", "-o", "json"], limit)
        release = version.partition('"serverVersion"')[2].partition('"gitVersion": "')[2].partition('"')[0]
        where = endpoint or self.cluster.must(
            ["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"], limit
        )
        return f"{where} answers, {release}"

    def check_nodes(self, limit: Limit) -> str:
        """All nodes of the inventory are ready, and no others are there."""
        end = time.monotonic() + min(SETTLE, limit.left())
        nodes = self.nodes(limit)
        while (wrong := compare_nodes(nodes, self.params["nodes"])) and time.monotonic() < end:
            time.sleep(0.5)
            nodes = self.cluster.items(["nodes"], limit)
        if wrong:
            raise Failed("; ".join(wrong))
        return f"{len(nodes)} nodes are ready"

    def check_dns(self, limit: Limit) -> str:
        """A pod finds the cluster's own name and that of a service."""
        where = self.stand(limit)
        api = self.cluster.get(["service", "kubernetes", "-n", "default"], limit)["spec"]["clusterIP"]
        domain = self.params["domain"]
        wanted = {
            f"kubernetes.default.svc.{domain}": api,
            f"web.{self.space}.svc.{domain}": self.service("web", limit)["clusterIP"],
        }
        for pod in ("a", "b"):
            for name, address in wanted.items():
                limit.await_that(f"{name} is {address}", partial(self.name, pod, name, address, limit))
        return f"{' and '.join(wanted)}, from {' and '.join(where)}"

    def name(self, pod: str, name: str, address: str, limit: Limit) -> bool:
        """Whether a name has an address for a pod. Failed says what it got instead."""
        _, said = self.cluster.exec(self.space, pod, ["nslookup", name], limit)
        if address not in said:
            raise Failed(f"pod {pod} asked for {name} and got: {' '.join(said.split())}")
        return True

    def check_pod_to_pod(self, limit: Limit) -> str:
        """Pods on two nodes reach each other, both ways."""
        where = self.stand(limit)
        if len(where) < 2:
            raise Skipped("only one node takes pods")
        for one, other in (("a", "b"), ("b", "a")):
            address = self.pod_address(other, limit)
            # A pod is ready before all nodes have a way to it.
            page = partial(self.page, one, f"{address}:{objects.PORT}/", limit)
            said = limit.await_that(f"an answer from {address}", page)
            if said != other:
                raise Failed(f"{address} is pod {other}, but who answered called itself {said!r}")
        return f"{where[0]} and {where[1]}, both ways"

    def check_service_cluster_ip(self, limit: Limit) -> str:
        """A service's address leads to all of its pods, by number and by name."""
        self.stand(limit)
        address = self.service("web", limit)["clusterIP"]
        seen: set[str] = set()

        def both() -> bool:
            seen.add(self.page("a", f"{address}/", limit))
            return seen >= {"a", "b"}

        limit.await_that(f"answers of both pods from {address}", both, 0.05)
        name = f"web.{self.space}.svc.{self.params['domain']}"
        if limit.await_that(f"an answer from {name}", partial(self.page, "b", f"{name}/", limit)) not in seen:
            raise Failed(f"{name} leads to somebody else")
        return f"{address} and its name lead to both pods"

    def check_service_node_port(self, limit: Limit) -> str:
        """A service's port is open on the nodes, those without its pods too."""
        self.stand(limit)
        self.cluster.create(
            [objects.service("door", self.namespace(limit), {"app": "web"}, "NodePort")], limit
        )
        port = int(self.service("door", limit)["ports"][0]["nodePort"])
        addresses = [address_of(node) for node in self.nodes(limit) if ready(node)][:ENOUGH_NODES]
        for address in addresses:
            limit.await_that(f"{address} port {port}", partial(ask, address, port))
        return f"port {port} on {', '.join(addresses)}"

    def check_service_load_balancer(self, limit: Limit) -> str:
        """A service gets an address of its own from the pool, and answers there."""
        if not self.params["load_balancer"]:
            raise Skipped("the site has no pool of addresses (kubernetes.load_balancer.pool)")
        self.stand(limit)
        self.cluster.create(
            [objects.service("front", self.namespace(limit), {"app": "web"}, "LoadBalancer")], limit
        )

        def address() -> str:
            service = self.cluster.get(["service", "front", "-n", self.space], limit)
            given = (service["status"].get("loadBalancer") or {}).get("ingress") or [{}]
            return str(given[0].get("ip", ""))

        given = str(limit.await_that("an address from the pool", address))
        limit.await_that(f"an answer from {given}", lambda: ask(given) in ("a", "b"))
        return f"{given} answers"

    def check_network_policy(self, limit: Limit) -> str:
        """A policy keeps everybody from a pod, then lets in whom it names and nobody else."""
        where = self.stand(limit)
        space = self.namespace(limit)
        self.cluster.create([objects.server("guarded", space, self.image, where[-1], app="guarded")], limit)
        self.await_pods(["guarded"], limit)
        target = f"{self.pod_address('guarded', limit)}:{objects.PORT}/"
        for pod in ("a", "b"):
            limit.await_that(
                f"pod {pod} reaches {target} before any policy", partial(self.page, pod, target, limit)
            )
        self.cluster.create([objects.policy("nobody", space, {"app": "guarded"})], limit)
        for pod in ("a", "b"):
            limit.await_that(
                f"pod {pod} is kept out by a policy", partial(self.is_kept_out, pod, target, limit)
            )
        self.cluster.create([objects.policy("a-friend", space, {"app": "guarded"}, {"pod": "a"})], limit)
        limit.await_that("pod a is let in by a policy", lambda: self.page("a", target, limit))
        if not self.is_kept_out("b", target, limit):
            raise Failed("a policy that lets pod a in lets pod b in too")
        return "denied, then allowed for one pod and still denied for the other"

    def is_kept_out(self, pod: str, target: str, limit: Limit) -> bool:
        """Whether a pod does not reach another."""
        try:
            self.page(pod, target, limit)
        except Failed:
            return True
        return False

    def check_volume(self, limit: Limit) -> str:
        """A claim gets a volume, and what a pod wrote there is there for the next one."""
        kind = default_class(self.cluster.items(["storageclasses"], limit))
        if not kind:
            raise Skipped("no storage class is the default one")
        space, where = self.namespace(limit), self.workers(limit)
        inside = objects.spec(self.image, objects.SERVE, nodes=where, claim="kept", environment={"SAY": "it"})
        inside["containers"][0]["readinessProbe"] = objects.probe()
        pods = [objects.pod(name, space, {"app": name}, inside) for name in ("writer", "reader")]
        self.cluster.create([objects.claim("kept", space), pods[0]], limit)
        self.await_pods(["writer"], limit)
        word = secrets.token_hex(8)
        path = f"{objects.FOLDER}/word"
        status, said = self.cluster.exec(
            space, "writer", ["sh", "-c", f"echo {word} > {path} && sync"], limit
        )
        if status != 0:
            raise Failed(f"a pod cannot write to its volume of class {kind}: {said}")
        self.cluster.must(["delete", "pod", "writer", "-n", space, "--grace-period=1"], limit)
        self.cluster.create([pods[1]], limit)
        self.await_pods(["reader"], limit)
        _, said = self.cluster.exec(space, "reader", ["cat", path], limit)
        if said.strip() != word:
            raise Failed(f"what one pod wrote to a volume of class {kind} is not there for the next: {said}")
        return f"class {kind}: data outlived its pod"

    def workers(self, limit: Limit) -> tuple[str, ...]:
        """Nodes for what may run anywhere: not those of the control plane, where there are others."""
        found = self.places(limit)
        labels = {name_of(node): node["metadata"].get("labels") or {} for node in self.nodes(limit)}
        return tuple(name for name in found if CONTROL_PLANE not in labels[name]) or tuple(found)

    def check_rolling_update(self, limit: Limit) -> str:
        """While two pods are replaced, who asks their service gets an answer every time."""
        space, where = self.namespace(limit), tuple(self.places(limit)[:2])
        both = [objects.deployment("roll", space, self.image, where, say) for say in ("old", "new")]
        self.cluster.create([both[0], objects.service("roll", space, {"app": "roll"})], limit)
        self.rolled_out(limit)
        address = str(self.service("roll", limit)["clusterIP"])
        limit.await_that(f"an answer from {address}", lambda: ask(address) == "old")
        poller = Poller(address)
        poller.start()
        try:
            self.cluster.must(["replace", "-f", "-"], limit, objects.as_text(both[1]))
            self.rolled_out(limit)
            limit.await_that("an answer from the new pods", lambda: poller.last == "new")
            self.gone(limit)
        finally:
            poller.stop()
        if poller.failures:
            share = f"{len(poller.failures)} of {poller.answers + len(poller.failures)}"
            raise Failed(f"{share} requests failed while pods were replaced: {poller.failures[0]}")
        return f"{poller.answers} requests, none failed"

    def rolled_out(self, limit: Limit) -> None:
        """Await that a deployment is what it is to be. Failed says why its pods are not ready."""
        within = f"--timeout={limit.left():.0f}s"
        status, out, err = self.cluster.run(
            ["rollout", "status", "deployment/roll", "-n", self.space, within], limit
        )
        if status == 0:
            return
        for pod in self.cluster.items(["pods", "-n", self.space, "-l", "app=roll"], limit):
            if not ready(pod):
                raise Failed(f"pod {name_of(pod)} is not ready: {why_not_ready(pod)}")
        raise Failed(err or out)

    def gone(self, limit: Limit) -> None:
        """Await that the pods that were replaced are no more: only then nobody can be sent to them."""

        def two() -> bool:
            return len(self.cluster.items(["pods", "-n", self.space, "-l", "app=roll"], limit)) == 2

        limit.await_that("the end of the pods that were replaced", two)

    def check_logs_exec(self, limit: Limit) -> str:
        """What a pod prints can be read and commands run in it, on every node where one is."""
        where = self.stand(limit)
        for pod in ("a", "b"):
            said = self.cluster.must(["logs", "-n", self.space, pod], limit)
            if said != f"{objects.TOKEN} {pod}":
                raise Failed(f"the log of pod {pod} says {said!r}")
            status, out = self.cluster.exec(self.space, pod, ["cat", f"{objects.FOLDER}/index.html"], limit)
            if status != 0 or out != pod:
                raise Failed(f"a command in pod {pod} ended with status {status} and said {out!r}")
        return f"of pods on {' and '.join(where)}"

    def asked_gpu_isolation(self, limit: Limit) -> str:
        """A pod with one GPU sees exactly that one."""
        offered = {
            name_of(node): resource
            for node in self.nodes(limit)
            for resource in sorted(node["status"].get("allocatable", {}))
            if resource.startswith(GPU_RESOURCES) and node["status"]["allocatable"][resource] != "0"
        }
        ready_ones = [name for name in self.places(limit) if name in offered]
        if not ready_ones:
            raise Skipped("no node that takes pods offers GPUs")
        node, resource = ready_ones[0], offered[ready_ones[0]]
        space = self.namespace(limit)
        self.cluster.create([objects.with_gpu("gpu", space, self.image, node, resource)], limit)
        try:
            self.await_pods(["gpu"], limit)
        except Failed as reason:
            if "Insufficient" in str(reason) or "UnexpectedAdmissionError" in str(reason):
                raise Skipped(f"all of {resource} on {node} is in use") from None
            raise
        status, said = self.cluster.exec(space, "gpu", ["sh", "-c", GPU_PROBE], limit)
        if status != 0:
            raise Failed(f"a command in a pod with one {resource} ended with status {status}: {said}")
        words = said.split()
        files = [word for word in words if word.startswith("/dev/")]
        visible = next((word.partition("=")[2] for word in words if word.startswith("visible=")), "")
        if self.params["gpus_played"]:
            files = [each for each in visible.split(",") if each]
        if len(files) != 1:
            raise Failed(f"a pod with one {resource} on {node} sees {', '.join(files) or 'none'}")
        return f"one {resource} on {node}: {files[0]}"

    def check_certificates(self, limit: Limit) -> str:
        """Every certificate lasts a while yet, those that other nodes show too, and nobody waits for one."""
        requests = self.cluster.items(["certificatesigningrequests"], limit)
        waiting = [
            f"{request['spec'].get('username', '?')} for {request['spec'].get('signerName', '?')}"
            for request in requests
            if not (request.get("status") or {}).get("conditions")
            and time.time() - _created(request) > STUCK_REQUEST
        ]
        if waiting:
            raise Failed(f"requests that nobody approves: {', '.join(sorted(set(waiting)))}")
        found = [certificates.read(path, pem) for path, pem in certificates.stored(map(Path, FOLDERS))]
        there = [node for node in self.nodes(limit) if ready(node) and address_of(node)]
        servers = [(f"kubelet of {name_of(node)}", address_of(node), KUBELET_PORT) for node in there]
        servers += [
            (f"API server of {name_of(node)}", address_of(node), API_PORT)
            for node in there
            if CONTROL_PLANE in (node["metadata"].get("labels") or {})
        ]

        def shown(server: tuple[str, str, int]) -> certificates.Certificate:
            # A kubelet that has only just joined gets its own a moment later.
            look = partial(_shown, *server)
            last: certificates.Certificate = limit.await_that(f"the certificate of {server[0]}", look)
            return last

        with ThreadPoolExecutor(16) as pool:
            found += pool.map(shown, servers)
        now = time.time()
        late = [each for each in found if each.is_late(now, self.params["certificate_days"])]
        if late:
            raise Failed(
                "; ".join(f"{each.whose}: {each.days_left(now)} days left" for each in sorted(late, key=_end))
            )
        first = min(found, key=_end)
        return f"{len(found)} certificates; the first ends in {first.days_left(now)} days: {first.whose}"

    def check_clock(self, limit: Limit) -> str:
        """The nodes' clocks, the API server's and this node's agree."""
        leases = self.cluster.items(["leases", "-n", "kube-node-lease", "--show-managed-fields"], limit)
        allowed = self.params["clock_seconds"]
        found = skews(leases, time.time())
        wrong = [f"{name} by {skew:+.1f} s" for name, skew in sorted(found.items()) if abs(skew) > allowed]
        if wrong:
            raise Failed(f"clocks that differ from the API server's: {', '.join(wrong)}")
        silent = sorted({name_of(node) for node in self.nodes(limit) if ready(node)} - set(found))
        if silent:
            raise Failed(f"clocks that differ by a minute or more from this node's: {', '.join(silent)}")
        return f"{len(found)} nodes, within {allowed:g} s"

    def check_metrics(self, limit: Limit) -> str:
        """How much every node uses is measured, where the add-on is on."""
        name = "v1beta1.metrics.k8s.io"
        found = [each for each in self.cluster.items(["apiservices"], limit) if name_of(each) == name]
        if not found:
            raise Skipped("nobody measures: the add-on metrics_server is off")
        wanted = {name_of(node) for node in self.nodes(limit) if ready(node)}

        def all_there() -> bool:
            service = self.cluster.get(["apiservice", name], limit)
            told = condition(service, "Available")
            if told.get("status") != "True":
                raise Failed(str(told.get("message") or "it is not available"))
            measured = {name_of(each) for each in self.cluster.items(["nodes.metrics.k8s.io"], limit)}
            if missing := sorted(wanted - measured):
                raise Failed(f"nothing of {', '.join(missing)}")
            return True

        limit.await_that("measurements of all nodes", all_there, 1.0)
        return f"{len(wanted)} nodes are measured"

    # --- Afterwards ------------------------------------------------------------------------

    def clean_up(self, limit: Limit) -> None:
        """Delete what this run made, and what runs that were killed left."""
        there = self.cluster.items(["namespaces", "-l", f"{CHECK}=true"], limit)
        names = stale(there, time.time(), objects.LIFETIME)
        if self._made_space:
            names.append(self.space)
        if names:
            self.cluster.run(["delete", "namespace", "--wait=false", "--ignore-not-found", *names], limit)


def _created(thing: Object) -> float:
    from_api = thing["metadata"]["creationTimestamp"]
    return moment(from_api)


def _end(certificate: certificates.Certificate) -> float:
    return certificate.ends


def _shown(whose: str, address: str, port: int) -> certificates.Certificate:
    try:
        return certificates.read(whose, certificates.shown(address, port))
    except OSError as error:
        raise Failed(f"{whose} ({address} port {port}): {error}") from None


ALL = tuple(name.removeprefix("check_") for name in vars(Checks) if name.startswith("check_"))
ASKED = tuple(name.removeprefix("asked_") for name in vars(Checks) if name.startswith("asked_"))
"""Those that are made where somebody names them."""


def judge(name: str, checks: Checks, seconds: float) -> dict[str, Any]:
    """Make one check and return its verdict."""
    began = time.monotonic()
    verdict: dict[str, Any] = {"service": "kubernetes", "name": name, "ok": True, "skipped": "", "detail": ""}
    try:
        call = getattr(checks, f"check_{name}" if name in ALL else f"asked_{name}")
        verdict["detail"] = call(Limit(seconds))
    except Skipped as reason:
        verdict["skipped"] = verdict["detail"] = str(reason)
    except Failed as reason:
        verdict.update(ok=False, detail=str(reason))
    except (OSError, KeyError, ValueError, IndexError, TypeError) as error:
        verdict.update(ok=False, detail=f"{type(error).__name__}: {error}")
    verdict["seconds"] = round(time.monotonic() - began, 2)
    return verdict


def main() -> None:
    """Make the checks that were asked for and return their verdicts; the module itself does not fail on a bad one."""
    module = AnsibleModule(
        argument_spec={
            "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
            "checks": {"type": "list", "elements": "str", "default": []},
            "image": {"type": "str", "required": True},
            "endpoint": {"type": "str", "default": ""},
            "nodes": {"type": "list", "elements": "str", "default": []},
            "domain": {"type": "str", "default": "cluster.local"},
            "load_balancer": {"type": "bool", "default": False},
            "gpus_played": {"type": "bool", "default": False},
            "certificate_days": {"type": "int", "default": 21},
            "clock_seconds": {"type": "float", "default": 2},
            "strict": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    wanted = module.params["checks"] or list(ALL)
    unknown = sorted(set(wanted) - {*ALL, *ASKED})
    if unknown:
        module.fail_json(msg=f"no such check: {', '.join(unknown)}; there are {', '.join((*ALL, *ASKED))}")
    if module.check_mode:
        module.exit_json(changed=False, rackloom_checks=[])
    checks = Checks(Cluster(module.params["kubeconfig"]), module.params)
    seconds = module.params["timeout"]
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            verdicts = list(pool.map(lambda name: judge(name, checks, seconds), wanted))
    finally:
        checks.clean_up(Limit(seconds))
    bad = [f"{verdict['name']}: {verdict['detail']}" for verdict in verdicts if not verdict["ok"]]
    if bad and module.params["strict"]:
        module.fail_json(msg="; ".join(bad), rackloom_checks=verdicts)
    module.exit_json(changed=False, rackloom_checks=verdicts)


if __name__ == "__main__":
    main()
