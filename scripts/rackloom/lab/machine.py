"""What this machine is and what it lacks, read once, from files wherever possible."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from rackloom.lab.errors import LabError
from rackloom.lab.shell import run

_CAP_SYS_RESOURCE = 24
_UNIFIED = 2


@dataclass(frozen=True)
class Topology:
    """The processors a node sees: `sockets` x `cores` (each) x `threads` (each)."""

    sockets: int
    cores: int
    threads: int
    regular: bool
    """False where sockets or cores differ from each other and the figures are a flat count."""


@dataclass(frozen=True)
class Machine:
    """The host as the lab needs to know it."""

    sudo: tuple[str, ...]
    """Words before a command that needs root: empty for root itself."""
    cgroup: int
    """1 (also hybrid) or 2."""
    runtime: str | None
    """The OCI runtime to ask for; None leaves the choice to podman."""
    nofile: int | None
    nproc: int | None
    """Hard limits to hand to nodes, where the host may not raise them; None leaves podman's own."""
    resolvers: tuple[str, ...]
    """Name servers that answer from inside a node."""
    topology: Topology
    memory_mb: int
    swap: bool = False
    """Whether it swaps, and its nodes with it."""


def cgroup_version(root: Path = Path("/")) -> int:
    """Return 2 on a pure unified hierarchy, 1 on a legacy or hybrid one."""
    return _UNIFIED if (root / "sys/fs/cgroup/cgroup.controllers").is_file() else 1


def resolvers(root: Path = Path("/")) -> tuple[str, ...]:
    """Return the name servers a node can reach: loopback ones are looked through to their upstream."""
    for candidate in ("etc/resolv.conf", "run/systemd/resolve/resolv.conf", "run/NetworkManager/resolv.conf"):
        path = root / candidate
        if not path.is_file():
            continue
        found = [
            words[1]
            for words in (line.split() for line in path.read_text(errors="replace").splitlines())
            if len(words) > 1 and words[0] == "nameserver"
        ]
        usable = tuple(address for address in found if not address.startswith(("127.", "::1", "fe80:")))
        if usable:
            return usable
    return ()


def topology(root: Path = Path("/")) -> Topology:
    """Return the processors as slurmd would count them.

    A machine whose sockets or cores are not all alike (hybrid processors, odd virtual
    machines) is told as one socket of single-threaded cores and `regular` False.
    """
    cores: dict[tuple[int, int], int] = {}
    online = 0
    for cpu in sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*")):
        try:
            package = int((cpu / "topology/physical_package_id").read_text())
            core = int((cpu / "topology/core_id").read_text())
        except (OSError, ValueError):
            continue  # offline, or a kernel that does not tell
        online += 1
        cores[package, core] = cores.get((package, core), 0) + 1
    per_socket: dict[int, int] = {}
    for package, _ in cores:
        per_socket[package] = per_socket.get(package, 0) + 1
    if len(set(per_socket.values())) == 1 and len(set(cores.values())) == 1:
        sizes = next(iter(per_socket.values())), next(iter(cores.values()))
        return Topology(len(per_socket), *sizes, regular=True)
    return Topology(1, online or os.cpu_count() or 1, 1, regular=False)


def swaps(root: Path = Path("/")) -> bool:
    """Tell whether the machine swaps."""
    path = root / "proc/swaps"
    return path.is_file() and len(path.read_text().splitlines()) > 1


def memory_mb(root: Path = Path("/")) -> int:
    """Return the machine's memory in MiB."""
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    raise LabError("/proc/meminfo has no MemTotal line")


def may_raise_limits(root: Path = Path("/")) -> bool:
    """Tell whether root on this machine holds CAP_SYS_RESOURCE (some virtual machines drop it)."""
    for line in (root / "proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1)
    return True


def _sudo() -> tuple[str, ...]:
    if os.geteuid() == 0:
        return ()
    if shutil.which("sudo") is None:
        raise LabError(
            "the lab's nodes need root: they are systemd containers on a network of their own",
            "run it as root, or install sudo and allow this user to use it",
        )
    if run(["sudo", "-n", "true"], check=False).returncode != 0:
        if not sys.stdin.isatty():
            raise LabError("sudo wants a password and there is no terminal to ask on", "run 'sudo -v' first")
        os.system("sudo -v")  # noqa: S605 - the one call that has to own the terminal
        if run(["sudo", "-n", "true"], check=False).returncode != 0:
            raise LabError("sudo did not let this user in", "run it as root")
    return ("sudo", "-n", "--")


def _runtime(cgroup: int) -> str | None:
    """Choose the runtime: crun refuses a hybrid cgroup hierarchy, runc takes it."""
    if cgroup == _UNIFIED:
        return None
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin", "/sbin"])
    if shutil.which("runc", path=search):
        return "runc"
    raise LabError("this machine has cgroup v1, where nodes need runc", "run scripts/setup.sh --lab")


def detect() -> Machine:
    """Look at this machine. Raises LabError where no node can run on it at all."""
    if sys.platform != "linux":
        raise LabError("the lab needs Linux: its nodes are systemd containers")
    sudo = _sudo()
    cgroup = cgroup_version()
    nofile = nproc = None
    if not may_raise_limits():
        nofile = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        # The engine lowers its own process limit to the kernel's largest process number first.
        pid_max = int(Path("/proc/sys/kernel/pid_max").read_text())
        nproc = min(resource.getrlimit(resource.RLIMIT_NPROC)[1], pid_max)
    return Machine(
        sudo=sudo,
        cgroup=cgroup,
        runtime=_runtime(cgroup),
        nofile=nofile,
        nproc=nproc,
        resolvers=resolvers(),
        topology=topology(),
        memory_mb=memory_mb(),
        swap=swaps(),
    )
