"""Container images in one OCI layout, byte for byte as their registry has them, so digests stay what they are.

A record pins an image by digest. Where that names an image for several architectures, only those asked for are
taken: one of them is tagged as itself, several get an index of their own. The pinned index itself comes along too,
and `io.rackloom.pinned` in the layout's index names it.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rackloom.bundle.errors import BundleError, Failure, FetchError, RequestError
from rackloom.bundle.fetch import Fetch, Pull
from rackloom.bundle.items import Item
from rackloom.bundle.records import Versions
from rackloom.bundle.seen import cache_dir, digest_of
from rackloom.site.versions import split_name

PINNED = "io.rackloom.pinned"
REF_NAME = "org.opencontainers.image.ref.name"
INDEX = "application/vnd.oci.image.index.v1+json"
_INDEXES = {INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"}
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
BLOBS = "images/blobs/sha256"


@dataclass
class ImagePlan:
    """What the images asked for consist of."""

    fetches: list[Fetch] = field(default_factory=list)
    """Manifests, and parts that lie in layouts on this machine."""
    pulls: list[Pull] = field(default_factory=list)
    descriptors: list[dict[str, Any]] = field(default_factory=list)
    """Entries of the layout's index.json."""

    @property
    def items(self) -> list[Item]:
        """Every part once."""
        parts = [fetch.item for fetch in self.fetches] + [blob for pull in self.pulls for blob in pull.blobs]
        return sorted({item.path: item for item in sorted(parts, reverse=True)}.values())


@dataclass(frozen=True)
class _Source:
    """One image to take: where from, and its pinned digest."""

    name: str
    tag: str
    digest: str
    place: str
    """docker://host/repository, or the path of an OCI layout."""

    @property
    def origin(self) -> str:
        return f"{self.place if self._remote else 'oci:' + self.place}@{self.digest}"

    @property
    def _remote(self) -> bool:
        return self.place.startswith("docker://")

    def read(self, digest: str, config_of: str = "") -> bytes:
        """The bytes of a manifest, or of the configuration of the manifest `config_of`; checked."""
        kept = cache_dir() / "manifests" / digest.removeprefix("sha256:")
        if kept.is_file() and digest_of(kept) == kept.name:
            return kept.read_bytes()
        if self._remote:
            content = _inspect(f"{self.place}@{config_of or digest}", self.name, config=bool(config_of))
        else:
            path = self.blob(digest)
            try:
                content = path.read_bytes()
            except OSError as error:
                raise FetchError([Failure(f"image {self.name}", (f"{path}: {error.strerror}",))]) from None
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise FetchError(
                [Failure(f"image {self.name}", (f"{self.origin}: its content has another digest",))]
            )
        _keep(content, kept)
        return content

    def blob(self, digest: str) -> Path:
        """Where a layout has a part."""
        return Path(self.place) / "blobs" / "sha256" / digest.removeprefix("sha256:")


def plan(names: Iterable[str], versions: Versions, arches: Sequence[str], jobs: int = 4) -> ImagePlan:
    """Find out what images consist of. Raises RequestError with all wrong records, FetchError with all failures."""
    mistakes: list[str] = []
    keys = versions.keys("images", names)
    sources = [source for key in keys if (source := _source(key, versions, mistakes)) is not None]
    if mistakes:
        raise RequestError(mistakes, "correct the records in the versions file")
    made = ImagePlan()
    failures: list[Failure] = []

    def one(source: _Source) -> ImagePlan | None:
        try:
            return _plan_one(source, arches, mistakes)
        except FetchError as error:
            failures.extend(error.failures)
            return None

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        for part in pool.map(one, sources):
            if part:
                made.fetches += part.fetches
                made.pulls += part.pulls
                made.descriptors += part.descriptors
    if mistakes:
        raise RequestError(sorted(mistakes), "ask for an architecture that the images have")
    if failures:
        raise FetchError(sorted(failures, key=lambda failure: failure.label))
    made.descriptors.sort(key=lambda entry: str(entry["annotations"][REF_NAME]))
    return made


def _source(key: str, versions: Versions, mistakes: list[str]) -> _Source | None:
    record, name = versions.images.get(key), split_name(key)[0]
    if record is None:
        mistakes.append(f"the versions file has no record of the image {key}")
        return None
    tag, digest = str(record.get("tag", "")), str(record.get("digest", ""))
    if not tag or not _DIGEST.fullmatch(digest):
        mistakes.append(f"the record of the image {key} has no {'digest' if tag else 'tag'}")
        return None
    place = str(record.get("source", f"docker://{name}"))
    for prefix in ("oci:", "file:"):
        if place.startswith(prefix):
            path = place.removeprefix(prefix).removeprefix("//")
            place = str(Path(record["__folder__"]) / path)
    return _Source(name, tag, digest, place)


def _plan_one(source: _Source, arches: Sequence[str], mistakes: list[str]) -> ImagePlan:
    made = ImagePlan()
    top = source.read(source.digest)
    data = json.loads(top)
    media = _media_type(data)
    if media not in _INDEXES:
        _add_manifest(made, source, source.digest, top, "", mistakes, arches)
        made.descriptors.append(_entry(source, media, source.digest, len(top)))
        return made
    chosen = [entry for entry in data["manifests"] if _arch(entry) in arches]
    have = {_arch(entry) for entry in chosen}
    mistakes += [
        f"the image {source.name}:{source.tag} is not made for {arch}" for arch in arches if arch not in have
    ]
    for entry in chosen:
        content = source.read(entry["digest"])
        _add_manifest(made, source, entry["digest"], content, _arch(entry), mistakes, arches)
    _add_bytes(made, source, top, "")
    if len(chosen) == len(data["manifests"]):
        made.descriptors.append(_entry(source, media, source.digest, len(top)))
    elif len(chosen) == 1:
        entry = _entry(source, chosen[0].get("mediaType", _MANIFEST), chosen[0]["digest"], chosen[0]["size"])
        made.descriptors.append(entry | {"platform": chosen[0]["platform"]})
    else:
        own = {"schemaVersion": 2, "mediaType": media, "manifests": chosen}
        text = json.dumps(own, sort_keys=True, separators=(",", ":")).encode()
        _add_bytes(made, source, text, "")
        digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
        made.descriptors.append(_entry(source, media, digest, len(text)))
    return made


def _entry(source: _Source, media: str, digest: str, size: int) -> dict[str, Any]:
    notes = {REF_NAME: f"{source.name}:{source.tag}"}
    if digest != source.digest:
        notes[PINNED] = source.digest
    return {"mediaType": media, "digest": digest, "size": size, "annotations": notes}


def _keep(content: bytes, kept: Path) -> None:
    """Write a part into the cache. Two images may share it, read by two threads: each writes a file of its own."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=kept.parent, prefix=".", delete=False) as fresh:
        fresh.write(content)
    Path(fresh.name).replace(kept)


def _add_bytes(made: ImagePlan, source: _Source, content: bytes, arch: str) -> None:
    """A manifest, an index or a configuration: its bytes are known already, and kept in the cache."""
    sha256 = hashlib.sha256(content).hexdigest()
    kept = cache_dir() / "manifests" / sha256
    if not kept.is_file():
        _keep(content, kept)
    made.fetches.append(Fetch(_item(source, sha256, len(content), arch), (kept.resolve().as_uri(),)))


def _add_manifest(
    made: ImagePlan,
    source: _Source,
    digest: str,
    content: bytes,
    arch: str,
    mistakes: list[str],
    arches: Sequence[str],
) -> None:
    """One architecture's image: its manifest, its configuration and its layers."""
    data = json.loads(content)
    config = source.read(data["config"]["digest"], config_of=digest)
    parts = [layer for layer in data["layers"] if not layer.get("urls")]
    if not arch:
        arch = str(json.loads(config).get("architecture", ""))
        if lacking := [name for name in arches if name != arch]:
            name = f"{source.name}:{source.tag}"
            mistakes.append(f"the image {name} is made for {arch}, and not for {', '.join(lacking)}")
            return
    _add_bytes(made, source, config, arch)
    _add_bytes(made, source, content, arch)
    blobs = {part["digest"]: int(part["size"]) for part in parts}
    items = [_item(source, name.removeprefix("sha256:"), size, arch) for name, size in blobs.items()]
    if source.place.startswith("docker://"):
        made.pulls.append(
            Pull(
                f"{source.place}@{digest}",
                f"image {source.name}:{source.tag}",
                tuple(items),
                oci=_media_type(data) == _MANIFEST,
            )
        )
        return
    made.fetches += [
        Fetch(item, (source.blob(f"sha256:{item.sha256}").absolute().as_uri(),)) for item in items
    ]


def _item(source: _Source, sha256: str, size: int, arch: str) -> Item:
    return Item(f"{BLOBS}/{sha256}", "image", source.name, source.tag, sha256, size, source.origin, "", arch)


def _arch(entry: dict[str, Any]) -> str:
    """`amd64` for a Linux image of it; '' for anything else (attestations, other systems)."""
    platform = entry.get("platform") or {}
    return str(platform.get("architecture", "")) if platform.get("os") == "linux" else ""


def _media_type(data: dict[str, Any]) -> str:
    return str(data.get("mediaType") or (INDEX if "manifests" in data else _MANIFEST))


def layout(plan_: ImagePlan) -> dict[str, bytes]:
    """The layout's own two files, by their paths in the bundle; none where there are no images."""
    if not plan_.descriptors:
        return {}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": plan_.descriptors}
    return {
        "images/index.json": (json.dumps(index, indent=1, sort_keys=True) + "\n").encode(),
        "images/oci-layout": b'{"imageLayoutVersion":"1.0.0"}\n',
    }


def _inspect(reference: str, name: str, *, config: bool) -> bytes:
    argv = ["skopeo", "inspect", "--raw", *(["--config"] if config else []), reference]
    try:
        done = subprocess.run(argv, capture_output=True, check=False)
    except FileNotFoundError:
        raise BundleError("skopeo is not installed", "install the package skopeo") from None
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip()[-600:]
        raise FetchError([Failure(f"image {name}", (f"{reference}: {words}",))])
    return done.stdout
