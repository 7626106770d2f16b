"""Let the real slurmctld judge a configuration, by starting it where it can do no harm.

slurmctld has no option that only checks a configuration. So it is started on a copy, with an empty state
directory and without the accounting database, in a network namespace of its own that holds nothing but
itself: it reads the files, loads the plugins, builds its tables and opens its port, and can reach neither
nodes nor the running controller.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pwd
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from .slurm_conf import logical_lines

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCSIFADDR = 0x8916
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
LISTENING = "0A"
# From the range for documentation. With loopback addresses alone the resolver refuses even numeric addresses.
TRIAL_ADDRESS = "192.0.2.1"

# What would reach out of the trial, or collide with the running controller, or speaks of resources that only the
# accounting database knows.
LEFT_OUT = frozenset(
    {
        "accountingstorageenforce",
        "accountingstoragehost",
        "accountingstoragebackuphost",
        "accountingstoragetres",
        "accountingstoragetype",
        "backupcontroller",
        "controlmachine",
        "jobcomploc",
        "jobcomptype",
        "priorityweighttres",
        "resumeprogram",
        "slurmctldhost",
        "slurmctldlogfile",
        "slurmctldpidfile",
        "slurmctldprimaryonprog",
        "slurmctldprimaryoffprog",
        "slurmctldsyslogdebug",
        "slurmschedlogfile",
        "statesavelocation",
        "suspendprogram",
    }
)
COPY_LIMIT = 1 << 20
_SAID = re.compile(r"\b(?P<level>error|fatal): +(?P<text>.*)")
_TELLING = re.compile(r"pars|nrecognized|nvalid|uplicate|lookup failure|annot find", re.IGNORECASE)


class NotTriedError(Exception):
    """The trial was impossible on this machine; the text says why. The configuration is not judged."""


def trial_conf(text: str, folder: str, host: str, extra: Mapping[str, str] | None = None) -> str:
    """Return a slurm.conf that says the same, for a controller that lives in a folder, alone."""
    override = dict(extra or {})
    skip = LEFT_OUT | {name.lower() for name in override}
    kept = [
        " ".join(word for word in line.split(" ") if not word.lower().startswith("tresbillingweights="))
        for line in logical_lines(text)
        if line.partition("=")[0].strip().lower() not in skip
    ]
    own = {
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "StateSaveLocation": f"{folder}/state",
        "SlurmctldPidFile": f"{folder}/slurmctld.pid",
        **override,
    }
    return "\n".join([*kept, *(f"{name}={value}" for name, value in own.items()), ""])


def complaints(log: str) -> list[str]:
    """Return what a controller said when it gave up: the fatal lines, and the parser's errors before them."""
    said = [found for line in log.splitlines() if (found := _SAID.search(line))]
    fatal = [found["text"] for found in said if found["level"] == "fatal"]
    errors = [
        found["text"]
        for found in said
        if found["level"] == "error" and _TELLING.search(found["text"]) and "MailProg" not in found["text"]
    ]
    return list(dict.fromkeys([*errors, *fatal])) if fatal else []


def _own_network() -> None:
    """Run in the child: leave the network for an empty one with a single address."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    flags = CLONE_NEWNET if uid == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if libc.unshare(flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    if uid != 0:
        for name, content in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            Path(f"/proc/self/{name}").write_text(content, encoding="ascii")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        for device, request, tail in (
            (b"lo", SIOCSIFFLAGS, struct.pack("h", IFF_UP)),
            (b"lo:0", SIOCSIFADDR, struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(TRIAL_ADDRESS))),
        ):
            fcntl.ioctl(handle, request, struct.pack("16s", device) + tail + b"\0" * (24 - len(tail)))


def listens(pid: int, port: int) -> bool:
    """Tell whether anything listens on a port in the network of a process."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
                words = line.split()
                if words[3] == LISTENING and int(words[1].rpartition(":")[2], 16) == port:
                    return True
    return False


def _port(text: str) -> int:
    for line in logical_lines(text):
        key, _, value = line.partition("=")
        if key.strip().lower() == "slurmctldport":
            with contextlib.suppress(ValueError):
                return int(value.split("-")[0])
    return 6817


def _stop(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _prepare(
    files: Mapping[str, str], folder: Path, user: str, beside: str, extra: Mapping[str, str] | None
) -> None:
    (folder / "state").mkdir()
    if beside and Path(beside).is_dir():
        for path in Path(beside).iterdir():  # lua scripts, plugstack.conf and what else the files may name
            if path.is_file() and path.name != "slurmdbd.conf" and path.stat().st_size <= COPY_LIMIT:
                shutil.copy(path, folder / path.name)
    for name, content in files.items():
        text = (
            trial_conf(content, str(folder), socket.gethostname().split(".")[0], extra)
            if name == "slurm.conf"
            else content
        )
        (folder / name).write_text(text, encoding="utf-8")
    if os.geteuid() == 0:
        account = pwd.getpwnam(user)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)


def try_start(
    files: Mapping[str, str],
    *,
    program: str = "/usr/sbin/slurmctld",
    user: str = "slurm",
    beside: str = "/etc/slurm",
    extra: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> list[str]:
    """Start a controller on these files and return its complaints, none when it came to serve.

    files maps names to contents and holds slurm.conf; user is its SlurmUser; extra overrides parameters.
    Raises NotTriedError when the trial could not be made.
    """
    folder = Path(tempfile.mkdtemp(prefix="rackloom-slurm-"))
    folder.chmod(0o755)  # slurmctld gives up root before it writes here
    try:
        try:
            _prepare(files, folder, user, beside, extra)
        except KeyError:
            raise NotTriedError(f"there is no account {user}") from None
        return _run(
            [program, "-D", "-f", str(folder / "slurm.conf")],
            _port(files["slurm.conf"]),
            environment,
            timeout,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: list[str], port: int, environment: Mapping[str, str] | None, timeout: float) -> list[str]:
    lines: list[str] = []
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_own_network,  # noqa: PLW1509 - this process has no other thread yet
            env={**os.environ, **(environment or {}), "LC_ALL": "C.UTF-8"},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotTriedError(f"{command[0]} could not be started on its own: {error}") from None
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    reader = threading.Thread(target=_collect(process, lines), daemon=True)
    reader.start()
    serves = False
    try:
        end = time.monotonic() + timeout
        while time.monotonic() < end and process.poll() is None:
            serves = listens(process.pid, port)
            if serves or any("fatal:" in line for line in lines):
                break
            time.sleep(0.05)
    finally:
        _stop(process)
    reader.join(timeout=2)
    if serves:
        return []
    log = "".join(lines)
    return complaints(log) or [
        f"slurmctld did not come to serve within {timeout:.0f} s; its last words: {log[-800:].strip()}"
    ]


def _collect(process: subprocess.Popen[str], lines: list[str]) -> Callable[[], None]:
    def read() -> None:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        for line in process.stdout:
            lines.append(line)  # noqa: PERF402 - the other thread looks at what has come so far

    return read
