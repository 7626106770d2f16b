"""Upgrades, replaced control-plane nodes and restored snapshots, with the real programs. In this order, on one lab.

The site begins with the newest release of the minor before, goes to an earlier patch and then to the newest, while
somebody asks a service of two replicas without a pause.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ROOT, Answer
from .test_kubernetes import BUSYBOX, STAGES, Asked, KubeLab, say

pytestmark = pytest.mark.long

CONTROL_PLANE = ["mgmt01", "mgmt02", "mgmt03"]
WORKERS = ["gpu01", "gpu02"]
SPARE = "gpu03"
"""A node without services, for the place of another."""
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
        topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector: {{matchLabels: {{app: web}}}}
        containers:
        - name: web
          image: {image}
          command: [sh, -c, "mkdir /tmp/www; echo here > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www"]
          readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
          lifecycle: {{preStop: {{exec: {{command: [sleep, "8"]}}}}}}
- apiVersion: policy/v1
  kind: PodDisruptionBudget
  metadata: {{name: web, namespace: default}}
  spec: {{minAvailable: 1, selector: {{matchLabels: {{app: web}}}}}}
- apiVersion: v1
  kind: Service
  metadata: {{name: web, namespace: default}}
  spec:
    type: NodePort
    selector: {{app: web}}
    ports: [{{port: 80, targetPort: 8080, nodePort: 30080}}]
"""


class LifeLab(KubeLab):
    """A closed lab with three releases of Kubernetes in its bundle."""

    name = os.environ.get("RACKLOOM_E2E_LIFECYCLE_LAB", "klife")
    config = ROOT / ".lab" / name / "config"

    def releases(self) -> dict[str, str]:
        """What each node's kubelet says that it is."""
        nodes = self.ask("get nodes")["items"]
        return {node["metadata"]["name"]: node["status"]["nodeInfo"]["kubeletVersion"][1:] for node in nodes}

    def page(self, node: str, on: str = "mgmt02") -> str:
        """Where a node answers for the workload."""
        told = self.ask(f"get node {node}", on)["status"]["addresses"]
        [address] = [each["address"] for each in told if each["type"] == "InternalIP"]
        return f"http://{address}:30080/"

    def edit(self, **kubernetes: Any) -> None:
        """Change cluster.yml's section kubernetes."""
        path = self.config / "cluster.yml"
        data = yaml.safe_load(path.read_text())
        data["kubernetes"].update(kubernetes)
        path.write_text(yaml.safe_dump(data, sort_keys=False))

    def begun(self, *words: str) -> subprocess.Popen[bytes]:
        """Begin a command, so that it can be killed."""
        return subprocess.Popen(
            [ROOT / ".venv/bin/rackloom", *words, "--config", self.config],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The real programs, Kubernetes in three releases."""
    build = ROOT / "tests/upstream/build.py"
    listed = subprocess.run([build, "list"], capture_output=True, text=True, check=True).stdout
    names = [line.split()[0] for line in listed.splitlines()]
    output = tmp_path_factory.mktemp("programs")
    done = subprocess.run(
        [build, "build", *names, "--output", str(output)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {"path": output / "versions.yml", **yaml.safe_load((output / "versions.yml").read_text())}


@pytest.fixture(scope="module")
def releases(versions: dict[str, Any]) -> list[str]:
    """The three, oldest first."""
    found = {
        record["version"] for name, record in versions["files"].items() if name.partition("@")[0] == "kubeadm"
    }
    ordered = sorted(found, key=lambda text: [int(part) for part in text.split(".")])
    assert len(ordered) == 3
    assert [text.split(".")[1] for text in ordered].count(ordered[-1].split(".")[1]) == 2
    return ordered


@pytest.fixture(scope="module")
def life(
    versions: dict[str, Any], releases: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LifeLab]:
    """The cluster, deployed with the oldest release."""
    lab = LifeLab()
    try:
        lab.fresh("--closed", "--kubernetes", "--management", "3", "--compute", "3", "--no-deploy")
        path = lab.config / "cluster.yml"
        data = yaml.safe_load(path.read_text())
        slurm = [f"slurm_{part}" for part in ("database", "accounting", "controller", "login", "node")]
        data["services"] |= {"kube_node": WORKERS, **{group: [] for group in slurm}}
        data["kubernetes"]["version"] = releases[0]
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        folder = tmp_path_factory.mktemp("disk") / "bundle"
        words = ("-o", str(folder), "--os", lab.os, "--stages", STAGES, "--versions", str(versions["path"]))
        lab.call("bundle", "create", *words).must()
        lab.call("bundle", "install", str(folder)).must()
        lab.call("deploy").must()
        yield lab
    finally:
        if not os.environ.get("RACKLOOM_E2E_KEEP"):
            lab.call("lab", "down", "--name", lab.name)


@pytest.fixture(scope="module")
def web(life: LifeLab, versions: dict[str, Any]) -> str:
    """A workload of two pods; its page is asked of a control-plane node."""
    tag = versions["images"][BUSYBOX]["tag"]
    life.kubectl("apply -f -", stdin=WORKLOAD.format(image=f"{BUSYBOX}:{tag}"))
    life.kubectl("rollout status deployment/web --timeout=300s")
    return life.page("mgmt02")


def codes(answer: Answer) -> set[str]:
    return {str(error["code"]) for error in answer.envelope["errors"]}


def test_what_may_not_be_is_refused_before_anything_is_touched(life: LifeLab, releases: list[str]) -> None:
    before = (life.config / "cluster.yml").read_text()
    assert codes(life.call("upgrade", "kubernetes", "--to", "1.1.1").must(2)) >= {
        "unknown_release",
        "downgrade",
    }
    life.cut("gpu02")
    life.await_that("gpu02 is missed", lambda: "gpu02" not in life.ready_nodes())
    assert codes(life.call("upgrade", "kubernetes", "--to", releases[1]).must(2)) >= {
        "not_ready",
        "unreachable",
    }
    life.power("gpu02", on=True)
    life.await_that("gpu02 is back", lambda: "gpu02" in life.ready_nodes())
    assert (life.config / "cluster.yml").read_text() == before
    assert set(life.releases().values()) == {releases[0]}


def test_a_minor_release_up_without_a_failed_request(life: LifeLab, web: str, releases: list[str]) -> None:
    with Asked(web, patience=5) as asked:
        first = life.call(
            "upgrade", "kubernetes", "--to", releases[1], "--pause-after", "control-plane"
        ).must()
        say(f"control plane upgraded in {first.seconds:.0f} s")
        assert {life.releases()[name] for name in CONTROL_PLANE} == {releases[1]}
        assert {life.releases()[name] for name in WORKERS} == {releases[0]}
        # a deploy in between brings nobody up or down
        assert any(
            releases[1] in error["message"] for error in life.call("deploy").must(1).envelope["errors"]
        )
        second = life.call("upgrade", "kubernetes", "--to", releases[1]).must()
        say(f"workers upgraded in {second.seconds:.0f} s")
    say(f"{asked.answers} requests answered, {len(asked.failures)} failed")
    assert set(life.releases().values()) == {releases[1]}
    assert asked.answers > 100 and not asked.failures, asked.failures[:3]


def test_a_patch_release_up_killed_half_way(life: LifeLab, web: str, releases: list[str]) -> None:
    with Asked(web, patience=5) as asked:
        process = life.begun("upgrade", "kubernetes", "--to", releases[2])
        static = "grep -h image: /etc/kubernetes/manifests/kube-apiserver.yaml"
        life.await_that(
            "mgmt01's API server is new", lambda: releases[2] in life.ssh("mgmt01", static, check=False), 600
        )
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        life.ssh("mgmt01", "pkill -KILL -x kubeadm", check=False)
        assert len(set(life.releases().values()) | {releases[2]}) == 2

        def on_again() -> Answer | None:
            answer = life.call("upgrade", "kubernetes", "--to", releases[2])
            return None if "busy" in codes(answer) else answer

        answer = life.await_that("the killed run has let go", on_again, 300).must()
        say(f"gone on with in {answer.seconds:.0f} s")
    say(f"{asked.answers} requests answered, {len(asked.failures)} failed")
    assert set(life.releases().values()) == {releases[2]}
    assert asked.answers > 100 and not asked.failures, asked.failures[:3]
    again = life.call("upgrade", "kubernetes", "--to", releases[2]).must()
    assert not again.data["steps"]
    deployed = life.call("deploy").must()
    changed = {host: counts for host, counts in deployed.data["hosts"].items() if counts["changed"]}
    assert not changed, deployed.said


def test_the_first_control_plane_node_is_replaced(life: LifeLab, web: str) -> None:
    assert "even_control_plane" in codes(life.call("nodes", "remove", "mgmt01").must(2))
    with Asked(web, patience=5) as asked:
        answer = life.call("nodes", "replace", "mgmt01", SPARE).must()
        say(f"mgmt01 replaced by {SPARE} in {answer.seconds:.0f} s")
    on = "mgmt02"
    nodes = {"mgmt02", "mgmt03", SPARE, *WORKERS}
    life.await_that("all are ready", lambda: life.ready_nodes(on) == nodes)
    members = life.ssh(
        on, "rackloom-etcd-snapshot /run/check.db >/dev/null; ls /run/check.db; rm -f /run/check.db"
    )
    assert "check.db" in members
    pods = life.ask("get pods -n kube-system -l component=etcd", on)["items"]
    assert {pod["spec"]["nodeName"] for pod in pods} == {"mgmt02", "mgmt03", SPARE}
    assert yaml.safe_load((life.config / "cluster.yml").read_text())["services"]["kube_control_plane"]
    assert not asked.failures, asked.failures[:3]


@pytest.mark.usefixtures("web")
def test_a_snapshot_is_restored_on_fresh_nodes(life: LifeLab, tmp_path: Path) -> None:
    on = "mgmt02"
    told = life.ask("get nodes -l node-role.kubernetes.io/control-plane", on)["items"]
    masters = [node["metadata"]["name"] for node in told]
    page = life.page(WORKERS[0], on)  # the others lose everything
    life.kubectl("create configmap kept --from-literal=what=before", on=on)
    life.kubectl("create secret generic hidden --from-literal=word=quiet", on=on)
    wanted = _objects(life, on)
    pods = {pod["metadata"]["uid"] for pod in life.ask("get pods -l app=web", on)["items"]}
    file = tmp_path / "everything.db"
    life.call("kubernetes", "snapshot", str(file)).must()
    life.kubectl("create configmap lost --from-literal=what=after", on=on)
    assert "cluster_alive" in codes(life.call("kubernetes", "restore", str(file)).must(2))
    for node in masters:
        life.ssh(
            node,
            "systemctl stop kubelet; crictl rm -af >/dev/null 2>&1; rm -rf /etc/kubernetes /var/lib/etcd/*",
        )
    with Asked(page, patience=5) as asked:
        answer = life.call("kubernetes", "restore", str(file)).must()
        say(f"restored in {answer.seconds:.0f} s")
    life.await_that("all are back", lambda: life.ready_nodes(on) == {*masters, *WORKERS})
    assert _objects(life, on) >= wanted
    assert "NotFound" in life.kubectl("get configmap lost", on=on, check=False)
    word = life.ask("get secret hidden", on)["data"]["word"]
    assert life.ssh(on, f"echo {word} | base64 -d") == "quiet"
    assert pods == {pod["metadata"]["uid"] for pod in life.ask("get pods -l app=web", on)["items"]}
    assert not asked.failures, asked.failures[:3]
    life.nothing_left()


def _objects(life: LifeLab, on: str) -> set[str]:
    """Everything that people make, by kind and name."""
    kinds = "deployments,services,configmaps,secrets,poddisruptionbudgets,namespaces,serviceaccounts"
    told = json.loads(life.kubectl(f"get {kinds} --all-namespaces -o json", on=on))
    return {
        f"{item['kind']} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}"
        for item in told["items"]
        # what a check has left is just being deleted
        if not f"{item['metadata'].get('namespace', '')} {item['metadata']['name']}".count("rackloom-check-")
    }


def test_the_end_needs_its_flag(life: LifeLab) -> None:
    assert codes(life.call("kubernetes", "reset").must(2)) == {"flag"}
    answer = life.call("kubernetes", "reset", "--erase-the-whole-cluster").must()
    say(f"erased in {answer.seconds:.0f} s")
    assert (life.config / "snapshots" / "before-reset.db").stat().st_size > 0
    for node in ("mgmt02", *WORKERS):
        left = "find /etc/kubernetes/manifests /var/lib/etcd -type f 2>/dev/null; pgrep -x kubelet || true"
        assert life.ssh(node, left) == ""
