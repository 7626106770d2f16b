"""The site's files, changed as a lifecycle command needs it: first rehearsed on a copy, then for good."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rackloom.hardware.nodes_file import PARTS, PER_NODE
from rackloom.lifecycle.plan_nodes import OWN, To
from rackloom.result import Problem

if TYPE_CHECKING:
    from rackloom.site import Site

EDITED = ("cluster.yml", "nodes.yml")
Change = Callable[[Path], Sequence[Any]]
"""Changes the files of a folder; gives the mistakes that they would have had, and then changed nothing."""


def rehearse(config_dir: Path, change: Change) -> tuple[Problem, ...]:
    """What would be wrong with the site afterwards. Nothing is written."""
    with tempfile.TemporaryDirectory(prefix="rackloom-rehearsal-") as name:
        folder = Path(name)
        for path in config_dir.iterdir():
            if path.name in EDITED:
                shutil.copy2(path, folder / path.name)
            else:
                (folder / path.name).symlink_to(path.absolute())
        return apply(folder, change, shown=config_dir)


def apply(config_dir: Path, change: Change, *, shown: Path | None = None) -> tuple[Problem, ...]:
    """Change the files. What is wrong is told, and then nothing was written."""
    from rackloom.run.preflight import mistakes_as_problems  # noqa: PLC0415 - slow to load

    try:
        return mistakes_as_problems(shown or config_dir, change(config_dir))
    except ValueError as error:
        cure = str(getattr(error, "cure", "")) or "change the file by hand"
        return (Problem("not_written", str(error), cure),)


def nothing(_folder: Path) -> Sequence[Any]:
    """The change that is none."""
    return ()


# --- Changes -------------------------------------------------------------------------------


def release(wanted: str) -> Change:
    """kubernetes.version in cluster.yml."""

    def change(folder: Path) -> Sequence[Any]:
        from rackloom.site import edit  # noqa: PLC0415 - slow to load

        return edit.set_kubernetes_version(folder, wanted)

    return change


def moved(name: str, to: To) -> Change:
    """A node serves Slurm or Kubernetes from now on."""

    def change(folder: Path) -> Sequence[Any]:
        from rackloom.site import edit  # noqa: PLC0415

        return edit.move(folder, name, to)

    return change


def values_of(site: Site) -> dict[str, dict[str, str]]:
    """What each node's address, mac and the like came out as."""
    return {name: {key: str(getattr(node, key)) for key in PER_NODE} for name, node in site.nodes.items()}


def removal(site: Site, names: Sequence[str], stay: Iterable[str], by: str = "") -> Change:
    """
    Nodes leave, in one step: the lists of services, and nodes.yml unless they stay there for other services.

    With `by`, that one gets the place of the first.
    """
    keep = set(stay)
    listed = [name for name in names if name in site.nodes]
    words = {part: site.groups[part] for part in PARTS}

    def change(folder: Path) -> Sequence[Any]:
        from rackloom.hardware import nodes_file  # noqa: PLC0415
        from rackloom.site import edit  # noqa: PLC0415

        cluster, nodes = edit.read(folder), nodes_file.read(folder)
        for name in listed:
            if by and name not in keep:
                cluster.rename(name, by)
            elif name not in keep:
                cluster.forget(name)
            for group in OWN if name in keep else ():
                if by and name in site.groups.get(group, ()) and cluster.named(group):
                    cluster.join(group, by)
                cluster.leave(group, name, words)
            if name not in keep:
                nodes.remove_node(name, values_of(site))
        return edit.write(folder, {edit.FILE: cluster.text, nodes_file.FILE: nodes.text})

    return change
