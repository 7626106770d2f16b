"""boot_arm lets nodes install: once, never by accident, and in one step."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MAC = "02:00:0a:00:00:1f"
FOLDER = MAC.replace(":", "-")


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A boot server's files with one published image."""
    http = tmp_path / "http"
    for folder in (f"nodes/{FOLDER}", f"reports/{FOLDER}", "discovered", "images/compute/0123456789abcdef"):
        (http / folder).mkdir(parents=True)
    (http / "images/compute/current").symlink_to("0123456789abcdef")
    return tmp_path


@pytest.fixture
def sshd() -> Iterator[int]:
    """A port of this machine where something speaks like an SSH server."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(b"SSH-2.0-test\r\n")

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def arm(
    run_module: Any, server: Path, check: bool = False, **more: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arm the one node; returns the module's answer and the node's row."""
    node = {"name": "gpu01", "mac": MAC, "image": "compute", **more.pop("node", {})}
    answer = run_module("boot_arm", check=check, path=str(server), nodes=[node], **more)
    return answer, answer["rackloom_armed"][0]


def report(server: Path, token: str, stage: str, **body: Any) -> None:
    (server / "http/reports" / FOLDER / token / f"{stage}.json").write_text(json.dumps(body))


def armed_file(server: Path) -> Path:
    """What the HTTP server looks for to let the node install."""
    return server / "http/nodes" / FOLDER / "armed" / "armed.json"


def test_arming_is_one_link_to_a_folder_of_its_own(run_module: Any, server: Path) -> None:
    answer, row = arm(run_module, server)
    assert answer["changed"] and row["state"] == "armed"
    issued = json.loads(armed_file(server).read_text())
    assert issued["token"] == row["token"] == (server / "http/nodes" / FOLDER / "armed").resolve().name
    assert issued["image_id"] == "0123456789abcdef"
    pinned = armed_file(server).parent / "image"
    assert pinned.resolve() == server / "http/images/compute/0123456789abcdef"
    assert sorted(path.name for path in (server / "http/nodes" / FOLDER).iterdir()) == ["armed"]


def test_an_armed_node_stays_as_it_is(run_module: Any, server: Path) -> None:
    _, first = arm(run_module, server)
    answer, second = arm(run_module, server)
    assert not answer["changed"]
    assert second["state"] == "waiting" and second["token"] == first["token"]


def test_an_interrupted_install_goes_on_under_its_token(run_module: Any, server: Path, sshd: int) -> None:
    _, first = arm(run_module, server)
    report(server, first["token"], "started")
    report(server, first["token"], "writing")
    _, row = arm(run_module, server, node={"address": "127.0.0.1", "port": sshd})
    assert row["state"] == "waiting" and row["token"] == first["token"]


def test_an_image_published_meanwhile_is_for_those_that_have_not_begun(run_module: Any, server: Path) -> None:
    _, first = arm(run_module, server)
    current = server / "http/images/compute/current"
    current.unlink()
    current.symlink_to("fedcba9876543210")
    _, second = arm(run_module, server)
    assert second["token"] != first["token"] and second["image_id"] == "fedcba9876543210"
    report(server, second["token"], "started")
    current.unlink()
    current.symlink_to("0123456789abcdef")
    _, third = arm(run_module, server)
    assert third["state"] == "waiting" and third["image_id"] == "fedcba9876543210"


def test_after_a_failure_it_is_armed_anew(run_module: Any, server: Path) -> None:
    _, first = arm(run_module, server)
    report(server, first["token"], "failed", message="disk full")
    answer, row = arm(run_module, server)
    assert answer["changed"] and row["state"] == "armed" and row["token"] != first["token"]
    assert not (server / "http/reports" / FOLDER / first["token"]).exists(), (
        "the old token still takes reports"
    )


def test_an_installed_node_needs_the_flag(run_module: Any, server: Path) -> None:
    _, first = arm(run_module, server)
    report(server, first["token"], "installed", host_keys=[])
    answer, row = arm(run_module, server)
    assert answer["failed"] and row["state"] == "installed"
    assert "gpu01" in answer["msg"] and "reinstall_and_erase_disks" in answer["msg"]
    assert (armed_file(server).parent / "installed.json").exists(), "its next boot would have been an install"
    answer, row = arm(run_module, server, reinstall_and_erase_disks=True)
    assert row["state"] == "armed" and not (armed_file(server).parent / "installed.json").exists()


def test_a_node_that_answers_needs_the_flag(run_module: Any, server: Path, sshd: int) -> None:
    here = {"address": "127.0.0.1", "port": sshd}
    answer, row = arm(run_module, server, node=here)
    assert answer["failed"] and row["state"] == "running" and not armed_file(server).exists()
    _, row = arm(run_module, server, node=here, reinstall_and_erase_disks=True)
    assert row["state"] == "armed" and armed_file(server).exists()


def test_a_forgotten_arming_of_a_running_node_is_taken_back(run_module: Any, server: Path, sshd: int) -> None:
    arm(run_module, server)
    answer, row = arm(run_module, server, node={"address": "127.0.0.1", "port": sshd})
    assert row["state"] == "running" and answer["changed"] and not armed_file(server).exists()


def test_one_refused_node_does_not_hold_up_the_others(run_module: Any, server: Path, sshd: int) -> None:
    nodes = [
        {"name": "gpu01", "mac": MAC, "image": "compute", "address": "127.0.0.1", "port": sshd},
        {"name": "gpu02", "mac": "02:00:0a:00:00:20", "image": "compute"},
        {"name": "gpu03", "mac": "02:00:0a:00:00:21", "image": "never-built"},
    ]
    answer = run_module("boot_arm", path=str(server), nodes=nodes)
    assert answer["failed"] and "gpu03" in answer["msg"] and "never-built" in answer["msg"]
    assert [row["state"] for row in answer["rackloom_armed"]] == ["running", "armed", "missing"]
    assert (server / "http/nodes/02-00-0a-00-00-20/armed/armed.json").exists()


def test_a_memory_node_that_runs_is_told_apart(run_module: Any, server: Path, sshd: int) -> None:
    memory = {"mode": "memory"}
    _, first = arm(run_module, server, node=memory)
    report(server, first["token"], "booted")
    _, row = arm(run_module, server, node={**memory, "address": "127.0.0.1", "port": sshd})
    assert row["state"] == "running" and row["mode"] == "memory"
    assert armed_file(server).exists(), "its next boot could not report"
    _, row = arm(run_module, server, node=memory)
    assert row["state"] == "armed"


def test_check_mode_only_tells(run_module: Any, server: Path) -> None:
    answer, row = arm(run_module, server, check=True)
    assert answer["changed"] and row["state"] == "armed" and not armed_file(server).exists()


def test_disarming(run_module: Any, server: Path) -> None:
    arm(run_module, server)
    answer, _ = arm(run_module, server, state="disarmed")
    assert answer["changed"] and not armed_file(server).exists()
    answer, _ = arm(run_module, server, state="disarmed")
    assert not answer["changed"]


def test_an_address_that_is_none_is_named(run_module: Any, server: Path) -> None:
    nodes = [{"name": "gpu01", "mac": "nonsense", "image": "compute"}]
    answer = run_module("boot_arm", path=str(server), nodes=nodes)
    assert answer["failed"] and "gpu01" in answer["msg"] and "nonsense" in answer["msg"]
