"""The add-on kube_state_metrics: the real program, with the rights that the role gives it, tells all that is asked for.

The API server is real and has objects whose state nobody made true: that is what it is there to tell.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.daemons import free_port, program, running

from rackloom.dashboards import DASHBOARDS

from .conftest import Api
from .test_kube_releases import told
from .test_monitoring import await_that

ROOT = Path(__file__).parents[2]
NAMESPACE = "kube-state-metrics"
SERVICE = "http:kube-state-metrics:metrics"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:kube-state-metrics"
METRIC = re.compile(r"\bkube_[a-z_]+")
# Objects, each with the state that it is given.
WORKLOAD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": {"unschedulable": True}},
        {
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110", "nvidia.com/gpu": "2"},
            "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110", "nvidia.com/gpu": "2"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "x", "message": "x"}],
        },
    ),
    (
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        },
        {"phase": "Pending"},
    ),
    (
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "waits"},
            "spec": {
                "nodeName": "n1",
                "containers": [
                    {
                        "name": "train",
                        "image": "registry.example/train:1",
                        "resources": {
                            "requests": {"cpu": "1", "memory": "1Gi"},
                            "limits": {"nvidia.com/gpu": "1"},
                        },
                    }
                ],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            },
        },
        {
            "phase": "Pending",
            "containerStatuses": [
                {
                    "name": "train",
                    "image": "registry.example/train:1",
                    "imageID": "",
                    "ready": False,
                    "restartCount": 3,
                    "state": {"waiting": {"reason": "ImagePullBackOff"}},
                }
            ],
        },
    ),
]
POD: dict[str, Any] = {
    "metadata": {"labels": {"a": "b"}},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}
SETS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("Deployment", {"replicas": 2}, {"replicas": 2, "availableReplicas": 1, "readyReplicas": 1}),
    ("StatefulSet", {"replicas": 2, "serviceName": "s"}, {"replicas": 2, "readyReplicas": 1}),
    (
        "DaemonSet",
        {},
        {
            "desiredNumberScheduled": 2,
            "currentNumberScheduled": 2,
            "numberReady": 1,
            "numberMisscheduled": 0,
            "numberAvailable": 1,
            "numberUnavailable": 1,
        },
    ),
]
WORKLOAD += [
    (
        {
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"name": "lacks"},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": POD, **spec},
        },
        state,
    )
    for kind, spec, state in SETS
]
NOW = "2026-01-01T00:00:00Z"
WORKLOAD.append(
    (
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "failed"},
            "spec": {
                "backoffLimit": 0,
                "template": {"spec": {"restartPolicy": "Never", "containers": POD["spec"]["containers"]}},
            },
        },
        {
            "startTime": NOW,
            "failed": 1,
            "conditions": [
                {"type": kind, "status": "True", "reason": "BackoffLimitExceeded", "lastTransitionTime": NOW}
                for kind in ("FailureTarget", "Failed")
            ],
        },
    )
)


def addon() -> list[dict[str, Any]]:
    """What the role hands to helm."""
    releases = told(
        "kube_addons", "__kube_addons_releases", {"kube_addons_enabled": {"kube_state_metrics": {}}}
    )
    [release] = [each for each in releases if each["title"] == "kube_state_metrics"]
    return list(yaml.safe_load_all(release["manifests"]))


def wanted() -> set[str]:
    """Metrics of objects that alerts and dashboards ask for."""
    texts = [path.read_text() for path in (ROOT / "roles/prometheus/files/rules").glob("*.yml")]
    texts += [query.expr for board in DASHBOARDS for panel in board.panels() for query in panel.queries]
    exprs = [line for text in texts for line in text.splitlines() if "alert:" not in line]
    return {name for line in exprs for name in METRIC.findall(line)} - {NAMESPACE.replace("-", "_")}


def families(page: str) -> set[str]:
    """Metrics that a page has values of."""
    return set(re.findall(r"^(kube_\w+)[{ ]", page, flags=re.MULTILINE))


def allowed(api: Api, user: str, **what: str) -> bool:
    """Whether somebody may do something, as the server sees it now."""
    spec = {"user": user, "resourceAttributes": what}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    _, said, _ = api.ask("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(said["status"]["allowed"])


@contextmanager
def present(api: Api, objects: list[dict[str, Any]]) -> Iterator[None]:
    """They are there, and at the end they are not."""
    made: list[str] = []
    try:
        for each in objects:
            path = api.place(each)
            status, said, _ = api.ask("POST", path, each)
            assert status in (201, 409), said
            made.insert(0, f"{path}/{each['metadata']['name']}")
        yield
    finally:
        for path in made:
            api.ask("DELETE", f"{path}?gracePeriodSeconds=0&propagationPolicy=Background")


@pytest.fixture(scope="module")
def text(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What it tells of these objects, as its own account."""
    run = program("kube-state-metrics", "kube-state-metrics")
    if not run:
        pytest.skip("kube-state-metrics was not built on this machine")
    folder = tmp_path_factory.mktemp("state")
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    rights = [each for each in addon() if each["kind"] not in ("Deployment", "Service")]
    [deployment] = [each for each in addon() if each["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    with present(api, [space, *rights, *(each for each, _ in WORKLOAD)]):
        for each, state in WORKLOAD:
            path = f"{api.place(each)}/{each['metadata']['name']}"
            _, there, _ = api.ask("GET", path)
            status, said, _ = api.ask("PUT", f"{path}/status", {**there, "status": state})
            assert status == 200, said
        # The server hears of rights a moment after it has taken them, and what is refused until then is in the log.
        await_that("it has its rights", lambda: allowed(api, ACCOUNT, verb="list", resource="pods"))
        asks = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        place = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/kube-state-metrics/token"
        status, said, _ = api.ask("POST", place, asks)
        assert status == 201, said
        config = yaml.safe_load(api.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": said["status"]["token"]}
        (folder / "kubeconfig").write_text(yaml.safe_dump(config))
        port, other = free_port(), free_port()
        told_to = [word for word in container["args"] if not re.match(r"--(telemetry-)?port", word)]
        argv = [run, *told_to, f"--kubeconfig={folder / 'kubeconfig'}", f"--port={port}"]
        argv += [f"--telemetry-port={other}", "--host=127.0.0.1", "--telemetry-host=127.0.0.1"]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

        def page(path: str, at: int = port) -> str:
            try:
                with opener.open(f"http://127.0.0.1:{at}{path}", timeout=5) as answer:
                    return str(answer.read().decode())
            except OSError:
                return ""

        with running(argv, folder / "log", lambda: bool(page("/livez"))):
            await_that("it is ready, as its pod is asked", lambda: page("/readyz", other))
            # It hears of each kind by itself; what it never tells of is named by the test.
            with suppress(AssertionError):
                await_that("it knows all kinds", lambda: wanted() <= families(page("/metrics")))
            yield page("/metrics")
        assert "forbidden" not in (folder / "log").read_text()


def test_all_that_is_asked_for_is_told(text: str) -> None:
    assert wanted()
    assert wanted() <= families(text)


def test_nothing_of_secrets_is_told(text: str) -> None:
    assert "# HELP kube_pod_status_phase" in text
    assert "kube_secret" not in text
    assert "kube_configmap" not in text


def test_prometheus_may_ask_for_it_and_for_nothing_else(api: Api, text: str) -> None:
    def may(**what: str) -> bool:
        return allowed(api, "rackloom-prometheus", **{"namespace": NAMESPACE, **what})

    proxy = {"resource": "services", "subresource": "proxy"}
    assert may(verb="get", name=SERVICE, **proxy)
    assert not may(verb="create", name=SERVICE, **proxy)
    assert not may(verb="get", name="http:other:metrics", **proxy)
    assert not may(verb="get", namespace="kube-system", name=SERVICE, **proxy)
    assert not may(verb="list", resource="pods")
