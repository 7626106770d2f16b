"""The caretaker inside a lab's machine room: the node whose virtual machines stand on the lab's network.

    machine-room network        at each power-on: lay the bridge that machines are plugged into
    machine-room define         a JSON description on standard input; machines that are missing are made
    machine-room remove NAME    take a machine away with its disk

It runs on the room's own Python and is copied there as it is, so it imports nothing of Rackloom. libvirt keeps
the machines, sushy-tools' Redfish emulator is their baseboard management controller.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

BRIDGE = "machines"
DISKS = Path("/var/lib/libvirt/images")
LOGS = Path("/var/log/machines")
BMC = Path("/etc/machine-room")
FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
BIOS = Path("/usr/share/seabios/bios-256k.bin")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
PROBE_SECONDS = 20


def run(*argv: str, given: str | None = None, check: bool = True) -> str:
    """Run a program and return its output; a failure ends us with its words."""
    done = subprocess.run(
        argv,
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode:
        raise SystemExit(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def network() -> None:
    """Put the node's own card into a bridge, and its address on the bridge."""
    links = {row["ifname"]: row for row in json.loads(run("ip", "-json", "link", "show"))}
    if BRIDGE in links:
        return
    (card,) = json.loads(run("ip", "-json", "-4", "address", "show", "dev", "eth0"))
    (address,) = (row for row in card["addr_info"] if row["scope"] == "global")
    routes = json.loads(run("ip", "-json", "-4", "route", "show", "default"))
    mac = links["eth0"]["address"]
    run("ip", "link", "add", BRIDGE, "address", mac, "type", "bridge", "stp_state", "0", "forward_delay", "0")
    run("ip", "address", "flush", "dev", "eth0")
    run("ip", "link", "set", "eth0", "master", BRIDGE)
    run("ip", "address", "add", f"{address['local']}/{address['prefixlen']}", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    for route in routes:
        run("ip", "route", "replace", "default", "via", route["gateway"], "dev", BRIDGE)


def accelerator() -> str:
    """`kvm` where a guest really runs under it, else `qemu` (emulation); the answer is kept.

    That /dev/kvm is there says little: a machine that is itself virtual may offer it and let guests hang. So the
    machines' own firmware is started under it once, with two processors, and has to speak.
    """
    kept = BMC / "accelerator"
    if not kept.exists():
        kept.write_text(("kvm" if Path("/dev/kvm").exists() and firmware_speaks() else "qemu") + "\n")
    return kept.read_text().strip()


def firmware_speaks() -> bool:
    """Start the firmware under KVM and tell whether it came so far as to say something."""
    argv = ["timeout", str(PROBE_SECONDS), "qemu-system-x86_64", "-accel", "kvm", "-cpu", "host"]
    argv += [
        "-machine",
        "q35",
        "-smp",
        "2",
        "-m",
        "256",
        "-nodefaults",
        "-display",
        "none",
        "-serial",
        "stdio",
    ]
    argv += ["-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}"]
    argv += ["-drive", f"if=pflash,format=raw,snapshot=on,file={VARIABLES}"]
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as guest:
        said = b""
        for line in guest.stdout or ():
            said += line
            if b"UEFI" in said or b"BdsDxe" in said:
                guest.terminate()
                return True
    return False


def domain(machine: dict[str, Any], kind: str) -> str:
    """One machine as libvirt reads it."""
    name, disk = quoteattr(machine["name"]), quoteattr(str(DISKS / f"{machine['name']}.img"))
    cpus = int(machine["cpus"])
    firmware = quiet = rom = ""
    if machine["firmware"] == "uefi":
        # The name is the one the emulator gives it when it sets the boot mode: the variables are kept.
        variables = f"/var/lib/libvirt/qemu/nvram/{machine['name']}.nosecboot.fd"
        firmware = f"""
    <loader readonly='yes' type='pflash' secure='no'>{FIRMWARE}</loader>
    <nvram template='{VARIABLES}'>{variables}</nvram>"""
        # The firmware brings its own network boot; asking for IPv6, which nobody serves here, takes it minutes.
        rom = "<rom enabled='no'/>"
        entry = "<entry name='opt/org.tianocore/IPv6PXESupport'>n</entry>"
        quiet = f"<sysinfo type='fwcfg'>{entry}</sysinfo>"
    else:
        # Named, for the emulator knows no machine by "the usual one".
        firmware = f"<loader readonly='yes' type='rom'>{BIOS}</loader><bios useserial='yes'/>"
    # Five-level page tables cost an emulated machine a fifth of its speed and give it nothing.
    cpu = "<cpu mode='host-passthrough'>" if kind == "kvm" else "<cpu mode='maximum'>"
    slow = "" if kind == "kvm" else "<feature policy='disable' name='la57'/>"
    return f"""<domain type='{kind}'>
  <name>{machine["name"]}</name>
  <uuid>{machine["uuid"]}</uuid>
  <memory unit='MiB'>{int(machine["memory"])}</memory>
  <vcpu>{cpus}</vcpu>
  {cpu}<topology sockets='1' cores='{cpus}' threads='1'/>{slow}</cpu>
  {quiet}
  <os><type arch='x86_64' machine='q35'>hvm</type>{firmware}</os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='unsafe' discard='unmap'/>
      <source file={disk}/><target dev='vda' bus='virtio'/><serial>{machine["name"]}</serial><boot order='2'/>
    </disk>
    <interface type='bridge'>
      <source bridge='{BRIDGE}'/><mac address='{machine["mac"]}'/><model type='virtio'/>{rom}<boot order='1'/>
    </interface>
    <serial type='pty'><log file={quoteattr(str(LOGS / f"{machine['name']}.log"))} append='on'/></serial>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
  <metadata><lab:machine xmlns:lab='urn:rackloom:lab' name={name}/></metadata>
</domain>
"""


def controller(bmc: dict[str, str]) -> str:
    """Give the management controller its certificate, user and password; returns the certificate."""
    import bcrypt  # noqa: PLC0415 - the room's own; nothing else here needs it

    certificate, key = BMC / "bmc.pem", BMC / "bmc.key"
    changed = False
    if not certificate.exists():
        run(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "3650", "-subj", "/CN=machine room", "-keyout", str(key)),
            *("-addext", f"subjectAltName=IP:{bmc['address']}", "-out", str(certificate)),
        )
        changed = True
    users = BMC / "users"
    known = users.read_text().strip() if users.exists() else ""
    name, _, mark = known.partition(":")
    password = bmc["password"].encode()
    if name != bmc["user"] or not bcrypt.checkpw(password, mark.encode()):
        users.touch(mode=0o600)
        users.write_text(f"{bmc['user']}:{bcrypt.hashpw(password, bcrypt.gensalt(6)).decode()}\n")
        changed = True
    if changed:
        run("systemctl", "restart", "redfish.service")
    return certificate.read_text()


def define(wanted: dict[str, Any]) -> None:
    """Have the controller and every machine there; machines that exist are left as they are."""
    BMC.mkdir(mode=0o700, exist_ok=True)
    LOGS.mkdir(exist_ok=True)
    kind = accelerator()
    present = set(run("virsh", "list", "--all", "--name").split())
    for machine in wanted["machines"]:
        if machine["name"] in present:
            continue
        with (DISKS / f"{machine['name']}.img").open("ab") as disk:
            disk.truncate(int(machine["disk"] * 2**30))
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as description:
            description.write(domain(machine, kind))
            description.flush()
            run("virsh", "define", "--validate", description.name)
    certificate = controller(wanted["bmc"])
    sys.stdout.write(json.dumps({"certificate": certificate, "accelerator": kind}) + "\n")


def remove(name: str) -> None:
    """Pull the machine's plug and forget it, its disk and what it said."""
    run("virsh", "destroy", name, check=False)
    run("virsh", "undefine", "--nvram", name, check=False)
    for left in (DISKS / f"{name}.img", LOGS / f"{name}.log"):
        left.unlink(missing_ok=True)


def main(argv: list[str]) -> None:
    """Do one of the three things."""
    if argv == ["network"]:
        network()
    elif argv == ["define"]:
        define(json.load(sys.stdin))
    elif len(argv) == 2 and argv[0] == "remove":
        remove(argv[1])
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
