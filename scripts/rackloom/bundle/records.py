"""The versions file, read for the bundle: what to bring for a name, and what it must be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rackloom.bundle.errors import RequestError
from rackloom.bundle.fetch import Fetch, Pull
from rackloom.bundle.items import Item
from rackloom.bundle.web import plain_url
from rackloom.site import versions as site_versions
from rackloom.site.paths import home
from rackloom.site.versions import KINDS, SECTIONS, Kind, Record, split_name

_SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
PIN = "`rackloom bundle pin` looks up the digests of images and charts, and writes them into the site's versions.yml"


@dataclass
class Versions:
    """The records of one or several versions files; a later file's record takes the place of an earlier one's.

    Who asks for a name gets its plain record and all its releases, `name@release`.
    """

    held: site_versions.Versions
    files: dict[str, dict[str, Any]] = field(init=False)
    images: dict[str, dict[str, Any]] = field(init=False)
    charts: dict[str, dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        """Sections as plain data, each record with the folder of its file."""
        for section in SECTIONS:
            records = {
                key: {**record.data, "__folder__": record.source.parent.resolve()}
                for key, record in self.held.records[section].items()
            }
            setattr(self, section, records)

    def keys(self, section: str, names: Iterable[str]) -> list[str]:
        """The records of these names; a name without any stays as it is, and is told later."""
        found: set[str] = set()
        for name in names:
            found |= {key for key in getattr(self, section) if split_name(key)[0] == name} or {name}
        return sorted(found)

    def records(self, files: Iterable[str], images: Iterable[str], charts: Iterable[str]) -> list[Record]:
        """The records of all these names."""
        wanted: dict[Kind, Iterable[str]] = {"file": files, "image": images, "chart": charts}
        return [
            self.held.records[KINDS[kind]][key]
            for kind, names in wanted.items()
            for key in self.keys(KINDS[kind], names)
            if key in self.held.records[KINDS[kind]]
        ]

    def unpinned(
        self, images: Iterable[str], charts: Iterable[str], files: Iterable[str] = ()
    ) -> list[Record]:
        """Images, charts and files of which nobody has looked up the digest, or one of them."""
        return [
            record
            for record in self.records(files, images, charts)
            if record.version and not (all(record.digests.values()) if record.digests else record.digest)
        ]

    def fetches(self, files: Iterable[str], charts: Iterable[str], arches: Sequence[str]) -> list[Fetch]:
        """Files and charts to bring, but those of registries. Raises RequestError with all wrong records at once."""
        mistakes: list[str] = []
        made: list[Fetch] = []
        for key in self.keys("files", files):
            made += self._file(key, arches, mistakes)
        for key in self.keys("charts", charts):
            made += self._chart(key, mistakes)
        if mistakes:
            raise RequestError(mistakes, "correct the records in the versions file")
        return [fetch for fetch in made if not in_registry(fetch.urls[0])]

    def pulls(self, charts: Iterable[str]) -> list[Pull]:
        """Charts that are in a registry: each is the one layer of what is called an artifact there."""
        made = [fetch for key in self.keys("charts", charts) for fetch in self._chart(key, [])]
        return [
            Pull(source, fetch.item.label, (fetch.item,))
            for fetch in made
            if (source := in_registry(fetch.urls[0]))
        ]

    def _file(self, key: str, arches: Sequence[str], mistakes: list[str]) -> list[Fetch]:
        record, name = self.files.get(key), split_name(key)[0]
        if record is None:
            mistakes.append(f"the versions file has no record of the file {key}")
            return []
        version, url = str(record.get("version", "")), str(record.get("url", ""))
        if not version or not url:
            mistakes.append(f"the record of the file {key} has no {'version' if not version else 'url'}")
            return []
        made = []
        for arch in arches:
            digests = record.get("sha256")
            match = _SHA256.fullmatch(str(digests.get(arch, ""))) if isinstance(digests, dict) else None
            if not match:
                mistakes.append(f"the record of the file {name} {version} has no sha256 for {arch}")
                continue
            full = _located(url.replace("{version}", version).replace("{arch}", arch), record)
            path = f"files/{name}/{version}/{arch}/{_basename(full)}"
            made.append(
                Fetch(Item(path, "file", name, version, match[1], -1, plain_url(full), "", arch), (full,))
            )
        return made

    def _chart(self, key: str, mistakes: list[str]) -> list[Fetch]:
        record, name = self.charts.get(key), split_name(key)[0]
        if record is None:
            mistakes.append(f"the versions file has no record of the chart {key}")
            return []
        version, url = str(record.get("version", "")), str(record.get("url", ""))
        match = _SHA256.fullmatch(str(record.get("sha256", "")))
        if not version or not url or not match:
            lacks = "version" if not version else "sha256" if not match else "url"
            mistakes.append(f"the record of the chart {key} has no {lacks}")
            return []
        full = _located(url.replace("{version}", version), record)
        if full.startswith("oci:"):
            full = f"{full}:{version.replace('+', '_')}"  # a tag has no +
        item = Item(f"charts/{name}-{version}.tgz", "chart", name, version, match[1], -1, plain_url(full))
        return [Fetch(item, (full,))]


def read_versions(
    extra: Sequence[Path] = (), base: Path | None = None, config: Path | None = None
) -> Versions:
    """inventory/versions.yml with the site's own file and then `extra` laid over it. Raises RequestError."""
    own = config / site_versions.FILE if config else None
    paths = [
        base or home() / "inventory" / site_versions.FILE,
        *([own] if own and own.is_file() else []),
        *extra,
    ]
    try:
        return Versions(site_versions.read(paths))
    except site_versions.VersionsError as error:
        raise RequestError([str(error)], error.cure) from None


def text(records: Iterable[Record]) -> str:
    """The bundle's own versions file: what it holds. Where things came from plays no part in a closed site."""
    kept = [
        Record(
            record.kind,
            record.key,
            {
                key: plain_url(str(value)) if key == "url" else value
                for key, value in record.data.items()
                if key != "source"
            },
            record.source,
        )
        for record in records
    ]
    return site_versions.text(kept)


def in_registry(url: str) -> str:
    """What skopeo calls an `oci:` address: oci://HOST/REPOSITORY:TAG, or oci:PATH:TAG of a layout on this machine."""
    if url.startswith("oci://"):
        return f"docker:{url.removeprefix('oci:')}"
    return url if url.startswith("oci:") else ""


def _located(url: str, record: dict[str, Any]) -> str:
    """A `file:` address without a leading slash is meant from the folder of its versions file."""
    if url.startswith("file:") and not url.startswith("file:/"):
        return f"file://{record['__folder__']}/{url.removeprefix('file:')}"
    return url


def _basename(url: str) -> str:
    return urlsplit(url).path.rpartition("/")[2]
