"""The bundles of a site: of each, its lock and what has to be signed anew, in `bundles/` beside cluster.yml.

The content itself is on the mirror's host. `bundles/current` leads to the record of the bundle that is served; a site
that has one is a closed site unless it says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = "bundles"
CURRENT = "current"
LOCK = "bundle.lock"
SOURCE = "source"


@dataclass(frozen=True, slots=True)
class Installed:
    """A bundle that was installed."""

    id: str
    record: Path
    """Folder with the bundle's lock."""

    @property
    def source(self) -> str:
        """Where the bundle itself was when it was installed; '' where nobody knows."""
        try:
            return (self.record / SOURCE).read_text(encoding="utf-8").strip()
        except OSError:
            return ""


def installed(config_dir: Path | str) -> list[Installed]:
    """All bundles of a site, oldest first."""
    folder = Path(config_dir) / FOLDER
    found = [path.parent for path in folder.glob(f"*/{LOCK}") if path.parent.name != CURRENT]
    found.sort(key=lambda path: ((path / LOCK).stat().st_mtime_ns, path.name))
    return [Installed(path.name, path) for path in found]


def current(config_dir: Path | str) -> Installed | None:
    """The bundle that the site's mirror serves; None where none was installed."""
    link = Path(config_dir) / FOLDER / CURRENT
    if not (link / LOCK).is_file():
        return None
    record = link.resolve()
    return Installed(record.name, record)
