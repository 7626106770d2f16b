"""Images on this machine: one folder an image, one folder in it for each build, and `current`, which nodes get."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackloom.image.errors import ImageError
from rackloom.image.tree import FILES

RECORD = "image.json"
CURRENT = "current"
_ID_DIGITS = 16


@dataclass(frozen=True)
class Built:
    """One build of an image."""

    folder: Path
    record: Mapping[str, Any]
    """image.json: name, id, os, arch, kernel, roles, packages, files, …"""

    @property
    def name(self) -> str:
        """The image's name."""
        return str(self.record["name"])

    @property
    def id(self) -> str:
        """Which build it is, by its content."""
        return str(self.record["id"])

    @property
    def size(self) -> int:
        """Bytes that a node loads."""
        return sum(int(file["size"]) for file in self.record["files"].values())


def file_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> sha256 and size of the files that make the image in `folder`."""
    found = {}
    for name in FILES:
        with (folder / name).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        found[name] = {"sha256": digest, "size": (folder / name).stat().st_size}
    return found


def identify(files: Mapping[str, Mapping[str, Any]]) -> str:
    """The id of these files: what `sha256sum initrd root.squashfs vmlinuz | sha256sum | cut -c1-16` says."""
    text = "".join(f"{files[name]['sha256']}  {name}\n" for name in sorted(files))
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_DIGITS]


def load(folder: Path) -> Built:
    """Read one build. Raises ImageError where there is none."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ImageError(f"{folder} holds no image", "rackloom image list shows those there are") from error
    return Built(folder.resolve(), record)


def builds(images: Path) -> list[Built]:
    """Every build below `images`, by name, oldest first."""
    found = [load(path.parent) for path in images.glob(f"*/*/{RECORD}") if path.parent.name != CURRENT]
    return sorted(found, key=lambda one: (one.name, (one.folder / RECORD).stat().st_mtime))


def current(images: Path, name: str) -> Built | None:
    """What nodes get of this image."""
    folder = images / name / CURRENT
    return load(folder) if folder.is_dir() else None


def find(images: Path, text: str) -> Built:
    """The build that is meant by a name (its current one), NAME/ID, an id or its beginning, or a folder.

    Raises ImageError when there is none, or more than one.
    """
    if (Path(text) / RECORD).is_file():
        return load(Path(text))
    name, _, wanted = text.rpartition("/")
    if not name and (built := current(images, text)):
        return built
    found = [one for one in builds(images) if one.id.startswith(wanted) and name in ("", one.name)]
    if len({one.id for one in found}) == 1:
        return found[0]
    many = "several images begin with" if found else "there is no image"
    raise ImageError(f"{many} '{text}'", "rackloom image list shows those there are")


def keep(folder: Path, images: Path, name: str, record: Mapping[str, Any]) -> Built:
    """Give a finished build its name: move it to images/NAME/ID and let `current` point at it.

    A build that is there already stays as it is. Both steps are renames, so nobody sees half of one.
    """
    target = images / name / str(record["id"])
    (folder / RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o644)
    folder.chmod(0o755)
    if not (target / RECORD).is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
    link = images / name / f".{CURRENT}"
    link.unlink(missing_ok=True)
    link.symlink_to(target.name)
    link.replace(images / name / CURRENT)
    return load(target)
