"""Host ranges, written and read the way Slurm does.

``gpu[001-003,007]`` is four names, ``r[1-2]n[01-04]`` eight, and ``a,b[1-2]`` three. `fold` goes the other
way and keeps the order, so that a folded list of names and a folded list of addresses still match one to one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import product

MAX_HOSTS = 100_000
"""More names than this from one expression is a slip of the pen (``[1-10000000]``), not a cluster."""

_TAIL = re.compile(r"^(.*?)([0-9]+)$", re.DOTALL)
_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_STEP = re.compile(r"^([0-9]+)(?:-([0-9]+))?$")


class RangeError(ValueError):
    """A range that cannot be read; the text is one sentence for people."""


def split(text: str) -> list[str]:
    """Cut at the commas outside brackets: ``a[1,2],b`` gives ``["a[1,2]", "b"]``. Raises RangeError."""
    parts: list[str] = []
    depth, start = 0, 0
    for position, char in enumerate(text):
        if char == "[":
            depth += 1
            if depth > 1:
                raise RangeError(f"{text!r} has a bracket inside a bracket")
        elif char == "]":
            depth -= 1
            if depth < 0:
                raise RangeError(f"{text!r} closes a bracket that was never opened")
        elif char == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    if depth:
        raise RangeError(f"{text!r} opens a bracket and never closes it")
    parts.append(text[start:])
    cleaned = [part.strip() for part in parts]
    if not all(cleaned):
        raise RangeError(
            f"{text!r} has an empty place between commas" if text.strip() else "the range is empty"
        )
    return cleaned


def _numbers(body: str, whole: str) -> list[str]:
    """The numbers of one bracket's inside, zero-padded as its first number is."""
    found: list[str] = []
    for step in body.split(","):
        match = _STEP.match(step.strip())
        if match is None:
            raise RangeError(
                f"{whole!r}: {step.strip()!r} is neither a number nor a range of numbers like 01-16"
            )
        first, last = match.group(1), match.group(2)
        if last is None:
            found.append(first)
            continue
        low, high = int(first), int(last)
        if high < low:
            raise RangeError(f"{whole!r} counts down from {first} to {last}")
        if len(last) != len(first) and (last.startswith("0") or len(last) < len(first)):
            raise RangeError(f"{whole!r}: {first} and {last} are padded to different widths")
        if high - low >= MAX_HOSTS:
            raise RangeError(f"{whole!r} makes more than {MAX_HOSTS} names")
        width = len(first)
        found.extend(f"{number:0{width}d}" for number in range(low, high + 1))
    return found


def _expand_one(part: str) -> list[str]:
    if "[" not in part:
        return [part]
    texts: list[str] = []
    choices: list[list[str]] = []
    end = 0
    total = 1
    for match in _BRACKET.finditer(part):
        texts.append(part[end : match.start()])
        numbers = _numbers(match.group(1), part)
        total *= len(numbers)
        if total > MAX_HOSTS:
            raise RangeError(f"{part!r} makes more than {MAX_HOSTS} names")
        choices.append(numbers)
        end = match.end()
    rest = part[end:]
    if len(choices) == 1:
        head = texts[0]
        return [f"{head}{number}{rest}" for number in choices[0]]
    return [
        "".join(text + number for text, number in zip(texts, combination, strict=True)) + rest
        for combination in product(*choices)
    ]


def expand(ranges: str | Iterable[str]) -> list[str]:
    """All names of one expression, or of several, in the order written. Doubles are kept. Raises RangeError."""
    names: list[str] = []
    for text in [ranges] if isinstance(ranges, str) else ranges:
        for part in split(text):
            names.extend(_expand_one(part))
            if len(names) > MAX_HOSTS:
                raise RangeError(f"{text!r} makes more than {MAX_HOSTS} names")
    return names


def _fold_numbers(numbers: Sequence[str]) -> str:
    steps: list[str] = []
    index, size = 0, len(numbers)
    while index < size:
        first = last = numbers[index]
        value, width = int(first), len(first)
        index += 1
        # The same rule as in expand: a range is padded to the width of its first number.
        while index < size and numbers[index] == f"{value + 1:0{width}d}":
            value += 1
            last = numbers[index]
            index += 1
        steps.append(first if first is last else f"{first}-{last}")
    return ",".join(steps)


def fold(names: Iterable[str]) -> str:
    """The shortest Slurm expression with one bracket a part, in the order given; ``expand`` undoes it.

    Only a number at the end of a name is folded: Slurm accepts no other place for it. Works for IPv4
    addresses as well (``10.10.1.[1-128]``).
    """
    parts: list[str] = []
    prefix: str | None = None
    numbers: list[str] = []

    def flush() -> None:
        if prefix is None or not numbers:
            return
        parts.append(prefix + (numbers[0] if len(numbers) == 1 else f"[{_fold_numbers(numbers)}]"))

    for name in names:
        match = _TAIL.match(name)
        if match is None:
            flush()
            prefix, numbers = None, []
            parts.append(name)
            continue
        head, number = match.group(1), match.group(2)
        if head != prefix:
            flush()
            prefix, numbers = head, []
        numbers.append(number)
    flush()
    return ",".join(parts)


def natural_key(name: str) -> tuple[tuple[int, str | int], ...]:
    """Sort key under which ``gpu2`` comes before ``gpu10``."""
    pieces = re.split(r"([0-9]+)", name)
    return tuple((1, int(piece)) if index % 2 else (0, piece) for index, piece in enumerate(pieces))


def fold_sorted(names: Iterable[str]) -> str:
    """`fold` of the names sorted and without doubles: what people want to read."""
    return fold(sorted(set(names), key=natural_key))
