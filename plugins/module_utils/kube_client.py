"""Ask Kubernetes through kubectl, patiently: an API server that is just being restarted is no answer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

ADMIN = "/etc/kubernetes/admin.conf"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CHECK = "rackloom.cluster/check"
"""Label of everything that our own checks make; it is deleted when they end."""
CORDONED = "rackloom.cluster/cordoned"
"""Annotation of a node that was cordoned by us; its value says for what."""
AWAY = re.compile(
    r"connection refused|connection reset|unexpected EOF|: EOF|i/o timeout|TLS handshake timeout|Unable to connect"
    r"|no route to host|server is currently unable|ServiceUnavailable|leader changed|no leader|request timed out"
    r"|context deadline exceeded|too many requests|server rejected our request|not yet ready|Client\.Timeout"
    r"|http2: client connection lost|InternalError|etcdserver"
    # a kubelet that has only just joined, and has no certificate to show yet
    r"|remote error: tls: internal error",
    re.IGNORECASE,
)
"""What kubectl says when it is worth asking again."""

Run = Callable[[Sequence[str], str], "tuple[int, str, str]"]
"""Runs a program with something on its standard input: exit status, output, errors."""


class KubeError(Exception):
    """Kubernetes did not do what it was asked; the text is for people."""


def bracketed(address: str) -> str:
    """An address as it stands before a port."""
    return f"[{address}]" if ":" in address else address


def runner(module: Any) -> Run:
    """An AnsibleModule's way to run programs, as this package calls them."""

    def run(argv: Sequence[str], data: str = "") -> tuple[int, str, str]:
        try:
            rc, out, err = module.run_command(
                list(argv),
                data=data or None,
                environ_update={"PATH": PATH, "LC_ALL": "C.UTF-8"},
                handle_exceptions=False,
            )
        except OSError as error:
            return 127, "", f"{argv[0]}: {error.strerror}"
        return int(rc), str(out), str(err)

    return run


def pull(run: Run, images: Iterable[str], seconds: int) -> list[str]:
    """Bring the images that lack onto this node; returns these.

    Not the one of pods' sandboxes: kubeadm names one of its own release, but the runtime's settings say which is used,
    and no other need be there. Raises KubeError.
    """
    pulled = []
    for image in images:
        if (
            image.rpartition("/")[2].startswith("pause:")
            or run(["crictl", "inspecti", "--quiet", image], "")[0] == 0
        ):
            continue
        rc, out, err = run(["timeout", str(seconds), "crictl", "pull", image], "")
        if rc != 0:
            raise KubeError(f"{image} cannot be had: {(err or out).strip()[-500:]}")
        pulled.append(image)
    return pulled


class Kubectl:
    """kubectl with a kubeconfig. `patience`: seconds in which an API that does not answer is asked again."""

    def __init__(
        self,
        run: Run,
        kubeconfig: str = ADMIN,
        patience: float = 60,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run = run
        self.kubeconfig = kubeconfig
        self.patience = patience
        self.pause = pause
        self.clock = clock

    def call(self, *words: str, data: str = "", timeout: int = 20) -> str:
        """What kubectl printed. Raises KubeError."""
        end = self.clock() + self.patience
        argv = ["kubectl", f"--kubeconfig={self.kubeconfig}", f"--request-timeout={timeout}s", *words]
        while True:
            rc, out, err = self.run(argv, data)
            if rc == 0:
                return out
            if AWAY.search(err) is None or self.clock() >= end:
                raise KubeError(
                    f"kubectl {' '.join(words[:3])}: {(err or out).strip() or f'ended with {rc}'}"
                )
            self.pause(1)

    def get(self, *words: str) -> Any:
        """The same, as data."""
        text = self.call("get", *words, "--output=json")
        try:
            return json.loads(text)
        except ValueError:
            raise KubeError(f"kubectl get {' '.join(words[:2])} gave no JSON") from None

    def items(self, *words: str) -> list[dict[str, Any]]:
        """A list of objects."""
        return [dict(item) for item in self.get(*words).get("items", [])]

    def find(self, *words: str) -> dict[str, Any] | None:
        """One object, or None where there is none."""
        text = self.call("get", *words, "--output=json", "--ignore-not-found")
        return dict(json.loads(text)) if text.strip() else None


# --- What objects say ----------------------------------------------------------------------


def ready(node: Mapping[str, Any]) -> bool:
    """Whether the kubelet of a node says that it is well."""
    conditions = node.get("status", {}).get("conditions", [])
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def troubles(node: Mapping[str, Any]) -> str:
    """Why a node is not ready."""
    for each in node.get("status", {}).get("conditions", []):
        if each.get("type") == "Ready" and each.get("status") != "True":
            return str(each.get("message") or each.get("reason") or "not ready")
    return "" if ready(node) else "it has never said that it is ready"


def node_row(node: Mapping[str, Any]) -> dict[str, Any]:
    """What plans need to know of a node."""
    metadata, spec, status = node["metadata"], node.get("spec", {}), node.get("status", {})
    addresses = {each.get("type"): each.get("address") for each in status.get("addresses", [])}
    return {
        "name": metadata["name"],
        "ready": ready(node),
        "trouble": troubles(node),
        "kubelet": str(status.get("nodeInfo", {}).get("kubeletVersion", "")).removeprefix("v"),
        "runtime": str(status.get("nodeInfo", {}).get("containerRuntimeVersion", "")),
        "address": str(addresses.get("InternalIP") or ""),
        "cordoned": bool(spec.get("unschedulable")),
        "cordoned_for": str((metadata.get("annotations") or {}).get(CORDONED, "")),
        "control_plane": "node-role.kubernetes.io/control-plane" in (metadata.get("labels") or {}),
    }


def tag_of(image: str) -> str:
    """The tag in an image's name: of registry:5000/a/b:v1@sha256:… it is v1."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]


def full_name(thing: Mapping[str, Any]) -> str:
    """namespace/name."""
    return f"{thing['metadata'].get('namespace', '')}/{thing['metadata']['name']}"


def is_mirror(pod: Mapping[str, Any]) -> bool:
    """A static pod's picture in the API; it goes with its file, not by eviction."""
    return "kubernetes.io/config.mirror" in (pod["metadata"].get("annotations") or {})


def owner(pod: Mapping[str, Any]) -> str:
    """The kind of what would make the pod anew, '' where nothing would."""
    for each in pod["metadata"].get("ownerReferences") or []:
        if each.get("controller"):
            return str(each.get("kind", ""))
    return ""


def over(pod: Mapping[str, Any]) -> bool:
    """A pod that has done its work."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def to_evict(pods: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that a drain has to move: no static pods, none of DaemonSets, none that are over."""
    return [pod for pod in pods if not is_mirror(pod) and owner(pod) != "DaemonSet" and not over(pod)]


def unmanaged(pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of those that nothing would make anew and somebody may miss: not our checks', nor what ends anyway."""
    return sorted(
        full_name(pod)
        for pod in to_evict(pods)
        if not owner(pod)
        and not pod["metadata"].get("deletionTimestamp")
        and CHECK not in (pod["metadata"].get("labels") or {})
    )


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector fits. An empty one fits all, none fits nothing."""
    if selector is None:
        return False
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for term in selector.get("matchExpressions") or []:
        key, operator, values = term["key"], term["operator"], term.get("values") or []
        good = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }.get(operator, False)
        if not good:
            return False
    return True


def holding(
    pods: Iterable[Mapping[str, Any]], budgets: Iterable[Mapping[str, Any]]
) -> list[tuple[str, str, list[str]]]:
    """Budgets that let none of these pods go now: (budget, how it stands, pods)."""
    found = []
    pods = to_evict(pods)
    for budget in budgets:
        status = budget.get("status", {})
        if int(status.get("disruptionsAllowed") or 0) > 0:
            continue
        space = budget["metadata"].get("namespace", "")
        held = [
            full_name(pod)
            for pod in pods
            if pod["metadata"].get("namespace", "") == space
            and selects(budget.get("spec", {}).get("selector"), pod["metadata"].get("labels") or {})
        ]
        if held:
            stands = (
                f"{status.get('currentHealthy', 0)} of {status.get('expectedPods', 0)} pods are healthy and "
                f"{status.get('desiredHealthy', 0)} have to be"
            )
            found.append((full_name(budget), stands, sorted(held)))
    return sorted(found)
