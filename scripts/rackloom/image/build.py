"""Build an image: mmdebstrap makes the root, we take out the traces of the build, squashfs-tools pack it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rackloom import __version__
from rackloom.image import store, tree
from rackloom.image.errors import ImageError
from rackloom.image.recipe import Recipe, argv, files_archive
from rackloom.image.store import Built
from rackloom.lab.shell import confined, locked

FORMAT = 1
"""Version of image.json."""


def build(recipe: Recipe, images: Path, progress: Callable[[str], None]) -> Built:
    """Build what `recipe` says below `images` and make it the current one. A minute or two.

    Stopped half way it leaves nothing but its log. Raises ImageError when a step fails.
    """
    home = images / recipe.spec.name
    home.mkdir(parents=True, exist_ok=True)
    for program, package in (("mmdebstrap", "mmdebstrap"), ("mksquashfs", "squashfs-tools")):
        if not shutil.which(program):
            raise ImageError(f"{program} is not installed", f"install {package} on this machine")
    log = home / "build.log"
    with locked(home / ".lock"), _scratch(home) as scratch:
        work = Path(scratch)
        work.chmod(0o755)
        (work / "files.tar").write_bytes(files_archive(recipe))
        (work / "sources.list").write_text("\n".join(recipe.sources) + "\n")
        progress(f"installing {len(recipe.packages)} packages and what they need for {recipe.spec.os}")
        _run(recipe, work, log)
        progress("packing")
        result = work / "image"
        result.mkdir()
        contents = tree.pack(work / "root.tar", result)
        return store.keep(result, images, recipe.spec.name, _record(recipe, result, contents))


@contextmanager
def _scratch(home: Path) -> Iterator[str]:
    clear(home)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=home) as scratch:
        yield scratch


def clear(home: Path) -> None:
    """Remove what killed builds have left. Raises ImageError where something is mounted there: that is somebody's."""
    mounted = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    points = [Path(line.split()[4]) for line in mounted]
    for leftover in home.glob(".build-*"):
        below = [point for point in points if point.is_relative_to(leftover.resolve())]
        if below:
            raise ImageError(
                f"an earlier build left {below[0]} mounted",
                f"end what uses it, then: umount --recursive {below[0]}",
            )
        shutil.rmtree(leftover)


def _run(recipe: Recipe, work: Path, log: Path) -> None:
    call = argv(recipe, work, int(time.time()))
    scratch = work / "tmp"
    scratch.mkdir(mode=0o1777)
    # No initrd is made while packages are configured: one is made at the end, from the finished root.
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(scratch), "INITRD": "No"}
    with log.open("wb") as words:
        status = subprocess.run(
            confined(call) if os.geteuid() == 0 else call,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            env=environment,
            check=False,
        ).returncode
    if status:
        told = log.read_text(errors="replace").strip()[-1500:]
        raise ImageError(
            f"image {recipe.spec.name}: {shlex.join(call[:1])} ended with status {status}: {told}",
            f"check that the package sources have all these packages; the whole log: {log}",
        )


def _record(recipe: Recipe, folder: Path, contents: tree.Contents) -> dict[str, object]:
    spec = recipe.spec
    files = store.file_records(folder)
    return {
        "format": FORMAT,
        "name": spec.name,
        "id": store.identify(files),
        "os": spec.os,
        "arch": spec.arch,
        "mode": spec.mode,
        "kernel": contents.kernel,
        "kernel_options": spec.kernel_options,
        "roles": list(spec.roles),
        "packages": contents.packages,
        "files": files,
        "installed_size": contents.size,
        "epoch": contents.epoch,
        "recipe": recipe.digest,
        "rackloom": __version__,
    }
