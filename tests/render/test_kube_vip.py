"""kube-vip: a real API server takes its pod and its rights, and with these two real ones hand the address over.

Each of the two has a network namespace of its own, which plays a node, and a way of its own to the API server. Where
the address is can be asked of this machine's neighbours, as any client of the cluster would.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from plugins.module_utils import kube_vip
from tests.daemons import program

from .conftest import Api
from .test_kube_state import present

ROOT = Path(__file__).parents[2]
BRIDGE, HERE, ADDRESS = "rkvbridge", "198.51.100.1", "198.51.100.100"
NODES = {"one": "198.51.100.11", "two": "198.51.100.12"}
PATIENCE = 120
RECORD = yaml.safe_load((ROOT / "inventory/versions.yml").read_text())["images"]["ghcr.io/kube-vip/kube-vip"]
DEFAULTS = yaml.safe_load((ROOT / "roles/kube_vip/defaults/main.yml").read_text())


def inputs(node: str = "one", **more: Any) -> dict[str, Any]:
    given = {"address": ADDRESS, "port": DEFAULTS["kube_vip_port"], "interface": "eth0", "node": node}
    given |= {"node_address": NODES[node], "image": f"ghcr.io/kube-vip/kube-vip:{RECORD['tag']}"}
    return {**given, "lease": DEFAULTS["kube_vip_lease"], **more}


@pytest.mark.parametrize("settings", [{}, {"vip_loglevel": 4}])
def test_the_api_server_takes_the_pod(api: Api, settings: dict[str, Any]) -> None:
    text = kube_vip.manifest(inputs(settings=settings), "anything")
    # as the kubelet reads it
    assert api.trouble(yaml.safe_load(text)) == ""


def test_the_api_server_takes_its_rights(api: Api) -> None:
    assert [trouble for each in kube_vip.rights() if (trouble := api.trouble(each))] == []


# --- Two of them -----------------------------------------------------------------------------


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


def await_that(what: str, done: Any, log: Path | None = None) -> float:
    """Await a condition; returns the seconds that it took."""
    began = time.monotonic()
    while not done():
        said = log.read_text()[-2000:] if log else ""
        assert time.monotonic() < began + PATIENCE, f"not within {PATIENCE} s: {what}\n{said}"
        time.sleep(0.1)
    return time.monotonic() - began


class Node:
    """A network namespace on the bridge, and kube-vip in it, which sees nothing but its own image."""

    def __init__(self, name: str, folder: Path, api: Api) -> None:
        self.name, self.space, self.link = name, f"rkv-{name}", f"rkv{name}"
        self.root = folder / name
        self.log = folder / f"{name}.log"
        (self.root / "etc/kubernetes").mkdir(parents=True)
        shutil.copy(program("kube-vip", "kube-vip"), self.root / "kube-vip")
        config = yaml.safe_load(api.kubeconfig.read_text())
        # nothing but what its rights allow
        config["users"][0]["user"]["as"] = kube_vip.USER
        (self.root / kube_vip.READ_AT.lstrip("/")).write_text(yaml.safe_dump(config))
        self.process: subprocess.Popen[bytes] | None = None
        self.target = api.port

    def up(self) -> None:
        """Have the namespace, on the bridge, and a way to the API server."""
        self.door = Door(self.target)
        ip("netns", "add", self.space)
        ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        ip("link", "set", self.link, "master", BRIDGE, "up")
        for words in (f"address add {NODES[self.name]}/24 dev eth0", "link set eth0 up", "link set lo up"):
            ip("-n", self.space, *words.split())

    def start(self) -> None:
        """Run kube-vip as its pod would."""
        made = inputs(self.name)
        [container] = kube_vip.pod(made, "")["spec"]["containers"]
        own = {each["name"]: each["value"] for each in container["env"]}
        own["kubernetes_addr"] = f"https://{HERE}:{self.door.port}"
        argv = ["ip", "netns", "exec", self.space, "chroot", str(self.root), "/kube-vip", *container["args"]]
        self.begun = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(argv, env={**os.environ, **own}, stdout=stream, stderr=stream)

    def has_it(self) -> bool:
        return f" {ADDRESS}/32" in ip("-n", self.space, "-brief", "address", "show", "dev", "eth0")

    def sees(self, leader: str) -> bool:
        """Whether it has said since its start that another one has the lease."""
        return f"leader={leader}" in self.log.read_text()[self.begun :]

    def card(self) -> str:
        [told] = json.loads(ip("-n", self.space, "-json", "link", "show", "eth0"))
        return str(told["address"])

    def ask_to_end(self) -> None:
        assert self.process
        self.process.terminate()
        self.process.wait(timeout=PATIENCE)

    def die(self) -> None:
        """All of the node at once: it says nothing more to anybody."""
        ip("link", "set", self.link, "down")
        assert self.process
        self.process.kill()
        self.process.wait()

    def gone(self) -> None:
        if hasattr(self, "door"):
            self.door.shut()
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for words in (("link", "del", self.link), ("netns", "del", self.space)):
            with suppress(subprocess.CalledProcessError):
                ip(*words)


class Door:
    """A port of the bridge that leads to the API server, which listens on this machine alone, until it is shut."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.listening = socket.create_server((HERE, 0))
        self.port = int(self.listening.getsockname()[1])
        self.open: list[socket.socket] = []
        threading.Thread(target=self.take, daemon=True).start()

    def take(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listening.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                self.open += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self.pump, args=pair, daemon=True).start()

    def pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def shut(self) -> None:
        """As if the API server had died."""
        for each in (self.listening, *self.open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.open.clear()


@pytest.fixture
def nodes(api: Api, tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    if not program("kube-vip", "kube-vip"):
        pytest.skip("kube-vip was not built on this machine")
    if (
        os.geteuid() != 0
        or subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("this user may not have networks of its own")
    one, two = Node("one", tmp_path, api), Node("two", tmp_path, api)
    system = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": kube_vip.NAMESPACE}}
    assert api.ask("POST", "/api/v1/namespaces", system)[0] in (201, 409)
    try:
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("address", "add", f"{HERE}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        with present(api, kube_vip.rights()):
            for each in (one, two):
                each.up()
            one.start()
            await_that("one has the address", one.has_it, one.log)
            two.start()
            yield one, two
    finally:
        for each in (one, two):
            each.gone()
        with suppress(subprocess.CalledProcessError):
            ip("link", "del", BRIDGE)
        api.ask(
            "DELETE", f"/apis/coordination.k8s.io/v1/namespaces/{kube_vip.NAMESPACE}/leases/{kube_vip.LEASE}"
        )


def card_here() -> str:
    """The network card that this machine finds behind the address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", (ADDRESS, 9))
    found = json.loads(ip("-json", "neigh", "show", "to", ADDRESS, "dev", BRIDGE) or "[]")
    return next((str(each["lladdr"]) for each in found if each.get("lladdr")), "")


def test_the_address_moves(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    await_that("one is found behind the address", lambda: card_here() == one.card())
    assert not two.has_it()

    # asked to end, as when it is changed
    one.ask_to_end()
    soft = await_that("two has the address", two.has_it, two.log)
    assert not one.has_it()
    # without a question of anybody: it says so itself
    soft += await_that("two is found behind the address", lambda: card_here() == two.card())

    # the API server of its node dies, and kube-vip does not
    one.start()
    await_that("one waits", lambda: one.sees("two"), one.log)
    two.door.shut()
    lame = await_that("one has the address", one.has_it, one.log)
    assert not two.has_it()
    lame += await_that("one is found behind the address", lambda: card_here() == one.card())
    assert two.process and two.process.wait(timeout=PATIENCE) != 0

    # as when a machine loses its power
    two.door = Door(two.target)
    two.start()
    await_that("two waits", lambda: two.sees("one"), two.log)
    one.die()
    hard = await_that("two has the address", two.has_it, two.log)
    hard += await_that("two is found behind the address", lambda: card_here() == two.card())
    print(f"asked to end: {soft:.1f} s; no API server: {lame:.1f} s; died: {hard:.1f} s")
