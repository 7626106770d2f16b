"""YAML files changed as a person would: only the words that are concerned, with all comments where they were.

YAML's own marks say where each key and value stands in the text; edits are cuts of that text.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

INDENT = "  "


class EditError(ValueError):
    """The file is written in a way that a program had better not touch. `cure` says what to write by hand."""

    def __init__(self, message: str, cure: str) -> None:
        super().__init__(message)
        self.cure = cure


class YamlText:
    """The text of one file. Each change is made at once, so that the next one meets the file as it would be."""

    file = ""
    """Its name, for messages."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._compose()

    def _compose(self) -> None:
        root = yaml.compose(self.text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            raise EditError(f"{self.file} holds no `key: value` lines.", "Run `rackloom check`.")
        self.root = root

    def _cut(self, start: int, end: int, new: str) -> None:
        self.text = self.text[:start] + new + self.text[end:]
        self._compose()

    # ------------------------------------------------------------ looking

    @staticmethod
    def _pair(node: yaml.Node, key: str) -> tuple[yaml.Node, yaml.Node] | None:
        for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(name, yaml.ScalarNode) and name.value == key:
                return name, value
        return None

    def _at(self, *keys: str) -> tuple[yaml.Node, yaml.Node] | None:
        """Key and value at a path of keys."""
        node: yaml.Node = self.root
        pair = None
        for key in keys:
            pair = self._pair(node, key)
            if pair is None:
                return None
            node = pair[1]
        return pair

    # ------------------------------------------------------------ changing

    def set_text(self, keys: Sequence[str], value: str) -> None:
        """Write one value at a path of keys, the last of which may be new. Raises EditError."""
        pair = self._at(*keys)
        if pair is not None and isinstance(pair[1], yaml.ScalarNode):
            if written(pair[1]):
                self._cut(pair[1].start_mark.index, pair[1].end_mark.index, quoted(value))
            else:
                self._cut(pair[0].end_mark.index, value_end(pair), f": {quoted(value)}")
            return
        if pair is not None:
            line = pair[0].start_mark.line + 1
            raise EditError(f"{'.'.join(keys)} in line {line} of {self.file} is no text.", "Mend it by hand.")
        above = self._at(*keys[:-1])
        if above is not None and isinstance(above[1], yaml.MappingNode) and above[1].value:
            self._add_key(above[1], keys[-1], quoted(value), first=True)
        elif above is not None:
            self._cut(above[0].end_mark.index, value_end(above), f":\n{INDENT}{keys[-1]}: {quoted(value)}")
        else:
            self._append(f"{keys[0]}:\n{INDENT}{keys[-1]}: {quoted(value)}")

    def set_yaml(self, section: str, key: str, value: str) -> None:
        """Write a value, which is YAML of one line, under a key of a section, in the place of what is there."""
        pair = self._at(section, key)
        above = self._at(section)
        if pair is not None:
            start = pair[1].start_mark.index if written(pair[1]) else 0
            block = getattr(pair[1], "flow_style", True) is False
            end = end_of(pair[1]) + 1 if written(pair[1]) else value_end(pair)
            if start and not block:
                self._cut(start, end, value)
            else:
                self._cut(pair[0].end_mark.index, end, f": {value}")
        elif above is None:
            self._append(f"{section}:\n{INDENT}{key}: {value}")
        elif isinstance(above[1], yaml.MappingNode) and above[1].value:
            self._add_key(above[1], key, value)
        else:
            self._cut(above[0].end_mark.index, value_end(above), f":\n{INDENT}{key}: {value}")

    def _add_key(self, node: yaml.MappingNode, key: str, text: str, *, first: bool = False) -> None:
        """A further key behind the last one of a mapping, or before the first."""
        if node.flow_style:
            if first:
                start = node.value[0][0].start_mark.index
                self._cut(start, start, f"{key}: {text}, ")
                return
            body = self.text[: node.end_mark.index - 1].rstrip()  # without the closing brace
            comma = "" if not node.value or body.endswith(",") else ","
            self._cut(len(body), len(body), f"{comma}{' ' if node.value else ''}{key}: {text}")
            return
        begin, last = node.value[0][0], node.value[-1][1]
        column = begin.start_mark.column
        if first:
            start = begin.start_mark.index
            self._cut(start, start, f"{key}: {text}\n{' ' * column}")
        else:
            self._insert_line(end_of(last), f"{' ' * column}{key}: {text}")

    def _append(self, lines: str) -> None:
        end = "" if self.text.endswith("\n") else "\n"
        self._cut(len(self.text), len(self.text), f"{end}\n{lines}\n")

    def _insert_line(self, after: int, line: str) -> None:
        """A new line behind the one in which position `after` is."""
        stop = self.text.find("\n", after)
        if stop < 0:
            self._cut(len(self.text), len(self.text), f"\n{line}\n")
        else:
            self._cut(stop, stop, f"\n{line}")


def outside(text: str) -> str:
    """A range's text without what stands in brackets."""
    found, depth = "", 0
    for char in text:
        depth += (char == "[") - (char == "]")
        found += char if depth == 0 else ""
    return found


def quoted(value: str) -> str:
    """A value as YAML that stays text in brackets and outside of them."""
    plain = value[:1].isascii() and value[:1].isalpha() and all(one.isalnum() or one in "_-" for one in value)
    # a release or an address
    numbers = value.count(".") in {2, 3} and value.replace(".", "").isdigit()
    words = {"true", "false", "yes", "no", "on", "off", "null", "none", "y", "n"}
    return (
        value if (plain or numbers) and value.lower() not in words else json.dumps(value, ensure_ascii=False)
    )


def written(node: yaml.Node) -> bool:
    """Whether there is a value at all."""
    return bool(node.end_mark.index > node.start_mark.index)


def value_end(pair: tuple[yaml.Node, yaml.Node]) -> int:
    """End of a value; of the colon where nothing follows."""
    key, value = pair
    return int(value.end_mark.index) if written(value) else int(key.end_mark.index) + 1


def end_of(node: yaml.Node) -> int:
    """Where the last word of a node ends. A block collection's own mark lies behind the comments below it."""
    if isinstance(node, yaml.ScalarNode) or (isinstance(node, yaml.CollectionNode) and node.flow_style):
        return max(int(node.end_mark.index) - 1, int(node.start_mark.index))
    if isinstance(node, yaml.MappingNode) and node.value:
        return end_of(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and node.value:
        return end_of(node.value[-1])
    return int(node.start_mark.index)


def replace_file(path: Path, content: bytes, mode: int | None = None) -> None:
    """Put other content into a file in one step; its mode stays, or is this one from the first byte on."""
    mode = path.stat().st_mode & 0o7777 if mode is None else mode
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
