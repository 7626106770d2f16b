"""YAML read with lines, and without the surprises of YAML 1.1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rackloom.site.mistakes import Mistakes, show, suggest
from rackloom.site.source import Source, read


def load(tmp_path: Path, text: str) -> Source:
    path = tmp_path / "x.yml"
    path.write_text(text, "utf-8")
    mistakes = Mistakes()
    source = read(path, "x.yml", mistakes)
    assert mistakes.found == []
    return source


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("52:54:00:00:00:01", "52:54:00:00:00:01"),
        ("12:00:00", "12:00:00"),
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("017", "017"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("42", 42),
        ("-1", -1),
        ('"42"', "42"),
        ("'true'", "true"),
        ("1.5", "1.5"),
        ("2026-01-02", "2026-01-02"),
        ("~", None),
        ("", None),
        ('""', ""),
    ],
)
def test_scalars(tmp_path: Path, text: str, value: Any) -> None:
    data = load(tmp_path, f"key: {text}\n").data
    assert data == {"key": value}
    assert type(data["key"]) is type(value)


def test_host_vars_are_read_as_ansible_does(tmp_path: Path) -> None:
    data = load(tmp_path, "vars: {a: yes, b: 1.5, c: 0644, d: [off], e: 2026-01-02}\n").data
    assert data == {"vars": {"a": True, "b": 1.5, "c": 420, "d": [False], "e": "2026-01-02"}}


def test_lines(tmp_path: Path) -> None:
    source = load(tmp_path, "---\n# c\na:\n  - x: 1\n    y: 2\n  - {x: 3,\n     y: 4}\nb: {c: [1,\n  2]}\n")
    assert source.line_of(()) == 3
    assert source.line_of(("a",)) == 3
    assert source.line_of(("a", 0, "y")) == 5
    assert source.line_of(("a", 1)) == 6
    assert source.line_of(("a", 1, "y")) == 7
    assert source.line_of(("b", "c", 1)) == 9
    assert source.line_of(("b", "nothing", "there")) == 8


def test_tabs_in_literal_text_are_fine(tmp_path: Path) -> None:
    assert load(tmp_path, "a: |\n  b:\n  \tc\n").data == {"a": "b:\n\tc\n"}


def test_byte_order_mark_is_fine(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeffa: 1\n").data == {"a": 1}


def test_suggestions() -> None:
    assert suggest("adress", ["address", "name"]) == 'Did you mean "address"?'
    assert suggest("maxtime", ["max_time", "nodes"]) == 'Did you mean "max_time"?'
    assert suggest("zzz", ["b", "a"]) == "Known: a, b."
    assert suggest("zzz", []) == ""


def test_shown_values_are_short() -> None:
    assert show(list(range(100))) == "[0, 1, 2, 3, 4, 5, …]"
    assert len(show("x" * 500)) <= 80
