"""What one bundle has that another has not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rackloom.bundle.items import Item, read_lock

_Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Change:
    """One thing that differs: `old` or `new` version is empty where it is not there."""

    what: str
    """added, removed or changed."""
    kind: str
    name: str
    os: str
    arch: str
    old: str
    new: str


@dataclass(frozen=True)
class Difference:
    """All of them, and how much the newer bundle brings that the older one has not."""

    changes: tuple[Change, ...]
    new_files: int
    new_size: int
    gone_files: int
    gone_size: int


def diff(older: Path, newer: Path) -> Difference:
    """Compare two bundles by their locks. Raises BundleError where one is not finished."""
    before, after = read_lock(older), read_lock(newer)
    old, new = _versions(before), _versions(after)
    changes = []
    for key in sorted(old.keys() | new.keys()):
        mine, other = old.get(key, {}), new.get(key, {})
        if mine == other:
            continue
        what = "added" if not mine else "removed" if not other else "changed"
        was, now = (
            ", ".join(sorted(set(each) - set(rest)) or sorted(each))
            for each, rest in ((mine, other), (other, mine))
        )
        if what == "changed" and was == now:
            now = f"{now} (other content)".strip()
        changes.append(Change(what, *key, was, now))
    added, gone = _only(after, before), _only(before, after)
    return Difference(tuple(changes), len(added), sum(added.values()), len(gone), sum(gone.values()))


def _versions(items: Sequence[Item]) -> dict[_Key, dict[str, frozenset[str]]]:
    """What there is, by kind and name, each with its versions and their digests. Parts of an image count as one."""
    found: dict[_Key, dict[str, set[str]]] = {}
    for item in items:
        if item.kind not in ("index", "sbom", "tool"):
            versions = found.setdefault((item.kind, item.name, item.os, item.arch), {})
            versions.setdefault(item.version, set()).add(item.sha256)
    return {
        key: {version: frozenset(digests) for version, digests in versions.items()}
        for key, versions in found.items()
    }


def _only(these: Sequence[Item], those: Sequence[Item]) -> dict[str, int]:
    known = {item.sha256 for item in those}
    return {item.sha256: item.size for item in these if item.sha256 not in known}
