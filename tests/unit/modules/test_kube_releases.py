"""Releases are installed where they differ, waited for where nodes answer, and what is wrong is said in one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from plugins.module_utils.kube_client import KubeError
from plugins.modules import kube_releases
from plugins.modules.kube_releases import LABEL_DIGEST, LABEL_OWNER, Cluster, bring, digest_of, missing_part

OBJECTS = "kind: ConfigMap\n"
DEFINITION = "customresourcedefinition.apiextensions.k8s.io"


def release(name: str = "tool", **more: Any) -> dict[str, Any]:
    """One release, as the module's arguments have it."""
    plain: dict[str, Any] = {"title": None, "namespace": "tools", "labels": {}, "chart": None, "values": {}}
    return {"name": name, **plain, "manifests": OBJECTS, "definitions": [], "after": [], **more}


def workload(kind: str = "Deployment", name: str = "tool", **status: Any) -> dict[str, Any]:
    """A workload of a release of the same name, whole unless said otherwise."""
    counts: dict[str, Any] = (
        {"desiredNumberScheduled": 2, "numberReady": 2, "updatedNumberScheduled": 2}
        if kind == "DaemonSet"
        else {"replicas": 2, "availableReplicas": 2, "updatedReplicas": 2, "readyReplicas": 2}
    )
    notes = {kube_releases.RELEASE: name, kube_releases.NAMESPACE: "tools", kube_releases.TEMPLATE: "3"}
    return {
        "kind": kind,
        "metadata": {"name": name, "namespace": "tools", "generation": 4, "annotations": notes},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}},
        "status": {"observedGeneration": 4, **counts, **status},
    }


def pod(
    name: str, node: str = "n1", *, ready: bool = True, app: str = "tool", **container: Any
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "tools",
            "labels": {"app": app, "pod-template-generation": "3"},
        },
        "spec": {"nodeName": node},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "main", "ready": ready, "state": {"running": {}}, **container}],
        },
    }


def node(name: str, status: str = "True") -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": status}]}}


PULL: dict[str, Any] = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
CRASH: dict[str, Any] = {"state": {"terminated": {"exitCode": 3, "reason": "Error"}}, "restartCount": 2}


class Api:
    """As much of helm and kubectl as the module calls."""

    def __init__(self) -> None:
        self.now = 0.0
        self.workloads: list[dict[str, Any]] = []
        self.pods: list[dict[str, Any]] = []
        self.nodes = [node("n1"), node("n2")]
        self.secrets: list[tuple[str, str, str, int, str, str]] = []
        self.objects: dict[str, dict[str, Any]] = {}
        self.called: list[list[str]] = []
        self.given: list[tuple[list[str], str]] = []
        self.helm_says: list[tuple[int, str]] = []
        self.on_pause: Callable[[], None] = lambda: None
        self.serves_definitions = True

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self._serve_definitions()
        self.on_pause()

    def holds(self, wanted: dict[str, Any], status: str = "deployed", version: int = 1) -> None:
        """Helm has this release already."""
        name = wanted["name"]
        self.secrets.append(
            (f"sh.helm.release.v1.{name}.v{version}", "tools", name, version, status, digest_of(wanted))
        )

    def run(self, argv: Sequence[str], data: str = "") -> tuple[int, str, str]:
        words = [word for word in argv if not word.startswith(("--kubeconfig", "--request-timeout"))]
        self.called.append(words)
        self.given.append((words, data))
        if words[0] == "helm":
            if words[1] == "upgrade" and self.helm_says:
                rc, text = self.helm_says.pop(0)
                return rc, "", text
            return 0, "", ""
        if words[1] == "logs":
            return 0, "cannot read its file\n", ""
        if words[1] == "get":
            return 0, self._get(words[2:]), ""
        if words[1] == "apply":
            return 0, self._apply(data), ""
        return 0, "", ""

    def _apply(self, data: str) -> str:
        """Names of what was applied; definitions are served only after a while, and before have no conditions."""
        names = []
        for each in filter(None, yaml.safe_load_all(data)):
            name = each.get("metadata", {}).get("name", "")
            if each["kind"] != "CustomResourceDefinition":
                continue
            names.append(f"{DEFINITION}/{name}")
            self.objects[names[-1]] = {**each, "status": {"conditions": None}}
        return "\n".join(names)

    def _serve_definitions(self) -> None:
        for name, each in self.objects.items():
            if name.startswith(DEFINITION) and self.serves_definitions:
                each["status"] = {"conditions": [{"type": "Established", "status": "True"}]}

    def _get(self, words: Sequence[str]) -> str:
        if words[0] == "secrets":
            return "\n".join(" ".join(map(str, row)) for row in self.secrets)
        if words[0].startswith(DEFINITION):
            asked = [self.objects[word] for word in words if word.startswith(DEFINITION)]
            return json.dumps({"items": asked} if len(asked) > 1 else asked[0])
        found = {"nodes": self.nodes, "pods": self.pods, kube_releases.WORKLOADS: self.workloads}.get(
            words[0]
        )
        if found is None:
            return json.dumps(self.objects[words[1]]) if words[1] in self.objects else ""
        return json.dumps({"items": found})

    def did(self, *words: str) -> list[list[str]]:
        return [call for call in self.called if tuple(call[: len(words)]) == words]


@pytest.fixture
def api() -> Api:
    return Api()


def cluster(api: Api, **more: Any) -> Cluster:
    params = {"owner": "trial", "patches": [], "timeout": 100, "grace": 30, "kubeconfig": "/k", **more}
    return Cluster(api.run, params, pause=api.pause, clock=lambda: api.now)


def test_what_holds_costs_two_questions(api: Api) -> None:
    wanted = [release("one"), release("two")]
    for each in wanted:
        api.holds(each)
    api.workloads = [workload(name="one"), workload("DaemonSet", "two")]
    assert bring(cluster(api), wanted, really=True) == ([], [], [])
    assert [call[:3] for call in api.called] == [
        ["kubectl", "get", "secrets"],
        ["kubectl", "get", kube_releases.WORKLOADS],
    ]


def test_a_release_is_installed_with_its_digest(api: Api) -> None:
    wanted = release(values={"a": 1})
    assert bring(cluster(api), [wanted], really=True) == (["tool"], [], [])
    [call] = api.did("helm", "upgrade")
    assert f"--labels={LABEL_OWNER}=trial,{LABEL_DIGEST}={digest_of(wanted)}" in call


@pytest.mark.parametrize(
    "change",
    [{"values": {"a": 2}}, {"manifests": "kind: Secret\n"}, {"labels": {"x": "y"}}, {"definitions": ["f"]}],
)
def test_whatever_changes_is_noticed(change: dict[str, Any]) -> None:
    assert digest_of(release()) != digest_of(release(**change))


def test_another_chart_is_noticed(tmp_path: Path) -> None:
    chart = tmp_path / "chart.tgz"
    digests = set()
    for text in ("one", "two"):
        chart.write_text(text)
        digests.add(digest_of(release(manifests=None, chart=str(chart))))
    assert len(digests) == 2
    assert all(len(each) <= 63 for each in digests)


@pytest.mark.parametrize("status", ["failed", "pending-install", "pending-upgrade"])
def test_what_was_begun_is_ended(api: Api, status: str) -> None:
    wanted = release()
    api.holds(wanted, status, version=2)
    assert bring(cluster(api), [wanted], really=True)[0] == ["tool"]
    assert bool(api.did("kubectl", "delete", "secret")) == status.startswith("pending")


def test_what_is_no_longer_named_goes_and_what_stands_on_it_before(api: Api) -> None:
    for name in ("balancer", "balancer-pool"):
        api.holds(release(name))
    assert bring(cluster(api), [], really=True) == ([], ["balancer-pool", "balancer"], [])
    assert [call[2] for call in api.did("helm", "uninstall")] == ["balancer-pool", "balancer"]


def test_nothing_is_done_when_only_asked(api: Api) -> None:
    api.holds(release("old"))
    api.objects["dns"] = {"data": {}}
    change = {"kind": "ConfigMap", "name": "dns", "namespace": "tools", "patch": {"data": {"a": "b"}}}
    told = bring(cluster(api, patches=[change]), [release()], really=False)
    assert told == (["tool"], ["old"], ["ConfigMap dns"])
    assert all(call[1] == "get" for call in api.called)


def test_a_webhook_that_does_not_answer_yet_is_waited_for(api: Api) -> None:
    api.helm_says = [(1, 'failed calling webhook "check.example": connection refused')] * 3
    assert bring(cluster(api), [release()], really=True)[0] == ["tool"]
    assert len(api.did("helm", "upgrade")) == 4


def test_an_installation_that_was_cut_off_is_begun_anew(api: Api) -> None:
    wanted = release()
    api.helm_says = [(1, "unexpected EOF")]
    api.on_pause = lambda: api.holds(wanted, "pending-install")
    bring(cluster(api), [wanted], really=True)
    assert len(api.did("helm", "upgrade")) == 2
    assert len(api.did("kubectl", "delete", "secret")) == 1


def test_what_helm_refuses_is_said_at_once(api: Api) -> None:
    api.helm_says = [(1, "values don't meet the specifications of the schema")]
    with pytest.raises(KubeError, match=r"^the tool: helm could not install it: values don't meet"):
        bring(cluster(api), [release(title="the tool")], really=True)
    assert api.now == 0


def test_one_that_stands_on_another_waits_for_it(api: Api) -> None:
    first, second = release("one"), release("two", after=["one"])
    api.workloads = [workload(name="one", availableReplicas=0)]
    seen: list[int] = []

    def serve() -> None:
        seen.append(len(api.did("helm", "upgrade")))
        api.workloads = [workload(name="one")]

    api.on_pause = serve
    bring(cluster(api), [first, second], really=True)
    assert seen[0] == 1


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("Deployment", {"availableReplicas": 1}),
        ("Deployment", {"replicas": 3}),
        ("Deployment", {"observedGeneration": 3}),
        ("StatefulSet", {"currentRevision": "a", "updateRevision": "b"}),
        ("StatefulSet", {"readyReplicas": 1}),
        ("DaemonSet", {"numberReady": 1}),
        ("DaemonSet", {"updatedNumberScheduled": 1}),
    ],
)
def test_what_is_not_whole_is_waited_for(kind: str, status: dict[str, Any]) -> None:
    assert kube_releases.whole(workload(kind))
    assert not kube_releases.whole(workload(kind, **status))


def test_nodes_that_do_not_answer_are_not_waited_for(api: Api) -> None:
    api.holds(release())
    api.workloads = [workload("DaemonSet", numberReady=1)]
    api.pods = [pod("a", "n1"), pod("b", "n2", ready=False)]
    api.nodes = [node("n1"), node("n2", "Unknown")]
    assert bring(cluster(api), [release()], really=True) == ([], [], [])
    assert api.now == 0


def test_nodes_that_are_not_ready_but_answer_are(api: Api) -> None:
    """Without a network no node is ready; the network's own pods are what it waits for."""
    api.holds(release())
    api.workloads = [workload("DaemonSet", numberReady=1)]
    api.pods = [pod("a", "n1"), pod("b", "n2", ready=False)]
    api.nodes = [node("n1", "False"), node("n2", "False")]
    with pytest.raises(KubeError, match=r"tool: pod tools/b on n2: Running: container main is not ready"):
        bring(cluster(api), [release()], really=True)


def test_an_old_pod_on_a_node_that_answers_does_not_count(api: Api) -> None:
    old = pod("a", "n1")
    old["metadata"]["labels"]["pod-template-generation"] = "2"
    there = workload("DaemonSet", updatedNumberScheduled=0)
    assert not kube_releases.whole_where_nodes_answer(there, [old, pod("b", "n2")], {"n2"})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (PULL, "tools/a on n1: ImagePullBackOff: no such image"),
        (CRASH, "Crashing: container main ended with 3, 2 times started anew; its last words: cannot read"),
    ],
)
def test_a_pod_that_cannot_start_is_named_before_the_time_is_over(
    api: Api, wrong: dict[str, Any], said: str
) -> None:
    api.holds(release())
    api.workloads = [workload(availableReplicas=0)]
    api.pods = [pod("a", ready=False, **wrong), pod("other", app="other", ready=False, **wrong)]
    with pytest.raises(KubeError, match=said) as caught:
        bring(cluster(api), [release()], really=True)
    assert "other" not in str(caught.value)
    assert 30 <= api.now < 100


def test_the_trace_of_a_program_is_left_out_of_its_last_words() -> None:
    said = "started\npanic: no such option\n\ngoroutine 1 [running]:\nmain.main()\n\ttool.go:37 +0x88\n"
    assert kube_releases.spoken(said) == ["started", "panic: no such option"]
    assert kube_releases.spoken("goroutine 1 [running]:\nmain.main()\n")[-1] == "main.main()"


def test_a_pod_may_mend_itself(api: Api) -> None:
    api.holds(release())
    api.workloads = [workload(availableReplicas=0)]
    api.pods = [pod("a", ready=False, **PULL)]

    def mend() -> None:
        if api.now > 20:
            api.workloads, api.pods = [workload()], [pod("a")]

    api.on_pause = mend
    assert bring(cluster(api), [release()], really=True) == ([], [], [])


def test_a_program_that_falls_over_after_a_moment_is_seen(api: Api) -> None:
    """Without a probe a pod is ready as soon as it runs; what made it says so for longer than it is true."""
    api.workloads, api.pods = [workload()], [pod("a")]

    def fall() -> None:
        api.pods = [pod("a", ready=False, **CRASH)]

    api.on_pause = fall
    with pytest.raises(KubeError, match="container main ended with 3"):
        bring(cluster(api), [release()], really=True)


def test_why_a_pod_has_no_node_is_said(api: Api) -> None:
    api.holds(release())
    api.workloads = [workload(availableReplicas=0)]
    lost = pod("a", ready=False)
    lost["spec"] = {}
    why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
    lost["status"] = {"phase": "Pending", "conditions": [why]}
    api.pods = [lost]
    with pytest.raises(KubeError, match=r"^tool: pod tools/a: Unschedulable: no room$"):
        bring(cluster(api), [release()], really=True)
    assert api.now >= 100


def test_a_pod_that_was_put_out_says_why(api: Api) -> None:
    api.holds(release())
    api.workloads = [workload(availableReplicas=0)]
    out = pod("a", ready=False)
    out["status"] = {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "The node was low on ephemeral-storage",
    }
    api.pods = [out]
    with pytest.raises(KubeError, match="Evicted: The node was low"):
        bring(cluster(api), [release()], really=True)


@pytest.mark.parametrize(
    ("wanted", "found", "differs"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, False),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, True),
        ({"a": [1, 2]}, {"a": [1]}, True),
        ({"a": None}, {"a": 1}, True),
        ({"a": None}, {}, False),
        ({"a": {"b": 1}}, {}, True),
    ],
)
def test_a_patch_is_made_only_where_it_changes_something(
    wanted: dict[str, Any], found: dict[str, Any], differs: bool
) -> None:
    assert missing_part(wanted, found) is differs


def test_an_object_that_is_missing_cannot_be_patched(api: Api) -> None:
    change = {"kind": "Deployment", "name": "dns", "namespace": "tools", "patch": {"spec": {}}}
    with pytest.raises(KubeError, match="there is no Deployment dns in tools"):
        bring(cluster(api, patches=[change]), [], really=True)


def test_a_patched_workload_is_waited_for(api: Api) -> None:
    change = {"kind": "Deployment", "name": "dns", "namespace": "tools", "patch": {"spec": {"replicas": 2}}}
    api.objects["dns"] = {"spec": {"replicas": 1}}
    api.workloads = [workload(name="dns", availableReplicas=1)]
    del api.workloads[0]["metadata"]["annotations"]

    def serve() -> None:
        api.workloads[0]["status"]["availableReplicas"] = 2

    api.on_pause = serve
    assert bring(cluster(api, patches=[change]), [], really=True)[2] == ["Deployment dns"]
    assert api.now > kube_releases.SETTLE


PUBLISHED = """\
# What a project publishes.
---
apiVersion: v1
kind: Namespace
metadata: {name: tools}
--- # its own kind
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: tools.tool.example}
spec:
  properties:
    image:
      type: string
    kind: {type: string}
---
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      containers:
      - image: maker/tool:1.0
        name: tool
      - name: beside
        image: "registry.example:5000/a/b@sha256:0"
      - image: 'busybox'
"""
TAKEN = ["docker.io/maker/tool:2.0", "registry.example:5000/a/b:3", "docker.io/library/busybox:1"]


def test_what_a_project_publishes_becomes_definitions_and_a_chart(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "tool.yaml"
    path.write_text(PUBLISHED)
    definitions, others = kube_releases.published(str(path), TAKEN)
    [defined], [other] = (list(yaml.safe_load_all(text)) for text in (definitions, others))
    assert defined["kind"] == "CustomResourceDefinition"
    assert defined["spec"]["properties"]["image"] == {"type": "string"}
    assert [each["image"] for each in other["spec"]["template"]["spec"]["containers"]] == TAKEN
    wanted = release(manifests=None, manifest=str(path), images=TAKEN)
    assert bring(cluster(api), [wanted], really=True)[0] == ["tool"]
    applied = [data for words, data in api.given if words[1] == "apply"]
    assert [each["kind"] for text in applied for each in yaml.safe_load_all(text)] == [
        "Namespace",
        "CustomResourceDefinition",
    ]
    assert api.did("helm", "upgrade")


def test_an_image_that_nobody_declared_is_refused(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "tool.yaml"
    path.write_text(PUBLISHED)
    wanted = release(manifests=None, manifest=str(path), images=TAKEN[:2])
    with pytest.raises(KubeError, match="names the image busybox"):
        bring(cluster(api), [wanted], really=True)
    assert not api.did("helm", "upgrade")


def test_another_file_or_image_of_a_project_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "tool.yaml"
    path.write_text(PUBLISHED)
    digests = {digest_of(release(manifest=str(path), images=images)) for images in ([], TAKEN[:1], TAKEN)}
    path.write_text(PUBLISHED + "---\n")
    digests.add(digest_of(release(manifest=str(path), images=TAKEN)))
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("reference", "repository"),
    [
        ("busybox", "docker.io/library/busybox"),
        ("maker/tool:1", "docker.io/maker/tool"),
        ("docker.io/maker/tool:1@sha256:0", "docker.io/maker/tool"),
        ("registry:5000/tool", "registry:5000/tool"),
        ("localhost/tool:1", "localhost/tool"),
    ],
)
def test_short_names_of_images_are_whole_ones(reference: str, repository: str) -> None:
    assert kube_releases.repository_of(reference) == repository


def test_objects_become_a_chart_in_which_nothing_is_filled_in(tmp_path: Path) -> None:
    folder = kube_releases.chart_of_objects(str(tmp_path / "c"), "tool", "a: '{{ b }}'\n")
    assert json.loads((tmp_path / "c" / "Chart.yaml").read_text())["name"] == "tool"
    text = (Path(folder) / "templates" / "objects.yaml").read_text()
    assert text.replace('{{ "{{" }}', "{{") == "a: '{{ b }}'\n"
    assert text.count("{{") - text.count('"{{"') == 1


def test_a_cluster_that_is_not_there_lacks_everything(run_module: Callable[..., dict[str, Any]]) -> None:
    plain = {"name": "tool", "namespace": "tools", "manifests": OBJECTS}
    told = run_module("kube_releases", check=True, owner="trial", releases=[plain], kubeconfig="/none")
    assert told["changed"]
    assert told["installed"] == ["tool"]


def test_a_release_is_a_chart_or_objects(run_module: Callable[..., dict[str, Any]]) -> None:
    for wrong in ({}, {"chart": "/c", "manifests": OBJECTS}):
        plain = {"name": "tool", "namespace": "tools", **wrong}
        assert run_module("kube_releases", owner="trial", releases=[plain], kubeconfig="/none")["failed"]


@pytest.mark.parametrize(
    ("there", "unchanged", "waited_for"),
    [
        ([pod("a"), pod("b", "n2")], True, False),
        ([pod("a"), pod("b", "n2")], False, True),
        ([pod("a", ready=False), pod("b", "n2")], True, True),
        ([pod("a", ready=False), pod("b")], True, True),
        ([pod("b", "n2")], True, True),
    ],
    ids=["lost with its node", "just changed", "the other is not well", "no node's fault", "none made yet"],
)
def test_pods_lost_with_a_node_are_not_waited_for_where_nothing_changed(
    there: list[dict[str, Any]],
    unchanged: bool,
    waited_for: bool,
) -> None:
    """Kubernetes makes them anew in some minutes; adding a node meanwhile is not to take as long."""
    one = workload(availableReplicas=1)
    found = kube_releases.whole_where_nodes_answer(one, there, {"n2"}, unchanged=unchanged)
    assert found is not waited_for


def definition(name: str) -> str:
    return f"kind: CustomResourceDefinition\nmetadata: {{name: {name}}}\n"


@pytest.mark.parametrize("names", [["a.tool.example"], ["a.tool.example", "b.tool.example"]])
def test_definitions_are_waited_for_though_their_conditions_are_null_at_first(
    api: Api, tmp_path: Path, names: list[str]
) -> None:
    path = tmp_path / "kinds.yml"
    path.write_text("---\n".join(definition(name) for name in names))
    assert bring(cluster(api), [release(definitions=[str(path)])], really=True)[0] == ["tool"]
    waited = [each for each in api.called if each[1] == "get" and each[2].startswith(DEFINITION)]
    assert len(waited) == 2, "asked once too early, and once more"
    assert waited[0][2:-1] == [f"{DEFINITION}/{name}" for name in names]


def test_a_definition_that_is_never_served_is_named(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "kinds.yml"
    path.write_text(definition("a.tool.example"))
    api.serves_definitions = False
    with pytest.raises(KubeError, match=r"the API does not serve a\.tool\.example after 60 s"):
        bring(cluster(api), [release(definitions=[str(path)])], really=True)
    assert not api.did("helm", "upgrade")
