"""Which files two builds differ in, and why: another version of a package, or something that the build made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rackloom.image.recipe import AGENT, own_paths
from rackloom.image.store import Built
from rackloom.image.tree import CONTENTS, read_contents

_KEYS = ("os", "arch", "kernel", "roles", "kernel_options")


@dataclass(frozen=True)
class Difference:
    """One file that is not the same in both."""

    path: str
    kind: str
    """added, removed or changed, from the first build to the second."""
    why: str


@dataclass(frozen=True)
class Comparison:
    """Two builds side by side."""

    same: bool
    inputs: Mapping[str, tuple[str, str]]
    """What was asked for differently: key -> first, second."""
    packages: Mapping[str, tuple[str, str]]
    """Package -> version in the first and in the second; '' where it is not there."""
    files: tuple[Difference, ...]


def compare(first: Built, second: Built) -> Comparison:
    """Compare two builds. Raises ImageError where the list of a build's files is missing."""
    inputs = {
        key: (str(first.record.get(key, "")), str(second.record.get(key, "")))
        for key in _KEYS
        if first.record.get(key) != second.record.get(key)
    }
    packages = _changed(first.record["packages"], second.record["packages"])
    if first.id == second.id:
        return Comparison(True, inputs, packages, ())
    old, old_owners = read_contents(first.folder / CONTENTS)
    new, new_owners = read_contents(second.folder / CONTENTS)
    owners = {**old_owners, **new_owners}
    found = []
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) == new.get(path):
            continue
        kind = "added" if path not in old else "removed" if path not in new else "changed"
        found.append(
            Difference(path, kind, _why(path, owners.get(path, ""), packages, (old.get(path), new.get(path))))
        )
    for name, file in first.record["files"].items():
        if name in ("initrd", "vmlinuz") and file["sha256"] != second.record["files"][name]["sha256"]:
            found.append(Difference(name, "changed", _why_boot(name, first, second, bool(packages))))
    return Comparison(False, inputs, packages, tuple(found))


def _changed(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    names = sorted(old.keys() | new.keys())
    return {name: (old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name)}


def _why(
    path: str,
    owner: str,
    packages: Mapping[str, tuple[str, str]],
    entries: tuple[list[str | int] | None, list[str | int] | None],
) -> str:
    if path.startswith(AGENT) or path in own_paths():
        return "Rackloom's own: another version of Rackloom, or another spec"
    if owner in packages:
        old, new = packages[owner]
        return f"package {owner}: {old or 'not there'} → {new or 'not there'}"
    if path.startswith("var/lib/dpkg/"):
        return "the list of packages" if packages else "written by dpkg"
    old_entry, new_entry = entries
    if old_entry and new_entry and old_entry[0] == new_entry[0] and old_entry[3] == new_entry[3]:
        return f"mode or owner: {old_entry[1]:o} {old_entry[2]} → {new_entry[1]:o} {new_entry[2]}"
    if packages:
        return "made when packages were set up, of which some differ"
    return (
        f"made when {owner} was set up" if owner else "made when packages were set up: not the same each time"
    )


def _why_boot(name: str, first: Built, second: Built, packages: bool) -> str:
    if first.record["kernel"] != second.record["kernel"]:
        return f"kernel {first.record['kernel']} → {second.record['kernel']}"
    return "made of packages that differ" if packages and name == "initrd" else f"{name} was made differently"
