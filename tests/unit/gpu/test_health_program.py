from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tests.data.gpu.machine import Machine

from .conftest import PROGRAM

XID = "3,9,1,-;NVRM: Xid (PCI:0000:3b:00): 79, pid=7, GPU has fallen off the bus."


def _watch(health: ModuleType, machine: Machine, **more: Any) -> Any:
    return health.watch(health.Settings({**machine.config(), **more}))


def test_an_error_stays_when_the_log_has_lost_it_and_goes_with_a_restart(
    health: ModuleType, tmp_path: Path
) -> None:
    machine = Machine(tmp_path, {"log": [XID]})
    assert _watch(health, machine).codes == ["xid79"]
    machine.log([])
    assert _watch(health, machine).codes == ["xid79"]
    (tmp_path / "boot").write_text("another\n")
    assert _watch(health, machine).healthy


def test_clear_forgets_what_was_and_not_what_comes(health: ModuleType, tmp_path: Path) -> None:
    machine = Machine(tmp_path, {"log": [XID]})
    settings = health.Settings(machine.config())
    assert not health.watch(settings).healthy
    health.clear(settings)
    assert health.watch(settings).healthy
    machine.log([XID, XID.replace("9,1,", "9,1500000000,")])
    assert health.watch(settings).codes == ["xid79"]


def test_clear_is_not_lost_to_a_look_at_the_same_time(health: ModuleType, tmp_path: Path) -> None:
    """A look takes its time while schedulers are told, and writes at its end what it read at its beginning."""
    machine = Machine(tmp_path, {"log": [XID]})
    began = tmp_path / "began"
    script = tmp_path / "slurm-health"
    script.write_text(f"#!/bin/sh\ntouch {began}\nsleep 0.5\n")
    script.chmod(0o755)
    looking = threading.Thread(target=_watch, args=(health, machine))
    looking.start()
    while looking.is_alive() and not began.exists():
        looking.join(0.01)
    assert began.exists()
    health.clear(health.Settings(machine.config()))
    looking.join()
    assert _watch(health, machine).healthy


def test_metrics_have_words_and_no_free_text(health: ModuleType, tmp_path: Path) -> None:
    machine = Machine(tmp_path, {"change": {"failure>No": "failure>Yes"}})
    _watch(health, machine)
    text = (tmp_path / "run" / "rackloom_gpu.prom").read_text()
    assert 'rackloom_gpu_healthy{gpu="all",reason="remap"} 0\n' in text
    assert 'rackloom_gpu_healthy{gpu="0",reason=""} 1\n' in text
    assert 'rackloom_gpu_healthy{gpu="1",reason="remap"} 0\n' in text
    assert "rackloom_gpu_count 2\n" in text and "rackloom_gpu_expected 2\n" in text


@pytest.mark.parametrize(
    ("log", "code", "says"), [([], 0, "well"), ([XID], 1, "GPU 1: XID 79: the GPU has fallen off")]
)
def test_the_program_answers_the_scheduler(tmp_path: Path, log: list[str], code: int, says: str) -> None:
    machine = Machine(tmp_path, {"log": log})
    config = tmp_path / "config.json"
    config.write_text(json.dumps(machine.config()))
    argv = [sys.executable, str(PROGRAM), "--config", str(config)]
    assert subprocess.run([*argv, "watch"], check=False).returncode == 0
    (tmp_path / "nvidia-smi").unlink()  # the verdict is kept; nothing is asked anew
    done = subprocess.run([*argv, "verdict"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("\n")) == (code, 1)
    assert done.stdout.startswith(says)


def test_an_old_verdict_is_no_answer(health: ModuleType, tmp_path: Path) -> None:
    machine = Machine(tmp_path, {})
    settings = health.Settings(machine.config())
    health.watch(settings)
    place = Path(settings.paths["verdict"])
    kept = json.loads(place.read_text())
    kept["checked"] -= 600
    place.write_text(json.dumps(kept))
    machine.log([XID])
    assert health.last(settings).codes == ["xid79"]


def test_slurm_is_told_at_once_and_only_of_news(health: ModuleType, tmp_path: Path) -> None:
    machine = Machine(tmp_path, {})
    script = tmp_path / "slurm-health"
    script.write_text(f"#!/bin/sh\necho x >> {tmp_path}/told\n")
    script.chmod(0o755)
    told = tmp_path / "told"
    _watch(health, machine)
    _watch(health, machine)
    assert told.read_text().count("x") == 1
    machine.log([XID])
    _watch(health, machine)
    assert told.read_text().count("x") == 2
    script.write_text(f"#!/bin/sh\necho x >> {tmp_path}/told\nexit 1\n")
    machine.log([XID, XID.replace("): 79", "): 95")])
    _watch(health, machine)
    _watch(health, machine)
    assert told.read_text().count("x") == 4  # what failed is tried again


def test_a_broken_configuration_is_no_silence(health: ModuleType, tmp_path: Path) -> None:
    machine = Machine(tmp_path, {})
    settings = health.Settings(
        {**machine.config(), "expected": [{"name": "h100", "count": 2, "nvlinks": "many"}]}
    )
    verdict = health.look(settings, {})
    assert verdict.codes == ["check"] and "broke" in verdict.line


def test_device_files_may_be_played_as_a_whole_machine(health: ModuleType, tmp_path: Path) -> None:
    """Without the folder there is nothing but the files; with it, what a real node has is looked at."""
    machine = Machine(tmp_path / "played", {"change": {"failure>No": "failure>Yes"}})
    files = {"simulated": True, "files": ["/dev/null"], "paths": {"played": str(tmp_path / "none")}}
    alone = health.look(health.Settings(files), {})
    assert alone.healthy and (alone.count, alone.gpus) == (1, [])
    whole = {**machine.config(), **files, "paths": {"played": str(tmp_path / "played")}}
    assert health.look(health.Settings(whole), {}).codes == ["remap"]
    real = health.Settings({"paths": {"played": str(tmp_path / "played")}})
    assert real.paths["nvidia_smi"] == "nvidia-smi", "a real machine is never played"


# ---------------------------------------------------------------- Kubernetes


class _Api(BaseHTTPRequestHandler):
    """One node's object. Takes what the kubelet's identity may change, and refuses the rest."""

    node: dict[str, Any] = {}  # noqa: RUF012 - set for each test
    events: list[dict[str, Any]] = []  # noqa: RUF012 - likewise
    pods: list[dict[str, Any]] = []  # noqa: RUF012 - likewise
    evicted: list[str] = []  # noqa: RUF012 - likewise
    kept = ""
    """A pod whose budget lets it not go."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _answer(self, said: Any = None, status: int = 200) -> None:
        body = json.dumps(self.node if said is None else said).encode()
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path.startswith("/api/v1/pods"):
            assert self.path == "/api/v1/pods?fieldSelector=spec.nodeName%3Dgpu01"
            self._answer({"items": self.pods})
        else:
            self._answer()

    def do_POST(self) -> None:
        if self.path.endswith("/eviction"):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = body["metadata"]["name"]
            assert self.path == f"/api/v1/namespaces/{body['metadata']['namespace']}/pods/{name}/eviction"
            if name == self.kept:
                self._answer({}, 429)
            else:
                self.evicted.append(name)
                self._answer({}, 201)
            return
        assert self.path == "/api/v1/namespaces/default/events"
        self.events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer()

    def do_PATCH(self) -> None:
        change = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/status"):
            self.node["status"] = change["status"]
        else:
            assert set(change) == {"metadata", "spec"} and set(change["spec"]) == {"unschedulable"}
            self.node["spec"]["unschedulable"] = change["spec"]["unschedulable"]
            for key, text in change["metadata"]["annotations"].items():
                self.node["metadata"]["annotations"].pop(key, None)
                if text is not None:
                    self.node["metadata"]["annotations"][key] = text
        self._answer()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, health: ModuleType) -> Iterator[tuple[dict[str, Any], Any]]:
    _Api.node = {"metadata": {"annotations": {}}, "spec": {}, "status": {"conditions": []}}
    _Api.events, _Api.pods, _Api.evicted, _Api.kept = [], [], [], ""
    server = HTTPServer(("127.0.0.1", 0), _Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = object.__new__(health.Kubernetes)
    client.api, client.name, client.context = f"http://127.0.0.1:{server.server_port}/api/v1", "gpu01", None
    yield _Api.node, client
    server.shutdown()
    server.server_close()


def _condition(node: dict[str, Any]) -> tuple[str, str]:
    (one,) = node["status"]["conditions"]
    return one["status"], one["message"]


def test_a_bad_node_is_cordoned_with_the_reason_and_comes_back(
    api: tuple[dict[str, Any], Any], health: ModuleType
) -> None:
    node, client = api
    bad = health.Verdict(healthy=False, reasons=["GPU 1: XID 79: the GPU has fallen off the bus"])
    client.tell(bad)
    assert node["spec"].get("unschedulable")
    assert node["metadata"]["annotations"] == {health.ANNOTATION: bad.line}
    assert _condition(node) == ("True", bad.line)
    client.tell(health.Verdict())
    assert not node["spec"]["unschedulable"] and not node["metadata"]["annotations"]
    assert _condition(node)[0] == "False"
    client.tell(health.Verdict())
    told = [(event["type"], event["message"]) for event in _Api.events]
    assert told == [("Warning", bad.line), ("Normal", "all GPUs are well")]


def test_a_node_that_was_always_well_is_no_event(api: tuple[dict[str, Any], Any], health: ModuleType) -> None:
    node, client = api
    client.tell(health.Verdict())
    assert _condition(node)[0] == "False" and not _Api.events


def test_a_cordon_of_somebody_else_stays(api: tuple[dict[str, Any], Any], health: ModuleType) -> None:
    node, client = api
    node["spec"]["unschedulable"] = True
    client.tell(health.Verdict(healthy=False, reasons=["GPU 1: hot"]))
    assert not node["metadata"]["annotations"] and _condition(node) == ("True", "GPU 1: hot")
    client.tell(health.Verdict())
    assert node["spec"]["unschedulable"] is True


def _pod(name: str, owner: str = "ReplicaSet", health: str = "Unhealthy", **about: Any) -> dict[str, Any]:
    owners = [{"kind": owner, "name": "x", "controller": True}] if owner else []
    device = {"name": "nvidia.com/gpu", "resources": [{"resourceID": "gpu0", "health": health}]}
    status = {"containerStatuses": [{"name": "a", "allocatedResourcesStatus": [device]}, {"name": "b"}]}
    metadata = {"name": name, "namespace": "models", "ownerReferences": owners, **about}
    return {"metadata": metadata, "status": status}


def test_pods_go_whose_own_gpu_is_not_well_and_no_others(api: tuple[dict[str, Any], Any]) -> None:
    _, client = api
    _Api.pods = [
        _pod("lame"),
        _pod("job", owner="Job"),
        _pod("fine", health="Healthy"),
        _pod("unknown", health="Unknown"),
        _pod("daemon", owner="DaemonSet"),
        _pod("static", owner="Node"),
        _pod("nobodys", owner=""),
        _pod("going", deletionTimestamp="2026-01-01T00:00:00Z"),
        {"metadata": {"name": "new", "namespace": "models"}},
    ]
    assert client.move() == ["models/lame", "models/job"]
    assert _Api.evicted == ["lame", "job"]


def test_a_budget_is_kept_and_asked_again(api: tuple[dict[str, Any], Any]) -> None:
    _, client = api
    _Api.pods = [_pod("first"), _pod("second")]
    _Api.kept = "second"
    assert client.move() == ["models/first"]
    _Api.pods, _Api.kept = _Api.pods[1:], ""
    assert client.move() == ["models/second"]


def test_pods_are_sent_away_from_a_bad_node_alone(
    health: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def move() -> list[str]:
        asked.append("move")
        return []

    client = SimpleNamespace(tell=lambda verdict: asked.append(f"tell {verdict.healthy}"), move=move)
    monkeypatch.setattr(health, "Kubernetes", lambda _settings: client)
    (tmp_path / "kubelet.pem").write_text("")
    given = {
        "kubernetes": {"certificate": str(tmp_path / "kubelet.pem")},
        "paths": {"slurm_health": "/nowhere"},
    }
    bad = health.Verdict(healthy=False, reasons=["GPU 1: hot"])
    state: dict[str, Any] = {}
    health.tell(health.Settings(given), health.Verdict(), state)
    health.tell(health.Settings(given), bad, state)
    health.tell(health.Settings(given), bad, state)
    assert asked == ["tell True", "tell False", "move", "move"], "told once, and moved at each look"
    asked.clear()
    health.tell(health.Settings({**given, "evict": False}), bad, state)
    assert not asked
