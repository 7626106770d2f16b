"""The checks around a stand-in for kubectl, which tells what it was asked for and gives recorded answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from plugins.module_utils import kube_objects as objects
from plugins.module_utils.kube_cluster import Cluster, Failed, Limit
from plugins.modules import kube_validate

Keep = Callable[..., dict[str, Any]]
RECORDED = Path(__file__).parent / "recorded" / "kubernetes"
KUBECTL = """#!/bin/sh
here=$(dirname "$0")
echo "$KUBECONFIG $*" >> "$here/told"
case "$*" in
    *'get --raw /readyz') cat "$here/readyz" ;;
    *version*) echo '{"clientVersion": {"gitVersion": "v0.0.1"}, "serverVersion": {"gitVersion": "v1.36.4"}}' |
        sed 's/": {"/": {\\n"/g; s/", "/",\\n"/g' ;;
    'config view '*) printf https://10.0.0.1:6443 ;;
    'get nodes '*) cat "$here/nodes.json" ;;
    'get storageclasses '*|'get apiservices '*|'get certificatesigningrequests '*) echo '{"items": []}' ;;
    'get namespaces '*) cat "$here/namespaces.json" ;;
    'get serviceaccount default '*) echo serviceaccount/default ;;
    'create -f -') cat >> "$here/created" ;;
    'delete namespace '*) ;;
    'wait '*) exit 1 ;;
    'get pods '*) cat "$here/pods.json" ;;
    'get events '*) cat "$here/events.json" ;;
    *) echo "error: nobody knows $*" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def bin_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "kubectl"
    program.write_text(KUBECTL)
    program.chmod(0o755)
    for name in ("nodes", "pods", "events"):
        (tmp_path / f"{name}.json").write_text((RECORDED / f"{name}.json").read_text())
    (tmp_path / "namespaces.json").write_text('{"items": []}')
    (tmp_path / "readyz").write_text("ok")
    real = Cluster.__init__
    monkeypatch.setattr(Cluster, "__init__", lambda it, config: real(it, config, str(program)))
    return tmp_path


@pytest.fixture
def ask(run_module: Keep, bin_dir: Path) -> Callable[..., dict[str, Any]]:
    """Make checks and return their verdicts by name."""

    def run(*names: str, **arguments: Any) -> dict[str, Any]:
        answer = run_module(
            "kube_validate", image="busybox:1", checks=list(names), **{"timeout": 1, **arguments}
        )
        return {verdict["name"]: verdict for verdict in answer["rackloom_checks"]}

    return run


def told(bin_dir: Path) -> str:
    return (bin_dir / "told").read_text()


def test_the_api_is_asked_where_everybody_asks(ask: Keep, bin_dir: Path) -> None:
    verdict = ask("api", endpoint="10.0.0.9:7443", kubeconfig="/some.conf")["api"]
    assert verdict["ok"] and verdict["detail"] == "10.0.0.9:7443 answers, v1.36.4"
    assert "/some.conf --server=https://10.0.0.9:7443 get --raw /readyz" in told(bin_dir)
    assert ask("api")["api"]["detail"].startswith("https://10.0.0.1:6443 answers")
    (bin_dir / "readyz").write_text("[-]etcd failed")
    assert ask("api")["api"] | {"seconds": 0} == {
        "service": "kubernetes",
        "name": "api",
        "ok": False,
        "skipped": "",
        "detail": "the API says of itself: [-]etcd failed",
        "seconds": 0,
    }


def test_nodes_are_compared_with_the_inventory(ask: Keep) -> None:
    verdict = ask("nodes", nodes=["mgmt01", "gpu01"])["nodes"]
    assert not verdict["ok"] and "gpu01 is not ready" in verdict["detail"]


def test_what_cannot_be_checked_is_skipped_with_the_reason(ask: Keep) -> None:
    verdicts = ask("volume", "service_load_balancer", "metrics")
    assert all(verdict["ok"] and verdict["skipped"] for verdict in verdicts.values()), verdicts
    assert "pool" in verdicts["service_load_balancer"]["skipped"]
    assert "storage class" in verdicts["volume"]["skipped"]
    assert "metrics_server" in verdicts["metrics"]["skipped"]


def test_pods_that_do_not_run_are_named_once_and_cleaned_up(ask: Keep, bin_dir: Path) -> None:
    pods = json.loads((bin_dir / "pods.json").read_text())
    pods["items"] = [item for item in pods["items"] if item["metadata"]["name"] == "nowhere"]
    pods["items"][0]["metadata"]["name"] = "a"
    (bin_dir / "pods.json").write_text(json.dumps(pods))
    verdicts = ask("dns", "pod_to_pod", "logs_exec")
    reasons = {verdict["detail"] for verdict in verdicts.values()}
    assert len(reasons) == 1 and not any(verdict["ok"] for verdict in verdicts.values())
    assert reasons.pop().startswith("pod a is not ready: 0/2 nodes are available")
    assert told(bin_dir).count(" create -f -") == 2, "a namespace, and one stand for all"
    made = (bin_dir / "created").read_text()
    space = json.loads(made.partition("]}{")[0] + "]}")["items"][0]["metadata"]["name"]
    assert space.startswith(objects.NAMESPACE)
    assert f"delete namespace --wait=false --ignore-not-found {space}" in told(bin_dir)


def test_what_a_killed_run_left_is_deleted(ask: Keep, bin_dir: Path) -> None:
    left = {
        "metadata": {"name": objects.NAMESPACE + "left", "creationTimestamp": "2026-01-01T00:00:00Z"},
    }
    (bin_dir / "namespaces.json").write_text(json.dumps({"items": [left]}))
    ask("api")
    assert "delete namespace --wait=false --ignore-not-found rackloom-check-left" in told(bin_dir)


def test_a_run_that_made_nothing_deletes_nothing(ask: Keep, bin_dir: Path) -> None:
    ask("api", "nodes")
    assert "delete" not in told(bin_dir) and not (bin_dir / "created").exists()


def test_an_unknown_check_is_refused_with_those_there_are(run_module: Keep) -> None:
    answer = run_module("kube_validate", image="busybox:1", checks=["weather"])
    assert answer["failed"] and "weather" in answer["msg"] and "pod_to_pod" in answer["msg"]


def test_nothing_is_asked_in_check_mode(run_module: Keep, bin_dir: Path) -> None:
    assert run_module("kube_validate", image="busybox:1", check=True)["rackloom_checks"] == []
    assert not (bin_dir / "told").exists()


def test_strict_fails_and_tells_why(run_module: Keep, bin_dir: Path) -> None:
    answer = run_module("kube_validate", image="busybox:1", checks=["nodes"], strict=True)
    assert answer["failed"] and answer["msg"].startswith("nodes: gpu01 is not ready")
    assert len(answer["rackloom_checks"]) == 1


def test_a_node_without_kubectl_says_so() -> None:
    with pytest.raises(Failed, match="there is no /nowhere/kubectl"):
        Cluster("/some.conf", "/nowhere/kubectl").must(["version"], Limit(1))


def cut_off(folder: Path, said: str) -> Cluster:
    """A kubectl that is cut off at its first call, and answers from the second on."""
    program = folder / "kubectl"
    (folder / "said").write_text(said)
    program.write_text(
        f"#!/bin/sh\necho call >> {folder}/calls\n"
        f"[ $(wc -l < {folder}/calls) -gt 1 ] || {{ cat {folder}/said >&2; exit 1; }}\necho it\n"
    )
    program.chmod(0o755)
    return Cluster("/some.conf", str(program))


def test_what_was_cut_off_on_its_way_is_asked_again(tmp_path: Path) -> None:
    assert cut_off(tmp_path, "error: unexpected EOF").exec("space", "a", ["true"], Limit(9)) == (0, "it")


def test_what_a_command_in_a_pod_said_is_not_asked_again(tmp_path: Path) -> None:
    said = "wget: Connection refused\ncommand terminated with exit code 1"
    assert cut_off(tmp_path, said).exec("space", "a", ["true"], Limit(9)) == (1, said)


def test_what_a_lost_answer_made_is_there_already(tmp_path: Path) -> None:
    said = 'Error from server (AlreadyExists): error when creating "STDIN": pods "a" already exists'
    cut_off(tmp_path, said).create([{}], Limit(9))
    (tmp_path / "calls").unlink()
    with pytest.raises(Failed, match="forbidden"):
        cut_off(tmp_path, "Error from server (Forbidden): forbidden").create([{}], Limit(9))


def test_every_pod_keeps_to_the_strictest_level() -> None:
    inside = objects.spec("image", "true", nodes=("one", "two"))
    assert inside["securityContext"]["runAsNonRoot"]
    for container in inside["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
    terms = inside["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    # Kubernetes takes one name a term, and any of the terms.
    assert [term["matchFields"][0]["values"] for term in terms["nodeSelectorTerms"]] == [["one"], ["two"]]


@pytest.fixture
def page() -> Iterator[tuple[str, int, list[int]]]:
    """A page on this machine that answers with the statuses in the list, one after the other; then 200 for good."""
    statuses: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0) if statuses else 200)
            self.end_headers()
            self.wfile.write(b"new\n")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield "127.0.0.1", server.server_port, statuses
    server.shutdown()
    server.server_close()


def test_a_poller_counts_every_answer_that_did_not_come(
    page: tuple[str, int, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, port, statuses = page
    real = kube_validate.ask
    monkeypatch.setattr(kube_validate, "ask", lambda at, **more: real(at, port, **more))
    statuses += [200, 503]
    poller = kube_validate.Poller(address)
    poller.start()
    Limit(60).await_that("answers", lambda: poller.answers > 2)
    poller.stop()
    assert len(poller.failures) == 1 and "Service Unavailable" in poller.failures[0]
    assert poller.last == "new"


def test_who_does_not_answer_is_named() -> None:
    with pytest.raises(Failed, match=r"http://127\.0\.0\.1:9/"):
        kube_validate.ask("127.0.0.1", 9, 1)


def offers(bin_dir: Path, **resources: str) -> None:
    """The first node is well and has these to give; what a pod sees is in the file `exec`."""
    nodes = json.loads((bin_dir / "nodes.json").read_text())
    first = nodes["items"][0]
    first["spec"].pop("taints", None)
    first["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    first["status"]["allocatable"].update({f"nvidia.com/{name}": count for name, count in resources.items()})
    (bin_dir / "nodes.json").write_text(json.dumps(nodes))
    program = KUBECTL.replace("'wait '*) exit 1", "'wait '*) exit 0")
    program = program.replace("'wait '", "'exec '*) cat \"$here/exec\" ;;\n    'wait '", 1)
    (bin_dir / "kubectl").write_text(program)


@pytest.mark.parametrize(
    ("sees", "played", "ok", "says"),
    [
        ("/dev/nvidia3\nvisible=void", False, True, "one nvidia.com/gpu on gpu01: /dev/nvidia3"),
        ("/dev/nvidia0\n/dev/nvidia1\nvisible=all", False, False, "sees /dev/nvidia0, /dev/nvidia1"),
        ("visible=GPU-7", False, False, "sees none"),
        ("visible=gpu0", True, True, "one nvidia.com/gpu on gpu01: gpu0"),
        ("visible=gpu0,gpu1", True, False, "sees gpu0, gpu1"),
    ],
)
def test_a_pod_with_one_gpu_sees_one(
    ask: Keep, bin_dir: Path, sees: str, *, played: bool, ok: bool, says: str
) -> None:
    offers(bin_dir, gpu="2")
    (bin_dir / "exec").write_text(sees)
    verdict = ask("gpu_isolation", gpus_played=played)["gpu_isolation"]
    assert verdict["ok"] is ok and says in verdict["detail"], verdict
    assert '"limits": {"nvidia.com/gpu": 1}' in (bin_dir / "created").read_text()


def test_gpus_are_asked_for_by_name_alone_and_slices_count(ask: Keep, bin_dir: Path) -> None:
    assert "gpu_isolation" not in kube_validate.ALL
    skipped = ask("gpu_isolation")["gpu_isolation"]
    assert skipped["ok"] and "no node that takes pods offers GPUs" in skipped["skipped"]
    offers(bin_dir, **{"gpu": "0", "mig-3g.20gb": "2"})
    (bin_dir / "exec").write_text("/dev/nvidia0\nvisible=void")
    assert "one nvidia.com/mig-3g.20gb" in ask("gpu_isolation")["gpu_isolation"]["detail"]
