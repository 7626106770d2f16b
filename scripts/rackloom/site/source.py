"""YAML files read with the line of every key and value kept.

libyaml composes the node tree; values are made here, because the usual YAML 1.1 rules would read the MAC
address ``52:54:00:00:00:01`` and the time ``12:00:00`` as numbers and ``off`` as false. Only ``true``/``false``,
decimal integers and null are more than text. Under the keys that hold what is handed on to other programs
as it is (HANDED_ON) the usual rules apply.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from .mistakes import Mistakes
from .mistakes import Path as Where

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"^-?(0|[1-9][0-9]{0,17})$")
_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_PREFIX = "tag:yaml.org,2002:"
HANDED_ON = {("", "vars"), ("", "values"), ("kubelet", "settings")}
"""Keys below which values are read as YAML usually is: the key above ("" = any), and the key itself."""
_PLAIN_TAGS = {
    _PREFIX + name for name in ("null", "bool", "int", "float", "timestamp", "str", "merge", "value")
}


@dataclass(slots=True)
class Source:
    """One file: `data` is the plain value (None where the file is unusable), `line_of` finds lines."""

    file: str
    data: dict[str, Any] | None = None
    root: yaml.Node | None = None
    _index: dict[int, dict[str, tuple[yaml.Node, yaml.Node]]] = field(default_factory=dict)

    def _pairs(self, node: yaml.Node) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        pairs = self._index.get(id(node))
        if pairs is None:
            pairs = _flat_pairs(node)
            self._index[id(node)] = pairs
        return pairs

    def line_of(self, where: Where, *, key: bool = False) -> int:
        """Line of the value at this path; with ``key`` the line of its key. As deep as the path can be followed."""
        node = self.root
        if node is None:
            return 0
        line = node.start_mark.line + 1
        for step in where:
            if isinstance(node, yaml.MappingNode):
                pair = self._pairs(node).get(str(step))
                if pair is None:
                    return line
                key_node, node = pair
                # A block mapping or list starts below its key; the key is where a person looks.
                block = isinstance(node, yaml.CollectionNode) and not node.flow_style
                line = (key_node if key or block else node).start_mark.line + 1
            elif (
                isinstance(node, yaml.SequenceNode) and isinstance(step, int) and 0 <= step < len(node.value)
            ):
                node = node.value[step]
                line = node.start_mark.line + 1
            else:
                return line
        return line


def _flat_pairs(
    node: yaml.Node, seen: frozenset[int] = frozenset()
) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """Key text → (key, value) of a mapping, with ``<<`` merged in; own keys win."""
    merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    if not isinstance(node, yaml.MappingNode) or id(node) in seen:
        return merged
    for key, value in node.value:
        if key.tag == _PREFIX + "merge":
            for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                for name, pair in _flat_pairs(part, seen | {id(node)}).items():
                    merged.setdefault(name, pair)
        elif isinstance(key, yaml.ScalarNode):
            own.setdefault(key.value, (key, value))
    merged.update(own)
    return merged


class _Builder:
    """Makes plain values from nodes and reports duplicate keys, odd keys and tags."""

    def __init__(self, file: str, mistakes: Mistakes) -> None:
        self.file = file
        self.mistakes = mistakes
        self.open: set[int] = set()

    def _say(self, node: yaml.Node, value: object, message: str, cure: str, code: str) -> None:
        self.mistakes.add(self.file, node.start_mark.line + 1, value, message, cure, code)

    def value(self, node: yaml.Node, classic: bool = False, under: str = "") -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, classic)
        if id(node) in self.open:
            self._say(node, "", "An anchor contains itself.", "Write the value out.", "yaml-syntax")
            return None
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                self._tag(node, "seq")
                return [self.value(item, classic) for item in node.value]
            return self._mapping(node, classic, under)
        finally:
            self.open.discard(id(node))

    def _tag(self, node: yaml.Node, usual: str) -> None:
        if node.tag != _PREFIX + usual:
            tag = str(node.tag).replace(_PREFIX, "!!")
            cure = "Remove it. Secrets belong into group_vars/ or host_vars/, not here."
            self._say(node, tag, f"The YAML tag {tag} is not used here.", cure, "yaml-tag")

    def _scalar(self, node: yaml.ScalarNode, classic: bool) -> Any:
        text: str = node.value
        if node.tag not in _PLAIN_TAGS:
            self._tag(node, "str")
            return text
        if node.style:  # quoted or a block; plain is None or "" by the loader
            return text
        if classic:
            return _classic(node)
        if _INT.match(text):
            return int(text)
        if text in _BOOLS:
            return _BOOLS[text]
        return None if text in _NULLS else text

    def _mapping(self, node: yaml.Node, classic: bool, under: str) -> dict[str, Any]:
        self._tag(node, "map")
        result: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merges: list[dict[str, Any]] = []
        for key, value in node.value:
            if key.tag == _PREFIX + "merge":
                for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(part, yaml.MappingNode):
                        merges.append(self.value(part, classic, under))
                    else:
                        self._say(part, "<<", "Only a mapping can be merged with <<.", "", "yaml-syntax")
                continue
            if not isinstance(key, yaml.ScalarNode):
                self._say(
                    key,
                    "",
                    "A key must be a plain word.",
                    "Quote it if it starts with { or [.",
                    "yaml-syntax",
                )
                continue
            name = key.value
            if name in lines:
                message = f'The key "{name}" is written twice; the first is in line {lines[name]}.'
                self._say(key, name, message, "Keep one of them.", "duplicate-key")
                continue
            lines[name] = key.start_mark.line + 1
            usual = classic or not HANDED_ON.isdisjoint({("", name), (under, name)})
            result[name] = self.value(value, usual, name)
        for merged in merges:
            for name, content in merged.items():
                result.setdefault(name, content)
        return result


@cache
def _constructor() -> Any:
    return yaml.constructor.SafeConstructor()


def _classic(node: yaml.ScalarNode) -> Any:
    """YAML 1.1 as Ansible reads it; a date stays the text it was."""
    if node.tag == _PREFIX + "timestamp":
        return node.value
    try:
        return _constructor().construct_object(node)
    except (yaml.YAMLError, ValueError):
        return node.value


def _text(path: Path, file: str, mistakes: Mistakes) -> str | None:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        cure = "Run `rackloom init` to start from the example, or create it."
        mistakes.add(file, 0, str(path), f"There is no file {file} in {path.parent}.", cure, "missing-file")
        return None
    except IsADirectoryError:
        mistakes.add(
            file, 0, str(path), f"{file} is a folder, not a file.", "Replace it by a file.", "unreadable"
        )
        return None
    except OSError as error:
        cure = "Check its owner and mode."
        mistakes.add(file, 0, str(path), f"{file} cannot be read: {error.strerror}.", cure, "unreadable")
        return None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"{file} is not UTF-8: byte {raw[error.start]:#04x} cannot be read."
        mistakes.add(file, line, "", message, "Save the file as UTF-8.", "not-utf8")
        return None


def _indent_tabs(text: str) -> int:
    """Line of the first tab used to indent, 0 if none."""
    for number, line in enumerate(text.split("\n"), 1):
        indent = line[: len(line) - len(line.lstrip())]
        if "\t" in indent and line.strip() and not line.lstrip().startswith("#"):
            return number
    return 0


_SIMPLER = (
    (
        "mapping values are not allowed",
        "A colon makes this look like a second key.",
        "Quote the value, or check the indentation.",
    ),
    ("could not find expected ':'", "A key without a colon.", "Write `key: value`."),
    (
        "did not find expected '-'",
        "The indentation of this list does not fit.",
        "Align it with the lines above.",
    ),
    (
        "did not find expected key",
        "The indentation does not fit, or a quote or bracket is open.",
        "Align the line with those above.",
    ),
    (
        "did not find expected ',' or '}'",
        "A { is never closed, or a comma is missing.",
        "Write {key: value, key: value}.",
    ),
    ("did not find expected ',' or ']'", "A [ is never closed, or a comma is missing.", "Write [a, b]."),
    ("found unexpected end of stream", "A quote is never closed.", "Close it."),
    (
        "found undefined alias",
        "An alias (*name) without an anchor (&name).",
        "Quote the value if the * is part of it.",
    ),
    (
        "another document",
        "A second document starts here.",
        "Keep one document a file; remove the second ---.",
    ),
    ("cannot start any token", "A value starts with a character that YAML reserves.", "Quote the value."),
)


_QUOTED = re.compile(r"""(?:^|[\s\[{,:-])("(?:[^"\\]|\\.)*$|'(?:[^']|'')*$)""")


def _open_quote(lines: list[str]) -> int:
    """Line of a value whose quote does not end in it. YAML itself only stumbles at the next quote, far below."""
    for number, line in enumerate(lines, 1):
        plain = re.sub(r"""(?<![^\s\[{,:-])("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')""", "", line)
        if not plain.lstrip().startswith("#") and _QUOTED.search(plain.split(" #")[0]):
            return number
    return 0


def _yaml_mistake(file: str, error: yaml.YAMLError, text: str, mistakes: Mistakes) -> None:
    if isinstance(error, yaml.MarkedYAMLError):
        problem = error.problem or "cannot be read"
        mark = error.problem_mark or error.context_mark
        # An open bracket or quote is noticed at the end of the file; where it was opened is what helps.
        opened = error.context_mark
        late = "flow" in (error.context or "") or "quoted" in (error.context or "")
        if opened is not None and late:
            mark = opened
        line = mark.line + 1 if mark is not None else 1
        lines = text.split("\n")
        if opened_at := _open_quote(lines[:line]):
            value = lines[opened_at - 1].strip()
            message = "The quote that opens here is not closed in its line."
            mistakes.add(file, opened_at, value, message, "Close it.", "yaml-syntax")
            return
        value = lines[line - 1].strip() if line <= len(lines) else ""
        for known, message, cure in _SIMPLER:
            if known in problem:
                mistakes.add(file, line, value, f"{message[:-1]} (YAML: {problem}).", cure, "yaml-syntax")
                return
        mistakes.add(
            file,
            line,
            value,
            f"This is not valid YAML: {problem}.",
            "Check quotes and indentation.",
            "yaml-syntax",
        )
        return
    position = getattr(error, "position", 0) or 0
    line = text.count("\n", 0, position) + 1
    message = "A control character that YAML does not allow."
    mistakes.add(file, line, "", message, "Remove it.", "yaml-syntax")


def read(path: Path, file: str, mistakes: Mistakes) -> Source:
    """Read one configuration file. All that is wrong with its text goes to `mistakes`; never raises."""
    source = Source(file)
    text = _text(path, file, mistakes)
    if text is None:
        return source
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        # Looked for only now: in a block of literal text a tab is no mistake.
        if line := _indent_tabs(text):
            value = text.split("\n")[line - 1].strip()
            mistakes.add(
                file, line, value, "A tab is used to indent.", "YAML wants spaces; replace the tab.", "tab"
            )
        else:
            _yaml_mistake(file, error, text, mistakes)
        return source
    if root is None or (isinstance(root, yaml.ScalarNode) and root.value in _NULLS and not root.style):
        cure = "Run `rackloom init` elsewhere and compare, or fill it in."
        mistakes.add(file, 1, "", f"{file} is empty.", cure, "empty-file")
        return source
    if not isinstance(root, yaml.MappingNode):
        message = f"{file} must hold `key: value` lines at its top level."
        mistakes.add(file, root.start_mark.line + 1, "", message, "See config.example.", "not-mapping")
        return source
    source.root = root
    source.data = _Builder(file, mistakes).value(root)
    return source
