"""The versions file, read for the bundle: what to bring for a name, and what it must be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from rackloom.bundle.errors import RequestError
from rackloom.bundle.fetch import Fetch
from rackloom.bundle.items import Item
from rackloom.bundle.web import plain_url
from rackloom.site.paths import home

_SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_SECTIONS = ("files", "images", "charts")


@dataclass
class Versions:
    """The records of one or several versions files; a later file's record takes the place of an earlier one's."""

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    charts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def fetches(self, files: Iterable[str], charts: Iterable[str], arches: Sequence[str]) -> list[Fetch]:
        """Files and charts to bring. Raises RequestError with all wrong records at once."""
        mistakes: list[str] = []
        made: list[Fetch] = []
        for name in sorted(set(files)):
            made += self._file(name, arches, mistakes)
        for name in sorted(set(charts)):
            made += self._chart(name, mistakes)
        if mistakes:
            raise RequestError(mistakes, "correct the records in the versions file")
        return made

    def _file(self, name: str, arches: Sequence[str], mistakes: list[str]) -> list[Fetch]:
        record = self.files.get(name)
        if record is None:
            mistakes.append(f"the versions file has no record of the file {name}")
            return []
        version, url = str(record.get("version", "")), str(record.get("url", ""))
        if not version or not url:
            mistakes.append(f"the record of the file {name} has no {'version' if not version else 'url'}")
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

    def _chart(self, name: str, mistakes: list[str]) -> list[Fetch]:
        record = self.charts.get(name)
        if record is None:
            mistakes.append(f"the versions file has no record of the chart {name}")
            return []
        version, url = str(record.get("version", "")), str(record.get("url", ""))
        match = _SHA256.fullmatch(str(record.get("sha256", "")))
        if not version or not url or not match:
            lacks = "version" if not version else "sha256" if not match else "url"
            mistakes.append(f"the record of the chart {name} has no {lacks}")
            return []
        full = _located(url.replace("{version}", version), record)
        item = Item(f"charts/{name}-{version}.tgz", "chart", name, version, match[1], -1, plain_url(full))
        return [Fetch(item, (full,))]


def read_versions(extra: Sequence[Path] = (), base: Path | None = None) -> Versions:
    """inventory/versions.yml with the records of `extra` files laid over it. Raises RequestError."""
    found = Versions()
    for path in [base or home() / "inventory" / "versions.yml", *extra]:
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            raise RequestError([f"the versions file {path} cannot be read: {error}"]) from None
        if not isinstance(data, dict) or not set(data) <= set(_SECTIONS):
            raise RequestError(
                [f"the versions file {path} may hold {', '.join(_SECTIONS)}, and nothing else"]
            )
        for section in _SECTIONS:
            records = data.get(section) or {}
            if not isinstance(records, dict) or not all(isinstance(each, dict) for each in records.values()):
                raise RequestError([f"{section} in the versions file {path} is no mapping of records"])
            getattr(found, section).update(
                {name: {**record, "__folder__": path.parent.resolve()} for name, record in records.items()}
            )
    return found


def _located(url: str, record: dict[str, Any]) -> str:
    """A `file:` address without a leading slash is meant from the folder of its versions file."""
    if url.startswith("file:") and not url.startswith("file:/"):
        return f"file://{record['__folder__']}/{url.removeprefix('file:')}"
    return url


def _basename(url: str) -> str:
    return urlsplit(url).path.rpartition("/")[2]
