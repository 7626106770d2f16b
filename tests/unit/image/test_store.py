"""Builds on disk, and what two of them differ in."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rackloom.image import diff, store, tree
from rackloom.image.errors import ImageError
from rackloom.image.store import Built


def keep(images: Path, name: str, content: str, entries: dict[str, Any] | None = None, **more: Any) -> Built:
    folder = images / ".new"
    folder.mkdir(parents=True)
    for file in tree.FILES:
        (folder / file).write_text(content + file)
    owners = {"usr/bin/tool": "tool"}
    (folder / tree.CONTENTS).write_bytes(
        gzip.compress(json.dumps({"entries": entries or {}, "owners": owners}).encode(), mtime=0)
    )
    files = store.file_records(folder)
    record: dict[str, Any] = {"name": name, "id": store.identify(files), "os": "debian-12", "kernel": "6"}
    record |= {"files": files, "packages": {}}
    return store.keep(folder, images, name, {**record, **more})


def test_the_id_is_what_the_tools_say(tmp_path: Path) -> None:
    built = keep(tmp_path, "compute", "1")
    line = "sha256sum initrd root.squashfs vmlinuz | sha256sum | cut -c1-16"
    said = subprocess.run(
        ["sh", "-c", line], cwd=built.folder, capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == built.id == built.folder.name


def test_the_newest_build_is_current(tmp_path: Path) -> None:
    first = keep(tmp_path, "compute", "1")
    second = keep(tmp_path, "compute", "2")
    current = store.current(tmp_path, "compute")
    assert current is not None and current.id == second.id
    assert {one.id for one in store.builds(tmp_path)} == {first.id, second.id}
    again = keep(tmp_path / "elsewhere", "compute", "1")
    assert again.id == first.id


def test_builds_are_found_by_name_id_and_beginning(tmp_path: Path) -> None:
    first, second = keep(tmp_path, "compute", "1"), keep(tmp_path, "compute", "2")
    assert store.find(tmp_path, "compute").id == second.id
    assert store.find(tmp_path, first.id[:6]).id == first.id
    assert store.find(tmp_path, f"compute/{first.id}").id == first.id
    assert store.find(tmp_path, str(first.folder)).id == first.id
    for nothing in ("login", "login/" + first.id, "zzzz"):
        with pytest.raises(ImageError, match="there is no image"):
            store.find(tmp_path, nothing)
    with pytest.raises(ImageError, match="several"):
        store.find(tmp_path, "compute/")


def test_a_difference_tells_its_reason(tmp_path: Path) -> None:
    old = {
        "usr/bin/tool": ["file", 0o755, "0:0", "aa"],
        "etc/cache": ["file", 0o644, "0:0", "aa"],
        "etc/same": ["file", 0o644, "0:0", "aa"],
        "etc/mode": ["file", 0o644, "0:0", "aa"],
    }
    new = {
        "usr/bin/tool": ["file", 0o755, "0:0", "bb"],
        "etc/cache": ["file", 0o644, "0:0", "bb"],
        "etc/same": ["file", 0o644, "0:0", "aa"],
        "etc/mode": ["file", 0o600, "0:0", "aa"],
        "etc/new": ["file", 0o644, "0:0", "aa"],
    }
    first = keep(tmp_path, "c", "1", old, packages={"tool": "1", "base": "7"})
    second = keep(tmp_path, "c", "2", new, packages={"tool": "2", "base": "7"})
    found = diff.compare(first, second)
    assert not found.same and found.packages == {"tool": ("1", "2")}
    told = {file.path: (file.kind, file.why) for file in found.files}
    assert told["usr/bin/tool"] == ("changed", "package tool: 1 → 2")
    assert "packages were set up" in told["etc/cache"][1]
    assert told["etc/mode"][1] == "mode or owner: 644 0:0 → 600 0:0"
    assert told["etc/new"][0] == "added"
    assert "etc/same" not in told
    assert diff.compare(first, first).same


def test_a_folder_without_an_image_says_so(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="holds no image"):
        store.load(tmp_path)
