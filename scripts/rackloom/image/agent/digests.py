"""Is the image that was loaded the one that was meant? Asked before anything is done with it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .trouble import TroubleError

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = "root.squashfs"
_MEDIUM = Path("/run/live/medium")
_CURE = (
    "publish the image again (deploy the boot server); if it comes back, test the node's memory and network"
)
_CHUNK = 1 << 20


def check_record(record: Mapping[str, Any], image_id: str) -> None:
    """See that image.json lists the files that make the id which this node was given.

    Raises TroubleError where it does not.
    """
    try:
        digests = {str(name): str(file["sha256"]) for name, file in record["files"].items()}
    except (KeyError, TypeError, AttributeError):
        digests = {}
    text = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    if hashlib.sha256(text.encode()).hexdigest()[: len(image_id)] != image_id or ROOT not in digests:
        raise TroubleError(f"image.json does not belong to image {image_id}", _CURE)


def expected(record: Mapping[str, Any], name: str) -> str:
    """The digest that image.json gives for a file."""
    return str(record["files"][name]["sha256"])


def check_file(path: Path, record: Mapping[str, Any], name: str) -> None:
    """See that a file is the image's `name`. Raises TroubleError where it is not."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for piece in iter(lambda: stream.read(_CHUNK), b""):
            digest.update(piece)
    check_digest(digest.hexdigest(), record, name)


def check_digest(found: str, record: Mapping[str, Any], name: str) -> None:
    """Compare one digest. Raises TroubleError where it differs."""
    wanted = expected(record, name)
    if found != wanted:
        raise TroubleError(f"digest mismatch: {name} is {found[:16]}… and should be {wanted[:16]}…", _CURE)


def root_file(medium: Path = _MEDIUM) -> Path:
    """Where live-boot put the root file system. Raises TroubleError when it is not in memory."""
    for path in sorted(medium.glob("**/*.squashfs")):
        return path
    raise TroubleError(
        "the image's root file system is not in memory", "boot the node from the network again"
    )
