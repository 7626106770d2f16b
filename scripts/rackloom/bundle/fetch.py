"""Brings what a bundle lacks: many at once, each going on where it stopped, each checked before it gets its name."""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import urllib3

from rackloom.bundle.errors import BundleError, Failure, FetchError, SpaceError
from rackloom.bundle.items import PARTIAL, Item
from rackloom.bundle.progress import Progress, human
from rackloom.bundle.seen import CHUNK, Seen, digest_of
from rackloom.bundle.web import Web, plain_url

_TRIES = 4
_PAUSE = 0.5
_SKOPEO_TRIES = 3


@dataclass(frozen=True)
class Fetch:
    """One file to bring: `item.sha256` is what it must be, `urls` are where it may be had."""

    item: Item
    urls: tuple[str, ...]


@dataclass(frozen=True)
class Pull:
    """One image or chart in a registry. skopeo brings it; of what it writes only the layers, `blobs`, are taken."""

    source: str
    """Like docker://host/repository@sha256:…"""
    label: str
    blobs: tuple[Item, ...]
    oci: bool = True
    """Whether its manifest is of OCI's kind; skopeo makes Docker's over, and only the layers are the same then."""


@dataclass(frozen=True)
class Work:
    """Everything to bring, and `reuse`: files elsewhere on this machine by their sha256."""

    fetches: Sequence[Fetch] = ()
    pulls: Sequence[Pull] = ()
    reuse: Mapping[str, Path] = field(default_factory=dict)


class _Stopped(Exception):
    """Another thread, or the user, ended the work."""


class _Tried(Exception):
    """One try failed; the text says how. `again` tells whether another may do better."""

    def __init__(self, text: str, *, again: bool) -> None:
        super().__init__(text)
        self.again = again


def link_or_copy(source: Path, target: Path) -> None:
    """Give `source` a second name, or copy it where the file system cannot; the name appears when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    fresh.unlink(missing_ok=True)
    try:
        os.link(source, fresh)
    except OSError:
        shutil.copyfile(source, fresh)
    fresh.replace(target)


class Fetcher:
    """Brings the files of one bundle. What is whole stays, whatever happens to the others."""

    def __init__(
        self, root: Path, seen: Seen, progress: Progress, *, jobs: int = 8, web: Web | None = None
    ) -> None:
        self.root = root
        self.partial = root / PARTIAL
        self.seen = seen
        self.progress = progress
        self.jobs = max(1, jobs)
        self.web = web or Web(self.jobs)
        self._stop = threading.Event()
        self._fatal: BaseException | None = None
        self._failures: list[Failure] = []
        self._lock = threading.Lock()

    def lacking(self, items: Iterable[Item]) -> set[str]:
        """Paths of the items that are not whole in the bundle yet."""
        missing: set[str] = set()

        def look(item: Item) -> None:
            if self.seen.digest(item.path) != item.sha256:
                with self._lock:
                    missing.add(item.path)

        _each(list(items), look, threads=os.cpu_count() or 1)
        return missing

    def to_come(self, fetches: Iterable[Fetch], missing: set[str], reuse: Mapping[str, Path]) -> int:
        """Bytes that have yet to be written for what is missing, what lies half-done taken off."""
        digests: dict[str, int] = {}
        for fetch in fetches:
            item = fetch.item
            if item.path in missing and item.sha256 not in reuse and item.size > 0:
                part = self._part(item.sha256)
                here = part.stat().st_size if part.is_file() else 0
                digests[item.sha256] = max(0, item.size - here)
        return sum(digests.values())

    def run(self, work: Work) -> None:
        """Bring everything. Raises FetchError with all that could not be had, or SpaceError."""
        self.partial.mkdir(parents=True, exist_ok=True)
        groups: dict[str, list[Fetch]] = {}
        for fetch in work.fetches:
            groups.setdefault(fetch.item.sha256, []).append(fetch)
        # The largest first: at the end small ones fill the gaps.
        order = sorted(groups.values(), key=lambda group: -group[0].item.size)
        tasks: list[Callable[[], None]] = [
            *(lambda pull=pull: self._pull(pull) for pull in work.pulls),
            *(lambda group=group: self._group(group, work.reuse) for group in order),
        ]
        try:
            self._work(tasks)
        finally:
            self._stop.set()
            self.seen.save()
        if self._fatal:
            raise self._fatal
        if self._failures:
            raise FetchError(sorted(self._failures, key=lambda failure: failure.label))

    def _work(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run tasks in threads that do not outlive an interrupted program."""
        todo: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        for task in tasks:
            todo.put(task)

        def loop() -> None:
            while not self._stop.is_set():
                try:
                    task = todo.get_nowait()
                except queue.Empty:
                    return
                try:
                    task()
                except _Stopped:
                    return
                except OSError as error:
                    self._end(
                        SpaceError(
                            f"{self.root} is full: {error.strerror}",
                            "make room and run the same command again: it goes on where it stopped",
                        )
                        if error.errno in (errno.ENOSPC, errno.EDQUOT)
                        else error
                    )
                except BaseException as error:  # noqa: BLE001 - handed to the main thread
                    self._end(error)

        threads = [threading.Thread(target=loop, daemon=True) for _ in range(min(self.jobs, len(tasks)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _end(self, error: BaseException) -> None:
        with self._lock:
            self._fatal = self._fatal or error
        self._stop.set()

    def _fail(self, label: str, tried: Sequence[str]) -> None:
        with self._lock:
            self._failures.append(Failure(label, tuple(dict.fromkeys(tried))))

    def _part(self, sha256: str) -> Path:
        return self.partial / sha256

    def _group(self, group: Sequence[Fetch], reuse: Mapping[str, Path]) -> None:
        """Files of one content: brought once, named as often as needed."""
        sha256 = group[0].item.sha256
        have = next((f.item.path for f in group if self.seen.digest(f.item.path) == sha256), None)
        if have is None:
            first = group[0].item
            target = self.root / first.path
            old = reuse.get(sha256)
            if old is not None and old.is_file() and digest_of(old) == sha256:
                link_or_copy(old, target)
            elif not self._bring(group):
                return
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                self._part(sha256).replace(target)
            have = first.path
            self.seen.note(have, sha256)
            self.progress.finished(first.label)
        for fetch in group:
            path = fetch.item.path
            if path != have and self.seen.digest(path) != sha256:
                link_or_copy(self.root / have, self.root / path)
                self.seen.note(path, sha256)

    def _bring(self, group: Sequence[Fetch]) -> bool:
        """Have the content whole and checked in .partial; False, and a failure noted, where that cannot be done."""
        item = group[0].item
        urls = list(dict.fromkeys(url for fetch in group for url in fetch.urls))
        tried: list[str] = []
        for number in range(_TRIES):
            if number and self._stop.wait(_PAUSE * 2**number):
                raise _Stopped
            for url in list(urls):
                try:
                    self._try(url, item)
                except _Tried as error:
                    tried.append(f"{plain_url(url)}: {error}")
                    if not error.again:
                        urls.remove(url)
                else:
                    return True
            if not urls:
                break
        self._fail(item.label, tried)
        return False

    def _try(self, url: str, item: Item) -> None:
        part = self._part(item.sha256)
        if url.startswith("file:"):
            self._copy(Path(unquote(urlsplit(url).path)), part, item)
            return
        here = part.stat().st_size if part.exists() else 0
        if 0 <= item.size < here:
            part.unlink()
            here = 0
        digest = hashlib.sha256()
        if here:
            with part.open("rb") as stream:
                while block := stream.read(CHUNK):
                    digest.update(block)
        resumed = here > 0
        if here != item.size or here == 0:
            here, digest = self._receive(url, part, here, digest)
        self._check(part, item, here, digest.hexdigest(), again=resumed)

    def _receive(self, url: str, part: Path, here: int, digest: hashlib._Hash) -> tuple[int, hashlib._Hash]:
        """Append what the server has beyond the first `here` bytes."""
        try:
            answer = self.web.ask(url, offset=here)
        except urllib3.exceptions.HTTPError as error:
            raise _Tried(_reason(error), again=True) from None
        try:
            if answer.status == 416:
                part.unlink(missing_ok=True)
                raise _Tried("the server has less than was fetched before; starting over", again=True)
            if answer.status not in (200, 206):
                again = answer.status in (408, 425, 429) or answer.status >= 500
                raise _Tried(f"HTTP status {answer.status}", again=again)
            start = _range_start(answer.headers.get("Content-Range", "")) if answer.status == 206 else 0
            if start != here:
                here, digest = 0, hashlib.sha256()  # the server cannot go on in the middle
                if start:
                    raise _Tried("the server sent another part than asked for", again=True)
            self.progress.moved(here)
            with part.open("r+b" if here else "wb") as stream:
                stream.seek(here)
                stream.truncate()
                for block in answer.stream(CHUNK, decode_content=False):
                    if self._stop.is_set():
                        raise _Stopped
                    stream.write(block)
                    digest.update(block)
                    here += len(block)
                    self.progress.moved(len(block))
                _flush(stream.fileno())
        except urllib3.exceptions.HTTPError as error:
            self.progress.moved(-here)
            raise _Tried(f"{_reason(error)} after {human(here)}", again=True) from None
        finally:
            answer.close()  # of an answer that was read to its end, the connection is back in the pool already
        return here, digest

    def _copy(self, source: Path, part: Path, item: Item) -> None:
        """A file of this machine, by the same rules."""
        digest, here = hashlib.sha256(), 0
        try:
            reading = source.open("rb")
        except OSError as error:
            raise _Tried(str(error.strerror), again=False) from None
        with reading, part.open("wb") as stream:
            while block := reading.read(CHUNK):
                if self._stop.is_set():
                    raise _Stopped
                stream.write(block)
                digest.update(block)
                here += len(block)
                self.progress.moved(len(block))
            _flush(stream.fileno())
        self._check(part, item, here, digest.hexdigest(), again=False)

    def _check(self, part: Path, item: Item, size: int, found: str, *, again: bool) -> None:
        if found == item.sha256:
            return
        part.unlink(missing_ok=True)
        self.progress.moved(-size)
        if 0 <= item.size != size:
            raise _Tried(f"{size} bytes, and {item.size} were announced", again=True)
        # The start may have been of another file, or damaged on this disk: once more from the beginning.
        raise _Tried(f"its sha256 is {found}, and the record says {item.sha256}", again=again)

    def _pull(self, pull: Pull) -> None:
        """Have an image's parts in the bundle."""
        lacking = [blob for blob in pull.blobs if self.seen.digest(blob.path) != blob.sha256]
        if not lacking:
            return
        # Parts that are whole, here or from an interrupted run, are not fetched again.
        layout = self.partial / f"image-{hashlib.sha256(pull.source.encode()).hexdigest()[:16]}"
        shared = self.partial / "blobs"
        folder = shared / "sha256"
        folder.mkdir(parents=True, exist_ok=True)
        for blob in pull.blobs:
            if blob not in lacking:
                link_or_copy(self.root / blob.path, folder / blob.sha256)
        argv = ["skopeo", "copy", "--quiet", *(["--preserve-digests"] if pull.oci else [])]
        argv += ["--dest-shared-blob-dir", str(shared), pull.source, f"oci:{layout}:image"]
        tried = []
        for number in range(_SKOPEO_TRIES):
            if number and self._stop.wait(_PAUSE * 2**number):
                raise _Stopped
            problem = self._run(argv)
            if not problem:
                break
            tried.append(f"{pull.source}: {problem}")
        else:
            self._fail(pull.label, tried)
            return
        for blob in lacking:
            source = folder / blob.sha256
            if not source.exists() and self.seen.digest(blob.path) == blob.sha256:
                continue  # another image that was pulled at this moment has it too
            if not source.is_file() or digest_of(source) != blob.sha256:
                self._fail(
                    pull.label, [f"{pull.source}: its part sha256:{blob.sha256} is not what was asked for"]
                )
                return
            target = self.root / blob.path
            target.parent.mkdir(parents=True, exist_ok=True)
            with source.open("rb") as stream:
                _flush(stream.fileno())
            link_or_copy(source, target)
            self.seen.note(blob.path, blob.sha256)
            self.progress.moved(max(0, blob.size))
            self.progress.finished(blob.label)
        shutil.rmtree(layout, ignore_errors=True)

    def _run(self, argv: Sequence[str]) -> str:
        """Run a program, ending it when the work is stopped. Returns what went wrong, or nothing."""
        words = ""
        try:
            with subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            ) as process:
                while True:
                    try:
                        words = process.communicate(timeout=0.2)[1]
                        break
                    except subprocess.TimeoutExpired:
                        if self._stop.is_set():
                            process.terminate()
                            raise _Stopped from None
        except FileNotFoundError:
            raise BundleError(f"{argv[0]} is not installed", f"install the package {argv[0]}") from None
        if process.returncode == 0:
            return ""
        if "no space left" in words.lower():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return words.strip()[-600:] or f"status {process.returncode}"


def _each(things: Sequence[Item], call: Callable[[Item], None], threads: int) -> None:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(call, things))


def _flush(descriptor: int) -> None:
    """Let the bytes reach the disk before the file gets its name, where the file system knows how."""
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _range_start(header: str) -> int:
    """`bytes 100-199/200` → 100."""
    words = header.removeprefix("bytes").strip().split("-")[0]
    return int(words) if words.isdigit() else -1


def _reason(error: Exception) -> str:
    """The innermost words of what the network said."""
    reason = getattr(error, "reason", None)
    text = str(reason if reason is not None else error) or type(error).__name__
    return text.rpartition(">: ")[2] if ">: " in text else text
