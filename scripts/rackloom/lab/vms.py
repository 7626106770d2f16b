"""Virtual machines of a lab: bare servers with firmware, an empty disk and a management controller.

They stand in the machine room, one more container on the lab's network that runs QEMU under libvirt. Each boots
from the network like a real server and is switched through Redfish, over TLS and with a password. Removing the
container removes them all.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rackloom.lab import image
from rackloom.lab.errors import LabError
from rackloom.lab.machine import Machine
from rackloom.lab.nodes import Fleet, NodeSpec
from rackloom.lab.podman import Podman
from rackloom.lab.shell import run

ROOM = "machines"
"""The room's name as a node of the lab."""
ROOM_OS = "debian-12"
CERTIFICATE = Path("files/bmc.pem")
"""The controllers' certificate, in the lab's site."""
BMC_PORT = 8000
BMC_USER = "rackloom"
FIRMWARES = ("uefi", "bios")
IMAGES = {"compute": "disk", "stateless": "memory"}
"""The images that a lab's site declares, and how they are used."""
ROLES = ("base", "accounts", "sshd", "chrony", "munge", "slurmd")
"""Whose packages are in them: what a compute node is deployed."""
LEAST_MEMORY = 512
_ROOM_ADDRESS = 5
_FIRST_ADDRESS, _LAST_ADDRESS = 31, 49
_PROGRAM = "/usr/local/sbin/machine-room"
_EMULATOR = "/usr/local/lib/redfish"
_PACKAGES = (
    "ipxe-qemu",
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "libvirt-daemon-system",
    "openssl",
    "ovmf",
    "python3-bcrypt",
    "python3-flask",
    "python3-libvirt",
    "python3-pbr",
    "python3-requests",
    "python3-tenacity",
    "python3-webob",
    "qemu-system-x86",
)
_NETWORK_UNIT = f"""[Unit]
Description=Bridge that the machines are plugged into
DefaultDependencies=no
Before=ssh.service libvirtd.service sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={_PROGRAM} network

[Install]
WantedBy=sysinit.target
"""
_REDFISH_UNIT = f"""[Unit]
Description=Redfish controller of the machines
After=libvirtd.socket
ConditionPathExists=/etc/machine-room/users

[Service]
Environment=PYTHONPATH={_EMULATOR} PYTHONDONTWRITEBYTECODE=1
ExecStart=/usr/bin/python3 -m sushy_tools.emulator.main --config /etc/redfish.conf
Restart=on-failure

[Install]
WantedBy=multi-user.target
"""
_REDFISH_CONF = f"""SUSHY_EMULATOR_LISTEN_IP = "0.0.0.0"
SUSHY_EMULATOR_LISTEN_PORT = {BMC_PORT}
SUSHY_EMULATOR_SSL_CERT = "/etc/machine-room/bmc.pem"
SUSHY_EMULATOR_SSL_KEY = "/etc/machine-room/bmc.key"
SUSHY_EMULATOR_AUTH_FILE = "/etc/machine-room/users"
SUSHY_EMULATOR_LIBVIRT_URI = "qemu:///system"
SUSHY_EMULATOR_BOOT_LOADER_MAP = {{
    "UEFI": {{"x86_64": "/usr/share/OVMF/OVMF_CODE_4M.fd"}},
    "Legacy": {{"x86_64": "/usr/share/seabios/bios-256k.bin"}},
}}
SUSHY_EMULATOR_SECURE_BOOT_DISABLED_NVRAM = "/usr/share/OVMF/OVMF_VARS_4M.fd"
"""
# The container is the wall: libvirt need not build others inside it.
_QEMU_CONF = """user = "root"
group = "root"
cgroup_controllers = []
security_driver = "none"
namespaces = []
remember_owner = 0
"""
_CUSTOMIZE = f"""chmod 0755 "$root{_PROGRAM}"
chroot "$root" systemctl enable machine-room.service redfish.service libvirtd.socket >/dev/null 2>&1
chroot "$root" systemctl disable libvirt-guests.service >/dev/null 2>&1 || true
"""


@dataclass(frozen=True)
class VmSpec:
    """A virtual machine of a lab. `memory` is in MiB, `disk` in GiB."""

    name: str
    address: str
    firmware: str = "uefi"
    memory: int = 2560
    disk: float = 8
    cpus: int = 2
    image: str = "compute"
    """The operating system image it gets."""
    mac: str = ""
    """The network card's address: no two machines ever have the same, not even one after the other."""

    @property
    def uuid(self) -> str:
        """What the management controller calls the machine."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, self.mac))

    @property
    def profile(self) -> str:
        """The name of its hardware profile in nodes.yml."""
        return f"vm_{self.firmware}_{self.memory}" + (f"_{self.cpus}" if self.cpus != VmSpec.cpus else "")

    def check(self) -> VmSpec:
        """Return this, or raise LabError for what cannot be."""
        if self.firmware not in FIRMWARES:
            raise LabError(f"no firmware '{self.firmware}'", f"choose one of {', '.join(FIRMWARES)}")
        if self.memory < LEAST_MEMORY:
            raise LabError(f"--memory {self.memory} is too little to boot", f"at least {LEAST_MEMORY} (MiB)")
        if self.disk <= 0 or self.cpus < 1:
            raise LabError(f"the machine '{self.name}' needs a disk and a processor", "--disk 8 --cpus 2")
        return self


def free_address(subnet: ipaddress.IPv4Network, taken: Sequence[str]) -> str:
    """Return the next address for a machine. Raises LabError where the room is full."""
    for number in range(_FIRST_ADDRESS, _LAST_ADDRESS + 1):
        if (address := str(subnet[number])) not in taken:
            return address
    raise LabError(f"the machine room is full: it holds {_LAST_ADDRESS - _FIRST_ADDRESS + 1} machines")


def fresh_mac() -> str:
    """Return the address of a new network card."""
    return "02:01:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(4))


def profiles(machines: Sequence[VmSpec]) -> dict[str, Any]:
    """Return the hardware profiles of the machines, for nodes.yml."""
    return {
        vm.profile: {
            "sockets": 1,
            "cores": vm.cpus,
            "threads": 1,
            # The kernel keeps a part, and one that runs from memory keeps its system there.
            "memory": f"{vm.memory // 2}M",
            "firmware": vm.firmware,
            "console": "ttyS0,115200n8",
        }
        for vm in machines
    }


def entries(machines: Sequence[VmSpec], room: str) -> list[dict[str, Any]]:
    """Return the machines as entries of a node list; `room` is the address of their controller."""
    return [
        {
            "name": vm.name,
            "address": vm.address,
            "mac": vm.mac,
            "profile": vm.profile,
            "bmc": f"https://{room}:{BMC_PORT}/redfish/v1/Systems/{vm.uuid}",
            "image": vm.image,
        }
        for vm in machines
    ]


def provision_section(certificate: Path) -> dict[str, Any]:
    """Return the lab's `provision` section of cluster.yml; `certificate` is relative to it."""
    # No list gets an image as a whole: the containers in it cannot be installed.
    return {
        "images": {
            name: {
                "os": ROOM_OS,
                "kind": "image",
                "mode": mode,
                "roles": list(ROLES),
                # What emulated machines load, they load slowly; and their hardware is known.
                "kernel": "cloud",
                "initrd": "small",
            }
            for name, mode in IMAGES.items()
        },
        "bmc": {"protocol": "redfish", "verify": True, "ca_file": str(certificate)},
    }


def room_address(subnet: str) -> str:
    """Return the room's own address in a lab's network."""
    return str(ipaddress.IPv4Network(subnet)[_ROOM_ADDRESS])


def recipe() -> image.Recipe:
    """Write down the room's image: a node's, with the hypervisor and the controllers in it. Raises LabError."""
    base = image.recipe(ROOM_OS)
    files = {
        **base.files,
        **_emulator(),
        _PROGRAM: "#!/usr/bin/python3\n" + (Path(__file__).parent / "machine_room.py").read_text(),
        "/etc/systemd/system/machine-room.service": _NETWORK_UNIT,
        "/etc/systemd/system/redfish.service": _REDFISH_UNIT,
        "/etc/redfish.conf": _REDFISH_CONF,
        "/etc/libvirt/qemu.conf": _QEMU_CONF,
    }
    return replace(
        base,
        os=f"{ROOM}-{ROOM_OS}",
        files=files,
        packages=(*base.packages, *_PACKAGES),
        customize=base.customize + _CUSTOMIZE,
    )


def _emulator() -> dict[str, str]:
    """Return the Redfish emulator's files, taken from our own environment: no distribution has it."""
    found = importlib.util.find_spec("sushy_tools")
    if found is None or not found.submodule_search_locations:
        raise LabError(
            "the machines' management controller, sushy-tools, is not installed",
            "scripts/setup.sh --dev --lab",
        )
    home = Path(found.submodule_search_locations[0])
    return {
        f"{_EMULATOR}/sushy_tools/{path.relative_to(home)}": path.read_text()
        for path in sorted(home.rglob("*"))
        if path.is_file() and path.suffix in (".py", ".json") and "tests" not in path.parts
    }


@dataclass(frozen=True)
class Room:
    """The machine room of one lab."""

    fleet: Fleet
    """As for the lab's nodes, but with the room's image."""
    address: str

    @property
    def podman(self) -> Podman:
        """The engine."""
        return self.fleet.podman

    @property
    def container(self) -> str:
        """The room's container."""
        return self.fleet.container(ROOM)

    def open(self, admin_key: str) -> None:
        """Have the room there and running. Raises LabError."""
        spec = NodeSpec(ROOM, self.address, "room")
        self.fleet.start([spec], admin_key)
        booted = self.fleet.wait([spec])[ROOM]
        if booted.failed:
            raise LabError(f"the machine room is up, but these units failed: {', '.join(booted.failed)}")

    def define(self, machines: Sequence[VmSpec], password: str) -> tuple[str, str]:
        """Have the machines there, switched off where new; returns the controller's certificate, and what runs them.

        What runs them is `kvm` or, far slower, `qemu`.
        """
        wanted = {
            "bmc": {"user": BMC_USER, "password": password, "address": self.address},
            "machines": [
                {
                    "name": vm.name,
                    "uuid": vm.uuid,
                    "mac": vm.mac,
                    "firmware": vm.firmware,
                    "memory": vm.memory,
                    "disk": vm.disk,
                    "cpus": vm.cpus,
                }
                for vm in machines
            ],
        }
        argv = self.podman.argv("exec", "--interactive", self.container, _PROGRAM, "define")
        told = json.loads(run(argv, stdin=json.dumps(wanted), timeout=120).stdout)
        return str(told["certificate"]), str(told["accelerator"])

    def remove(self, name: str) -> None:
        """Take a machine away."""
        self.podman.exec(self.container, _PROGRAM, "remove", name)

    def states(self) -> dict[str, str]:
        """Return each machine's state as libvirt tells it (running, shut off and more)."""
        told = self.podman.exec(self.container, "virsh", "list", "--all", check=False)
        rows = [line.split(maxsplit=2) for line in told.splitlines()[2:] if line.strip()]
        return {row[1]: row[2].strip() for row in rows if len(row) == 3}

    def said(self, name: str) -> str:
        """Return what a machine wrote to its serial console."""
        return self.podman.exec(self.container, "cat", f"/var/log/machines/{name}.log", check=False)

    def console(self, name: str) -> list[str]:
        """Return the command that joins a machine's serial console."""
        return self.podman.argv("exec", "--interactive", "--tty", self.container, "virsh", "console", name)


def make_password() -> str:
    """Return a password for the controllers."""
    return secrets.token_urlsafe(24)


def ensure_image(podman: Podman, machine: Machine, cache: Path, progress: Callable[[str], None]) -> str:
    """Return the name of the room's image, building it when it is not there yet."""
    return image.ensure(recipe(), podman, machine, cache, progress)


def with_provision(text: str, section: Mapping[str, Any], provisioner: str) -> str:
    """Return cluster.yml with what provisioning needs added at its end; what it says already stays."""
    import yaml  # noqa: PLC0415 - the CLI's help does not need it

    present = yaml.safe_load(text) or {}
    added: dict[str, Any] = {}
    if "provision" not in present:
        added["provision"] = dict(section)
    if "services" not in present:
        added["services"] = {"provisioner": [provisioner]}
    if not added:
        return text
    return f"{text.rstrip()}\n{yaml.safe_dump(added, sort_keys=False, width=100)}"
