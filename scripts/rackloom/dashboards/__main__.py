"""python -m rackloom.dashboards [--check] [FOLDER]: write the dashboards, or say which files are stale."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import DASHBOARDS
from .grafana import names, render

FOLDER = Path(__file__).parents[3] / "roles" / "grafana" / "files" / "dashboards"


def stale(folder: Path) -> list[str]:
    """Files that are not what they should be, and those that should not be."""
    wanted = {name: render(dashboard) for name, dashboard in names(DASHBOARDS).items()}
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def write(folder: Path) -> None:
    """Make the folder hold the dashboards and no others."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        path.unlink()
    for name, dashboard in names(DASHBOARDS).items():
        (folder / name).write_text(render(dashboard), encoding="utf-8")


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(
        prog="python -m rackloom.dashboards", description=(__doc__ or "").strip()
    )
    parser.add_argument("--check", action="store_true", help="only say what is stale")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    told = parser.parse_args()
    mistakes = [mistake for dashboard in DASHBOARDS for mistake in dashboard.mistakes()]
    if told.check:
        mistakes += [f"{name}: stale; run python -m rackloom.dashboards" for name in stale(told.folder)]
    elif not mistakes:
        write(told.folder)
    for mistake in mistakes:
        sys.stderr.write(f"{mistake}\n")
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
