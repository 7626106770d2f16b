#!/usr/bin/python
"""What runs inside a cluster of Kubernetes, as releases of helm: installed, kept, removed, and waited for."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_releases
short_description: Bring a set of helm releases to its state in one call
description:
  - Runs on a node with helm, kubectl and an administrator's kubeconfig. Installs, upgrades and removes all releases of
    an owner, in the order given, and waits until their pods serve.
  - Each release carries a digest of all that was asked for it, chart and values included. Where it still holds,
    helm is not called, so a second run costs two questions to the API however many releases there are.
  - A release whose installation was killed half way is taken up again.
  - A release that has this owner and is no longer named is removed. Releases of others are left alone, as are custom
    resource definitions and namespaces, because what users made would go with them.
  - Nodes that do not answer are not waited for.
options:
  owner:
    description: Whose releases these are.
    type: str
    required: true
  releases:
    description: All releases that the owner wants, in order.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the release.
        type: str
        required: true
      title:
        description: What messages call it; its name when not given.
        type: str
      namespace:
        description: Where it is installed; made where it is missing.
        type: str
        required: true
      labels:
        description: Labels that the namespace must have.
        type: dict
        default: {}
      chart:
        description: Path of the chart on the node; one of this, O(releases[].manifests) and O(releases[].manifest).
        type: path
      values:
        description: Values for the chart.
        type: dict
        default: {}
      manifests:
        description: Objects as YAML text, installed as a chart that consists of nothing else.
        type: str
      manifest:
        description:
          - Path of a file on the node with objects, as a project publishes them where it has no chart.
          - Its definitions are applied first and never removed, namespaces in it are left out, and the rest is
            installed as a chart.
        type: path
      images:
        description:
          - References of the images that O(releases[].manifest) may name. Each is put in the place of the one of the
            same repository there, which may be written shorter. Another image is refused.
        type: list
        elements: str
        default: []
      definitions:
        description: Paths of files on the node with custom resource definitions, applied first and never removed.
        type: list
        elements: path
        default: []
      after:
        description: Releases of this call whose pods must serve before.
        type: list
        elements: str
        default: []
  patches:
    description: Objects that others installed, and what they are to have (a JSON merge patch).
    type: list
    elements: dict
    default: []
    suboptions:
      kind:
        description: Kind of the object, as kubectl takes it.
        type: str
        required: true
      name:
        description: Name of the object.
        type: str
        required: true
      namespace:
        description: Its namespace.
        type: str
        required: true
      patch:
        description: The patch; an object that has all of it is left alone.
        type: dict
        required: true
  timeout:
    description: Seconds in which all pods must serve.
    type: int
    default: 300
  grace:
    description: Seconds for which a pod that cannot start may mend itself before the task fails.
    type: int
    default: 60
  kubeconfig:
    description: Credentials of an administrator.
    type: path
    default: /etc/kubernetes/admin.conf
author: The Rackloom authors
"""

EXAMPLES = r"""
- name: install | Bring the add-ons to their state
  rackloom.cluster.kube_releases:
    owner: kube_addons
    releases:
      - name: metrics-server
        namespace: kube-system
        chart: /var/lib/rackloom/charts/metrics-server.tgz
        values: {replicas: 2}
"""

RETURN = r"""
installed:
  description: Releases that were installed or upgraded, or would be in check mode.
  returned: always
  type: list
  elements: str
removed:
  description: Releases that were removed, or would be in check mode.
  returned: always
  type: list
  elements: str
patched:
  description: Objects that were patched, or would be in check mode.
  returned: always
  type: list
  elements: str
"""

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.kube_client import (  # noqa: TID252 - how a collection's plugins find each other
    ADMIN,
    AWAY,
    Kubectl,
    KubeError,
    Run,
    runner,
)

LABEL_OWNER = "rackloom.cluster.owner"
LABEL_DIGEST = "rackloom.cluster.digest"
MANAGER = "rackloom"
RECIPE = 1
"""Counts changes of this file after which releases have to be installed anew."""

NOT_YET = re.compile(
    r"failed calling webhook|no endpoints available|connection refused|no matches for kind|i/o timeout"
    r"|context deadline exceeded|x509: certificate signed by unknown authority|server is currently unable",
    re.IGNORECASE,
)
"""What helm says where something that was only just installed does not answer yet."""

STUCK = (
    *("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"),
    *("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff"),
)
"""Reasons for which a container waits and that seldom go away by themselves."""

DOCUMENT = re.compile(r"^---.*\n", re.MULTILINE)
KIND = re.compile(r"^kind:\s*(\w+)", re.MULTILINE)
IMAGE = re.compile(
    r"""^(?P<key>[ -]*image:[ ]+)(?P<quote>["']?)(?P<image>[^\s"'#]+)(?P=quote)[ ]*$""", re.MULTILINE
)

SETTLE = 5.0
"""Seconds after which what was just installed is looked at again."""

WORKLOADS = "deployments,daemonsets,statefulsets"
RELEASE = "meta.helm.sh/release-name"
NAMESPACE = "meta.helm.sh/release-namespace"
TEMPLATE = "deprecated.daemonset.template.generation"

Release = Mapping[str, Any]


# --- What is wanted ------------------------------------------------------------------------


def file_digest(path: str) -> str:
    """The sha256 of a file; '' where there is none."""
    try:
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()
    except FileNotFoundError:
        return ""


def digest_of(release: Release) -> str:
    """A short digest of all that is asked for a release; it fits into a label."""
    parts = {
        "recipe": RECIPE,
        "asked": {key: release.get(key) for key in ("name", "namespace", "labels", "values", "manifests")},
        "chart": file_digest(release["chart"]) if release.get("chart") else "",
        "definitions": [file_digest(path) for path in release.get("definitions") or []],
    }
    if release.get("manifest"):
        parts["published"] = [file_digest(release["manifest"]), list(release.get("images") or [])]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


def title(release: Release) -> str:
    """What people call it."""
    return str(release.get("title") or release["name"])


def missing_part(wanted: Any, found: Any) -> bool:
    """Whether a merge patch would change an object."""
    if isinstance(wanted, Mapping):
        return not isinstance(found, Mapping) or any(
            (key in found) if part is None else missing_part(part, found.get(key))
            for key, part in wanted.items()
        )
    return bool(wanted != found)


def chart_of_objects(folder: str, name: str, manifests: str) -> str:
    """Make a chart that holds some objects and nothing to be filled in."""
    os.makedirs(os.path.join(folder, "templates"))
    with open(os.path.join(folder, "Chart.yaml"), "w", encoding="utf-8") as stream:
        stream.write(json.dumps({"apiVersion": "v2", "name": name, "version": "1.0.0"}))
    with open(os.path.join(folder, "templates", "objects.yaml"), "w", encoding="utf-8") as stream:
        stream.write(manifests.replace("{{", '{{ "{{" }}'))
    return folder


def repository_of(reference: str) -> str:
    """The repository of an image, with what is left out of a short name."""
    name = reference.partition("@")[0]
    place, slash, last = name.rpartition("/")
    name = place + slash + last.partition(":")[0]
    first, _, rest = name.partition("/")
    if rest and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if rest else f"docker.io/library/{name}"


def published(path: str, images: Iterable[str]) -> tuple[str, str]:
    """
    Definitions, and the other objects, of a file that a project publishes; its namespaces are left out.

    Read by lines, because nodes have no parser of YAML: a key at the margin is a key of the object.
    """
    wanted = {repository_of(image): image for image in images}
    with open(path, encoding="utf-8") as stream:
        documents = DOCUMENT.split(stream.read())

    def known(found: re.Match[str]) -> str:
        image = wanted.get(repository_of(found["image"]))
        if image is None:
            raise KubeError(f"{path} names the image {found['image']}, which nobody has declared")
        return f"{found['key']}{image}"

    definitions, others = [], []
    for document in documents:
        kind = KIND.search(document)
        if kind is not None and kind[1] == "CustomResourceDefinition":
            definitions.append(document)
        elif kind is not None and kind[1] != "Namespace":
            others.append(IMAGE.sub(known, document))
    return "---\n".join(definitions), "---\n".join(others)


# --- What is there -------------------------------------------------------------------------


class Found:
    """What helm keeps of one release: the newest record and its state."""

    def __init__(self, name: str, namespace: str) -> None:
        self.name, self.namespace = name, namespace
        self.version = 0
        self.status = self.digest = self.secret = ""


def releases_of(kubectl: Kubectl, owner: str) -> dict[tuple[str, str], Found]:
    """The owner's releases by namespace and name, out of the labels of helm's records alone."""
    columns = ["NAME:.metadata.name", "NS:.metadata.namespace"]
    keys = ["name", "version", "status", LABEL_DIGEST.replace(".", "\\.")]
    columns += [f"L{number}:.metadata.labels.{key}" for number, key in enumerate(keys)]
    selector = f"--selector=owner=helm,{LABEL_OWNER}={owner}"
    text = kubectl.call(
        "get",
        "secrets",
        "--all-namespaces",
        selector,
        "--no-headers",
        f"--output=custom-columns={','.join(columns)}",
    )
    found: dict[tuple[str, str], Found] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) != 6:
            continue
        secret, namespace, name, version, status, digest = words
        one = found.setdefault((namespace, name), Found(name, namespace))
        if int(version) > one.version:
            one.version, one.status, one.digest, one.secret = int(version), status, digest, secret
    return found


# --- Whether it serves ---------------------------------------------------------------------


def away(nodes: Iterable[Mapping[str, Any]]) -> set[str]:
    """Nodes of which nothing has been heard."""
    silent = set()
    for node in nodes:
        for each in node.get("status", {}).get("conditions", []):
            if each.get("type") == "Ready" and each.get("status") == "Unknown":
                silent.add(str(node["metadata"]["name"]))
    return silent


def belongs(workload: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether a pod is one of a workload's."""
    if pod["metadata"].get("namespace") != workload["metadata"].get("namespace"):
        return False
    wanted = workload["spec"].get("selector", {}).get("matchLabels", {})
    labels = pod["metadata"].get("labels", {})
    return bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())


def serves(pod: Mapping[str, Any]) -> bool:
    """Whether all of a pod's containers are ready."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def current(workload: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether a pod of a DaemonSet was made from its present template, as far as can be told."""
    wanted = workload["metadata"].get("annotations", {}).get(TEMPLATE)
    has = pod["metadata"].get("labels", {}).get("pod-template-generation")
    return wanted is None or has is None or str(wanted) == str(has)


def whole(workload: Mapping[str, Any]) -> bool:
    """Whether a workload says that all of it is there and new, on all nodes."""
    spec, status = workload["spec"], workload.get("status", {})
    if status.get("observedGeneration", 0) < workload["metadata"].get("generation", 0):
        return False
    if workload["kind"] == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        return bool(
            status.get("numberReady", 0) >= wanted and status.get("updatedNumberScheduled", 0) >= wanted
        )
    wanted = spec.get("replicas", 1)
    if workload["kind"] == "StatefulSet":
        same = status.get("currentRevision") == status.get("updateRevision")
        return bool(status.get("readyReplicas", 0) >= wanted and same)
    return bool(
        status.get("availableReplicas", 0) >= wanted
        and status.get("updatedReplicas", 0) >= wanted
        and status.get("replicas", 0) <= wanted
    )


def whole_where_nodes_answer(
    workload: Mapping[str, Any],
    pods: Sequence[Mapping[str, Any]],
    silent: set[str],
    *,
    unchanged: bool = False,
) -> bool:
    """
    The same, without the nodes that do not answer.

    A DaemonSet's pods cannot go elsewhere. Others do in the end, which takes Kubernetes some minutes; where nothing
    changed, nobody waits for that.
    """
    if whole(workload):
        return True
    status = workload.get("status", {})
    seen = status.get("observedGeneration", 0) >= workload["metadata"].get("generation", 0)
    if not silent or not seen or (workload["kind"] != "DaemonSet" and not unchanged):
        return False
    mine = [pod for pod in pods if belongs(workload, pod)]
    there = [pod for pod in mine if pod["spec"].get("nodeName") not in silent]
    if workload["kind"] != "DaemonSet":
        known = len(mine) >= workload["spec"].get("replicas", 1) and len(mine) > len(there)
        return known and all(serves(pod) for pod in there)
    lost = {pod["spec"].get("nodeName") for pod in mine} & silent
    enough = len(there) >= status.get("desiredNumberScheduled", 0) - len(lost)
    return enough and all(serves(pod) and current(workload, pod) for pod in there)


def trouble(pod: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Reason, words and whether it is unlikely to go away; empty where nothing is wrong with a pod."""
    status = pod.get("status", {})
    for each in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        if each.get("ready"):
            continue
        state = each.get("state", {})
        waiting = state.get("waiting") or {}
        reason = str(waiting.get("reason", ""))
        ended = state.get("terminated") or each.get("lastState", {}).get("terminated") or {}
        if reason in STUCK and not ended:
            return reason, str(waiting.get("message", "")), True
        if ended and (ended.get("exitCode") or each.get("restartCount")):
            said = f"container {each.get('name')} ended with {ended.get('exitCode', '?')}"
            said += f" ({ended['reason']})" if ended.get("reason") not in (None, "Error", "Completed") else ""
            said += f", {each.get('restartCount', 0)} times started anew"
            return reason if reason in STUCK else "Crashing", said, True
    for each in status.get("conditions", []):
        if each.get("type") == "PodScheduled" and each.get("status") == "False":
            return str(each.get("reason", "Unschedulable")), str(each.get("message", "")), False
    if not serves(pod):
        for each in status.get("containerStatuses", []):
            if not each.get("ready"):
                what = "is not ready" if "running" in each.get("state", {}) else "has not started"
                return str(status.get("phase", "Pending")), f"container {each.get('name')} {what}", False
        reason = str(status.get("reason") or status.get("phase", "Pending"))
        return reason, str(status.get("message") or "has not started"), False
    return "", "", False


def established(definition: Mapping[str, Any]) -> bool:
    """Whether the API serves the kind that a custom resource definition brings."""
    conditions = definition.get("status", {}).get("conditions") or []
    return any(each.get("type") == "Established" and each.get("status") == "True" for each in conditions)


# --- Doing it ------------------------------------------------------------------------------


class Cluster:
    """Installs, removes and waits."""

    def __init__(
        self,
        run: Run,
        params: Mapping[str, Any],
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run, self.params, self.pause, self.clock = run, params, pause, clock
        self.kubectl = Kubectl(run, params["kubeconfig"], pause=pause, clock=clock)
        self.end = clock() + params["timeout"]
        self.stuck: dict[str, float] = {}

    def helm(self, *words: str, data: str = "") -> str:
        """What helm printed. Raises KubeError."""
        rc, out, err = self.run(["helm", *words, f"--kubeconfig={self.params['kubeconfig']}"], data)
        if rc:
            raise KubeError((err or out).strip() or f"helm {words[0]} ended with {rc}")
        return out

    def refused(self, argv: Sequence[str], data: str) -> str:
        """Why helm did not do it; '' where it did."""
        try:
            self.helm(*argv, data=data)
        except KubeError as error:
            return str(error)
        return ""

    # --- installing

    def prepare(self, release: Release, found: Found | None) -> None:
        """Namespace, definitions, and no half-done record in the way."""
        wanted = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": release["namespace"], "labels": dict(release.get("labels") or {})},
        }
        apply = ["apply", "--server-side", "--force-conflicts", f"--field-manager={MANAGER}", "--filename=-"]
        self.kubectl.call(*apply, data=json.dumps(wanted))
        for path in release.get("definitions") or []:
            with open(path, encoding="utf-8") as stream:
                self.define(stream.read())
        if release.get("manifest"):
            text, _ = published(release["manifest"], release.get("images") or [])
            self.define(text)
        if release.get("chart") and (text := self.helm("show", "crds", release["chart"])).strip():
            self.define(text)
        self.unlock(found)

    def unlock(self, found: Found | None) -> None:
        """Remove a record that says that helm is at work, where it was cut off: helm would not begin again."""
        if found is not None and found.status.startswith("pending"):
            self.kubectl.call(
                "delete", "secret", found.secret, f"--namespace={found.namespace}", "--ignore-not-found"
            )

    def define(self, text: str) -> None:
        """Apply custom resource definitions and wait until the API serves them."""
        if not text.strip():
            return
        apply = ["apply", "--server-side", "--force-conflicts", f"--field-manager={MANAGER}", "--filename=-"]
        names = self.kubectl.call(*apply, "--output=name", data=text, timeout=60).split()
        kinds = [name for name in names if name.startswith("customresourcedefinition")]
        # `kubectl wait` gives up at once on a definition whose list of conditions is still null, as on one that was
        # only just made it may be; so the API is asked itself.
        end = self.clock() + 60
        while kinds and (late := self.unserved(kinds)):
            if self.clock() >= end:
                raise KubeError(f"the API does not serve {', '.join(late)} after 60 s")
            self.pause(0.5)

    def unserved(self, definitions: Sequence[str]) -> list[str]:
        """Those of some custom resource definitions whose kind the API does not serve yet."""
        found = self.kubectl.get(*definitions)
        # kubectl gives one object as itself, several as a list
        return [each["metadata"]["name"] for each in found.get("items", [found]) if not established(each)]

    def install(self, release: Release, found: Found | None) -> None:
        """Install or upgrade one release; what was only just installed may take a moment to answer."""
        self.prepare(release, found)
        labels = f"{LABEL_OWNER}={self.params['owner']},{LABEL_DIGEST}={digest_of(release)}"
        with tempfile.TemporaryDirectory(prefix="rackloom-") as work:
            chart = release.get("chart")
            if not chart:
                text = release.get("manifests")
                if release.get("manifest"):
                    _, text = published(release["manifest"], release.get("images") or [])
                chart = chart_of_objects(os.path.join(work, release["name"]), release["name"], text or "")
            argv = ["upgrade", "--install", release["name"], chart, f"--namespace={release['namespace']}"]
            argv += ["--values=-", f"--labels={labels}", "--history-max=3", "--skip-crds"]
            while said := self.refused(argv, json.dumps(release.get("values") or {})):
                cut_off = AWAY.search(said) is not None
                if (NOT_YET.search(said) is None and not cut_off) or self.clock() >= self.end:
                    raise KubeError(f"{title(release)}: helm could not install it: {said}")
                self.pause(2)
                if cut_off:
                    begun = releases_of(self.kubectl, self.params["owner"])
                    self.unlock(begun.get((release["namespace"], release["name"])))

    def remove(self, found: Found) -> None:
        """Uninstall a release."""
        argv = ["uninstall", found.name, f"--namespace={found.namespace}", "--ignore-not-found", "--wait"]
        while said := self.refused(argv, ""):
            if AWAY.search(said) is None or self.clock() >= self.end:
                raise KubeError(said)
            self.pause(2)

    # --- waiting

    def wait(
        self,
        releases: Sequence[Release],
        others: Sequence[Mapping[str, Any]] = (),
        *,
        closely: bool = False,
        unchanged: bool = False,
    ) -> None:
        """
        Until all pods of these releases, and of other workloads by namespace and name, serve.

        `closely` looks at the pods themselves too, and does not only take the word of what made them. `unchanged` does
        not wait until what was lost with a node is made anew on another one.
        """
        titles = {(each["namespace"], each["name"]): title(each) for each in releases}
        names = {(each["namespace"], each["name"]): each["name"] for each in others}
        while titles or names:
            items = self.kubectl.items(WORKLOADS, "--all-namespaces")
            mine = [(label, each) for each in items if (label := whose(each, titles, names))]
            if not closely and all(whole(each) for _, each in mine):
                return
            pods = self.kubectl.items("pods", "--all-namespaces")
            silent = away(self.kubectl.items("nodes"))
            there = [pod for pod in pods if pod["spec"].get("nodeName") not in silent]
            waiting = [
                (label, each)
                for label, each in mine
                if not whole_where_nodes_answer(each, pods, silent, unchanged=unchanged)
                or (closely and any(trouble(pod)[2] for pod in there if belongs(each, pod)))
            ]
            if not waiting:
                return
            self.judge(waiting, there)
            self.pause(1)

    def judge(self, waiting: Sequence[tuple[str, dict[str, Any]]], pods: Sequence[dict[str, Any]]) -> None:
        """Raise KubeError where waiting longer is of no use."""
        now = self.clock()
        told: list[str] = []
        seen: dict[str, float] = {}
        hopeless = False
        for label, workload in waiting:
            mine = [pod for pod in pods if belongs(workload, pod)]
            for pod in mine:
                reason, said, lasting = trouble(pod)
                if not reason:
                    continue
                name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
                place = f" on {pod['spec']['nodeName']}" if pod["spec"].get("nodeName") else ""
                line = f"{label}: pod {name}{place}: {reason}" + (f": {said}" if said else "")
                if lasting:
                    seen[name] = self.stuck.get(name, now)
                    if now - seen[name] >= self.params["grace"]:
                        hopeless = True
                        line += self.last_words(pod)
                told.append(line)
            if not mine:
                kind = str(workload["kind"])
                told.append(f"{label}: {kind} {workload['metadata']['name']} has made no pod")
        self.stuck = seen
        if hopeless or now >= self.end:
            more = f"; and {len(told) - 4} more" if len(told) > 4 else ""
            raise KubeError("; ".join(told[:4]) + more if told else "pods are not ready in time")

    def last_words(self, pod: Mapping[str, Any]) -> str:
        """The end of what a container that died said."""
        where = f"--namespace={pod['metadata']['namespace']}"
        argv = [
            "kubectl",
            f"--kubeconfig={self.params['kubeconfig']}",
            "logs",
            where,
            pod["metadata"]["name"],
        ]
        for which in ("--previous=false", "--previous"):
            rc, out, _ = self.run([*argv, which, "--all-containers", "--tail=40"], "")
            if rc == 0 and out.strip() and not out.startswith("unable to retrieve"):
                return f"; its last words: {' / '.join(spoken(out)[-3:])}"
        return ""


def spoken(text: str) -> list[str]:
    """The lines of a log that are for people: what stands before the trace of a program that fell over."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    begin = next((number for number, line in enumerate(lines) if line.startswith("goroutine ")), len(lines))
    return lines[:begin] or lines


def whose(
    workload: Mapping[str, Any], titles: Mapping[tuple[str, str], str], names: Mapping[tuple[str, str], str]
) -> str:
    """The title of the release that a workload is part of, or its own name where that is waited for; else ''."""
    metadata = workload["metadata"]
    notes = metadata.get("annotations", {})
    release = (str(notes.get(NAMESPACE, "")), str(notes.get(RELEASE, "")))
    own = (str(metadata.get("namespace", "")), str(metadata["name"]))
    return titles.get(release) or names.get(own) or ""


def patch(
    cluster: Cluster, patches: Sequence[Mapping[str, Any]], *, really: bool
) -> tuple[list[str], list[Mapping[str, Any]]]:
    """Patch what does not have what it is to have; returns names, and workloads to wait for."""
    done, workloads = [], []
    for each in patches:
        where = f"--namespace={each['namespace']}"
        found = cluster.kubectl.find(each["kind"], each["name"], where)
        if found is None and really:
            raise KubeError(f"there is no {each['kind']} {each['name']} in {each['namespace']}")
        if str(each["kind"]).lower() in ("deployment", "daemonset", "statefulset"):
            workloads.append(each)
        if missing_part(each["patch"], found):  # in check mode also of what is not installed yet
            done.append(f"{each['kind']} {each['name']}")
            if really:
                text = json.dumps(each["patch"])
                cluster.kubectl.call(
                    "patch", each["kind"], each["name"], where, "--type=merge", "--patch", text
                )
    return done, workloads


def main() -> None:
    """Compare, do what differs, wait."""
    release = {
        "name": {"type": "str", "required": True},
        "title": {"type": "str"},
        "namespace": {"type": "str", "required": True},
        "labels": {"type": "dict", "default": {}},
        "chart": {"type": "path"},
        "values": {"type": "dict", "default": {}},
        "manifests": {"type": "str"},
        "manifest": {"type": "path"},
        "images": {"type": "list", "elements": "str", "default": []},
        "definitions": {"type": "list", "elements": "path", "default": []},
        "after": {"type": "list", "elements": "str", "default": []},
    }
    change = {
        "kind": {"type": "str", "required": True},
        "name": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "patch": {"type": "dict", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "owner": {"type": "str", "required": True},
            "releases": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": release,
                "required_one_of": [("chart", "manifests", "manifest")],
                "mutually_exclusive": [("chart", "manifests", "manifest")],
            },
            "patches": {"type": "list", "elements": "dict", "default": [], "options": change},
            "timeout": {"type": "int", "default": 300},
            "grace": {"type": "int", "default": 60},
            "kubeconfig": {"type": "path", "default": ADMIN},
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted: list[dict[str, Any]] = params["releases"]
    if module.check_mode and not os.path.exists(params["kubeconfig"]):
        names = [each["name"] for each in wanted]  # a cluster that is not there has none of it
        module.exit_json(changed=bool(names or params["patches"]), installed=names, removed=[], patched=[])
    cluster = Cluster(runner(module), params)
    try:
        installed, removed, patched = bring(cluster, wanted, really=not module.check_mode)
    except (KubeError, OSError) as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(
            changed=bool(installed or removed or patched),
            installed=installed,
            removed=removed,
            patched=patched,
        )


def bring(
    cluster: Cluster, wanted: Sequence[dict[str, Any]], *, really: bool
) -> tuple[list[str], list[str], list[str]]:
    """Bring all releases to their state; returns what was installed, removed and patched."""
    found = releases_of(cluster.kubectl, cluster.params["owner"])
    named = {(each["namespace"], each["name"]) for each in wanted}
    # what stands on another release has its name with something more, and goes first
    gone = [found[key] for key in sorted(set(found) - named, reverse=True)]
    installed: list[str] = []
    for one in gone if really else []:
        cluster.remove(one)
    for each in wanted:
        held = found.get((each["namespace"], each["name"]))
        if held is not None and held.status == "deployed" and held.digest == digest_of(each):
            continue
        installed.append(each["name"])
        if really:
            cluster.wait([other for other in wanted if other["name"] in each["after"]])
            cluster.install(each, held)
    patched, workloads = patch(cluster, cluster.params["patches"], really=really)
    if really:
        cluster.wait(wanted, workloads, unchanged=not installed and not patched)
        if installed or patched:
            # A program without a probe counts as ready until it falls over.
            cluster.pause(SETTLE)
            cluster.wait(wanted, workloads, closely=True)
    return installed, [one.name for one in gone], patched


if __name__ == "__main__":
    main()
