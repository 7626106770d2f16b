"""
The records of what comes from outside, as a site has them.

Three files lie over each other, and a record of a later one takes the place of an earlier one's: the toolkit's
inventory/versions.yml, the site's own versions.yml beside cluster.yml, and that of the bundle that the site's mirror
serves. A record is called `name`, or `name@release` where a release beside the plain one is held.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from . import bundles
from .mistakes import suggest
from .paths import home

FILE = "versions.yml"
SECTIONS = ("files", "images", "charts")
AT = "@"
Kind = Literal["file", "image", "chart"]
KINDS: Mapping[str, str] = {"file": "files", "image": "images", "chart": "charts"}
KUBERNETES = "kubeadm"
"""The file whose versions are the releases of Kubernetes that a site can have."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMBERS = re.compile(r"v?(\d+(?:\.\d+)*)")


class VersionsError(ValueError):
    """A versions file that cannot be read, or a record that is not there. `cure` names the next step."""

    def __init__(self, message: str, cure: str = "", path: Path | None = None, line: int = 0) -> None:
        super().__init__(message)
        self.cure = cure
        self.path = path
        self.line = line


def split_name(name: str) -> tuple[str, str]:
    """`kubeadm@1.35.1` is (`kubeadm`, `1.35.1`), and a plain name is followed by ''."""
    base, _, release = name.partition(AT)
    return base, release


def numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with, for comparing: v1.35.0-rc.1 is (1, 35, 0)."""
    found = _NUMBERS.match(version)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


@dataclass(frozen=True, slots=True)
class Record:
    """One thing from outside. `key`: its name in the file; `source`: the file."""

    kind: Kind
    key: str
    data: Mapping[str, Any]
    source: Path

    @property
    def name(self) -> str:
        """Without the release."""
        return split_name(self.key)[0]

    @property
    def release(self) -> str:
        """What stands behind the @; '' for the plain record."""
        return split_name(self.key)[1]

    @property
    def version(self) -> str:
        """A file's or a chart's version, an image's tag."""
        return str(self.data.get("tag" if self.kind == "image" else "version", ""))

    @property
    def digest(self) -> str:
        """An image's digest, a chart's sha256, '' where nobody knows it; a file has one an architecture."""
        found = self.data.get("digest" if self.kind == "image" else "sha256", "")
        return found if isinstance(found, str) else ""

    @property
    def digests(self) -> dict[str, str]:
        """A file's sha256 by architecture, '' where nobody knows one; of an image or a chart nothing."""
        found = self.data.get("sha256")
        return (
            {str(arch): str(value or "") for arch, value in found.items()} if isinstance(found, dict) else {}
        )

    @property
    def reference(self) -> str:
        """An image as a runtime is asked for it."""
        return f"{self.name}:{self.version}"


@dataclass(slots=True)
class Versions:
    """All records: section → key → record."""

    records: dict[str, dict[str, Record]] = field(default_factory=lambda: {name: {} for name in SECTIONS})
    sources: tuple[Path, ...] = ()

    def find(self, kind: Kind, name: str, release: str = "") -> Record | None:
        """The record of a name; of a release of it, where one is asked for.

        A release is that of `name@release`, or the plain record where that is of this version.
        """
        section = self.records[KINDS[kind]]
        plain = section.get(name)
        if not release:
            return plain
        exact = section.get(f"{name}{AT}{release}")
        if exact is not None or plain is None:
            return exact
        return plain if plain.version.removeprefix("v") == release.removeprefix("v") else None

    def get(self, kind: Kind, name: str, release: str = "") -> Record:
        """The same; raises VersionsError where there is none."""
        found = self.find(kind, name, release)
        if found is None:
            held = self.held(kind, name)
            if release and held:
                raise VersionsError(
                    f"the versions file holds no {kind} {name} {release}", f"it holds {', '.join(held)}"
                )
            cure = suggest(name, {split_name(key)[0] for key in self.records[KINDS[kind]]})
            raise VersionsError(f"the versions file has no record of the {kind} {name}", cure)
        return found

    def beside(self, kind: Kind, name: str, release: str) -> Record:
        """What goes with a release of something else: its `name@release`, or the plain record. Raises VersionsError."""
        return self.find(kind, name, release) or self.get(kind, name)

    def all_of(self, kind: Kind, name: str) -> list[Record]:
        """The plain record and all releases beside it."""
        section = self.records[KINDS[kind]]
        return [record for record in section.values() if record.name == name]

    def held(self, kind: Kind, name: str) -> list[str]:
        """The versions that are held of a name, oldest first."""
        found = {record.version.removeprefix("v") for record in self.all_of(kind, name)}
        return sorted(found, key=lambda version: (numbers(version), version))

    def releases(self) -> list[str]:
        """The releases of Kubernetes that a site can have, oldest first."""
        return self.held("file", KUBERNETES)


def layers(config_dir: Path | str | None = None, extra: Iterable[Path] = ()) -> list[Path]:
    """The files that count for a site, in order; `extra` come last."""
    found = [home() / "inventory" / FILE]
    if config_dir is not None:
        found += overlays(config_dir)
    return [*found, *extra]


def overlays(config_dir: Path | str) -> list[Path]:
    """What a site lays over the toolkit's own records: its file, and that of its bundle, where they exist."""
    own = Path(config_dir).resolve() / FILE
    bundle = bundles.current(config_dir)
    files = [own, *([bundle.record / FILE] if bundle else [])]
    return [path for path in files if path.is_file()]


def read(paths: Sequence[Path]) -> Versions:
    """The records of several files, later ones over earlier ones. Raises VersionsError."""
    found = Versions(sources=tuple(paths))
    for path in paths:
        try:
            info = path.stat()
        except OSError as error:
            raise VersionsError(
                f"the versions file {path} cannot be read: {error.strerror}", path=path
            ) from None
        for kind, records in _load(path, info.st_mtime_ns, info.st_size).items():
            found.records[kind].update(records)
    return found


def effective(config_dir: Path | str | None = None, extra: Iterable[Path] = ()) -> Versions:
    """A site's records; without a site the toolkit's. Raises VersionsError."""
    return read(layers(config_dir, extra))


def laid_over(files: Any) -> Versions:
    """The toolkit's records with those of one file or several over them, as roles name them. Raises VersionsError."""
    named = [files] if isinstance(files, (str, Path)) else list(files or [])
    return effective(extra=[Path(str(name)) for name in named if name])


@cache
def _load(path: Path, _changed: int, _size: int) -> dict[str, dict[str, Record]]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}  # noqa: S506 - a safe one
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        message = f"the versions file {path} cannot be read: {error.problem or error}"
        raise VersionsError(message, "check quotes and indentation", path, line) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise VersionsError(f"the versions file {path} cannot be read: {error}", path=path) from None
    if not isinstance(data, dict) or not set(data) <= set(SECTIONS):
        raise VersionsError(
            f"the versions file {path} may hold {', '.join(SECTIONS)}, and nothing else", path=path
        )
    found: dict[str, dict[str, Record]] = {}
    for kind, section in KINDS.items():
        records = data.get(section) or {}
        if not isinstance(records, dict) or not all(isinstance(each, dict) for each in records.values()):
            raise VersionsError(f"{section} in the versions file {path} is no mapping of records", path=path)
        found[section] = {
            str(name): Record(kind, str(name), record, path)  # type: ignore[arg-type]
            for name, record in records.items()
        }
    return found


def text(records: Iterable[Record]) -> str:
    """A versions file of these records: sorted, the same text for the same records."""
    sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for record in sorted(records, key=lambda each: (each.kind, each.key)):
        sections[KINDS[record.kind]][record.key] = _plain(record.data)
    return "---\n" + yaml.safe_dump(sections, sort_keys=True, width=1000, allow_unicode=True)


def _plain(value: Any) -> Any:
    return {str(key): _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value
