"""The node image: a bare server of one release, built from packages and kept by its recipe's digest."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rackloom.image.node import NODE
from rackloom.lab.errors import LabError
from rackloom.lab.machine import Machine
from rackloom.lab.podman import Podman
from rackloom.lab.shell import confined, locked, run
from rackloom.lab.sources import RELEASES, AptSetup, adapt, apt_options, host_release, read_sources

REPOSITORY = "localhost/rackloom-node"
INIT = "/usr/local/sbin/node-init"
_KEPT = 3

# Nothing in a container can serve these, and the daily timers would hold the package lock at will.
_MASKED = (
    "console-getty.service",
    "e2scrub_all.timer",
    "fstrim.timer",
    "getty.target",
    "systemd-udevd.service",
)
_DISABLED = ("apt-daily.timer", "apt-daily-upgrade.timer")
_CUSTOMIZE = """#!/bin/sh
set -eu
root=$1
here=$(dirname "$0")
cp -R "$here/files/." "$root/"
chmod 0755 "$root{init}"
chroot "$root" update-ca-certificates >/dev/null 2>&1
chroot "$root" systemctl mask {masked} >/dev/null 2>&1
chroot "$root" systemctl disable {disabled} >/dev/null 2>&1 || true
chroot "$root" systemctl enable ssh.service >/dev/null 2>&1
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/etc/resolv.conf"
: >"$root/etc/machine-id"
"""


@dataclass(frozen=True)
class Recipe:
    """Everything the image is made of; two machines with equal recipes have equal images."""

    os: str
    suite: str
    apt: AptSetup
    files: Mapping[str, str] = field(default_factory=dict)
    """Files laid into the node: absolute path -> text."""
    packages: tuple[str, ...] = NODE
    customize: str = ""

    @property
    def digest(self) -> str:
        """The first 12 hex digits of the recipe's sha256."""
        text = json.dumps(
            [self.os, self.apt.lines, dict(self.files), self.customize, build_argv(self, Path())],
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def tag(self) -> str:
        """The image's full name."""
        return f"{REPOSITORY}:{self.os}-{self.digest}"


def recipe(os_id: str, root: Path = Path("/"), environment: Mapping[str, str] | None = None) -> Recipe:
    """Write down the image for nodes that run `os_id`, with this machine's package sources in it.

    Raises LabError for a system the lab cannot build.
    """
    if os_id not in RELEASES:
        raise LabError(f"no node image for '{os_id}'", f"choose one of {', '.join(RELEASES)}")
    distribution, suite = RELEASES[os_id]
    lines, keys = adapt(read_sources(root), host_release(root), (distribution, suite), root)
    dump = run(["apt-config", "dump"]).stdout if shutil.which("apt-config") else ""
    options = apt_options(dump, os.environ if environment is None else environment)
    files = {
        INIT: (Path(__file__).parent / "node-init.sh").read_text(),
        **keys,
        **{
            f"/usr/local/share/ca-certificates/{path.name}": path.read_text()
            for path in sorted((root / "usr/local/share/ca-certificates").glob("*.crt"))
        },
    }
    for path in sorted((root / "etc/apt/auth.conf.d").glob("*")):
        if os.access(path, os.R_OK):
            files[f"/etc/apt/auth.conf.d/{path.name}"] = path.read_text()
    customize = _CUSTOMIZE.format(init=INIT, masked=" ".join(_MASKED), disabled=" ".join(_DISABLED))
    return Recipe(os_id, suite, AptSetup(lines, options, keys), files, customize=customize)


def build_argv(wanted: Recipe, folder: Path) -> list[str]:
    """Return the mmdebstrap call that reads sources.list from its standard input and writes the tar.

    `folder` holds the customize script and the files it lays down. Without a source of ours
    the mirror is left to mmdebstrap's own default for the release.
    """
    argv = [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(wanted.packages)}",
        # Nodes are thrown away: no package install on them needs to survive a power cut.
        "--dpkgopt=force-unsafe-io",
        '--aptopt=Acquire::Languages "none"',
        # An installer leaves the package lists behind; a node's first refresh then only compares.
        "--skip=cleanup/apt/lists",
        *(f"--aptopt={option.rstrip(';')}" for option in wanted.apt.options),
        f"--customize-hook={folder / 'customize.sh'}",
        wanted.suite,
        "-",
    ]
    # Sources that come over standard input become the node's /etc/apt/sources.list.
    return [*argv, "-"] if wanted.apt.lines else argv


def ensure(
    wanted: Recipe, podman: Podman, machine: Machine, cache: Path, progress: Callable[[str], None]
) -> str:
    """Return the name of the image made by this recipe, building it when it is not there yet.

    `cache` is a folder of ours for the build's files and its lock. A build that stops half
    way leaves no image behind.
    """
    with locked(cache / f"image-{wanted.os}.lock"):
        if podman.image_exists(wanted.tag):
            progress(f"node image {wanted.tag.rpartition('/')[2]} is at hand")
            return wanted.tag
        progress(f"building the node image for {wanted.os} (once; about a minute)")
        started = time.monotonic()
        folder = cache / "image" / wanted.digest
        _remove(folder, machine)
        for path, text in wanted.files.items():
            target = folder / "files" / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            if path.startswith("/etc/apt/auth.conf.d/"):
                target.chmod(0o600)
        (folder / "sources.list").write_text("\n".join(wanted.apt.lines) + "\n")
        script = folder / "customize.sh"
        script.write_text(wanted.customize)
        script.chmod(0o755)
        _build(wanted, podman, machine, folder)
        _remove(folder, machine)
        _forget_old(podman, wanted.os)
        progress(f"node image built in {time.monotonic() - started:.0f} s")
    return wanted.tag


def _remove(folder: Path, machine: Machine) -> None:
    """Remove a build's folder; parts of it belong to root."""
    run([*machine.sudo, "rm", "-rf", "--one-file-system", str(folder)])


def _build(wanted: Recipe, podman: Podman, machine: Machine, folder: Path) -> None:
    """Pipe mmdebstrap into podman; the final name is given only when both ended well."""
    unfinished = f"{REPOSITORY}:unfinished-{wanted.digest}"
    log = folder / "mmdebstrap.log"
    # Its scratch files lie in our folder, so those of a build that was killed go with the next one.
    argv = [*machine.sudo, *confined(["env", f"TMPDIR={folder}", *build_argv(wanted, folder)])]
    pipe = subprocess.PIPE
    try:
        with (
            log.open("wb") as errors,
            (folder / "sources.list").open("rb") as sources,
            subprocess.Popen(argv, stdin=sources, stdout=pipe, stderr=errors) as builder,
            subprocess.Popen(
                podman.argv("import", "--change", f"LABEL rackloom.os={wanted.os}", "-", unfinished),
                stdin=builder.stdout,
                stdout=subprocess.DEVNULL,
                stderr=pipe,
                text=True,
            ) as importer,
        ):
            if builder.stdout is not None:
                builder.stdout.close()  # ours; the importer has its own, so it sees the end
            words = importer.communicate()[1]
            status = builder.wait()
    except FileNotFoundError as error:
        raise LabError(f"{error.filename} is not installed", "run scripts/setup.sh --lab") from error
    if status != 0 or importer.returncode != 0:
        podman.call("rmi", "--force", unfinished, check=False)
        words = log.read_text(errors="replace").strip() or words.strip()
        raise LabError(
            f"building the node image failed: {shlex.join(argv)} ended with status {status}: {words[-2000:]}",
            "check that this machine's package sources answer: apt-get update",
        )
    podman.call("tag", unfinished, wanted.tag)
    podman.call("untag", unfinished, unfinished)  # without the second name all names go


def _forget_old(podman: Podman, os_id: str) -> None:
    """Remove all but the newest images of this system; those that containers use stay."""
    names = podman.call("images", "--sort", "created", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY)
    ours = [name for name in names.split() if name.startswith(f"{REPOSITORY}:{os_id}-")]
    for name in ours[_KEPT:]:
        podman.call_status("rmi", name)


def remove_all(podman: Podman) -> list[str]:
    """Remove every node image that no container uses; returns the names removed."""
    names = podman.call("images", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY).split()
    return [name for name in names if podman.call_status("rmi", name) == 0]
