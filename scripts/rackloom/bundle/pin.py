"""
Looks up the digests that the versions files lack, and writes them into the site's own versions.yml.

A registry is asked for the manifest that a tag names, a chart is fetched and read. What is written is the whole record,
so the site's file says by itself what was meant. Records that have a digest are left alone.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from rackloom.bundle import declared, resolve
from rackloom.bundle.errors import BundleError, Failure, FetchError, RequestError
from rackloom.bundle.records import in_registry, read_versions
from rackloom.bundle.web import Web, plain_url
from rackloom.site.versions import FILE, KINDS, Record
from rackloom.site.yaml_text import EditError, YamlText, replace_file

Digest = str | dict[str, str]
"""That of an image or chart; those of a file by architecture."""
_CHUNK = 1 << 20
_LARGEST = 64 << 20
_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
"""Bytes of a chart, at most."""
_HEAD = "---\n# Versions of this site; they win over inventory/versions.yml of the toolkit.\n"


@dataclass(frozen=True)
class Pinned:
    """One record that has a digest now."""

    kind: str
    name: str
    version: str
    digest: str


def pin(config: Path, stages: Sequence[str] = (), choices: Sequence[str] = (), jobs: int = 4) -> list[Pinned]:
    """Look up every digest that a bundle of these stages lacks (of all stages, where none is named), and keep it.

    `choices` come along beside those that the site has made.

    Raises RequestError where there is no site, BundleError, or FetchError with all that could not be looked up; what
    could be was written then.
    """
    if not (config / "cluster.yml").is_file():
        raise RequestError(
            [f"there is no site in {config}"], "run `rackloom init`, or name the site's folder"
        )
    request = resolve.checked(resolve.Request(stages=tuple(stages), choices=tuple(choices)))
    roles = sorted({role for stage in request.stages for role in declared.roles_of_stage(stage)})
    wanted = resolve.wanted(roles, {*request.choices, *resolve.chosen_by(config)})
    unpinned = read_versions(config=config).unpinned(wanted.images, wanted.charts, wanted.files)
    web = resolve.web_for(request)
    found, failures = _look_up(unpinned, web, jobs)
    if found:
        _keep(config, found)
    if failures:
        raise FetchError(failures)
    return [Pinned(record.kind, record.key, record.version, _told(digest)) for record, digest in found]


def _told(digest: Digest) -> str:
    return digest if isinstance(digest, str) else ", ".join(f"{arch} {one}" for arch, one in digest.items())


def _look_up(
    records: Iterable[Record], web: Web, jobs: int
) -> tuple[list[tuple[Record, Digest]], list[Failure]]:
    look: Mapping[str, Callable[[Record], Digest]] = {
        "file": lambda record: file_digests(record, web),
        "image": image_digest,
        "chart": lambda record: chart_digest(record, web),
    }
    found: list[tuple[Record, Digest]] = []
    failures: list[Failure] = []

    def one(record: Record) -> tuple[Record, Digest] | Failure:
        try:
            return record, look[record.kind](record)
        except FetchError as error:
            return error.failures[0]

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        for answer in pool.map(one, records):
            if isinstance(answer, Failure):
                failures.append(answer)
            else:
                found.append(answer)
    return found, failures


def image_digest(record: Record) -> str:
    """The digest of what a tag names in its registry: of the index, where an image is for several architectures."""
    place = str(record.data.get("source", f"docker://{record.name}"))
    text, _ = _manifest(f"{place}:{record.version}", f"image {record.reference}")
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def _manifest(reference: str, label: str) -> tuple[bytes, dict[str, Any]]:
    """What a registry has under a tag: as it is, and read."""
    try:
        done = subprocess.run(["skopeo", "inspect", "--raw", reference], capture_output=True, check=False)
    except FileNotFoundError:
        raise BundleError("skopeo is not installed", "install the package skopeo") from None
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip()[-600:]
        raise FetchError([Failure(label, (f"{reference}: {words}",))])
    try:
        content: Any = json.loads(done.stdout)
    except ValueError:
        content = None
    if not isinstance(content, dict) or not {"manifests", "config"} & set(content):
        raise FetchError([Failure(label, (f"{reference}: no manifest of an image",))])
    return done.stdout, content


def chart_digest(record: Record, web: Web) -> str:
    """The sha256 of a chart's archive."""
    url = str(record.data.get("url", "")).replace("{version}", record.version)
    label = f"chart {record.key} {record.version}"
    if place := in_registry(url):
        reference = f"{place}:{record.version.replace('+', '_')}"
        _, manifest = _manifest(reference, label)
        layers = [part for part in manifest.get("layers", []) if part.get("mediaType") == _CHART]
        if len(layers) != 1:
            raise FetchError([Failure(label, (f"{reference}: this is no chart",))])
        return str(layers[0]["digest"]).removeprefix("sha256:")
    try:
        answer = web.ask(url)
        content = answer.read(_LARGEST + 1) if answer.status == 200 else b""
        answer.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise FetchError([Failure(label, (f"{plain_url(url)}: {error}",))]) from None
    if answer.status != 200:
        raise FetchError([Failure(label, (f"{plain_url(url)}: the server answered {answer.status}",))])
    if not content.startswith(b"\x1f\x8b") or len(content) > _LARGEST:
        raise FetchError([Failure(label, (f"{plain_url(url)}: this is no chart",))])
    return hashlib.sha256(content).hexdigest()


def file_digests(record: Record, web: Web) -> dict[str, str]:
    """The sha256 of a file for each architecture; those that the record has stay."""
    found = record.digests
    for arch in [arch for arch, known in found.items() if not known]:
        url = str(record.data.get("url", "")).replace("{version}", record.version).replace("{arch}", arch)
        label = f"file {record.key} {record.version} for {arch}"
        digest = hashlib.sha256()
        try:
            answer = web.ask(url)
            if answer.status == 200:
                for chunk in answer.stream(_CHUNK):
                    digest.update(chunk)
            answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise FetchError([Failure(label, (f"{plain_url(url)}: {error}",))]) from None
        if answer.status != 200:
            raise FetchError([Failure(label, (f"{plain_url(url)}: the server answered {answer.status}",))])
        found[arch] = digest.hexdigest()
    return found


def _keep(config: Path, found: Sequence[tuple[Record, Digest]]) -> None:
    path = config / FILE
    text = _Text(path.read_text(encoding="utf-8") if path.is_file() else "")
    for record, digest in found:
        text.put(record, digest)
    replace_file(path, text.text.encode(), None if path.is_file() else 0o644)


def _flow(value: Any) -> str:
    """A mapping as YAML in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(one)}" for key, one in value.items()) + "}"
    return json.dumps(str(value))


class _Text:
    """The site's versions file; comments and other records stay as they are."""

    def __init__(self, text: str) -> None:
        self._bare = text
        self._file: YamlText | None = None
        if any(line.strip() not in ("", "---") and not line.startswith("#") for line in text.splitlines()):
            try:
                self._file = YamlText(text)
            except EditError:
                raise RequestError(
                    [f"{FILE} holds no sections"], f"write {', '.join(KINDS.values())} there"
                ) from None

    @property
    def text(self) -> str:
        return self._file.text if self._file else self._bare

    def put(self, record: Record, digest: Digest) -> None:
        line = _flow({**record.data, ("digest" if record.kind == "image" else "sha256"): digest})
        section = KINDS[record.kind]
        if self._file is None:
            self._file = YamlText(f"{self._bare or _HEAD}{section}:\n  {record.key}: {line}\n")
        else:
            self._file.set_yaml(section, record.key, line)
