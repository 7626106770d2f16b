"""Whatever is written, `check` answers with mistakes and never with a traceback."""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackloom.site import check_site
from rackloom.site.inventory import build

GOOD = Path(__file__).parent / "good"
ODD: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        10**30,
        1.5,
        "",
        " ",
        "a",
        "[",
        "]",
        "a[1-2]",
        "a[2-1]",
        ",",
        "all",
        "profile:",
    ),
    *(
        "profile:cpu",
        "10.10.0.1",
        "10.10.0.0/16",
        "::1",
        "fe80::1",
        "{{ x }}",
        "x" * 300,
        "é",
        "1-00:00:00",
        "*",
    ),
    *(
        [],
        ["a"],
        [[]],
        [None],
        [1],
        [{}],
        {},
        {"a": None},
        {"a": {"b": []}},
        {1: 2},
        "gres/gpu:x=1",
        "mgmt01",
    ),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def mutated(data: Any, path: tuple[Any, ...], odd: Any) -> Any:
    if not path:
        return odd
    result = copy.deepcopy(data)
    inner = result
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = odd
    return result


def good(file: str) -> Any:
    return yaml.load((GOOD / file).read_text("utf-8"), Loader=yaml.BaseLoader)  # noqa: S506


def every_mutation() -> list[tuple[str, tuple[Any, ...], Any]]:
    return [
        (file, path, odd)
        for file in ("cluster.yml", "nodes.yml")
        for path in places(good(file))
        for odd in ODD
    ]


@pytest.mark.parametrize("seed", range(4))
def test_odd_values(seed: int, tmp_path: Path) -> None:
    files = {file: good(file) for file in ("cluster.yml", "nodes.yml")}
    shutil.copy(GOOD / "versions.yml", tmp_path)
    for file, data in files.items():
        (tmp_path / file).write_text(yaml.safe_dump(data), "utf-8")
    assert check_site(tmp_path).mistakes == []
    for file, path, odd in random.Random(seed).sample(every_mutation(), 40):  # noqa: S311 - not for secrets
        (tmp_path / file).write_text(yaml.safe_dump(mutated(files[file], path, odd)), "utf-8")
        result = check_site(tmp_path)
        assert (result.site is None) == bool(result.mistakes)
        if result.site is not None:
            build(result.site)
        for mistake in result.mistakes:
            assert mistake.line > 0 and mistake.message.endswith("."), (file, path, odd, mistake)
        (tmp_path / file).write_text(yaml.safe_dump(files[file]), "utf-8")


def test_cut_off_files(tmp_path: Path) -> None:
    texts = {file: (GOOD / file).read_text("utf-8") for file in ("cluster.yml", "nodes.yml")}
    source = random.Random(3)  # noqa: S311 - not for secrets
    for _ in range(40):
        for file, text in texts.items():
            (tmp_path / file).write_text(text[: source.randrange(len(text))], "utf-8")
        check_site(tmp_path)
