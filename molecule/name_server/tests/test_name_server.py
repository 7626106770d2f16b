"""The server is asked over the network, by a node that knows nothing but its address."""

from __future__ import annotations

import struct

import pytest
import testinfra
from testinfra.host import Host
from waits import until

A, PTR, SRV = 1, 12, 33
NXDOMAIN = 3

ASK = """
import socket, sys
question = bytes.fromhex(sys.argv[2])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
    line.settimeout(3)
    for _ in range(20):
        line.sendto(question, (sys.argv[1], 53))
        try:
            print(line.recv(4096).hex())
            break
        except TimeoutError:
            continue
"""


def address(request: pytest.FixtureRequest, name: str) -> str:
    """Return another node's address in the scenario's network."""
    other = testinfra.get_host(f"ansible://{name}", ansible_inventory=request.config.option.ansible_inventory)
    return str(other.ansible.get_variables()["rackloom_address"])


@pytest.fixture
def server(request: pytest.FixtureRequest) -> str:
    return address(request, "ns")


def ask(host: Host, server: str, name: str, kind: int) -> tuple[int, list[bytes]]:
    """Return the answer's code and the data of its records."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)
    answer = bytes.fromhex(host.check_output(f"python3 -c '{ASK}' {server} {question.hex()}"))
    flags, _, count = struct.unpack(">HHH", answer[2:8])
    rest, found = answer[len(question) :], []
    for _ in range(count):
        # The name is a pointer to the question: two bytes.
        length = struct.unpack(">H", rest[10:12])[0]
        found.append(rest[12 : 12 + length])
        rest = rest[12 + length :]
    return flags & 0xF, found


@pytest.mark.parametrize("name", ["gpu001.demo.example", "gpu001"])
def test_name(host: Host, server: str, name: str) -> None:
    assert ask(host, server, name, A) == (0, [bytes([10, 10, 1, 1])])


def test_address(host: Host, server: str) -> None:
    code, answers = ask(host, server, "1.1.10.10.in-addr.arpa", PTR)
    assert code == 0
    assert answers[0].startswith(b"\x06gpu001\x04demo")


def test_service(host: Host, server: str) -> None:
    code, answers = ask(host, server, "_slurmctld._tcp.demo.example", SRV)
    assert code == 0
    assert struct.unpack(">HHH", answers[0][:6])[2] == 6817


def test_unknown_name_of_the_domain_is_not_asked_outside(host: Host, server: str) -> None:
    assert ask(host, server, "gpu999.demo.example", A)[0] == NXDOMAIN


def test_listens_on_the_cluster_only(host: Host, server: str) -> None:
    if host.backend.get_hostname() != "ns":
        return
    listening = {line.split()[3] for line in host.check_output("ss -Hlnu sport = 53").splitlines()}
    assert listening == {"127.0.0.1:53", f"{server}:53"}


def test_new_node_needs_no_restart(host: Host, server: str) -> None:
    if host.backend.get_hostname() != "ns":
        return
    process = host.check_output("pidof dnsmasq")
    host.check_output("echo 10.10.1.2 gpu002.demo.example gpu002 > /etc/rackloom/names.d/more")
    try:
        until(lambda: ask(host, server, "gpu002.demo.example", A)[0] != NXDOMAIN)
        assert ask(host, server, "gpu002.demo.example", A) == (0, [bytes([10, 10, 1, 2])])
        assert host.check_output("pidof dnsmasq") == process
    finally:
        host.check_output("rm /etc/rackloom/names.d/more")
