"""A machine on the same network asks for an address, a boot program and its script, and reports."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host
from waits import until

GPU, MEM, DEB, FAR, STRANGER = (f"52:54:00:00:02:0{number}" for number in (1, 2, 3, 4, 9))
PORT = 8080
ROOT = "/srv/rackloom/boot"
WRONG = "f" * 32
BIOS, UEFI, UEFI_HTTP = 0, 7, 16

# Sends a DHCPDISCOVER and prints all offers that come within the time; firmware asks again while it lacks one. It ends
# once those have answered that must. A server that offers no address and names no file is one beside the site's own;
# firmware then asks it once more, on its second port, for what to boot.
DISCOVER = """
import json, socket, struct, sys, time
mac, kind, program, patience, own = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]), sys.argv[5]
wanted = set(sys.argv[6:])
def option(code, data): return bytes([code, len(data)]) + data
vendor = b"HTTPClient" if kind == 16 else b"PXEClient"
options = option(55, bytes([1, 3, 6, 15, 60, 66, 67, 43]))
options += option(60, vendor + b":Arch:%05d:UNDI:003016" % kind) + option(93, struct.pack(">H", kind))
options += option(94, b"\\x01\\x03\\x10") + option(97, b"\\0" + bytes(16))
if program == "ipxe": options += option(77, b"iPXE") + option(175, b"\\x15\\x01\\x01")
def packet(message, flags, address):
    head = struct.pack(">BBBBIHH4s12s16s64s128sI", 1, 1, 6, 0, 0x52414B4B, 0, flags, address, bytes(12),
                       bytes.fromhex(mac.replace(":", "")) + bytes(10), bytes(64), bytes(128), 0x63825363)
    return head + option(53, bytes([message])) + options + b"\\xff"
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
line.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
line.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
line.bind(("", 68))
found, asked, end, again, bare = [], [], time.monotonic() + patience, 0, options
while (now := time.monotonic()) < end and not (wanted and wanted <= {each["server"] for each in found}):
    if now >= again:
        line.sendto(packet(1, 0x8000, bytes(4)), ("255.255.255.255", 67))
        asked, again = [], now + 3
    line.settimeout(min(again, end) - now)
    try: answer = line.recv(4096)
    except TimeoutError: continue
    if answer[4:8] != b"RAKK": continue
    told, rest = {}, answer[240:]
    while rest and rest[0] != 255:
        if rest[0] == 0: rest = rest[1:]; continue
        told[rest[0]] = rest[2:2 + rest[1]]; rest = rest[2 + rest[1]:]
    named = told.get(67, answer[108:236]).rstrip(b"\\0").decode()
    server, vendor = socket.inet_ntoa(told[54]), told.get(60, b"").decode()
    if answer[16:20] == bytes(4) and vendor == "PXEClient" and not named:
        if server in asked: continue
        asked.append(server)
        # Firmware of the BIOS kind takes the first entry of the menu that it was sent; UEFI knows no menu.
        if kind == 0: options += option(43, b"\\x47\\x04\\x80\\x00\\x00\\x00\\xff")
        line.sendto(packet(3, 0, socket.inet_aton(own)), (server, 4011))
        options = bare
        continue
    found.append({"server": server, "address": socket.inet_ntoa(answer[16:20]), "file": named,
                  "vendor": vendor,
                  "router": socket.inet_ntoa(told[3]) if 3 in told else ""})
print(json.dumps(found))
"""


def of(request: pytest.FixtureRequest, name: str) -> Host:
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=request.config.option.ansible_inventory)


def address_of(request: pytest.FixtureRequest, name: str) -> str:
    return str(of(request, name).ansible.get_variables()["rackloom_address"])


@pytest.fixture
def boot(request: pytest.FixtureRequest) -> Host:
    return of(request, "boot")


@pytest.fixture
def server(request: pytest.FixtureRequest) -> str:
    return address_of(request, "boot")


@pytest.fixture
def proxy(request: pytest.FixtureRequest) -> str:
    return address_of(request, "proxy")


def discover(host: Host, mac: str, kind: int, program: str = "firmware", *wanted: str) -> dict[str, Any]:
    """Return what each server offers, by the server; those that are wanted are waited for."""
    own = host.ansible.get_variables()["rackloom_address"]
    patience = 60 if wanted else 2
    words = f"{mac} {kind} {program} {patience} {own} {' '.join(wanted)}"
    found = json.loads(host.check_output(f"python3 -c '{DISCOVER}' {words}"))
    return {offer["server"]: offer for offer in found}


def get(host: Host, server: str, path: str) -> tuple[int, str]:
    """Return a status and what came with it."""
    done = host.run(f"curl -sg -m 30 -w '\n%{{http_code}}' http://{server}:{PORT}{path}")
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def put(host: Host, server: str, path: str, data: str = "{}") -> int:
    done = host.run(
        f"printf '%s' '{data}' | curl -s -m 30 -o /dev/null -w '%{{http_code}}' -T - http://{server}:{PORT}{path}"
    )
    return int(done.stdout)


def key(mac: str) -> str:
    return mac.replace(":", "-")


def script(host: Host, server: str, mac: str) -> str:
    """What a machine boots: install, memory, or local."""
    status, body = get(host, server, f"/nodes/{key(mac)}/boot.ipxe")
    assert status == 200
    mode = re.search(r"^set mode (\w+)$", body, re.MULTILINE)
    return mode[1] if mode else "local"


def arm(boot: Host, mac: str, token: str) -> None:
    """Arm a node as it is done: the folder of its reports, then one link."""
    folder = f"{ROOT}/http/reports/{key(mac)}/{token}"
    owner = boot.file(f"{ROOT}/http/discovered").user
    issue = json.dumps({"token": token, "image": "compute"})
    boot.check_output(
        f"install -d -m 0750 -o {owner} {folder} && echo '{issue}' >{folder}/armed.json"
        f" && ln -sfn ../../reports/{key(mac)}/{token} {ROOT}/http/nodes/{key(mac)}/armed"
    )


@pytest.fixture
def armed(boot: Host) -> Iterator[str]:
    token = "0123456789abcdef" * 2
    arm(boot, GPU, token)
    yield token
    boot.check_output(f"rm -rf {ROOT}/http/nodes/{key(GPU)}/armed {ROOT}/http/reports/{key(GPU)}/*")


def converge(request: pytest.FixtureRequest) -> subprocess.CompletedProcess[str]:
    """Apply the role once more."""
    book = Path(__file__).parents[1] / "converge.yml"
    argv = ["ansible-playbook", "-i", request.config.option.ansible_inventory, "--limit", "boot", str(book)]
    env = {**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=env)


@pytest.mark.parametrize(
    ("kind", "program", "wanted"),
    [
        (BIOS, "firmware", "undionly.kpxe"),
        (UEFI, "firmware", "snponly.efi"),
        (UEFI_HTTP, "firmware", "http://{server}:8080/snponly.efi"),
        (UEFI, "ipxe", "http://{server}:8080/boot.ipxe"),
        (BIOS, "ipxe", "http://{server}:8080/boot.ipxe"),
    ],
)
def test_a_node_gets_its_address_and_what_its_firmware_can_load(
    host: Host, server: str, kind: int, program: str, wanted: str
) -> None:
    offer = discover(host, GPU, kind, program, server)[server]
    assert offer["address"].endswith(".201")
    assert offer["router"].endswith(".1")
    assert offer["file"] == wanted.format(server=server)
    assert offer["vendor"] == ("HTTPClient" if kind == UEFI_HTTP else offer["vendor"])


def test_a_stranger_gets_no_address_where_there_is_no_pool(host: Host, server: str) -> None:
    assert server not in discover(host, STRANGER, UEFI)


@pytest.mark.parametrize("program", ["undionly.kpxe", "snponly.efi"])
def test_boot_programs_come_over_tftp(host: Host, boot: Host, server: str, program: str) -> None:
    got = host.check_output(f"curl -s -m 30 tftp://{server}/{program} | sha256sum")
    assert got == boot.check_output(f"sha256sum <{ROOT}/tftp/{program}")


def test_boot_program_comes_over_http(host: Host, boot: Host, server: str) -> None:
    got = host.check_output(f"curl -s -m 30 http://{server}:{PORT}/snponly.efi | sha256sum")
    assert got == boot.check_output(f"sha256sum <{ROOT}/tftp/snponly.efi")


def test_a_node_that_nobody_armed_starts_from_its_disk(host: Host, server: str) -> None:
    assert script(host, server, GPU) == "local"
    assert script(host, server, DEB) == "local"
    assert script(host, server, MEM) == "memory"
    assert get(host, server, f"/nodes/{key(GPU)}/install.ipxe")[0] == 404
    assert get(host, server, f"/nodes/{key(GPU)}/armed")[0] == 404


def test_a_stranger_boots_no_installer_even_if_files_were_left_for_it(
    host: Host, boot: Host, server: str
) -> None:
    folder = f"{ROOT}/http/nodes/{key(STRANGER)}"
    boot.check_output(f"cp -a {ROOT}/http/nodes/{key(GPU)} {folder}")
    arm(boot, STRANGER, WRONG)
    try:
        for name in ("boot.ipxe", "node.json", "armed", "image.ipxe"):
            assert get(host, server, f"/nodes/{key(STRANGER)}/{name}")[0] == 404
        assert put(host, server, f"/reports/{key(STRANGER)}/{WRONG}/started.json") == 403
    finally:
        boot.check_output(f"rm -rf {folder} {ROOT}/http/reports/{key(STRANGER)}")
    unknown = get(host, server, "/unknown.ipxe")[1]
    assert "set mode discover" in unknown
    assert "/images/stateless/current/boot.ipxe" in unknown


def test_a_machine_is_known_by_its_serial_number(host: Host, server: str) -> None:
    assert get(host, server, "/serials/SN-1%20A/boot.ipxe") == get(
        host, server, f"/nodes/{key(GPU)}/boot.ipxe"
    )
    assert get(host, server, "/serials/other/boot.ipxe")[0] == 404


def test_an_armed_node_installs_once(host: Host, server: str, armed: str) -> None:
    reports = f"/reports/{key(GPU)}"
    assert script(host, server, GPU) == "install"
    assert json.loads(get(host, server, f"/nodes/{key(GPU)}/armed")[1])["token"] == armed
    assert put(host, server, f"{reports}/{armed}/started.json") == 201
    # A report that does not hold the token, or is none, changes nothing.
    assert put(host, server, f"{reports}/{WRONG}/installed.json") == 403
    assert put(host, server, f"{reports}/{armed}/armed.json") == 403
    assert put(host, server, f"{reports}/{armed}/failed.json", "x" * 70000) == 413
    # Power fails half way: it installs again.
    assert script(host, server, GPU) == "install"
    assert put(host, server, f"{reports}/{armed}/installed.json") == 201
    assert script(host, server, GPU) == "local"
    assert put(host, server, f"{reports}/{armed}/started.json") == 409
    assert put(host, server, f"{reports}/{armed}/booted.json") == 201
    assert get(host, server, f"{reports}/{armed}/started.json")[0] in (403, 405)


def test_the_servers_restart_and_the_role_runs_again_and_nothing_is_armed(
    request: pytest.FixtureRequest, host: Host, boot: Host, server: str, armed: str
) -> None:
    assert put(host, server, f"/reports/{key(GPU)}/{armed}/installed.json") == 201
    done = converge(request)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^boot\s.*changed=0", done.stdout, re.MULTILINE), done.stdout
    boot.check_output("systemctl restart rackloom-dhcp rackloom-boot-http")
    until(lambda: host.run(f"curl -s -m 5 -o /dev/null http://{server}:{PORT}/").rc == 0)
    assert [script(host, server, mac) for mac in (GPU, DEB)] == ["local", "local"]
    assert boot.check_output(f"find {ROOT}/http/nodes -name armed").split() == [
        f"{ROOT}/http/nodes/{key(GPU)}/armed"
    ]


def test_an_image_is_published_as_a_whole(host: Host, server: str, armed: str) -> None:
    status, body = get(host, server, f"/nodes/{key(GPU)}/image.ipxe")
    assert status == 200
    line = next(line for line in body.splitlines() if line.startswith("kernel "))
    assert "rackloom.image=compute rackloom.id=00112233aabbccdd" in line
    assert line.endswith("quiet")
    base = re.search(r"fetch=\$\{boot-url\}(\S+)/root.squashfs", line)
    assert base
    manifest = json.loads(get(host, server, f"{base[1]}/image.json")[1])
    for name, entry in manifest["files"].items():
        got = host.check_output(f"curl -s -m 30 http://{server}:{PORT}{base[1]}/{name} | sha256sum")
        assert got.split()[0] == entry["sha256"]


def test_discovery_reports_are_taken_where_the_site_wants_them(
    host: Host, boot: Host, server: str, proxy: str
) -> None:
    try:
        assert put(host, server, f"/discovered/{key(STRANGER)}.json", '{"disks": []}') == 201
        assert json.loads(boot.file(f"{ROOT}/http/discovered/{key(STRANGER)}.json").content_string) == {
            "disks": []
        }
        assert put(host, server, "/discovered/else.json") == 403
        assert put(host, proxy, f"/discovered/{key(STRANGER)}.json") == 403
    finally:
        boot.check_output(f"rm -f {ROOT}/http/discovered/*")


def test_what_is_served_is_logged_for_programs(host: Host, boot: Host, server: str) -> None:
    get(host, server, f"/nodes/{key(MEM)}/boot.ipxe")

    def last() -> dict[str, Any]:
        told: dict[str, Any] = json.loads(boot.check_output("tail -n 1 /var/log/rackloom/boot-http.log"))
        return told

    until(lambda: last()["mac"] == key(MEM))  # it is written once all was sent
    assert last()["uri"].endswith("/memory.ipxe")
    assert last()["status"] == 200


def test_names_are_served_beside_it(boot: Host) -> None:

    def listening() -> bool:
        told = boot.check_output("ss -Hlnu")
        return all(f":{port} " in told for port in (53, 67, 69))

    until(listening)
    assert boot.service("dnsmasq").is_running and boot.service("rackloom-dhcp").is_running


@pytest.fixture
def site_dhcp(host: Host) -> Iterator[str]:
    """Another DHCP server on the wire, on the client's machine."""
    own = str(host.ansible.get_variables()["rackloom_address"])
    net = own.rpartition(".")[0]
    host.check_output(
        "systemd-run -q --unit site-dhcp dnsmasq -k -p 0 --bind-dynamic --interface=eth0 "
        f"--dhcp-range={net}.230,{net}.240 --dhcp-leasefile=/run/site.leases --pid-file=/run/site.pid --no-ping"
    )
    host.check_output("timeout 120 sh -c 'until ss -Hlnu | grep -q :67; do sleep 0.1; done'")
    yield own
    host.check_output("systemctl stop site-dhcp")


def test_a_second_dhcp_server_is_named(request: pytest.FixtureRequest, site_dhcp: str) -> None:
    done = converge(request)
    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert f"A second DHCP server answers on eth0: {site_dhcp} (offers" in said
    assert "set provision.dhcp.mode to proxy" in said


@pytest.mark.parametrize(
    ("kind", "program", "wanted"),
    [
        (BIOS, "firmware", "undionly.kpxe"),
        (UEFI, "firmware", "snponly.efi"),
        (UEFI, "ipxe", "http://{proxy}:8080/boot.ipxe"),
        (BIOS, "ipxe", "http://{proxy}:8080/boot.ipxe"),
    ],
)
def test_beside_a_sites_dhcp_it_only_adds_what_to_boot(
    host: Host, proxy: str, site_dhcp: str, kind: int, program: str, wanted: str
) -> None:
    offers = discover(host, FAR, kind, program, proxy, site_dhcp)
    assert offers[site_dhcp]["address"] != "0.0.0.0"  # noqa: S104 - an offer, not a listener
    # The answer of its second port repeats the address that the machine has by then.
    assert offers[proxy]["address"] in {"0.0.0.0", site_dhcp}  # noqa: S104
    assert offers[proxy]["file"] == wanted.format(proxy=proxy)
    assert proxy not in discover(host, STRANGER, kind, program)
