"""Every wrong configuration is refused, with its file, line and code, and nothing else is complained about."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackloom.site import check_site

HERE = Path(__file__).parent
MARK = " # <- here"
FILES = ("cluster", "nodes")
CASES: list[dict[str, Any]] = [
    case
    for file in sorted((HERE / "wrong").glob("*.yml"))
    for case in yaml.safe_load(file.read_text("utf-8"))
]


def write_case(case: dict[str, Any], folder: Path) -> tuple[str, int]:
    """Write the two patched files; returns the file and line where the mistake is expected."""
    expected = ("", -1)
    shutil.copy(HERE / "good" / "versions.yml", folder)
    for name in FILES:
        file = f"{name}.yml"
        text = case.get("whole", {}).get(name)
        if text is None:
            text = (HERE / "good" / file).read_text("utf-8")
        for old, new in case.get(name, {}).items():
            assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
            text = text.replace(old, new)
        lines = text.split("\n")
        for number, line in enumerate(lines, 1):
            if line.endswith(MARK):
                expected = (file, number)
                lines[number - 1] = line.removesuffix(MARK)
            part = case.get("line_in", {}).get(name)
            if part is not None and part in line:
                expected = (file, number)
        if "line" in case and (name in case or name in case.get("whole", {})):
            expected = (file, case["line"])
        (folder / file).write_text("\n".join(lines), "utf-8")
    return expected


def test_there_are_enough() -> None:
    names = [case["case"] for case in CASES]
    assert len(names) == len(set(names))
    assert len(names) >= 45


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_refused(case: dict[str, Any], tmp_path: Path) -> None:
    file, line = write_case(case, tmp_path)
    result = check_site(tmp_path)
    listing = "\n".join(f"{mistake} [{mistake.code}]" for mistake in result.mistakes)
    assert result.site is None
    hits = [m for m in result.mistakes if (m.file, m.line, m.code) == (file, line, case["code"])]
    assert hits, f"expected {case['code']} at {file}:{line}, found:\n{listing}"
    assert Counter(m.code for m in result.mistakes) == Counter([case["code"], *case.get("also", [])]), listing
    for hit in hits:
        assert hit.message.endswith("."), hit
        assert hit.cure, hit
        assert "\n" not in str(hit)
    if "says" in case:
        assert any(case["says"] in str(hit) for hit in hits), listing
