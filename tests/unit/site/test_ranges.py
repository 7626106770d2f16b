"""Ranges read and written as Slurm does."""

from __future__ import annotations

import random
import time

import pytest

from rackloom.site.ranges import RangeError, expand, fold, fold_sorted, split


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("login01", ["login01"]),
        ("gpu[001-003]", ["gpu001", "gpu002", "gpu003"]),
        ("gpu[1-3]", ["gpu1", "gpu2", "gpu3"]),
        ("gpu[08-11]", ["gpu08", "gpu09", "gpu10", "gpu11"]),
        ("gpu[8-11]", ["gpu8", "gpu9", "gpu10", "gpu11"]),
        ("gpu[1,3,5-6]", ["gpu1", "gpu3", "gpu5", "gpu6"]),
        ("r[1-2]n[01-02]", ["r1n01", "r1n02", "r2n01", "r2n02"]),
        ("n[1-2]-ib", ["n1-ib", "n2-ib"]),
        ("a,b[1-2], c", ["a", "b1", "b2", "c"]),
        ("10.10.1.[1-3]", ["10.10.1.1", "10.10.1.2", "10.10.1.3"]),
        ("gpu[099-101]", ["gpu099", "gpu100", "gpu101"]),
        ("gpu[99-101]", ["gpu99", "gpu100", "gpu101"]),
    ],
)
def test_expand(text: str, names: list[str]) -> None:
    assert expand(text) == names


@pytest.mark.parametrize(
    "text",
    ["", " ", "a,,b", "a,", "gpu[", "gpu]", "gpu[1-2", "gpu[[1-2]]", "gpu[]", "gpu[1-]", "gpu[-2]", "gpu[a-b]",
     "gpu[3-1]", "gpu[001-0002]", "gpu[100-99]", "gpu[1-9999999999]", "gpu[1-1000]x[1-1000]"],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(RangeError) as error:
        expand(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (["gpu001", "gpu002", "gpu003"], "gpu[001-003]"),
        (["gpu1", "gpu3"], "gpu[1,3]"),
        (["gpu9", "gpu10"], "gpu[9-10]"),
        (["gpu09", "gpu10"], "gpu[09-10]"),
        (["gpu1", "gpu02"], "gpu[1,02]"),
        (["r1n1", "r1n2", "r2n1"], "r1n[1-2],r2n1"),
        (["n2", "n1"], "n[2,1]"),
        (["a1", "b", "a2"], "a1,b,a2"),
        (["10.0.0.1", "10.0.0.2", "10.0.1.1"], "10.0.0.[1-2],10.0.1.1"),
        (["n1-ib", "n2-ib"], "n1-ib,n2-ib"),
    ],
)
def test_fold(names: list[str], text: str) -> None:
    assert fold(names) == text


def test_split_keeps_brackets_whole() -> None:
    assert split("a[1,2],b") == ["a[1,2]", "b"]


def test_fold_sorted() -> None:
    assert fold_sorted(["n10", "n9", "n9", "n1", "a"]) == "a,n[1,9-10]"


def test_expand_undoes_fold() -> None:
    source = random.Random(7)  # noqa: S311 - no secret, and the same names in each run
    prefixes = ["n", "gpu", "r1n", "r10c", "10.0.3.", "x-", ""]
    for _ in range(500):
        names = []
        for _ in range(source.randrange(1, 30)):
            start, width = source.randrange(0, 1200), source.randrange(1, 6)
            prefix = source.choice(prefixes)
            tail = source.choice(["", "", "", "-ib", "z"])
            names += [f"{prefix}{start + step:0{width}d}{tail}" for step in range(source.randrange(1, 8))]
        if source.random() < 0.5:
            source.shuffle(names)
        assert expand(fold(names)) == names


def test_folding_is_fast() -> None:
    names = [f"n{number:05d}" for number in range(50_000)]
    start = time.process_time()
    assert fold(names) == "n[00000-49999]"
    assert expand("n[00000-49999]") == names
    assert time.process_time() - start < 5
