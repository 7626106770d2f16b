"""What the checks put into a cluster: pods that serve their own name, and what leads to them.

Every pod keeps to the strictest Pod Security level and asks for next to nothing.
"""

from __future__ import annotations

import json
from typing import Any

from .kube_client import CHECK

Object = dict[str, Any]
PORT = 8080
FOLDER = "/www"
LIFETIME = 900
"""Seconds after which a pod ends by itself, should nobody clean up."""
NAMESPACE = "rackloom-check-"
TOKEN = "served by"  # noqa: S105 - what a log line begins with
SERVE = f'echo "$SAY" > {FOLDER}/index.html; echo "{TOKEN} $SAY"; exec httpd -f -p {PORT} -h {FOLDER}'


def as_text(thing: Object) -> str:
    """An object as kubectl reads it."""
    return json.dumps(thing)


def namespace(name: str) -> Object:
    """The place for all of it: what is deleted in the end."""
    labels = {CHECK: "true", "pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def spec(
    image: str,
    command: str,
    *,
    nodes: tuple[str, ...] = (),
    claim: str = "",
    environment: Object | None = None,
) -> Object:
    """A pod's inside: one shell. `nodes` are the only ones it may run on, whatever taints they have."""
    volume: Object = {"name": "data", "emptyDir": {}}
    if claim:
        volume = {"name": "data", "persistentVolumeClaim": {"claimName": claim}}
    inside: Object = {
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "runAsGroup": 65534,
            "fsGroup": 65534,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "it",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", command],
                "env": [{"name": name, "value": value} for name, value in (environment or {}).items()],
                "resources": {"requests": {"cpu": "5m", "memory": "8Mi"}},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "data", "mountPath": FOLDER}],
            }
        ],
        "volumes": [volume],
    }
    if nodes:
        terms = [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]} for name in nodes
        ]
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        inside["affinity"] = {"nodeAffinity": required}
        inside["tolerations"] = [{"operator": "Exists"}]
    return inside


def pod(name: str, space: str, labels: Object, inside: Object) -> Object:
    """A pod that ends by itself in the end and is not made anew."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "labels": {**labels, CHECK: "true"}},
        "spec": {**inside, "restartPolicy": "Never", "activeDeadlineSeconds": LIFETIME},
    }


def server(name: str, space: str, image: str, node: str, **labels: str) -> Object:
    """A pod on a node that serves its own name and is ready once it does."""
    inside = spec(image, SERVE, nodes=(node,), environment={"SAY": name})
    inside["containers"][0]["readinessProbe"] = probe()
    return pod(name, space, labels, inside)


def with_gpu(name: str, space: str, image: str, node: str, resource: str) -> Object:
    """A pod on a node that has one GPU, or slice, and waits to be asked what it sees."""
    inside = spec(image, f"sleep {LIFETIME}", nodes=(node,))
    inside["containers"][0]["resources"]["limits"] = {resource: 1}
    return pod(name, space, {}, inside)


def probe() -> Object:
    """Ready as soon as it serves."""
    return {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1}


def service(name: str, space: str, selector: Object, kind: str = "ClusterIP") -> Object:
    """A service of port 80 before pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": space},
        "spec": {"type": kind, "selector": selector, "ports": [{"port": 80, "targetPort": PORT}]},
    }


def policy(name: str, space: str, target: Object, friends: Object | None = None) -> Object:
    """Let nobody reach the pods `target`, or none but `friends`."""
    ingress = [{"from": [{"podSelector": {"matchLabels": friends}}]}] if friends else []
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": space},
        "spec": {"podSelector": {"matchLabels": target}, "policyTypes": ["Ingress"], "ingress": ingress},
    }


def claim(name: str, space: str) -> Object:
    """A claim on a little of the default storage class."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": space},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "8Mi"}}},
    }


def deployment(name: str, space: str, image: str, nodes: tuple[str, ...], say: str) -> Object:
    """Two pods that say something, replaced one by one, never fewer than two that are ready."""
    inside = spec(image, SERVE, nodes=nodes, environment={"SAY": say})
    inside["terminationGracePeriodSeconds"] = 6
    it = inside["containers"][0]
    it["readinessProbe"] = probe()
    # It goes on serving until every node has taken it out of the service.
    it["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", "3"]}}}
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": space},
        "spec": {
            "replicas": 2,
            "progressDeadlineSeconds": 120,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": labels}, "spec": inside},
        },
    }
