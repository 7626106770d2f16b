"""How long a machine takes from power-on to SSH over the network, against its own boot from its local disk.

    python -m rackloom.lab.bench_pxe [--rounds R] [--clients N] [--json] [--keep]

One lab, two machines of the same kind with the same image, one at a time: one installs to its disk, one runs from
memory. The measure is the installed machine booting the same kernel and initrd from its disk. Then a file is read from
the boot server by many clients at once, and the same file from a plain nginx on the same node. All figures that
are compared are taken in one run, in turn, so that a slow machine weighs on both sides.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rackloom.lab import manage
from rackloom.lab.errors import LabError
from rackloom.lab.options import LabOptions
from rackloom.lab.vms import VmSpec

NAME = "bench-pxe"
DISK, MEMORY = "disk01", "mem01"
PATIENCE = 1800.0
ROOT_FILE = "root.squashfs"
PLAIN_PORT = 8090
PLAIN = f"""worker_processes auto;
pid /run/plain-nginx.pid;
error_log /dev/null;
events {{ worker_connections 1024; }}
http {{
    sendfile on;
    access_log off;
    server {{ listen {PLAIN_PORT}; root /srv/rackloom/boot/http; }}
}}
"""
# Reads a URL with N clients at once, throws away what comes, prints seconds and bytes.
CLIENTS = """import socket, sys, threading, time
host, port, path, clients = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
total, lock = [0], threading.Lock()
def client():
    buffer, got = bytearray(1 << 20), 0
    with socket.create_connection((host, port)) as s:
        s.sendall(f"GET {path} HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n".encode())
        while n := s.recv_into(buffer):
            got += n
    with lock:
        total[0] += got
began = time.monotonic()
threads = [threading.Thread(target=client) for _ in range(clients)]
[t.start() for t in threads]; [t.join() for t in threads]
print(time.monotonic() - began, total[0])
"""


@dataclass(frozen=True)
class Round:
    """Seconds from power-on to SSH of one round."""

    local: float
    memory: float
    disk: float

    @property
    def memory_to_local(self) -> float:
        """Booting from the network into memory as a multiple of the local boot."""
        return self.memory / self.local

    @property
    def disk_to_local(self) -> float:
        """Installing and booting as a multiple of the local boot."""
        return self.disk / self.local


class BenchError(Exception):
    """A step that has to succeed for a figure to mean anything did not."""


def rackloom(config: Path, *words: str) -> dict[str, Any]:
    """Run a command of ours with --json and return its data. Raises BenchError."""
    argv = [sys.executable, "-m", "rackloom.cli.main", *words, "--json", "--config", str(config)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"rackloom {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    data: dict[str, Any] = json.loads(done.stdout)["data"]
    return data


def provisioned(config: Path, name: str, say: Callable[[str], None], *more: str) -> float:
    """Provision a machine; returns the seconds from power-on to SSH, and says when each stage was reached."""
    data = rackloom(config, "provision", name, "--timeout", str(PATIENCE), *more)
    stages = data["nodes"][name]["stages"]
    say(f"{name}: " + ", ".join(f"{stage} after {seconds:.0f} s" for stage, seconds in stages.items()))
    return float(stages["SSH"])


def local_boot(state: manage.LabState, name: str) -> float:
    """Switch an installed machine off and on; returns the seconds from power-on to SSH."""
    from rackloom.provision.reach import Reach  # noqa: PLC0415 - slow to load
    from rackloom.site.check import check_site  # noqa: PLC0415

    config = state.config_dir
    site = check_site(config).site
    if site is None:
        raise BenchError("the lab's site has mistakes")
    reach, address = Reach.of(site), site.nodes[name].address
    rackloom(config, "node", "power", "off", name)
    rackloom(config, "node", "boot", "disk", name, "--once")
    began = time.monotonic()
    rackloom(config, "node", "power", "on", name)
    while not reach.lets_in(address):
        if time.monotonic() - began > PATIENCE:
            raise BenchError(f"{name} did not come back from its disk")
        time.sleep(0.2)
    return time.monotonic() - began


def on_node(state: manage.LabState, node: str, command: str, given: str | None = None) -> str:
    """Run a command on a node. Raises BenchError."""
    argv = [*manage.ssh_command(state.options.name, node), command]
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{node}: {command}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def throughput(state: manage.LabState, port: int, path: str, clients: int) -> float:
    """Return MB a second that `clients` on another node read from the boot server's node together."""
    host = state.node("mgmt01").address
    said = on_node(state, "login01", f"python3 - {host} {port} {path} {clients}", CLIENTS)
    seconds, size = (float(word) for word in said.split())
    return size / seconds / 1e6


def serve_plainly(state: manage.LabState) -> None:
    """Start an nginx with nothing but what it takes to serve a file, beside the boot server's."""
    on_node(state, "mgmt01", "cat >/etc/plain-nginx.conf && nginx -c /etc/plain-nginx.conf", PLAIN)


def measure_http(state: manage.LabState, clients: int, rounds: int) -> dict[str, Any]:
    """Read the image's largest file from both servers in turn; medians."""
    current = on_node(state, "mgmt01", "readlink /srv/rackloom/boot/http/images/compute/current").strip()
    path = f"/images/compute/{Path(current).name}/{ROOT_FILE}"
    serve_plainly(state)
    found: dict[str, list[float]] = {"plain": [], "boot_server": [], "boot_server_one": []}
    for _ in range(max(3, rounds)):
        found["plain"].append(throughput(state, PLAIN_PORT, path, clients))
        found["boot_server"].append(throughput(state, 8080, path, clients))
        found["boot_server_one"].append(throughput(state, 8080, path, 1))
    told: dict[str, Any] = {name: round(statistics.median(rates)) for name, rates in found.items()}
    told["ratio"] = round(told["boot_server"] / told["plain"], 3)
    return {**told, "clients": clients}


def prepare(options: LabOptions, say: Callable[[str], None]) -> manage.LabState:
    """Make a lab with two machines and their image."""
    state = manage.up(options, say, deploy=False)
    wanted = [VmSpec(DISK, ""), VmSpec(MEMORY, "", image="stateless")]
    state = manage.vm_add(options.name, wanted, say)
    say("building the image")
    images = state.config_dir / "images"
    if not (images / "compute/current").exists():
        rackloom(state.config_dir, "image", "build", "compute")
    if not (images / "stateless").exists():
        shutil.copytree(images / "compute", images / "stateless", symlinks=True)
    return state


def measure(state: manage.LabState, say: Callable[[str], None]) -> Round:
    """Measure one round: install, boot from the disk, boot into memory."""
    disk = provisioned(state.config_dir, DISK, say, "--reinstall-and-erase-disks")
    local = local_boot(state, DISK)
    say(f"its own disk: {local:.0f} s")
    rackloom(state.config_dir, "node", "power", "off", DISK)
    memory = provisioned(state.config_dir, MEMORY, say)
    rackloom(state.config_dir, "node", "power", "off", MEMORY)
    return Round(local, memory, disk)


def table(rounds: list[Round], http: dict[str, Any]) -> str:
    """Return the figures as lines."""
    lines = ["round  local boot  memory mode  disk mode  memory/local  disk/local"]
    lines += [
        f"{number:5}  {row.local:8.0f} s  {row.memory:9.0f} s  {row.disk:7.0f} s"
        f"  {row.memory_to_local:12.2f}  {row.disk_to_local:10.2f}"
        for number, row in enumerate(rounds, 1)
    ]
    middle = [
        statistics.median(getattr(row, name) for row in rounds)
        for name in ("memory_to_local", "disk_to_local")
    ]
    lines.append(f"median: memory/local {middle[0]:.2f}, disk/local {middle[1]:.2f}")
    lines.append(
        f"{http['clients']} clients: boot server {http['boot_server']} MB/s, plain nginx {http['plain']} MB/s,"
        f" ratio {http['ratio']:.2f}; one client: {http['boot_server_one']} MB/s"
    )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure and print. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench.sh pxe", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1, help="how often to measure (1)")
    parser.add_argument("--clients", type=int, default=32, help="clients at once (32)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    wanted = parser.parse_args(argv)

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    try:
        state = prepare(LabOptions(name=NAME, compute=1), say)
        rounds = [measure(state, say) for _ in range(max(1, wanted.rounds))]
        http = measure_http(state, wanted.clients, wanted.rounds)
    except (BenchError, LabError) as error:
        say(f"bench: {error}")
        return 1
    finally:
        if not wanted.keep:
            manage.down(NAME, progress=say)
    if wanted.json:
        figures = [
            asdict(row) | {"memory_to_local": row.memory_to_local, "disk_to_local": row.disk_to_local}
            for row in rounds
        ]
        sys.stdout.write(json.dumps({"boot": figures, "http": http}, indent=2) + "\n")
    else:
        sys.stdout.write(table(rounds, http) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
