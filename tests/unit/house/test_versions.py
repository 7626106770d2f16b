"""inventory/versions.yml holds whole records only."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rackloom.docs_gen.tree import ROOT, load

VERSIONS: dict[str, dict[str, Any]] = load(ROOT / "inventory" / "versions.yml")
SHA256 = re.compile(r"[0-9a-f]{64}")


def test_sections() -> None:
    assert set(VERSIONS) == {"files", "images", "charts"}


@pytest.mark.parametrize("name", VERSIONS["files"])
def test_file(name: str) -> None:
    record = VERSIONS["files"][name]
    assert set(record) == {"version", "url", "sha256"}
    assert isinstance(record["version"], str)
    assert record["url"].startswith("https://")
    assert set(re.findall(r"{(\w+)}", record["url"])) <= {"version", "arch"}
    assert record["version"] not in record["url"], "write {version} in the url"
    assert set(record["sha256"]) <= {"amd64", "arm64"}
    assert "amd64" in record["sha256"]
    assert all(not value or SHA256.fullmatch(value) for value in record["sha256"].values())
    digests = set(record["sha256"].values())
    if digests == {""}:
        return  # nobody has looked it up; `rackloom bundle pin` does
    # What holds no program is the same for all of them.
    assert len(digests) == (len(record["sha256"]) if "{arch}" in record["url"] else 1), name


def test_images() -> None:
    for name, record in VERSIONS["images"].items():
        assert set(record) == {"tag", "digest"}, name
        assert record["tag"] != "latest", name
        assert re.fullmatch(r"(sha256:[0-9a-f]{64})?", record["digest"]), name


def test_charts() -> None:
    for name, record in VERSIONS["charts"].items():
        assert set(record) == {"version", "url", "sha256"}, name
        assert not record["sha256"] or SHA256.fullmatch(record["sha256"]), name


def test_a_further_release_stands_beside_a_plain_record() -> None:
    for section, records in VERSIONS.items():
        for name in records:
            base, at, release = name.partition("@")
            assert base in records, f"{section}: {name}"
            assert not at or release, name


def test_names_are_sorted() -> None:
    for section, records in VERSIONS.items():
        assert list(records) == sorted(records), section
