"""The mirror is asked by a node that knows its address, its authority and its key, and nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

SCRATCH = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
HERE = Path(__file__).parents[1]


def machine(request: pytest.FixtureRequest, name: str) -> Host:
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=request.config.option.ansible_inventory)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Host:
    return machine(request, "mirror")


@pytest.fixture
def node(request: pytest.FixtureRequest) -> Host:
    return machine(request, "node")


@pytest.fixture
def url(server: Host) -> str:
    return f"https://{server.ansible.get_variables()['rackloom_address']}:8443"


ASK = """
import ssl, sys, urllib.error, urllib.request
context = ssl.create_default_context(cafile=sys.argv[3] if len(sys.argv) > 3 else None)
request = urllib.request.Request(sys.argv[1], method=sys.argv[2], data=b"x" if sys.argv[2] == "PUT" else None)
try:
    with urllib.request.urlopen(request, context=context, timeout=60) as answer:
        print(answer.status, answer.read()[:2000])
except urllib.error.HTTPError as error:
    print(error.code)
except urllib.error.URLError as error:
    print(type(error.reason).__name__)
"""


def ask(host: Host, address: str, method: str = "GET", authority: str = "/etc/rackloom/ca.crt") -> str:
    return str(host.check_output(f"python3 -c '{ASK}' {address} {method} {authority}"))


def serve(version: str, **more: object) -> None:
    """Apply the role again, with another bundle."""
    subprocess.run(
        ["ansible-playbook", "-i", SCRATCH / "inventory", HERE / "converge.yml", "--limit", "server", "-e",
         json.dumps({"served": version, **more})],
        check=True,
        capture_output=True,
    )  # fmt: skip


def test_the_package_came_from_the_mirror(node: Host, url: str) -> None:
    assert node.package("rackloom-test").version == "1.0"
    told = node.check_output("apt-cache policy rackloom-test")
    assert f"{url}/apt/" in told


def test_apt_trusts_it_by_signature_and_certificate(node: Host) -> None:
    """Nothing is waved through: with another key, or another authority, apt refuses."""
    settings = node.check_output("apt-config dump; cat /etc/apt/rackloom.sources.d/*")
    assert not re.search(
        r"(?i)(allow-?(insecure|unauth|weak)|trusted:|verify-(peer|host)).*(1|yes|true)", settings
    )
    assert not re.search(r'(?i)verify-(peer|host) "(0|no|false)"', settings)
    update = "apt-get update -q --error-on=any 2>&1"
    assert node.run(update).rc == 0
    for path in ("/etc/rackloom/packages.asc", "/etc/rackloom/ca.crt"):
        node.check_output(f"cp {path} /root/kept && rm -rf /var/lib/apt/lists/*")
        # The empty key of nobody; an authority of somebody else.
        other = "ls /etc/ssl/certs/*.pem | head -1 | xargs cat" if path.endswith("crt") else "true"
        node.check_output(f"sh -c '{other}' > {path}")
        try:
            assert node.run(update).rc != 0, path
        finally:
            node.check_output(f"cp /root/kept {path}")
    assert node.run(update).rc == 0


def test_a_changed_list_is_refused(node: Host, server: Host) -> None:
    lists = "/srv/rackloom/mirror/current/apt/*/dists/*/InRelease"
    server.check_output(f"sed -i.kept 's/^Origin: .*/Origin: Nobody/' {lists}")
    try:
        node.check_output("rm -rf /var/lib/apt/lists/*")
        assert node.run("apt-get update -q --error-on=any").rc != 0
    finally:
        server.check_output(f"for kept in {lists}.kept; do mv $kept ${{kept%.kept}}; done")
    node.check_output("apt-get update -q --error-on=any")


@pytest.mark.parametrize(
    "path",
    ["files/hello/1.0/amd64/hello-1.0.tar.gz", "charts/greeter-1.0.tgz", "wheels/", "bundle.lock"],
)
def test_it_serves_what_the_bundle_holds(node: Host, url: str, path: str) -> None:
    assert ask(node, f"{url}/{path}").startswith("200 ")


def test_it_is_for_reading_only(node: Host, url: str) -> None:
    assert ask(node, f"{url}/files/new", "PUT") in {"403", "405"}
    assert ask(node, f"{url}/bundle.lock", "DELETE") in {"403", "405"}


def test_its_certificate_is_the_sites(node: Host, url: str) -> None:
    assert ask(node, f"{url}/bundle.lock", authority="") == "SSLCertVerificationError"


def test_the_signing_key_is_not_there(server: Host) -> None:
    found = server.run("grep -rlE 'BEGIN PRIVATE KEY' /srv/rackloom /etc/rackloom").stdout.split()
    assert found == ["/etc/rackloom/mirror/server.key"]
    assert server.file("/etc/rackloom/mirror/server.key").mode == 0o600


def test_a_newer_bundle_beside_the_older_one_and_back(node: Host, server: Host) -> None:
    lists = "apt-get update -q --error-on=any && apt-cache policy rackloom-test | grep Candidate"
    serve("2.0")
    try:
        assert "2.0" in node.check_output(lists)
        assert len(server.check_output("ls /srv/rackloom/mirror/bundles").split()) == 2
        node.check_output("apt-get install -y -q rackloom-test")
        assert node.package("rackloom-test").version == "2.0"
        # What both have in common lies there once.
        assert (
            server.check_output(
                "find /srv/rackloom/mirror/bundles -path '*/wheels/index.txt' -links 2 | wc -l"
            )
            == "2"
        )
    finally:
        serve("1.0")
    assert "1.0" in node.check_output("apt-get update -q --error-on=any && apt-cache madison rackloom-test")
    node.check_output("apt-get install -y -q --allow-downgrades rackloom-test=1.0")
    serve("1.0", mirror_prune=True)
    assert len(server.check_output("ls /srv/rackloom/mirror/bundles").split()) == 1


def test_what_is_lost_is_brought_again_and_what_is_damaged_is_refused(server: Host) -> None:
    path = "/srv/rackloom/mirror/current/charts/greeter-1.0.tgz"
    whole = server.check_output(f"sha256sum {path}")
    server.check_output(f"rm {path}")
    chart = SCRATCH / "1.0/bundle/charts/greeter-1.0.tgz"
    good = chart.read_bytes()
    try:
        chart.write_bytes(bytes([good[0] ^ 1]) + good[1:])
        with pytest.raises(subprocess.CalledProcessError) as refused:
            serve("1.0")
        assert b"is not what bundle.lock says" in refused.value.stdout
        assert not server.file(path).exists
    finally:
        chart.write_bytes(good)
    serve("1.0")
    assert server.check_output(f"sha256sum {path}") == whole
