"""GPUs in Kubernetes, each played by a file, on the lab of test_kubernetes.py. In this order.

A stand-in for the maker's device plugin offers them; who gets them is decided by the real scheduler and the real
Kueue. The model server is a stand-in for Triton in the chart of workloads/inference; who asks it stands outside.
"""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from .conftest import PLAYED, ROOT
from .test_kubernetes import BUSYBOX, Asked, KubeLab, is_ready, say

DEVICES = "/run/rackloom-devices"
STAND_IN, PYTHON = "registry.example/gpu-stand-in", "docker.io/library/python"
GPU = "nvidia.com/gpu"
EACH = 2
"""GPUs of a node."""
LARGE, SMALL = "gpu01", "gpu03"
LABELS = {
    LARGE: {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "nvidia.com/gpu.memory": "81920"},
    SMALL: {"nvidia.com/gpu.product": "NVIDIA-L40S", "nvidia.com/gpu.memory": "46068"},
}
"""As the maker's feature discovery would write them."""
SERVED = "served"
REQUEST = {"inputs": [{"name": "INPUT__0", "shape": [1, 1], "datatype": "FP32", "data": [3]}]}


@dataclass(frozen=True)
class Images:
    """Those that the tests bring themselves, by name with tag, and the one that the site has."""

    stand_in: str
    python: str
    busybox: str


@pytest.fixture(scope="module")
def images(versions: Path) -> Images:
    held = yaml.safe_load(versions.read_text())["images"]
    return Images(*(f"{name}:{held[name]['tag']}" for name in (STAND_IN, PYTHON, BUSYBOX)))


def packed(layout: Path, *names: str) -> bytes:
    """Some images of an OCI layout as one archive, as containerd takes it."""
    index = json.loads((layout / "index.json").read_text())
    key = "org.opencontainers.image.ref.name"
    index["manifests"] = [each for each in index["manifests"] if each["annotations"][key] in names]
    assert len(index["manifests"]) == len(names)
    blobs = {each["digest"] for each in index["manifests"]}
    for digest in list(blobs):
        manifest = json.loads(blob(layout, digest).read_text())
        blobs |= {part["digest"] for part in (manifest["config"], *manifest["layers"])}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("oci-layout", *(f"blobs/{digest.replace(':', '/')}" for digest in sorted(blobs))):
            archive.add(layout / name, name)
        text = json.dumps(index).encode()
        entry = tarfile.TarInfo("index.json")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    return gzip.compress(out.getvalue(), compresslevel=1)


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


def feed(kube: KubeLab, node: str, command: str, data: bytes) -> None:
    """Run a command on a node that reads data."""
    argv = [str(ROOT / ".venv/bin/rackloom"), "lab", "ssh", "--name", kube.name, node, "--", command]
    done = subprocess.run(argv, cwd=ROOT, input=data, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")


def plugin(image: str) -> str:
    """The stand-in, on every node that says that it has GPUs."""
    pod = {
        "nodeSelector": {"nvidia.com/gpu.present": "true"},
        "tolerations": [{"operator": "Exists"}],
        "containers": [
            {
                "name": "plugin",
                "image": image,
                "args": ["--interval=200ms"],
                "volumeMounts": [
                    {"name": "kubelet", "mountPath": "/var/lib/kubelet/device-plugins"},
                    {"name": "devices", "mountPath": DEVICES, "readOnly": True},
                ],
            }
        ],
        "terminationGracePeriodSeconds": 1,
        "volumes": [
            {"name": "kubelet", "hostPath": {"path": "/var/lib/kubelet/device-plugins"}},
            {"name": "devices", "hostPath": {"path": DEVICES}},
        ],
    }
    labels = {"app": "gpu-stand-in"}
    return json.dumps(
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "gpu-stand-in", "namespace": "kube-system"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
    )


class Gpus:
    """The nodes' GPUs."""

    def __init__(self, kube: KubeLab, busybox: str) -> None:
        self.kube, self.busybox = kube, busybox

    def offered(self, node: str, kind: str = "allocatable") -> int:
        """How many a node says that it has."""
        return int(self.kube.ask(f"get node {node}")["status"][kind].get(GPU, "0"))

    def set(self, node: str, device: str, state: str) -> None:
        """Mend a GPU, break it, or take it out."""
        file = f"{DEVICES}/{device}"
        self.kube.ssh(node, f"rm {file}" if state == "gone" else f"echo {state} > {file}")

    def pod(self, name: str, *, count: int = 1, says: str = "sleep 600", **spec: Any) -> dict[str, Any]:
        """A pod that asks for GPUs."""
        container = {
            "name": "main",
            "image": self.busybox,
            "command": ["sh", "-c", f"trap exit TERM; ({says}) & wait"],
            "resources": {"limits": {GPU: str(count)}},
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"test": "gpu"}},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "containers": [container],
                **spec,
            },
        }

    def create(self, *objects: dict[str, Any], namespace: str = "default") -> None:
        """Hand objects to the API."""
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kube.kubectl(f"apply -n {namespace} -f -", stdin=items)

    def places(self, selector: str = "test=gpu", namespace: str = "default") -> dict[str, str]:
        """Where pods were put, by name; '' where they wait."""
        pods = self.kube.ask(f"get pods -n {namespace} -l {selector}")["items"]
        return {pod["metadata"]["name"]: pod["spec"].get("nodeName", "") for pod in pods}

    def clear(self) -> None:
        """Have the pods of a test gone."""
        self.kube.kubectl("delete pods -l test=gpu --wait --timeout=240s")


@pytest.fixture(scope="module")
def gpus(kube: KubeLab, first: float, versions: Path, images: Images) -> Gpus:
    """Two workers with GPUs."""
    if SMALL not in kube.ready_nodes():
        kube.up("--compute", "3", "--no-deploy").must()
        kube.add_worker(SMALL)
    archive = packed(versions.parent / "images", images.stand_in, images.python)
    for node, labels in LABELS.items():
        feed(kube, node, "gunzip | ctr -n k8s.io images import -", archive)
        names = " ".join(f"gpu{number}" for number in range(EACH))
        kube.ssh(
            node, f"mkdir -p {DEVICES} && cd {DEVICES} && for each in {names}; do echo well > $each; done"
        )
        told = {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.count": str(EACH), **labels}
        words = " ".join(f"{key}={value}" for key, value in told.items())
        kube.kubectl(f"label node {node} --overwrite {words}")
    kube.kubectl("apply -f -", stdin=plugin(images.stand_in))
    found = Gpus(kube, images.busybox)
    kube.await_that("both offer their GPUs", lambda: all(found.offered(node) == EACH for node in LABELS))
    return found


def test_a_node_has_the_gpus_that_are_well(gpus: Gpus) -> None:
    """A kubelet tells the API every ten seconds, so one GPU breaks while another is taken out."""
    states = {LARGE: "broken", SMALL: "gone"}
    for node, state in states.items():
        gpus.set(node, "gpu1", state)
    gpus.kube.await_that("each has one less", lambda: all(gpus.offered(node) == EACH - 1 for node in states))
    assert all(gpus.offered(node, "capacity") == EACH for node in states)
    for node in states:
        gpus.set(node, "gpu1", "well")
    gpus.kube.await_that("each has it back", lambda: all(gpus.offered(node) == EACH for node in states))


def test_a_pod_gets_the_kind_of_gpu_that_it_asks_for(gpus: Gpus) -> None:
    """As guide/gpu-kubernetes.md says it: by product, or by memory at least."""
    memory = {"key": "nvidia.com/gpu.memory", "operator": "Gt", "values": ["50000"]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [memory]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    says = "echo $NVIDIA_VISIBLE_DEVICES"
    product = {key: value for key, value in LABELS[SMALL].items() if key.endswith("product")}
    gpus.create(
        gpus.pod("by-product", says=says, nodeSelector=product),
        gpus.pod("by-memory", says=says, affinity=affinity),
        gpus.pod("of-none", nodeSelector={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}),
        gpus.pod("too-many", count=EACH + 1),
    )

    def done() -> bool:
        found = gpus.kube.ask("get pods -l test=gpu")["items"]
        return [pod["status"]["phase"] for pod in found].count("Succeeded") == 2

    gpus.kube.await_that("both ran", done)
    places = gpus.places()
    assert places == {"by-product": SMALL, "by-memory": LARGE, "of-none": "", "too-many": ""}
    for name in ("by-product", "by-memory"):
        assert gpus.kube.kubectl(f"logs {name}") in {f"gpu{number}" for number in range(EACH)}, "exactly one"
    gpus.clear()


def test_jobs_beyond_the_quota_wait_and_start_when_there_is_room(gpus: Gpus) -> None:
    """Four GPUs are free, and the queue has two: what holds the third job is Kueue."""
    kube = gpus.kube

    def job(name: str) -> dict[str, Any]:
        template = gpus.pod(name)
        template["metadata"].pop("name")
        spec = {"backoffLimit": 0, "template": {"metadata": template["metadata"], "spec": template["spec"]}}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}

    def state() -> dict[str, tuple[bool, int]]:
        found = kube.ask("get jobs -n research")["items"]
        return {
            each["metadata"]["name"]: (bool(each["spec"].get("suspend")), each["status"].get("ready", 0))
            for each in found
        }

    gpus.create(job("one"), job("two"), namespace="research")
    kube.await_that("two run", lambda: state() == {"one": (False, 1), "two": (False, 1)})
    gpus.create(job("three"), namespace="research")

    def held() -> str:
        found = kube.ask("get workloads.kueue.x-k8s.io -n research")["items"]
        mine = [each for each in found if each["metadata"]["ownerReferences"][0]["name"] == "three"]
        conditions = mine[0].get("status", {}).get("conditions", []) if mine else []
        return next((each["message"] for each in conditions if each["type"] == "QuotaReserved"), "")

    reason = kube.await_that("Kueue says why the third waits", held)
    say(f"the third job waits: {reason}")
    assert "quota" in reason and state()["three"] == (True, 0)
    assert not gpus.places("test=gpu,job-name=three", "research")
    kube.kubectl("delete job one -n research")
    kube.await_that("the third runs", lambda: state().get("three") == (False, 1))
    kube.kubectl("delete jobs --all -n research --wait --timeout=240s")
    kube.await_that("no pod is left", lambda: not gpus.places(namespace="research"))


def test_a_gang_starts_whole_or_not_at_all(gpus: Gpus) -> None:
    """Two of four GPUs are taken. Three pods that are no gang get two; a gang of three gets none, and later all."""
    kube = gpus.kube
    gpus.create(gpus.pod("taker", count=EACH, nodeSelector=LABELS[LARGE]))
    kube.await_that("two GPUs are taken", lambda: gpus.places().get("taker"))
    names = [f"member-{number}" for number in range(EACH + 1)]
    group = {
        "apiVersion": "scheduling.k8s.io/v1alpha2",
        "kind": "PodGroup",
        "metadata": {"name": "gang"},
        "spec": {"schedulingPolicy": {"gang": {"minCount": len(names)}}},
    }
    gpus.create(group, *(gpus.pod(name, schedulingGroup={"podGroupName": "gang"}) for name in names))

    def refused() -> bool:
        """The scheduler has looked at each of them."""
        found = kube.ask("get pods -l test=gpu")["items"]
        told = [
            each
            for pod in found
            for each in pod["status"].get("conditions", [])
            if each["type"] == "PodScheduled" and each["status"] == "False"
        ]
        return len(told) == len(names)

    kube.await_that("the scheduler finds no place for all", refused)
    assert {gpus.places()[name] for name in names} == {""}, "none got the two GPUs that are free"
    gpus.create(gpus.pod("loner"))
    kube.await_that("somebody else gets a GPU of the two", lambda: gpus.places().get("loner") == SMALL)
    assert {gpus.places()[name] for name in names} == {""}
    kube.kubectl("delete pod loner taker --wait --timeout=240s")
    kube.await_that("the gang has started", lambda: all(gpus.places().get(name) for name in names))
    kube.kubectl("delete podgroup gang --wait=false")
    gpus.clear()


@pytest.fixture(scope="module")
def served(gpus: Gpus, images: Images) -> Iterator[tuple[str, str]]:
    """The chart with two servers and two clients; returns where each is asked for an inference."""
    kube = gpus.kube
    kube.kubectl("create namespace models")
    kube.kubectl("label namespace models pod-security.kubernetes.io/enforce=privileged")
    for node in LABELS:
        kube.ssh(
            node, "mkdir -p /srv/models/line/1 && touch /srv/models/line/1/model && chmod -R a+rX /srv/models"
        )
    kube.give("mgmt01", ROOT / "workloads/inference", "/tmp/inference")
    kube.give("mgmt01", ROOT / "tests/stand_ins", "/tmp/stand-ins")
    kube.kubectl("create configmap stand-in -n models --from-file=/tmp/stand-ins/triton.py")
    install(kube, images)
    where = []
    for part, path in (("server", "v2/models/line/infer"), ("client", "api/models/line/infer")):
        look = f"get service {SERVED}-inference-{part} -n models"
        given = kube.await_that("an address", partial(ingress, kube, look))
        service, address = kube.ask(look), given[0]["ip"]
        port = next(each["port"] for each in service["spec"]["ports"] if each["name"] == "http")
        where.append(f"http://{address}:{port}/{path}")
    yield where[0], where[1]
    kube.ssh(
        "mgmt01",
        f"KUBECONFIG=/etc/kubernetes/admin.conf helm uninstall {SERVED} -n models --wait",
        check=False,
    )


def ingress(kube: KubeLab, look: str) -> Any:
    """Where a service is reached from outside; nothing as long as it has no address."""
    return kube.ask(look)["status"]["loadBalancer"].get("ingress")


def install(kube: KubeLab, images: Images, **more: Any) -> None:
    """Install or upgrade the chart, and wait for its pods."""
    repository, _, tag = images.python.rpartition(":")
    image = {"repository": repository, "tag": tag}
    small = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}}
    public = {"type": "LoadBalancer"}
    values = {
        "models": {"type": "hostPath", "hostPath": {"path": "/srv/models"}},
        "server": {
            "image": image,
            "command": ["python3", "/stand-in/triton.py"],
            "env": [{"name": "TRITON_WORK", "value": "0.05"}],
            "replicas": 2,
            "resources": small,
            "shm": "16Mi",
            "startupSeconds": 60,
            "drainSeconds": 6,
            "finishSeconds": 5,
            "service": public,
            "extraVolumes": [{"name": "stand-in", "configMap": {"name": "stand-in"}}],
            "extraVolumeMounts": [{"name": "stand-in", "mountPath": "/stand-in"}],
            **more,
        },
        "client": {"image": image, "replicas": 2, "resources": small, "service": public},
        "notebook": {"enabled": False},
        "test": {"model": "line", "request": REQUEST},
    }
    helm = f"helm upgrade --install {SERVED} /tmp/inference -n models --values - --wait --timeout 300s"
    text = json.dumps(values)
    kube.ssh("mgmt01", f"KUBECONFIG=/etc/kubernetes/admin.conf {helm} <<'END'\n{text}\nEND")


def servers(kube: KubeLab) -> dict[str, str]:
    """Servers that are ready and stay, by name, with their nodes."""
    selector = f"app.kubernetes.io/instance={SERVED},app.kubernetes.io/component=server"
    found = kube.ask(f"get pods -n models -l {selector}")["items"]
    return {
        pod["metadata"]["name"]: pod["spec"]["nodeName"]
        for pod in found
        if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
    }


class Load:
    """People who ask server and client for inferences, all the time."""

    def __init__(self, places: tuple[str, str]) -> None:
        self.asked = [Asked(place, 10, json.dumps(REQUEST).encode()) for place in (*places, *places)]

    def __enter__(self) -> Self:
        for each in self.asked:
            each.start()
        return self

    def __exit__(self, *words: object) -> None:
        for each in self.asked:
            each.__exit__(*words)

    def said(self) -> str:
        """How many answers there were, and that there was nothing else."""
        failures = [failure for each in self.asked for failure in each.failures]
        assert not failures, failures[:5]
        assert all(each.answers > 10 for each in self.asked)
        return f"{sum(each.answers for each in self.asked)} inferences, none failed"


def test_the_chart_serves_and_its_test_passes(gpus: Gpus, served: tuple[str, str]) -> None:
    assert sorted(servers(gpus.kube).values()) == sorted(LABELS), "one on each node"
    said = gpus.kube.ssh(
        "mgmt01", f"KUBECONFIG=/etc/kubernetes/admin.conf helm test {SERVED} -n models --logs"
    )
    assert "Phase:          Succeeded" in said and "serves line" in said


def test_an_upgrade_under_load_loses_no_request(gpus: Gpus, served: tuple[str, str], images: Images) -> None:
    before = servers(gpus.kube)
    with Load(served) as load:
        install(gpus.kube, images, podAnnotations={"round": "two"})
        gpus.kube.await_that(
            "there are others in the places of the old servers",
            lambda: len(now := servers(gpus.kube)) == len(before) and set(before).isdisjoint(now),
        )
    say(f"all servers replaced: {load.said()}")


def test_servers_leave_a_node_whose_gpus_died(gpus: Gpus, served: tuple[str, str], tmp_path: Path) -> None:
    """The kubelet says whose GPU is not well; the health check cordons the node and sends away these alone."""
    kube = gpus.kube
    clients = gpus.places("app.kubernetes.io/component=client", "models")
    line = "NVRM: Xid (PCI:0000:3b:00): 79, pid=7, GPU has fallen off the bus."
    kube.play_gpus(LARGE, tmp_path)
    try:
        with Load(served) as load:
            kube.ssh(
                LARGE,
                f"echo '{line}' >> {PLAYED}/kmsg; for each in {DEVICES}/*; do echo broken > $each; done",
            )
            kube.await_that(f"{LARGE} offers none", lambda: gpus.offered(LARGE) == 0)
            kube.await_that("both servers are elsewhere", lambda: [*servers(kube).values()] == [SMALL] * 2)
            assert kube.ask(f"get node {LARGE}")["spec"]["unschedulable"]
        say(f"both servers on {SMALL}: {load.said()}")
        assert gpus.places("app.kubernetes.io/component=client", "models") == clients, "who has no GPU stays"
    finally:
        mend = f"for each in {DEVICES}/*; do echo well > $each; done; rm -rf {PLAYED}"
        kube.ssh(LARGE, f"{mend}; /usr/libexec/rackloom/gpu-health clear")
    kube.await_that(f"{LARGE} is back with its GPUs", lambda: gpus.offered(LARGE) == EACH)
    kube.await_that(
        f"{LARGE} takes pods again",
        lambda: not kube.ask(f"get node {LARGE}")["spec"].get("unschedulable"),
    )
    kube.nothing_left()
