"""The Python packages that the controller runs on, as wheels for the Pythons of the systems asked for."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from rackloom.bundle.errors import BundleError
from rackloom.bundle.fetch import Fetch
from rackloom.bundle.items import Item
from rackloom.bundle.seen import cache_dir
from rackloom.bundle.web import plain_url

_PYTHONS: Mapping[str, tuple[str, int]] = {
    "debian-12": ("3.11", 36),
    "debian-13": ("3.13", 41),
    "ubuntu-22.04": ("3.11", 35),
    "ubuntu-24.04": ("3.12", 39),
}
"""The Python that scripts/setup.sh takes on a system, and the minor version of its C library."""
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_OLDEST_GLIBC = 17


@dataclass(frozen=True)
class _Target:
    python: str
    glibc: int
    arch: str


def plan(lock: Path, systems: Iterable[str], arches: Iterable[str]) -> list[Fetch]:
    """The wheels of a lock file with hashes, for every system and architecture. Raises BundleError."""
    known = [system for system in systems if system in _PYTHONS]
    targets = sorted({_Target(*_PYTHONS[system], arch) for system in known for arch in arches}, key=repr)
    text = lock.read_text(encoding="utf-8")
    with ThreadPoolExecutor(4) as pool:
        found = [wheel for wheels in pool.map(lambda target: _ask(text, target), targets) for wheel in wheels]
    made: dict[str, Fetch] = {}
    for wheel in found:
        item = Item(
            f"wheels/{wheel['file']}",
            "wheel",
            wheel["name"],
            wheel["version"],
            wheel["sha256"],
            -1,
            plain_url(wheel["url"]),
            "",
            _arch(wheel["file"]),
        )
        made[item.path] = Fetch(item, (wheel["url"],))
    return [made[path] for path in sorted(made)]


def _arch(file: str) -> str:
    return next((arch for arch, machine in _MACHINES.items() if machine in file), "")


def _requirements(text: str) -> Iterable[tuple[Requirement, set[str]]]:
    """The lock's entries, each with the digests it allows."""
    for entry in re.sub(r"\\\n", " ", text).splitlines():
        line = entry.split(" #")[0].strip()
        if not line or line.startswith(("#", "-")):
            continue
        name = re.split(r"\s--hash", line)[0]
        yield Requirement(name), set(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))


def _ask(text: str, target: _Target) -> list[dict[str, Any]]:
    """Let pip choose the wheels of one target. Its answer is kept: a lock with hashes means the same for ever."""
    environment = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": _MACHINES[target.arch],
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{target.python}.0",
        "python_version": target.python,
        "sys_platform": "linux",
    }
    wanted = {
        f"{need.name}{need.specifier}": digests
        for need, digests in _requirements(text)
        if need.marker is None or need.marker.evaluate(environment)
    }
    key = hashlib.sha256(
        json.dumps([repr(target), {name: sorted(digests) for name, digests in wanted.items()}]).encode()
    )
    kept = cache_dir() / "wheels" / f"{key.hexdigest()[:32]}.json"
    if kept.is_file():
        return list(json.loads(kept.read_text(encoding="utf-8")))
    found = _pip(list(wanted), target)
    allowed = set().union(*wanted.values()) if wanted else set()
    if wrong := [
        f"{each['file']} (sha256 {each['sha256']})" for each in found if each["sha256"] not in allowed
    ]:
        raise BundleError(
            f"the package index offers other files than the lock allows: {', '.join(wrong)}",
            "see where pip takes packages from on this machine: pip config list",
        )
    if not any(each["url"].startswith("file:") for each in found):
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found), encoding="utf-8")
    return found


def _pip(names: Sequence[str], target: _Target) -> list[dict[str, Any]]:
    machine = _MACHINES[target.arch]
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(target.glibc, _OLDEST_GLIBC - 1, -1)]
    platforms += [f"manylinux2014_{machine}", f"linux_{machine}"]
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        listed = Path(scratch) / "names.txt"
        listed.write_text("\n".join(names) + "\n", encoding="utf-8")
        # No hashes here: with them pip fetches every file whole to tell its address. They are compared above.
        argv = [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
            "--dry-run", "--ignore-installed", "--no-deps", "--only-binary=:all:", "--report", str(report),
            "--target", scratch, "--implementation", "cp", "--python-version", target.python,
            *(word for name in platforms for word in ("--platform", name)),
            "-r", str(listed),
        ]  # fmt: skip
        dropped = {
            "PIP_TARGET",
            "PIP_PREFIX",
            "PIP_ROOT",
            "PIP_USER",
            "PIP_CONSTRAINT",
            "PIP_REQUIREMENT",
            "PIP_PRE",
        }
        environment = {name: value for name, value in os.environ.items() if name not in dropped}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            words = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr]
            raise BundleError(
                f"pip finds no wheels for Python {target.python} on {target.arch}: {' '.join(words)[-1200:]}",
                "see where pip takes packages from on this machine: pip config list",
            )
        answer = json.loads(report.read_text(encoding="utf-8"))
    found = []
    for entry in answer["install"]:
        url = entry["download_info"]["url"]
        found.append({
            "name": entry["metadata"]["name"],
            "version": entry["metadata"]["version"],
            "file": url.split("#")[0].rpartition("/")[2],
            "url": url.split("#")[0],
            "sha256": entry["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256", ""),
        })  # fmt: skip
    return found
