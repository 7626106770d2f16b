"""Makes a bundle, or brings an older one up to date, in place.

Files get their names when they are whole and checked. The lock and its signature are written last; a bundle
whose content is about to change loses them first. So a folder with a lock that fits is a whole bundle, and
whatever stops the work, the next run goes on with what is there and comes to the same lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rackloom import __version__
from rackloom.bundle import apt, images, resolve, sbom, sign, source, verify
from rackloom.bundle.errors import BundleError, RequestError, SpaceError
from rackloom.bundle.fetch import Fetcher, Work
from rackloom.bundle.items import (
    ABOUT,
    FOLDERS,
    LOCK,
    PARTIAL,
    README,
    SBOM,
    SIGNATURE,
    SIGNERS,
    VERIFIER,
    VERSIONS,
    About,
    Item,
    about_text,
    lock_text,
    read_lock,
)
from rackloom.bundle.progress import Progress, human
from rackloom.bundle.seen import Seen

_OWN = {LOCK, SIGNATURE, ABOUT, README, SBOM, SIGNERS, VERIFIER, VERSIONS, PARTIAL}
# Beside what is fetched: package lists, the lock, the bill, and room for the file system's own books.
_SLACK = 64 << 20

_README = """\
A bundle for the Rackloom cluster toolkit: everything that a site without the internet takes from outside.

  for      {stages}
  systems  {os}
  machines {arch}
  Rackloom {version}

Is it whole, and whose is it?

  python3 verify.py

It needs Python 3.9 and ssh-keygen, and nothing else. What is here, with digests and origins: {lock}.
The same as an SPDX bill of materials: {sbom}. How to go on: docs/guide/air-gap.md in rackloom/.
"""


@dataclass(frozen=True)
class Made:
    """What `create` did."""

    folder: Path
    items: tuple[Item, ...]
    changed: bool
    """False when nothing was new."""
    fetched: int
    """Files brought, from outside or from the older bundle."""
    fingerprint: str
    signer: str
    key_made: bool
    key: Path
    seconds: float
    left: tuple[str, ...] = field(default=())
    """Files in the folder that do not belong to the bundle and are not ours to remove."""

    @property
    def size(self) -> int:
        """Bytes of all files; what has several names counts once."""
        return sum({item.sha256: item.size for item in self.items}.values())


def create(
    request: resolve.Request,
    folder: Path,
    progress: Progress,
    *,
    older: Path | None = None,
    key: Path | None = None,
) -> Made:
    """Make the bundle in `folder`. Raises RequestError, SpaceError, FetchError or BundleError."""
    began = time.monotonic()
    _must_be_ours(folder)
    reuse = _reusable(older)
    plan = resolve.resolve(request, progress)
    signing = sign.ensure_key(key or sign.key_path(request.config or Path()))
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        return _create(plan, folder, progress, reuse, signing, began)


def _create(
    plan: resolve.Plan,
    folder: Path,
    progress: Progress,
    reuse: dict[str, Path],
    signing: sign.Key,
    began: float,
) -> Made:
    request = plan.request
    seen = Seen(folder)
    web = resolve.web_for(request)
    resolve.measure(plan, seen, web)
    fetcher = Fetcher(folder, seen, progress, jobs=request.jobs, web=web)
    missing = fetcher.lacking(plan.items)
    _ask_for_space(plan, fetcher, missing, reuse, folder)
    texts = _texts(plan, signing)
    if missing or not _settled(folder, plan, texts, seen):
        _open(folder)
    if missing:
        wanted = [fetch for fetch in plan.fetches if fetch.item.path in missing]
        pulls = [pull for pull in plan.pulls if any(blob.path in missing for blob in pull.blobs)]
        blobs = {blob.path: blob for pull in pulls for blob in pull.blobs if blob.path in missing}
        size = sum({i.sha256: max(0, i.size) for i in [f.item for f in wanted] + [*blobs.values()]}.values())
        progress.start("fetching", len(missing), size)
        try:
            fetcher.run(Work(wanted, pulls, reuse))
        finally:
            progress.stop()
    items = [item.sized((folder / item.path).stat().st_size) for item in plan.items]
    left = _remove_rest(folder, items, plan)
    items += _generate(folder, plan, items, texts, progress)
    items = sorted(items)
    remove_rest(folder, {item.path for item in items})
    for item in items:
        seen.note(item.path, item.sha256)
    changed = _close(folder, items, signing)
    seen.save()
    signature = verify.check_signature(folder)
    return Made(
        folder,
        tuple(items),
        changed,
        len(missing),
        signature.fingerprint,
        signature.signer,
        signing.made,
        signing.path,
        time.monotonic() - began,
        tuple(left),
    )


def _must_be_ours(folder: Path) -> None:
    """Refuse to work in a folder that holds other things."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise RequestError([f"{folder} is no folder"], "name a folder that is new, empty, or a bundle")
    if not folder.is_dir():
        return
    names = {path.name for path in folder.iterdir()} - {"lost+found"}
    if names and not names & {LOCK, ABOUT, PARTIAL}:
        raise RequestError(
            [f"{folder} is neither empty nor a bundle"], "name a folder that is new, empty, or a bundle"
        )


def _reusable(older: Path | None) -> dict[str, Path]:
    """Files of an older bundle by digest. They are read again before they are taken."""
    return {item.sha256: older / item.path for item in read_lock(older)} if older else {}


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One `create` at a time in a folder. The lock lies on the folder itself, so nothing is left behind."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BundleError(
                f"another `rackloom bundle` works in {folder}", "let it end, or name another folder"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _ask_for_space(
    plan: resolve.Plan, fetcher: Fetcher, missing: set[str], reuse: dict[str, Path], folder: Path
) -> None:
    need = fetcher.to_come(plan.fetches, missing, reuse)
    blobs = {blob.path: blob.size for pull in plan.pulls for blob in pull.blobs if blob.path in missing}
    need += sum(max(0, size) for size in blobs.values())
    copied = {
        fetch.item.sha256: fetch.item.size
        for fetch in plan.fetches
        if fetch.item.path in missing
        and fetch.item.sha256 in reuse
        and not _same_disk(reuse, fetch.item, folder)
    }
    need += sum(max(0, size) for size in copied.values())
    free = shutil.disk_usage(folder).free
    if need and need + _SLACK > free:
        raise SpaceError(
            f"the bundle needs {human(need + _SLACK)} more on the disk of {folder}, and {human(free)} are free",
            "make room, name a folder on a larger disk, or take fewer stages or systems",
        )


def _same_disk(reuse: dict[str, Path], item: Item, folder: Path) -> bool:
    try:
        return reuse[item.sha256].stat().st_dev == folder.stat().st_dev
    except OSError:
        return False


def _texts(plan: resolve.Plan, signing: sign.Key) -> dict[str, bytes]:
    """Files that follow from the request alone."""
    request = plan.request
    about = About(request.stages, request.os, request.arch, __version__)
    readme = _README.format(
        stages=", ".join(request.stages),
        os=", ".join(request.os),
        arch=", ".join(request.arch),
        version=__version__,
        lock=LOCK,
        sbom=SBOM,
    )
    return {
        ABOUT: about_text(about).encode(),
        README: readme.encode(),
        SIGNERS: signing.line.encode(),
        VERIFIER: Path(verify.__file__).read_bytes(),
        VERSIONS: plan.versions.encode(),
        **images.layout(plan.images),
    }


def _settled(folder: Path, plan: resolve.Plan, texts: dict[str, bytes], seen: Seen) -> bool:
    """Whether the bundle in the folder is finished and holds just what is asked for."""
    try:
        locked = {item.path: item.sha256 for item in read_lock(folder)}
    except BundleError:
        return False
    wanted = {item.path: item.sha256 for item in plan.items}
    wanted |= {path: hashlib.sha256(content).hexdigest() for path, content in texts.items()}
    made = {path for path, sha256 in locked.items() if path not in wanted and seen.digest(path) == sha256}
    return (
        (folder / SIGNATURE).is_file()
        and wanted.items() <= locked.items()
        and wanted.keys() | made == locked.keys()
        and all(path.startswith(("apt/", "rackloom/", SBOM)) for path in made)
    )


def _open(folder: Path) -> None:
    """From now on, and until it is closed, this is no finished bundle."""
    (folder / PARTIAL).mkdir(parents=True, exist_ok=True)
    for name in (SIGNATURE, LOCK):
        (folder / name).unlink(missing_ok=True)


def _remove_rest(folder: Path, items: Sequence[Item], plan: resolve.Plan) -> list[str]:
    """Remove what older bundles and interrupted runs left. Returns names that are not ours to remove."""
    keep = {item.path for item in items} | set(images.layout(plan.images)) | {_archive_name()}
    for os_id in plan.request.os:
        keep |= {f"apt/{os_id}/dists"}
    remove_rest(folder, keep)
    return sorted(path.name for path in folder.iterdir() if path.name not in {*_OWN, *FOLDERS, "lost+found"})


def remove_rest(folder: Path, keep: set[str]) -> list[str]:
    """Remove files of the bundle's own folders that are not in `keep` (files, or folders as they are)."""
    removed: list[str] = []
    for top in FOLDERS:
        for at, folders, files in os.walk(folder / top, topdown=False):
            here = Path(at)
            relative = here.relative_to(folder)
            if any(str(part) in keep for part in (relative, *relative.parents)):
                continue
            for name in [*files, *(each for each in folders if (here / each).is_symlink())]:
                if str(relative / name) not in keep:
                    (here / name).unlink()
                    removed.append(str(relative / name))
            with contextlib.suppress(OSError):  # not empty
                here.rmdir()
    return sorted(removed)


def _archive_name() -> str:
    return f"rackloom/{source.NAME}.tar.gz"


def _generate(
    folder: Path, plan: resolve.Plan, items: Sequence[Item], texts: dict[str, bytes], progress: Progress
) -> list[Item]:
    """Write what the bundle makes itself; the files that are right already stay as they are."""
    made: list[Item] = []
    for os_id in plan.request.os:
        progress.step(f"listing the packages of {os_id}")
        made += apt.write_indexes(folder, os_id, plan.request.arch, items)
    fresh = folder / PARTIAL / "rackloom.tar.gz"
    source.archive(fresh, without=folder)
    _place(folder, _archive_name(), fresh.read_bytes())
    fresh.unlink()
    made.append(_item(folder, _archive_name(), "rackloom", "rackloom", __version__))
    for path, content in texts.items():
        _place(folder, path, content)
        kind = "image" if path.startswith("images/") else "tool"
        made.append(_item(folder, path, kind, Path(path).name))
    _place(folder, SBOM, sbom.text([*items, *made]).encode())
    made.append(_item(folder, SBOM, "sbom", SBOM))
    return made


def _place(folder: Path, path: str, content: bytes) -> None:
    target = folder / path
    if target.is_file() and not target.is_symlink() and target.read_bytes() == content:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder / PARTIAL / f"new-{target.name}"
    fresh.parent.mkdir(exist_ok=True)
    fresh.write_bytes(content)
    fresh.replace(target)


def _item(folder: Path, path: str, kind: str, name: str, version: str = "") -> Item:
    content = (folder / path).read_bytes()
    return Item(path, kind, name, version, hashlib.sha256(content).hexdigest(), len(content), "")


def _close(folder: Path, items: Sequence[Item], signing: sign.Key) -> bool:
    """Write the lock and sign it, unless both are right already. Returns whether they were not."""
    text = lock_text(items)
    lock = folder / LOCK
    same = lock.is_file() and lock.read_text(encoding="utf-8") == text
    if not same:
        (folder / SIGNATURE).unlink(missing_ok=True)
        _place(folder, LOCK, text.encode())
    fits = same and _signed_by(folder, signing)
    if not fits:
        sign.sign(folder, signing.path)
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    return not fits


def _signed_by(folder: Path, signing: sign.Key) -> bool:
    scratch = folder / PARTIAL / "signers"
    scratch.parent.mkdir(exist_ok=True)
    scratch.write_text(signing.line, encoding="utf-8")
    return verify.check_signature(folder, signers=scratch).state == verify.GOOD


def prune(folder: Path) -> list[str]:
    """Remove what does not belong to a finished bundle: remains of interrupted runs and of older versions."""
    items = read_lock(folder)
    with _alone(folder):
        shutil.rmtree(folder / PARTIAL, ignore_errors=True)
        return remove_rest(folder, {item.path for item in items})
