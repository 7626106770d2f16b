"""Ask a Kubernetes cluster through kubectl, and put its answers into sentences."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .kube_client import AWAY, ready, troubles

Object = dict[str, Any]
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
COMMAND_ENDED = "command terminated with exit code"
"""What kubectl says when it was the command in the pod that failed."""
PATIENCE = 20.0
_REASONS_THAT_SAY_NOTHING = ("ContainerCreating", "PodInitializing")


class Failed(Exception):
    """The cluster did not do what it should; the text says what was seen."""


class Skipped(Exception):
    """The check cannot be made on this cluster; the text says why."""


class Limit:
    """The time that one check may take, all its waits together."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, never less than one: who asks gets one more try."""
        return max(self._end - time.monotonic(), 1.0)

    def await_that(self, what: str, done: Callable[[], Any], pause: float = 0.2) -> Any:
        """Poll until something true comes and return that. Failed names what was awaited, and what `done` last saw."""
        last = ""
        while True:
            try:
                value = done()
            except Failed as reason:
                value, last = None, str(reason)
            if value:
                return value
            if time.monotonic() > self._end:
                raise Failed(f"not within {self.seconds:.0f} s: {what}" + (f" ({last})" if last else ""))
            time.sleep(pause)
            pause = min(pause * 1.3, 1.0)


class Cluster:
    """A cluster as kubectl shows it to the owner of a kubeconfig. Several threads may ask at once."""

    def __init__(self, kubeconfig: str, program: str = "kubectl") -> None:
        self.kubeconfig = kubeconfig
        self.program = program

    def run(self, words: Sequence[str], limit: Limit, stdin: str | None = None) -> tuple[int, str, str]:
        """
        Run kubectl; returns its exit status, output and errors. Failed when it takes too long or is not there.

        What was cut off on its way to the API, as by an API server that is being restarted, is asked again for a while.
        """
        end = time.monotonic() + min(PATIENCE, limit.left())
        while True:
            status, out, err = self._once(words, limit, stdin)
            own = status != 0 and COMMAND_ENDED not in err
            if not own or AWAY.search(err) is None or time.monotonic() > end:
                return status, out, err
            time.sleep(0.5)

    def _once(self, words: Sequence[str], limit: Limit, stdin: str | None) -> tuple[int, str, str]:
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "KUBECONFIG": self.kubeconfig,
            "LANG": "C.UTF-8",
        }
        try:
            done = subprocess.run(
                [self.program, *words],
                env=environment,
                input=stdin,
                stdin=None if stdin is not None else subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit.left() + 5,
                check=False,
            )
        except FileNotFoundError:
            raise Failed(f"there is no {self.program} on this node") from None
        except subprocess.TimeoutExpired:
            raise Failed(f"no answer in time from: kubectl {' '.join(words)}") from None
        return done.returncode, done.stdout.strip(), done.stderr.strip()

    def must(self, words: Sequence[str], limit: Limit, stdin: str | None = None) -> str:
        """Run kubectl, which has to succeed; returns its output."""
        status, out, err = self.run(words, limit, stdin)
        if status != 0:
            raise Failed(f"kubectl {' '.join(words)}: {last_words(err or out) or f'exit status {status}'}")
        return out

    def get(self, words: Sequence[str], limit: Limit) -> Object:
        """Return what `kubectl get` answers, as data."""
        answer: Object = json.loads(self.must(["get", *words, "-o", "json"], limit))
        return answer

    def items(self, words: Sequence[str], limit: Limit) -> list[Object]:
        """Return the objects of a list."""
        found: list[Object] = self.get(words, limit).get("items", [])
        return found

    def create(self, objects: Iterable[Object], limit: Limit) -> None:
        """Make objects, all in one call."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        status, out, err = self.run(["create", "-f", "-"], limit, json.dumps(listed))
        # In a namespace of our own, what is there already was made by a first try whose answer was lost.
        told = [line for line in err.splitlines() if line.strip() and "(AlreadyExists)" not in line]
        if status != 0 and (told or not err):
            raise Failed(f"kubectl create: {last_words(err or out) or f'exit status {status}'}")

    def exec(self, namespace: str, pod: str, words: Sequence[str], limit: Limit) -> tuple[int, str]:
        """Run a command in a pod; returns its exit status and all that it said."""
        status, out, err = self.run(["exec", "-n", namespace, pod, "--", *words], limit)
        return status, "\n".join(text for text in (out, err) if text)


def last_words(text: str) -> str:
    """The last line that says something."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def moment(text: str) -> float:
    """Return a time as the API writes it, in seconds since 1970."""
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()  # noqa: FURB162 - Python 3.9 wants it


def condition(thing: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return one of an object's conditions; empty where it has none of this kind."""
    found: Iterable[Mapping[str, Any]] = (thing.get("status") or {}).get("conditions") or []
    return next((entry for entry in found if entry.get("type") == kind), {})


def name_of(thing: Mapping[str, Any]) -> str:
    """Return an object's name."""
    return str(thing["metadata"]["name"])


def address_of(node: Mapping[str, Any]) -> str:
    """Return a node's own address; '' where it has told none."""
    found = (node.get("status") or {}).get("addresses") or []
    return next((str(entry["address"]) for entry in found if entry["type"] == "InternalIP"), "")


def places(nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the nodes that take pods now, workers first."""
    usable = [
        node
        for node in nodes
        if ready(node)
        and not node["spec"].get("unschedulable")
        and not any(taint["effect"] == "NoExecute" for taint in node["spec"].get("taints") or [])
    ]
    return [
        name_of(node)
        for node in sorted(
            usable, key=lambda node: (CONTROL_PLANE in (node["metadata"].get("labels") or {}), name_of(node))
        )
    ]


def compare_nodes(nodes: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> list[str]:
    """Return what is wrong: nodes that are missing, not ready, or nobody's. `wanted` empty takes all there are."""
    there = {name_of(node): node for node in nodes}
    wrong = [f"{name} is not in the cluster" for name in wanted if name not in there]
    for name, node in sorted(there.items()):
        if wanted and name not in wanted:
            wrong.append(f"{name} is in the cluster and not in the inventory")
        elif not ready(node):
            wrong.append(f"{name} is not ready: {troubles(node)}")
    return wrong


def why_not_ready(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return in a few words what keeps a pod from being ready."""
    status = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        for state in (container.get("state") or {}, container.get("lastState") or {}):
            waiting, ended = state.get("waiting"), state.get("terminated")
            if waiting and waiting.get("reason") not in _REASONS_THAT_SAY_NOTHING:
                return ": ".join(filter(None, (waiting.get("reason"), waiting.get("message"))))
            if ended and ended.get("exitCode"):
                return f"it ended with status {ended['exitCode']} ({ended.get('reason', '')})"
    placed = condition(pod, "PodScheduled")
    if placed.get("status") == "False":
        return str(placed.get("message") or placed.get("reason"))
    warnings = [event for event in events if event.get("type") == "Warning"]
    if warnings:
        last = max(
            warnings, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or "")
        )
        return str(last.get("message") or last.get("reason"))
    node = pod["spec"].get("nodeName")
    return f"{status.get('phase', 'unknown')}" + (f" on {node}" if node else ", on no node yet")


def default_class(classes: Iterable[Mapping[str, Any]]) -> str:
    """Return the storage class that claims get by themselves; '' where there is none."""
    for each in classes:
        if (each["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true":
            return name_of(each)
    return ""


def skews(leases: Iterable[Mapping[str, Any]], now: float, fresh: float = 60) -> dict[str, float]:
    """Return by how many seconds each node's clock is ahead of the API server's.

    A node writes its own time into its lease; the server notes beside it when it took that, in full seconds. Both are
    of the same moment. Leases that were not renewed for `fresh` seconds, by the server's clock, belong to nodes that
    are off.
    """
    found = {}
    for lease in leases:
        renewed = (lease.get("spec") or {}).get("renewTime")
        taken = [
            moment(entry["time"]) for entry in lease["metadata"].get("managedFields") or [] if "time" in entry
        ]
        if not renewed or not taken or now - max(taken) > fresh:
            continue
        ahead = moment(renewed) - max(taken)
        # The server drops the fraction, so up to a second of it is no skew at all.
        found[name_of(lease)] = min(ahead, 0.0) if ahead < 1 else ahead - 1
    return found


def stale(namespaces: Iterable[Mapping[str, Any]], now: float, age: float) -> list[str]:
    """Return the namespaces of checks that ended without cleaning up: older than any check lasts."""
    return [
        name_of(each)
        for each in namespaces
        if each["metadata"].get("deletionTimestamp") is None
        and now - moment(each["metadata"]["creationTimestamp"]) > age
    ]
