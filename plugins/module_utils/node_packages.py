"""Packages of the distribution, installed in one transaction, and cheap to ask when they are there."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator

from ansible.module_utils.basic import AnsibleModule

STAMP = "/var/lib/rackloom/package-lists"
APT_SOURCES = (
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
    "/etc/apt/rackloom.sources.d",
    "/etc/apt/apt.conf.d",
)
POLICY = "/usr/sbin/policy-rc.d"
# The file says no only to those who carry the variable, so one left behind by a killed run does no harm.
POLICY_TEXT = """#!/bin/sh
# Rackloom: keeps services from starting while their package is being installed.
[ -z "$RACKLOOM_KEEP_STOPPED" ] || exit 101
exit 0
"""
_LISTS_ARE_OLD = re.compile(
    r"Unable to locate package|has no installation candidate|was not found|404 +Not Found|Hash Sum"
)
_HALF_DONE = re.compile(r"dpkg was interrupted|dpkg --configure -a")
_DPKG_FORMAT = r"${Package}\t${db:Status-Status}\t${Version}\t${Provides}\n"


def parse_dpkg(listing: str) -> dict[str, str]:
    """Return version by name of what is installed, from dpkg-query's lines; provided names have version ''."""
    found: dict[str, str] = {}
    provided: set[str] = set()
    for line in listing.splitlines():
        name, status, version, provides = (*line.split("\t"), "", "", "")[:4]
        if status != "installed":
            continue
        found[name] = version
        provided.update(part.split()[0].split(":")[0] for part in provides.split(",") if part.strip())
    return {**dict.fromkeys(provided, ""), **found}


def missing_of(names: Iterable[str], installed: dict[str, str]) -> list[str]:
    """Return the names, in order and once each, that are not installed or not in the version asked for."""
    out: list[str] = []
    for wanted in names:
        name, _, version = wanted.partition("=")
        have = installed.get(name.split(":")[0])
        if (have is None or (version and not fnmatch.fnmatchcase(have, version))) and wanted not in out:
            out.append(wanted)
    return out


def newest(paths: Iterable[str]) -> float:
    """Return the latest change time (ctime) of files, directories and the files in them; 0 when there are none."""
    latest = 0.0
    for path in paths:
        inside = [os.path.join(path, name) for name in os.listdir(path)] if os.path.isdir(path) else []
        for item in (path, *inside):
            with contextlib.suppress(FileNotFoundError):
                latest = max(latest, os.stat(item).st_ctime)
    return latest


def lists_are_old(max_age: int, sources: Iterable[str], now: float) -> bool:
    """Tell whether the lists were never refreshed by us, or longer ago than allowed, or before a source changed."""
    try:
        refreshed = os.stat(STAMP).st_mtime
    except FileNotFoundError:
        return True
    return now - refreshed > max_age or newest(sources) > refreshed


class Apt:
    """Debian's package manager."""

    def __init__(
        self, module: AnsibleModule, start_services: bool, recommends: bool, lists_max_age: int
    ) -> None:
        self.module = module
        self.start_services = start_services
        self.recommends = recommends
        self.lists_max_age = lists_max_age
        self.environment = {
            "DEBIAN_FRONTEND": "noninteractive",
            "LC_ALL": "C.UTF-8",
            "NEEDRESTART_SUSPEND": "1",  # Ubuntu's needrestart would restart services behind our back
        }

    def installed(self, _names: list[str]) -> dict[str, str]:
        """Return version by name."""
        return parse_dpkg(self.call(["dpkg-query", "-W", "-f", _DPKG_FORMAT], (0, 1)))

    def call(self, command: list[str], good: tuple[int, ...] = (0,)) -> str:
        """Run a command and return its output; ends the module with what it said when it fails."""
        rc, out, err = self.module.run_command(command, environ_update=self.environment)
        if rc not in good:
            self.module.fail_json(msg=f"{' '.join(command)}: {(err or out).strip()[-2000:]}", rc=rc)
        return str(out)

    def refresh(self) -> None:
        """
        Fetch the package lists and remember when.

        A source that does not answer is told as a warning: what is to be installed may well lie on another, and if
        not, the installation says so.
        """
        started = time.time()
        command = ["apt-get", "update", "-q", "--error-on=any", "-o", "DPkg::Lock::Timeout=300"]
        rc, out, err = self.module.run_command(command, environ_update=self.environment)
        if rc != 0:
            self.module.warn(f"{' '.join(command)}: {(err or out).strip()[-1000:]}")
            return
        os.makedirs(os.path.dirname(STAMP), mode=0o755, exist_ok=True)
        with open(STAMP, "w", encoding="utf-8"):
            os.utime(STAMP, (started, started))

    @contextlib.contextmanager
    def services_kept_stopped(self) -> Iterator[None]:
        """Keep packages from starting services, unless the node has a policy of its own."""
        ours = not os.path.lexists(POLICY) or _read(POLICY) == POLICY_TEXT
        if self.start_services or not ours:
            yield
            return
        with open(POLICY, "w", encoding="utf-8") as handle:
            handle.write(POLICY_TEXT)
        os.chmod(POLICY, 0o755)  # noqa: S103  (maintainer scripts run it)
        self.environment["RACKLOOM_KEEP_STOPPED"] = "1"
        try:
            yield
        finally:
            os.unlink(POLICY)

    def install(self, names: list[str]) -> None:
        """Install in one transaction; refreshes the lists and repairs dpkg when that is what is in the way."""
        refreshed = False
        if lists_are_old(self.lists_max_age, APT_SOURCES, time.time()):
            self.refresh()
            refreshed = True
        recommends = "--install-recommends" if self.recommends else "--no-install-recommends"
        command = ["apt-get", "install", "-y", "-q", recommends, "--allow-downgrades"]
        for option in (
            "DPkg::Lock::Timeout=300",
            "Dpkg::Options::=--force-confdef",
            "Dpkg::Options::=--force-confold",
        ):
            command += ["-o", option]
        repaired = False
        with self.services_kept_stopped():
            while True:
                rc, out, err = self.module.run_command([*command, *names], environ_update=self.environment)
                if rc == 0:
                    return
                said = f"{err}\n{out}"
                if _HALF_DONE.search(said) and not repaired:
                    self.call(["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"])
                    repaired = True
                elif _LISTS_ARE_OLD.search(said) and not refreshed:
                    self.refresh()
                    refreshed = True
                else:
                    self.module.fail_json(
                        msg=f"apt-get install {' '.join(names)}: {(err or out).strip()[-2000:]}", rc=rc
                    )


class Dnf:
    """Red Hat's package manager."""

    def __init__(self, module: AnsibleModule, recommends: bool) -> None:
        self.module = module
        self.recommends = recommends

    def installed(self, names: list[str]) -> dict[str, str]:
        """Return version by name, for the names asked for or what provides them."""
        found: dict[str, str] = {}
        for wanted in names:
            name = wanted.partition("=")[0]
            rc, out, _ = self.module.run_command(
                ["rpm", "-q", "--whatprovides", "--queryformat", r"%{VERSION}-%{RELEASE}\n", name]
            )
            if rc == 0:
                found[name] = str(out).splitlines()[0]
        return found

    def install(self, names: list[str]) -> None:
        """Install in one transaction."""
        weak = "True" if self.recommends else "False"
        command = ["dnf", "-y", "-q", f"--setopt=install_weak_deps={weak}", "install"]
        command += [name.replace("=", "-") for name in names]
        rc, out, err = self.module.run_command(command)
        if rc != 0:
            self.module.fail_json(msg=f"{' '.join(command)}: {(err or out).strip()[-2000:]}", rc=rc)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as handle:
        return handle.read()


def _manager(module: AnsibleModule, start_services: bool, recommends: bool, lists_max_age: int) -> Apt | Dnf:
    if shutil.which("apt-get"):
        return Apt(module, start_services, recommends, lists_max_age)
    if not shutil.which("dnf"):
        module.fail_json(msg="This node has neither apt-get nor dnf.")
    return Dnf(module, recommends)


def installed(module: AnsibleModule, names: list[str]) -> dict[str, str]:
    """Return version by name of those of the names that are installed, or provided by what is."""
    return _manager(module, False, False, 0).installed(names)


def ensure(
    module: AnsibleModule, names: list[str], *, start_services: bool, recommends: bool, lists_max_age: int
) -> list[str]:
    """Install what is missing of names and return it; in check mode only return it."""
    if not names:
        return []
    manager = _manager(module, start_services, recommends, lists_max_age)
    missing = missing_of(names, manager.installed(names))
    if missing and not module.check_mode:
        manager.install(missing)
    return missing
