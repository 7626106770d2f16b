"""The kubelet gets its settings on a node that is part of a cluster, and keeps the former if it refuses them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from plugins.module_utils import node_units
from plugins.modules import kubelet_apply

from .conftest import RunModule

# Its state lies in files beside it; the kubelet is well while nothing negative stands in its settings.
SYSTEMCTL = """#!/bin/sh
here=$(dirname "$0")
echo "$@" >> $here/calls
case $1 in
  show) case $* in *NRestarts*) cat $here/restarts ;; *) cat $here/unit ;; esac ;;
  enable) sed -i s/=disabled/=enabled/ $here/unit ;;
  start|restart) sed -i s/=inactive/=active/ $here/unit
    if grep -q -- ': -' $here/../config.yaml; then rm -f $here/../well; echo 5 > $here/restarts
    else touch $here/../well; echo 0 > $here/restarts; fi ;;
esac
"""
KUBEADM = """#!/bin/sh
here=$(dirname "$0")
echo kubeadm "$@" >> $here/calls
[ -e $here/../api ] || { echo no answer >&2; exit 1; }
cp $here/../cluster.yaml $here/../config.yaml
"""
UNIT = "LoadState=loaded\nActiveState=inactive\nUnitFileState=disabled\nNeedDaemonReload=no\nCanReload=no\n"
PATCH: dict[str, Any] = {"kind": "KubeletConfiguration", "maxPods": 110, "clusterDomain": "demo.example"}


class Healthz(BaseHTTPRequestHandler):
    """Answers as the kubelet would, by a file."""

    well: Path

    def do_GET(self) -> None:
        self.send_response(200 if self.well.exists() else 500)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Node:
    """A folder that plays a node."""

    def __init__(self, root: Path, run_module: RunModule, port: int) -> None:
        self.root, self.run_module, self.port = root, run_module, port
        self.patch(PATCH)
        (root / "program").write_text("kubelet")
        (root / "unit.service").write_text("[Service]\n")

    def patch(self, settings: dict[str, Any]) -> None:
        (self.root / "patch.json").write_text(json.dumps(settings))

    def join(self) -> None:
        """What kubeadm does: it writes the settings with the patch in them, and starts the kubelet."""
        base = {"healthzPort": self.port, "staticPodPath": "/etc/kubernetes/manifests"}
        (self.root / "cluster.yaml").write_text(yaml.safe_dump(base | {"clusterDomain": "cluster.local"}))
        (self.root / "config.yaml").write_text(yaml.safe_dump(base | PATCH))
        (self.root / "kubelet.conf").touch()
        unit = self.root / "bin/unit"
        unit.write_text(unit.read_text().replace("=inactive", "=active"))
        (self.root / "well").touch()

    def apply(self, *, check: bool = False) -> dict[str, Any]:
        (self.root / "bin/calls").write_text("")
        return self.run_module(
            "kubelet_apply",
            check=check,
            patch=str(self.root / "patch.json"),
            patches=str(self.root),
            restart_on=[str(self.root / "unit.service")],
            program=str(self.root / "program"),
            kubeadm=str(self.root / "bin/kubeadm"),
            timeout=10,
        )

    @property
    def calls(self) -> str:
        return (self.root / "bin/calls").read_text()

    @property
    def settings(self) -> dict[str, Any]:
        read: dict[str, Any] = yaml.safe_load((self.root / "config.yaml").read_text())
        return read


@pytest.fixture
def node(tmp_path: Path, run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    (tmp_path / "bin").mkdir()
    for name, text in {
        "systemctl": SYSTEMCTL,
        "kubeadm": KUBEADM,
        "journalctl": "#!/bin/sh\necho words\n",
    }.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "bin/unit").write_text(UNIT)
    (tmp_path / "bin/restarts").write_text("0\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(node_units, "STAMPS", str(tmp_path / "units"))
    for name, path in {
        "CONFIG": "config.yaml",
        "IDENTITY": "kubelet.conf",
        "STAMP": "stamp/kubelet.json",
    }.items():
        monkeypatch.setattr(kubelet_apply, name, str(tmp_path / path))
    states = {
        "cpuManagerPolicy": str(tmp_path / "cpu_state"),
        "memoryManagerPolicy": str(tmp_path / "memory_state"),
    }
    monkeypatch.setattr(kubelet_apply, "POLICIES", states)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Healthz,), {"well": tmp_path / "well"}))
    Thread(target=server.serve_forever, daemon=True).start()
    yield Node(tmp_path, run_module, server.server_port)
    server.shutdown()
    server.server_close()


def test_before_it_joins_it_is_enabled_and_left_alone(node: Node) -> None:
    assert node.apply(check=True)["actions"] == ["daemon-reload", "enabled"]
    done = node.apply()
    assert done["actions"] == ["daemon-reload", "enabled"]
    assert not done["joined"]
    assert "start" not in node.calls.split()
    assert not node.apply()["changed"]


def test_what_kubeadm_started_is_not_started_anew(node: Node) -> None:
    node.apply()
    node.join()
    done = node.apply()
    assert done["joined"]
    assert not done["changed"]
    assert "restart" not in node.calls


def test_a_changed_patch_is_merged_and_read(node: Node) -> None:
    node.apply()
    node.join()
    node.patch({**PATCH, "maxPods": 42, "systemReserved": {"cpu": "1"}})
    assert node.apply(check=True)["changed"]
    assert node.settings["maxPods"] == 110
    assert node.apply()["actions"] == ["settings merged", "restarted"]
    assert node.settings["maxPods"] == 42
    assert node.settings["systemReserved"] == {"cpu": "1"}
    assert node.settings["staticPodPath"] == "/etc/kubernetes/manifests"
    assert not node.apply()["changed"]
    # What is no longer said goes again, without anybody being asked.
    node.patch({**PATCH, "maxPods": 42})
    assert node.apply()["changed"]
    assert "systemReserved" not in node.settings
    assert "kubeadm" not in node.calls


def test_what_only_the_cluster_knows_is_asked_of_it(node: Node) -> None:
    node.apply()
    node.join()
    node.patch({key: value for key, value in PATCH.items() if key != "clusterDomain"})
    failed = node.apply()
    assert "could not ask it: no answer" in failed["msg"]
    assert node.settings["clusterDomain"] == "demo.example"
    (node.root / "api").touch()
    assert node.apply()["actions"] == ["settings made anew", "restarted"]
    assert f"kubeadm upgrade node phase kubelet-config --patches {node.root}" in node.calls
    assert node.settings["clusterDomain"] == "cluster.local"


def test_settings_without_the_patch_get_it(node: Node) -> None:
    """As after a kubeadm that was called without the folder of patches."""
    node.apply()
    node.join()
    (node.root / "config.yaml").write_text(yaml.safe_dump({"healthzPort": node.port}))
    assert node.apply()["actions"] == ["settings merged", "restarted"]
    assert node.settings["maxPods"] == 110


def test_a_run_that_was_killed_before_the_restart_is_made_good(node: Node) -> None:
    node.apply()
    node.join()
    node.apply()
    stamp = json.loads((node.root / "stamp/kubelet.json").read_text())
    (node.root / "stamp/kubelet.json").write_text(json.dumps({**stamp, "pending": True}))
    assert node.apply()["actions"] == ["restarted"]
    assert not node.apply()["changed"]


@pytest.mark.parametrize("name", ["unit.service", "program"])
def test_another_unit_or_program_restarts_it(node: Node, name: str) -> None:
    node.apply()
    node.join()
    (node.root / name).write_text("another\n")
    assert "restarted" in node.apply()["actions"]
    assert not node.apply()["changed"]


def test_a_kubelet_that_was_stopped_is_started(node: Node) -> None:
    node.apply()
    node.join()
    unit = node.root / "bin/unit"
    unit.write_text(unit.read_text().replace("=active", "=inactive"))
    assert node.apply()["actions"] == ["started"]


def test_refused_settings_are_taken_back(node: Node) -> None:
    node.apply()
    node.join()
    before = node.settings
    node.patch({**PATCH, "maxPods": -3})
    failed = node.apply()
    assert failed["failed"]
    assert "the former ones are back" in failed["msg"]
    assert "words" in failed["msg"]
    assert node.settings == before
    assert (node.root / "well").exists()
    node.patch(PATCH)
    assert "failed" not in node.apply()


def test_the_record_of_another_policy_goes(node: Node) -> None:
    node.apply()
    node.join()
    (node.root / "cpu_state").write_text('{"policyName": "none"}')
    (node.root / "memory_state").write_text('{"policyName": "None"}')
    node.patch({**PATCH, "cpuManagerPolicy": "static"})
    assert f"{node.root}/cpu_state removed" in node.apply()["actions"]
    assert not (node.root / "cpu_state").exists()
    assert (node.root / "memory_state").exists()
