"""Clients on other nodes talk to the registry with a real client, and it is compared with what was to be loaded."""

from __future__ import annotations

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host
from waits import until

SCRATCH = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
HERE = Path(__file__).parents[1]
REF = "org.opencontainers.image.ref.name"
CLIENTS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


def machine(request: pytest.FixtureRequest, name: str) -> Host:
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=request.config.option.ansible_inventory)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Host:
    return machine(request, "registry")


@pytest.fixture
def clients(request: pytest.FixtureRequest) -> list[Host]:
    return [machine(request, name) for name in CLIENTS]


@pytest.fixture
def address(server: Host) -> str:
    return f"{server.ansible.get_variables()['rackloom_address']}:5000"


def images(version: str) -> dict[str, str]:
    """Name -> digest of what the bundle holds."""
    index = json.loads((SCRATCH / version / "bundle/images/index.json").read_text())
    return {entry["annotations"][REF]: entry["digest"] for entry in index["manifests"]}


def apply(version: str, **more: object) -> str:
    """Apply the role again, with another bundle; returns what Ansible printed."""
    chosen = {"registry_layout": f"/srv/images/{version}", **more}
    argv = [
        "ansible-playbook",
        "-i",
        str(SCRATCH / "inventory"),
        str(HERE / "converge.yml"),
        "-e",
        json.dumps(chosen),
    ]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def load(server: Host) -> None:
    """Have the one run that takes images."""
    server.check_output("systemctl start rackloom-registry-load.service")
    until(lambda: server.run("ss -Hltn sport = 5001").stdout)


def test_every_image_has_its_digest(clients: list[Host], address: str) -> None:
    assert images("1.0")
    for name, digest in images("1.0").items():
        told = json.loads(clients[0].check_output(f"skopeo inspect docker://{address}/{name}"))
        assert told["Digest"] == digest, name


def test_eight_nodes_pull_the_same_image_by_digest_at_once(clients: list[Host], address: str) -> None:
    name, digest = next(iter(images("1.0").items()))
    image = f"docker://{address}/{name.rpartition(':')[0]}@{digest}"
    with ThreadPoolExecutor(len(clients)) as pool:
        began = time.time_ns()
        list(pool.map(lambda client: client.check_output("rm -rf /root/pulled"), clients))
        # Nodes share this machine's clock, so one moment is the same for all; on a busy one it takes longer to tell it.
        now = time.time_ns()
        moment = now + max(3_000_000_000, 3 * (now - began))
        # Who is told too late begins at once.
        wait = f"left=$(( ({moment} - $(date +%s%N)) / 1000000 )); [ $left -le 0 ] || sleep ${{left}}e-3"
        pull = f"{wait}; skopeo copy --quiet {image} dir:/root/pulled && sha256sum /root/pulled/manifest.json"
        done = list(pool.map(lambda client: client.run(pull), clients))
    assert [(each.rc, each.stderr) for each in done] == [(0, "")] * len(CLIENTS)
    assert {f"sha256:{each.stdout.split()[0]}" for each in done} == {digest}


def test_nodes_cannot_push(clients: list[Host], server: Host, address: str) -> None:
    name = next(iter(images("1.0")))
    copy = f"skopeo copy --quiet docker://{address}/{name} docker://{address}/refused:1"
    refused = clients[0].run(copy)
    assert refused.rc != 0
    listed = clients[0].run(f"skopeo list-tags docker://{address}/refused")
    assert listed.rc != 0
    # The one that takes images does not run, and answers nobody else when it does.
    assert server.run("systemctl is-active rackloom-registry-load.service").stdout.strip() == "inactive"
    assert server.run("ss -Hltn sport = 5001").stdout == ""
    load(server)
    try:
        host = address.rpartition(":")[0]
        assert clients[0].run(f"timeout 5 bash -c '</dev/tcp/{host}/5001'").rc != 0
        local = "mkdir -p /root/certs && cp /etc/rackloom/registry/ca.crt /root/certs/ && "
        push = f"skopeo copy --quiet --dest-cert-dir /root/certs oci:/srv/images/1.0:{name} "
        assert server.run(f"{local}{push} docker://127.0.0.1:5001/refused:1").rc != 0
    finally:
        server.check_output("systemctl stop rackloom-registry-load.service")


def test_a_real_client_pushes_with_the_certificate(server: Host, clients: list[Host], address: str) -> None:
    name, digest = next(iter(images("1.0").items()))
    load(server)
    try:
        certificates = "--dest-cert-dir /etc/rackloom/registry/client"
        server.check_output(
            f"skopeo copy --quiet {certificates} oci:/srv/images/1.0:{name} docker://127.0.0.1:5001/pushed:1"
        )
    finally:
        server.check_output("systemctl stop rackloom-registry-load.service")
    told = json.loads(clients[1].check_output(f"skopeo inspect docker://{address}/pushed:1"))
    assert told["Digest"] == digest


def test_strangers_are_not_trusted(clients: list[Host], address: str) -> None:
    name = next(iter(images("1.0")))
    bare = f"skopeo inspect --cert-dir /var/empty docker://{address}/{name}"
    assert "certificate" in clients[0].run(f"mkdir -p /var/empty; {bare}").stderr


def test_a_newer_bundle_and_what_no_bundle_has_any_more(
    clients: list[Host], server: Host, address: str
) -> None:
    apply("1.0", registry_prune=True)
    said = apply("2.0")
    assert "changed=1" in said
    for version in ("1.0", "2.0"):
        for name, digest in images(version).items():
            assert (
                json.loads(clients[0].check_output(f"skopeo inspect docker://{address}/{name}"))["Digest"]
                == digest
            )
    assert "changed=0" in apply("2.0")
    apply("1.0", registry_prune=True)
    gone, kept = images("2.0"), images("1.0")
    for name in gone:
        assert clients[0].run(f"skopeo inspect docker://{address}/{name}").rc != 0, name
    for name in kept:
        clients[0].check_output(
            f"skopeo copy --quiet docker://{address}/{name} dir:/root/kept-{kept[name][7:19]}"
        )
    assert clients[0].run(f"skopeo inspect docker://{address}/pushed:1").rc != 0
    for digest in gone.values():
        blob = f"/srv/rackloom/registry/docker/registry/v2/blobs/sha256/{digest[7:9]}/{digest[7:]}"
        assert digest in kept.values() or not server.file(blob).exists
