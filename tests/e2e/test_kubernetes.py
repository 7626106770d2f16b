"""Kubernetes and Slurm on one closed cluster, with the real programs out of one bundle. In this order, on one lab.

Three management nodes are the control plane behind one address; gpu01 serves Kubernetes and gpu02 Slurm. Nothing gets
out of the lab's network: its edge drops and counts every packet that wants to leave.
"""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from plugins.module_utils.kube_client import AWAY

from .conftest import PLAYED, ROOT, Answer, Lab

NAME = os.environ.get("RACKLOOM_E2E_KUBERNETES_LAB", "kube")
STAGES = "mirror,base,slurm,kubernetes"
CONTROL_PLANE = ("mgmt01", "mgmt02", "mgmt03")
RECOVERY_SECONDS = 30
PATIENCE = 60
SERVICES, PODS = "10.96.0.0/12", "10.244.0.0/16"
BUSYBOX = "docker.io/library/busybox"
WISHES = """
  gang_scheduling: true
  queueing:
    queues:
      - {name: research, namespaces: [research], quotas: {any: {nvidia.com/gpu: 2}}}
  addons:
    kueue: {values: {controllerManager: {manager: {resources: {requests: {cpu: 20m}}}}}}
"""
"""What the site has beside what every lab has; the tests of GPUs are about it."""
WORKLOAD = """
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: Deployment
  metadata: {{name: web, namespace: default}}
  spec:
    replicas: 2
    selector: {{matchLabels: {{app: web}}}}
    template:
      metadata: {{labels: {{app: web}}}}
      spec:
        containers:
        - name: web
          image: {image}
          command: [sh, -c, "mkdir /tmp/www; echo here > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www"]
          readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
- apiVersion: v1
  kind: Service
  metadata: {{name: web, namespace: default}}
  spec: {{type: LoadBalancer, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
"""


class KubeLab(Lab):
    """A closed lab with Kubernetes."""

    name = NAME
    config = ROOT / ".lab" / NAME / "config"
    os = "debian-12"

    def nothing_left(self) -> None:
        """Fail on the first packet that tried to get out.

        While a node starts, its kernel has not been told yet where services and pods are, and what is sent to their
        addresses goes to the gateway, as on any network. Those are the cluster's own: nobody outside is asked.
        """
        networks = [ipaddress.ip_network(each) for each in (SERVICES, PODS)]
        found = self.call("lab", "status", "--name", self.name).must().data["escapes"]
        outside = [
            attempt
            for attempt in found["attempts"]
            if not any(ipaddress.ip_address(attempt["destination"]) in network for network in networks)
        ]
        inside = sum(attempt["packets"] for attempt in found["attempts"])
        assert not outside and found["packets"] == inside, found

    def kubectl(self, words: str, *, on: str = "mgmt01", stdin: str = "", check: bool = True) -> str:
        """Run kubectl on a control-plane node, as an administrator, through the endpoint.

        With `check`, an API that is away for a moment, as any is now and then, is asked again.
        """
        text = f" <<'END'\n{stdin}\nEND" if stdin else ""
        command = f"KUBECONFIG=/etc/kubernetes/admin.conf kubectl {words}{text}"
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return self.ssh(on, command, check=check)
            except AssertionError as error:
                if AWAY.search(str(error)) is None or time.monotonic() > end:
                    raise
            time.sleep(1)

    def ask(self, words: str, on: str = "mgmt01") -> Any:
        """What kubectl answers, as data."""
        return json.loads(self.kubectl(f"{words} -o json", on=on))

    def ready_nodes(self, on: str = "mgmt01") -> set[str]:
        """Names of the nodes that are ready; none while nobody answers."""
        said = self.kubectl("get nodes --no-headers", on=on, check=False)
        rows = [line.split() for line in said.splitlines()]
        return {row[0] for row in rows if len(row) > 1 and row[1] == "Ready"}

    def wish(self) -> None:
        """Have the site want what the tests want."""
        cluster = self.config / "cluster.yml"
        text = cluster.read_text()
        assert text.count("\nkubernetes:\n") == 1
        cluster.write_text(text.replace("\nkubernetes:\n", f"\nkubernetes:{WISHES}"))

    def add_worker(self, node: str) -> Answer:
        """Have a new node join as a worker beside gpu01."""
        cluster = self.config / "cluster.yml"
        text = cluster.read_text()
        assert text.count("kube_node:\n  - gpu01\n") == 1
        cluster.write_text(text.replace("kube_node:\n  - gpu01\n", f"kube_node:\n  - gpu01\n  - {node}\n"))
        return self.call("nodes", "add", node).must()

    def cut(self, node: str) -> None:
        """Pull a node's plug."""
        self.call("lab", "power", "--name", self.name, node, "off", "--hard").must()

    def site(self) -> dict[str, Any]:
        """cluster.yml."""
        data: dict[str, Any] = yaml.safe_load((self.config / "cluster.yml").read_text())
        return data

    @property
    def endpoint(self) -> str:
        """Address of the API."""
        return str(self.site()["kubernetes"]["endpoint"]["address"])

    def holder(self, without: str = "") -> str:
        """The control-plane node that has the endpoint's address; '' while nobody has."""
        has = f"ip -4 -o address | grep -qw {self.endpoint} && echo yes || true"
        alive = [node for node in CONTROL_PLANE if node != without]
        holders = [node for node in alive if self.ssh(node, has) == "yes"]
        return holders[0] if len(holders) == 1 else ""


class Asked(threading.Thread):
    """Somebody outside the cluster who asks a page again and again, and notes when it did not answer."""

    def __init__(self, url: str, patience: float = 2, said: bytes | None = None) -> None:
        super().__init__(daemon=True)
        self.question = urllib.request.Request(url, data=said)  # noqa: S310 - the cluster's own
        self.patience = patience
        self.answers = 0
        self.in_a_row = 0
        self.failures: list[tuple[float, str]] = []
        self._over = threading.Event()
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls)
        )

    def once(self) -> None:
        """Ask once."""
        began = time.monotonic()
        try:
            with self._opener.open(self.question, timeout=self.patience) as page:
                page.read()
            self.answers += 1
            self.in_a_row += 1
        except (OSError, ValueError) as error:
            self.in_a_row = 0
            self.failures.append((began, str(error)))

    def run(self) -> None:
        """Ask ten times a second."""
        while not self._over.wait(0.1):
            self.once()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


class Writer(threading.Thread):
    """Somebody who writes through the endpoint without a pause, and knows which writes were acknowledged."""

    def __init__(self, lab: KubeLab, on: str) -> None:
        super().__init__(daemon=True)
        self.lab = lab
        self.on = on
        self.acknowledged: list[str] = []

    def run(self) -> None:
        """Write until the file /run/enough is there."""
        loop = (
            "rm -f /run/enough; n=0; while [ ! -e /run/enough ]; do n=$((n+1)); "
            "kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout=3s -n writes "
            "create configmap w$n >/dev/null 2>&1 && echo w$n; done; true"
        )
        self.acknowledged = self.lab.ssh(self.on, loop).split()

    def __enter__(self) -> Self:
        self.lab.kubectl("create namespace writes", on=self.on)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.lab.ssh(self.on, "touch /run/enough")
        self.join()


def say(text: str) -> None:
    """A figure for who reads the log."""
    print(f"\n    {text}", flush=True)


@pytest.fixture(scope="module")
def web(kube: KubeLab, first: float, versions: Path) -> str:
    """A workload of two pods behind an address of the pool; returns its page."""
    tag = yaml.safe_load(versions.read_text())["images"][BUSYBOX]["tag"]
    kube.kubectl("apply -f -", stdin=WORKLOAD.format(image=f"{BUSYBOX}:{tag}"))
    kube.kubectl("rollout status deployment/web --timeout=300s")

    def address() -> str:
        given = kube.ask("get service web")["status"]["loadBalancer"].get("ingress") or [{}]
        return str(given[0].get("ip", ""))

    page = f"http://{kube.await_that('an address from the pool', address)}/"
    asked = Asked(page)

    def answers() -> int:
        asked.once()
        return asked.answers

    kube.await_that(f"{page} answers somebody who is not of the cluster", answers)
    return page


def test_without_a_bundle_the_lab_says_what_it_needs(kube: KubeLab) -> None:
    """And says it before anything is deployed."""
    answer = kube.up()
    assert answer.code != 0
    assert any("bundle" in f"{error['message']} {error['cure']}" for error in answer.envelope["errors"]), (
        answer.envelope
    )


def test_the_cluster_comes_up_from_the_bundle(kube: KubeLab, first: float) -> None:
    kube.await_that("all are ready", lambda: kube.ready_nodes() == {*CONTROL_PLANE, "gpu01"})
    control_plane = kube.ask("get nodes -l node-role.kubernetes.io/control-plane")["items"]
    assert {node["metadata"]["name"] for node in control_plane} == set(CONTROL_PLANE)
    server = kube.kubectl("config view --minify -o jsonpath={.clusters[0].cluster.server}")
    assert kube.endpoint in server
    assert kube.ssh("mgmt01", "stat -c %a /etc/kubernetes/admin.conf") == "600"


def test_all_that_kubernetes_should_do_it_does(kube: KubeLab, first: float) -> None:
    answer = kube.call("validate", "kubernetes").must()
    checks = {check["name"]: check for check in answer.data["checks"]}
    for check in checks.values():
        say(f"{check['name']}: {check['detail']} ({check['seconds']} s)")
        assert check["ok"] and not check["skipped"], check
    assert len(checks) == 14
    kube.nothing_left()


def test_what_was_checked_leaves_nothing(kube: KubeLab, first: float) -> None:
    kube.await_that(
        "the checks' namespace is gone",
        lambda: not kube.ask("get namespaces -l rackloom.cluster/check=true")["items"],
    )


def test_slurm_runs_jobs_beside_it(kube: KubeLab, first: float) -> None:
    assert kube.as_user("cd /tmp && srun -N1 hostname -s") == "gpu02"
    assert kube.ssh("login01", "sinfo -h -N -o %N").split()[0] == "gpu02"
    assert "gpu01" not in kube.ssh("login01", "sinfo -h -N -o %N")


def test_a_broken_gpu_cordons_its_node_and_a_mended_one_returns(
    kube: KubeLab, first: float, tmp_path: Path
) -> None:
    """The check that Slurm hears of too; `kubectl describe node` has what the kernel said, within a minute."""

    def cordoned() -> bool:
        return bool(kube.ask("get node gpu01")["spec"].get("unschedulable"))

    def described() -> str:
        return kube.kubectl("describe node gpu01")

    line = "NVRM: Xid (PCI:0000:3b:00): 79, pid=7, GPU has fallen off the bus."
    reason = "GPU 1: XID 79: the GPU has fallen off the bus"
    try:
        kube.play_gpus("gpu01", tmp_path)
        began = time.monotonic()
        kube.ssh("gpu01", f"echo '{line}' >> {PLAYED}/kmsg")
        kube.await_that("gpu01 is cordoned", cordoned, 60)
        say(f"cordoned after {time.monotonic() - began:.0f} s")
        kube.await_that("the event", lambda: "GpuUnhealthy" in described().partition("Events:")[2])
        kube.await_that("annotation, condition and event", lambda: described().count(reason) >= 3)
        kube.await_that("the taint", lambda: "node.kubernetes.io/unschedulable:NoSchedule" in described())
        kube.ssh("gpu01", f"sed -i /Xid/d {PLAYED}/kmsg && /usr/libexec/rackloom/gpu-health clear")
        kube.await_that("gpu01 takes pods again", lambda: not cordoned())
        kube.await_that("the event", lambda: "GpusAreHealthy" in described().partition("Events:")[2])
    finally:
        kube.ssh("gpu01", f"rm -rf {PLAYED}")


def test_status_asks_kubernetes_too(kube: KubeLab, first: float) -> None:
    rows = kube.call("status").must().data["services"]
    assert all(row["ok"] for row in rows), rows
    assert {*CONTROL_PLANE, "gpu01"} == {row["host"] for row in rows if row["service"] == "kubelet"}
    assert any(row["service"] == "kubernetes nodes" and "4 ready" in row["detail"] for row in rows), rows


def test_a_second_deploy_changes_nothing(kube: KubeLab, first: float) -> None:
    answer = kube.call("deploy").must()
    changed = {host: counts for host, counts in answer.data["hosts"].items() if counts["changed"]}
    say(f"second deploy {answer.seconds:.0f} s, {answer.seconds / first:.2f} of the first")
    assert not changed, answer.said
    kube.nothing_left()


def test_the_endpoints_holder_dies(kube: KubeLab, web: str) -> None:
    """The API answers again soon, what was acknowledged is there, pods go on; the node comes back by itself."""
    dead = kube.holder()
    assert dead, "one node has the address"
    other = next(node for node in CONTROL_PLANE if node != dead)
    port = kube.site()["kubernetes"]["endpoint"].get("port") or 7443
    with Asked(web, 5) as workload, Asked(f"https://{kube.endpoint}:{port}/readyz", 1) as api:
        with Writer(kube, other) as writer:
            kube.await_that("requests before it, none of which fails", lambda: api.in_a_row > 10)
            cut = time.monotonic()
            kube.cut(dead)
            kube.await_that("the API is missed", lambda: any(began > cut for began, _ in api.failures), 60)
            kube.await_that("the API answers again", lambda: api.in_a_row > 20, 120)
            away = max(began for began, _ in api.failures) + api.patience - cut
        holder = kube.await_that("somebody else has the address", lambda: kube.holder(without=dead))
        say(f"{dead} had the address; the API was away for {away:.1f} s; now {holder} has it")
        there = set(kube.kubectl("get configmaps -n writes -o name", on=other).split())
        lost = [name for name in writer.acknowledged if f"configmap/{name}" not in there]
        say(f"{len(writer.acknowledged)} writes were acknowledged, {len(lost)} of them lost")
        assert away < RECOVERY_SECONDS
        assert writer.acknowledged and not lost
        kube.power(dead, on=True)
        nodes = {*CONTROL_PLANE, "gpu01"}
        kube.await_that(f"{dead} is back", lambda: kube.ready_nodes(other) == nodes, 300)
        kube.await_that("the store has three members that are well", lambda: _store(kube, other))
    say(f"{workload.answers} requests to a workload meanwhile, {len(workload.failures)} failed")
    assert not workload.failures, workload.failures[:3]
    kube.nothing_left()


def _store(kube: KubeLab, on: str) -> bool:
    """Whether every member of the store is ready; not so while nobody answers."""
    try:
        pods = json.loads(
            kube.kubectl("get pods -n kube-system -l component=etcd -o json", on=on, check=False)
        )["items"]
    except ValueError:
        return False
    return sum(is_ready(pod) for pod in pods) == len(CONTROL_PLANE)


def test_a_worker_joins_while_another_is_off(kube: KubeLab, web: str) -> None:
    """It takes work, and the checks name the one that is off and blame nothing else."""
    kube.up("--compute", "3", "--no-deploy").must()
    kube.cut("gpu01")
    try:
        kube.await_that("gpu01 is missed", lambda: "gpu01" not in kube.ready_nodes())
        answer = kube.add_worker("gpu03")
        touched = set(answer.data["hosts"])
        say(f"gpu03 joined in {answer.seconds:.0f} s, touching {', '.join(sorted(touched))}")
        assert "gpu03" in touched and touched <= {"gpu03", *CONTROL_PLANE}
        kube.await_that("gpu03 is ready", lambda: "gpu03" in kube.ready_nodes())
        kube.kubectl("scale deployment/web --replicas=3")
        kube.await_that("gpu03 carries a part of the workload", lambda: "gpu03" in _carriers(kube))
        asked = Asked(web)

        def answers() -> int:
            asked.once()
            return asked.answers

        kube.await_that("the workload's address moved to it", answers)
        answer = kube.call("validate", "kubernetes").must(3)
        bad = {check["name"]: check["detail"] for check in answer.data["checks"] if not check["ok"]}
        assert set(bad) == {"nodes"} and "gpu01 is not ready" in bad["nodes"], bad
    finally:
        kube.power("gpu01", on=True)
    kube.await_that("gpu01 is back", lambda: "gpu01" in kube.ready_nodes())
    kube.nothing_left()


def _carriers(kube: KubeLab) -> set[str]:
    """Nodes with a pod of the workload that is ready."""
    pods = kube.ask("get pods -l app=web")["items"]
    return {pod["spec"].get("nodeName", "") for pod in pods if is_ready(pod)}


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def test_a_node_moves_to_kubernetes_and_back(kube: KubeLab, first: float) -> None:
    """Its jobs end first; each scheduler then says that it has it, or not; nothing is left to do a second time."""
    before = kube.ready_nodes()
    job = kube.as_user("cd /tmp && sbatch --parsable -w gpu02 -o /dev/null --wrap 'sleep 15'").split(";")[0]
    kube.await_that("the job runs", lambda: kube.as_user(f"squeue -h -j {job} -o %T") == "RUNNING")
    there = kube.call("nodes", "move", "gpu02", "--to", "kubernetes").must()
    say(f"gpu02 moved to Kubernetes in {there.seconds:.0f} s")
    state = f"sacct -n -X -P -j {job} -o State"
    kube.await_that("the job is accounted as completed", lambda: kube.ssh("login01", state) == "COMPLETED")
    kube.await_that("gpu02 is ready", lambda: kube.ready_nodes() == {*before, "gpu02"})
    assert "gpu02" not in kube.ssh("mgmt01", "sinfo -h -N -o %N")
    assert not kube.call("nodes", "move", "gpu02", "--to", "kubernetes").must().data["steps"]
    back = kube.call("nodes", "move", "gpu02", "--to", "slurm").must()
    say(f"gpu02 moved back to Slurm in {back.seconds:.0f} s")
    kube.await_that("Kubernetes is as it was", lambda: kube.ready_nodes() == before)
    assert kube.as_user("cd /tmp && srun -N1 -w gpu02 hostname -s") == "gpu02"
    left = "find /etc/cni/net.d /etc/kubernetes/manifests -type f 2>/dev/null; pgrep -x kubelet || true"
    assert kube.ssh("gpu02", left) == ""
