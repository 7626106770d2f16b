"""nodes.yml changed as a person would: only the words that are concerned, with all comments where they were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from rackloom.site.ranges import RangeError, expand, fold
from rackloom.site.yaml_text import INDENT, EditError, YamlText, end_of, outside, quoted, value_end

if TYPE_CHECKING:
    from rackloom.site.mistakes import Mistake

FILE = "nodes.yml"
PARTS = ("management", "login", "compute")
PER_NODE = ("address", "mac", "bmc", "serial", "switch_port")
"""Keys of an entry that may have a value for each of its nodes."""


class NodesText(YamlText):
    """The text of nodes.yml."""

    file = FILE

    # ------------------------------------------------------------ looking

    def _entry(self, name: str) -> tuple[yaml.MappingNode, list[str]]:
        """The entry that holds a node, and all names of that entry."""
        for part in PARTS:
            pair = self._pair(self.root, part)
            items = pair[1].value if pair and isinstance(pair[1], yaml.SequenceNode) else []
            for item in items:
                if not isinstance(item, yaml.MappingNode):
                    continue
                found = self._pair(item, "name")
                if found is None or not isinstance(found[1], yaml.ScalarNode):
                    continue
                try:
                    names = expand(found[1].value)
                except RangeError:
                    continue
                if name in names:
                    return item, names
        raise EditError(f"{name} is not in {FILE}.", "Add it there.")

    # ------------------------------------------------------------ changing

    def remove_node(self, name: str, values: Mapping[str, Mapping[str, str]]) -> None:
        """
        Take a node out: its entry, or its part of a range. Raises EditError.

        `values` has, for each node of the same entry, what address, mac and the like came out as: what counts up along
        a range has to be written out once a node in the middle is gone.
        """
        entry, names = self._entry(name)
        rest = [each for each in names if each != name]
        if not rest:
            self._drop(entry)
            return
        for key in PER_NODE:
            pair = self._pair(self._entry(name)[0], key)
            if pair is not None:
                self._without(name, key, pair[1], [values.get(each, {}).get(key, "") for each in rest])
        pair = self._pair(self._entry(name)[0], "name")
        if pair is not None:
            self._cut(pair[1].start_mark.index, pair[1].end_mark.index, json.dumps(fold(rest)))

    def _without(self, name: str, key: str, node: yaml.Node, rest: list[str]) -> None:
        """One value of an entry, for the nodes that stay."""
        if isinstance(node, yaml.MappingNode):
            pair = self._pair(node, name)
            if pair is not None and len(node.value) == 1:
                self._cut(node.start_mark.index, end_of(node) + 1, '""')
            elif pair is not None and node.flow_style:
                self._drop_from_flow(node, pair[0], pair[1])
            elif pair is not None:
                self._drop_lines(pair[0].start_mark.index, end_of(pair[1]))
            return
        if isinstance(node, yaml.SequenceNode) and not node.flow_style:
            line = node.start_mark.line + 1
            message = f"{key} in line {line} of {FILE} is written in a way that cannot be edited."
            raise EditError(message, f"Take {name} out of {FILE} by hand.")
        if node.end_mark.index == node.start_mark.index or not any(rest):
            return
        folded = fold(rest)
        text = json.dumps(folded)
        if "," in outside(folded):
            text = f"[{', '.join(quoted(one) for one in rest)}]"
        self._cut(node.start_mark.index, node.end_mark.index, text)

    def _drop(self, entry: yaml.MappingNode) -> None:
        """A whole entry of its list."""
        for part in PARTS:
            pair = self._pair(self.root, part)
            items = pair[1].value if pair and isinstance(pair[1], yaml.SequenceNode) else []
            if pair is None or entry not in items:
                continue
            if len(items) == 1:
                end = end_of(pair[1]) + 1
                self._cut(pair[0].end_mark.index, end, ": []")
            elif getattr(pair[1], "flow_style", False):
                self._drop_from_flow(pair[1], entry, entry)
            else:
                self._drop_lines(entry.start_mark.index, end_of(entry))
            return

    def _drop_from_flow(self, whole: yaml.Node, first: yaml.Node, last: yaml.Node) -> None:
        """An item within brackets, with its comma."""
        start, end = first.start_mark.index, last.end_mark.index
        after = self.text[end : whole.end_mark.index]
        if after.lstrip().startswith(","):
            end += len(after) - len(after.lstrip()) + 1
            end += len(self.text[end:]) - len(self.text[end:].lstrip(" "))
        else:
            start = len(self.text[:start].rstrip().removesuffix(","))
        self._cut(start, end, "")

    def _drop_lines(self, first: int, last: int) -> None:
        """The lines from position `first` to position `last`."""
        start = self.text.rfind("\n", 0, first) + 1
        stop = self.text.find("\n", last)
        self._cut(start, len(self.text) if stop < 0 else stop + 1, "")

    def put(self, name: str, key: str, value: str) -> None:
        """Write one node's mac, serial or bmc into its entry. Raises EditError."""
        entry, names = self._entry(name)
        pair = self._pair(entry, key)
        text = quoted(value) if len(names) == 1 else f"{{{name}: {quoted(value)}}}"
        if pair is None:
            self._add_key(entry, key, text)
        elif isinstance(pair[1], yaml.MappingNode):
            self._put_into_map(name, value, pair[1])
        elif isinstance(pair[1], yaml.ScalarNode) and (len(names) == 1 or not pair[1].value):
            if pair[1].end_mark.index > pair[1].start_mark.index:
                self._cut(pair[1].start_mark.index, pair[1].end_mark.index, text)
            else:
                self._cut(pair[0].end_mark.index, value_end((pair[0], pair[1])), f": {text}")
        else:
            self._put_into_list(name, key, value, pair[1], names)

    def _put_into_map(self, name: str, value: str, node: yaml.MappingNode) -> None:
        pair = self._pair(node, name)
        if pair is None:
            self._add_key(node, name, quoted(value))
        else:
            self._cut(pair[1].start_mark.index, pair[1].end_mark.index, quoted(value))

    def _put_into_list(self, name: str, key: str, value: str, node: yaml.Node, names: list[str]) -> None:
        """One of a row: its item is replaced, or the whole row written out where it is a range."""
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        texts = [str(item.value) for item in items if isinstance(item, yaml.ScalarNode)]
        number = names.index(name)
        if len(texts) == len(items) == len(names) and not any("[" in text for text in texts):
            self._cut(items[number].start_mark.index, items[number].end_mark.index, quoted(value))
            return
        try:
            row = [one for text in texts for one in (expand(text) if "[" in text else [text])]
        except RangeError:
            row = []
        flow = isinstance(node, yaml.ScalarNode) or bool(getattr(node, "flow_style", False))
        if len(row) != len(names) or not flow:
            line = node.start_mark.line + 1
            message = f"{key} of {name} is written in line {line} of {FILE} in a way that cannot be edited."
            raise EditError(message, f"Write `{key}: {{{name}: {quoted(value)}, …}}` there.")
        row[number] = value
        self._cut(node.start_mark.index, node.end_mark.index, f"[{', '.join(quoted(one) for one in row)}]")

    def add_profile(self, name: str, text: str) -> None:
        """A further hardware profile, at the end of `profiles`."""
        pair = self._pair(self.root, "profiles")
        if pair is None:
            first = self.root.value[0][0].start_mark.index
            self._cut(first, first, f"profiles:\n{INDENT}{name}: {text}\n\n")
        elif isinstance(pair[1], yaml.MappingNode) and pair[1].value:
            self._add_key(pair[1], name, text)
        else:
            self._cut(pair[0].end_mark.index, value_end(pair), f":\n{INDENT}{name}: {text}")

    def add_node(self, part: str, fields: Mapping[str, str]) -> None:
        """A further entry at the end of management, login or compute."""
        text = "{" + ", ".join(f"{key}: {quoted(value)}" for key, value in fields.items() if value) + "}"
        pair = self._pair(self.root, part)
        if pair is None:
            end = self.text if self.text.endswith("\n") else self.text + "\n"
            self.text = f"{end}\n{part}:\n{INDENT}- {text}\n"
            self._compose()
        elif isinstance(pair[1], yaml.SequenceNode) and pair[1].value and pair[1].flow_style:
            last = pair[1].value[-1].end_mark.index
            self._cut(last, last, f", {text}")
        elif isinstance(pair[1], yaml.SequenceNode) and pair[1].value:
            column = pair[1].start_mark.column
            self._insert_line(end_of(pair[1]), f"{' ' * column}- {text}")
        else:
            self._cut(pair[0].end_mark.index, value_end(pair), f":\n{INDENT}- {text}")


def read(config_dir: Path) -> NodesText:
    """nodes.yml of a site. Raises EditError or OSError."""
    return NodesText((config_dir / FILE).read_text(encoding="utf-8"))


def write(config_dir: Path, text: str) -> list[Mistake]:
    """Replace nodes.yml in one step; if the site has mistakes then, the old file comes back and they are returned."""
    from rackloom.site import edit  # noqa: PLC0415 - slow to load

    return edit.write(config_dir, {FILE: text})
