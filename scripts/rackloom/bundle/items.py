"""What a bundle holds: one item a file, written down in `bundle.lock`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from rackloom.bundle.errors import BundleError

LOCK = "bundle.lock"
SIGNATURE = "bundle.lock.sig"
ABOUT = "bundle.json"
SBOM = "sbom.spdx.json"
SIGNERS = "bundle.signers"
VERIFIER = "verify.py"
README = "README"
VERSIONS = "versions.yml"
PARTIAL = ".partial"
FORMAT = 1
FOLDERS = ("apt", "boot", "charts", "files", "images", "rackloom", "wheels")
"""Folders of a bundle that belong to it alone: what they hold beside the lock's files is left over."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, order=True)
class Item:
    """One file of a bundle."""

    path: str
    """Where it lies in the bundle."""
    kind: str
    """package, index (of packages), file, image, chart, wheel, rackloom, sbom or tool."""
    name: str
    version: str
    sha256: str
    size: int
    """Bytes; -1 as long as nobody knows."""
    origin: str
    """Where it was taken from; empty for what the bundle makes itself."""
    os: str = ""
    arch: str = ""

    @property
    def label(self) -> str:
        """How people call it."""
        where = ", ".join(word for word in (self.os, self.arch) if word and word != "all")
        return f"{self.kind} {self.name} {self.version}".rstrip() + (f" ({where})" if where else "")

    def sized(self, size: int) -> Item:
        """The same, with its size known."""
        return self if self.size == size else replace(self, size=size)


@dataclass(frozen=True)
class About:
    """What a bundle is for."""

    stages: tuple[str, ...]
    os: tuple[str, ...]
    arch: tuple[str, ...]
    version: str
    """Rackloom's own."""
    format: int = FORMAT


def lock_text(items: Iterable[Item]) -> str:
    """The lock: sorted, one item a line, the same text for the same items."""
    lines = [json.dumps(asdict(item), ensure_ascii=False, sort_keys=True) for item in sorted(items)]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def read_lock(folder: Path) -> list[Item]:
    """The items of a finished bundle. Raises BundleError where there is none, or a damaged one."""
    path = folder / LOCK
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        items = [_item(entry) for entry in data]
    except FileNotFoundError:
        raise BundleError(
            f"{folder} holds no finished bundle: there is no {LOCK}",
            "run `rackloom bundle create` to its end",
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{path} cannot be read: {error}", "make the bundle again") from None
    return items


def about_text(about: About) -> str:
    """bundle.json."""
    return json.dumps(asdict(about), indent=2, sort_keys=True) + "\n"


def read_about(folder: Path) -> About:
    """What the bundle in this folder is for. Raises BundleError."""
    path = folder / ABOUT
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        about = About(
            tuple(data["stages"]),
            tuple(data["os"]),
            tuple(data["arch"]),
            str(data["version"]),
            data["format"],
        )
    except FileNotFoundError:
        raise BundleError(f"{folder} is no bundle: there is no {ABOUT}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{path} cannot be read: {error}", "copy the bundle again") from None
    if about.format != FORMAT:
        raise BundleError(f"{folder} is a bundle of format {about.format}, and this Rackloom reads {FORMAT}")
    return about


def check_fits(about: About, *, os: str = "", arch: str = "", stages: Iterable[str] = ()) -> None:
    """Raise BundleError where a bundle is for other machines than this one, or for other stages."""
    missing = []
    if os and os not in about.os:
        missing.append(f"the operating system {os} (it is for {', '.join(about.os)})")
    if arch and arch not in about.arch:
        missing.append(f"the architecture {arch} (it is for {', '.join(about.arch)})")
    if wanted := [stage for stage in stages if stage not in about.stages]:
        missing.append(f"the stages {', '.join(wanted)} (it has {', '.join(about.stages)})")
    if missing:
        raise BundleError(
            f"the bundle holds nothing for {' and '.join(missing)}",
            "make one with --os, --arch and --stages as this site needs them",
        )


def _item(entry: Any) -> Item:
    item = Item(**entry)
    pure = PurePosixPath(item.path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise ValueError(f"'{item.path}' is no path inside a bundle")
    if not _SHA256.fullmatch(item.sha256) or item.size < 0:
        raise ValueError(f"{item.path} has no digest or no size")
    return item
