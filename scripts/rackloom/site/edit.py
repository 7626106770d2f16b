"""cluster.yml changed as a person would: only the words that are concerned, with all comments where they were.

A change is written whole or not at all: where the site would have mistakes with it, everything stays as it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import yaml

from .check import check_site
from .groups import LISTS
from .mistakes import Mistake
from .ranges import RangeError, expand, fold, fold_sorted
from .resolved import Site
from .yaml_text import (
    INDENT,
    EditError,
    YamlText,
    end_of,
    outside,
    quoted,
    replace_file,
    value_end,
    written,
)

FILE = "cluster.yml"
SLURM, KUBERNETES = "slurm", "kubernetes"
SERVES: Mapping[str, str] = {SLURM: "slurm_node", KUBERNETES: "kube_node"}
"""What a node can be moved to, and the group in which it then is."""
_PLACES = (("slurm", "partitions", "nodes"), ("slurm", "topology", "nodes"))
"""Lists of things that name nodes: section, list, key."""


class ClusterText(YamlText):
    """The text of cluster.yml."""

    file = FILE

    # ------------------------------------------------------------ looking

    def _lists(self) -> list[yaml.Node]:
        """Every value that names nodes."""
        services = self._at("services")
        found = [value for _, value in services[1].value] if services and services[1].value else []
        for section, items, key in _PLACES:
            pair = self._at(section, items)
            for item in pair[1].value if pair and isinstance(pair[1], yaml.SequenceNode) else ():
                named = self._pair(item, key)
                if named is not None:
                    found.append(named[1])
        return found

    def named(self, group: str) -> bool:
        """Whether the site says itself who is in a group."""
        return self._at("services", group) is not None

    # ------------------------------------------------------------ changing

    def leave(self, group: str, name: str, words: Mapping[str, Sequence[str]]) -> None:
        """Take a node out of `services: {group: …}`; `words` are the lists that a group may be made of."""
        while (pair := self._at("services", group)) and self._drop(pair, name, words):
            pass

    def join(self, group: str, name: str) -> None:
        """Add a node to `services: {group: …}`, which is made where it is not there. Raises EditError."""
        pair = self._at("services", group)
        if pair is None:
            self._add_group(group, name)
            return
        items = _items(pair[1])
        for item in reversed(items):
            folded = _folded_in(item.value, name)
            if folded:
                self._put(item, folded)
                return
        value = pair[1]
        if isinstance(value, yaml.ScalarNode) and written(value):
            self._cut(
                value.start_mark.index, value.end_mark.index, f"[{_kept(self.text, value)}, {quoted(name)}]"
            )
        elif items and getattr(value, "flow_style", False):
            end = items[-1].end_mark.index
            self._cut(end, end, f", {quoted(name)}")
        elif items:
            column = value.start_mark.column
            self._insert_line(items[-1].end_mark.index - 1, f"{' ' * column}- {quoted(name)}")
        else:
            self._cut(pair[0].end_mark.index, value_end(pair), f": [{quoted(name)}]")

    def forget(self, name: str) -> None:
        """Take a node out of everything that names it. Raises EditError."""
        services = self._at("services")
        for group in [key.value for key, _ in services[1].value] if services and services[1].value else []:
            while (pair := self._at("services", group)) and self._drop(pair, name, {}):
                pass
        for section, items, key in _PLACES:
            for index in range(self._count(section, items)):
                while (pair := self._inside(section, items, index, key)) and self._drop(pair, name, {}):
                    pass

    def rename(self, old: str, new: str) -> None:
        """Put another node in the place of one, wherever that is named. Raises EditError."""
        changed = old != new
        while changed:
            changed = False
            for value in self._lists():
                for item in _items(value):
                    names = _names(item.value)
                    if old in names:
                        self._put(item, fold([new if name == old else name for name in names]))
                        changed = True
                        break
                if changed:
                    break

    # ------------------------------------------------------------ the single cuts

    def _count(self, section: str, items: str) -> int:
        pair = self._at(section, items)
        return len(pair[1].value) if pair and isinstance(pair[1], yaml.SequenceNode) else 0

    def _inside(self, section: str, items: str, index: int, key: str) -> tuple[yaml.Node, yaml.Node] | None:
        pair = self._at(section, items)
        return self._pair(pair[1].value[index], key) if pair else None

    def _drop(self, pair: tuple[yaml.Node, yaml.Node], name: str, words: Mapping[str, Sequence[str]]) -> bool:
        """Take a name out of the first item that has it; whether there was one."""
        value = pair[1]
        items = _items(value)
        for index, item in enumerate(items):
            names = list(words[item.value]) if item.value in words else _names(item.value)
            if name not in names:
                continue
            rest = [each for each in names if each != name]
            if rest:
                self._put(item, fold(rest))
            elif len(items) == 1:
                end = value_end(pair) if value is item else end_of(value) + 1
                self._cut(pair[0].end_mark.index, end, ": []")
            elif getattr(value, "flow_style", False):
                self._drop_from_flow(items, index)
            else:
                start = self.text.rfind("\n", 0, item.start_mark.index) + 1
                stop = self.text.find("\n", item.end_mark.index)
                self._cut(start, len(self.text) if stop < 0 else stop + 1, "")
            return True
        return False

    def _drop_from_flow(self, items: list[yaml.ScalarNode], index: int) -> None:
        """One of several between brackets, with one comma."""
        if index + 1 < len(items):
            self._cut(items[index].start_mark.index, items[index + 1].start_mark.index, "")
        else:
            self._cut(items[index - 1].end_mark.index, items[index].end_mark.index, "")

    def _put(self, item: yaml.ScalarNode, text: str) -> None:
        """Another text in the place of an item, quoted as the old one was."""
        new = json.dumps(text) if item.style in ('"', "'") else quoted(text)
        self._cut(item.start_mark.index, item.end_mark.index, new)

    def _add_group(self, group: str, name: str) -> None:
        pair = self._at("services")
        text = f"[{quoted(name)}]"
        if pair is None:
            self._append(f"services:\n{INDENT}{group}: {text}")
        elif isinstance(pair[1], yaml.MappingNode) and pair[1].value:
            self._add_key(pair[1], group, text)
        else:
            self._cut(pair[0].end_mark.index, value_end(pair), f":\n{INDENT}{group}: {text}")


def _items(value: yaml.Node) -> list[yaml.ScalarNode]:
    """The names and ranges of a list, or the only one."""
    found = value.value if isinstance(value, yaml.SequenceNode) else [value]
    return [item for item in found if isinstance(item, yaml.ScalarNode) and item.value]


def _names(text: str) -> list[str]:
    try:
        return expand(text)
    except RangeError:
        return []


def _folded_in(text: str, name: str) -> str:
    """A range with one more name in it, where the two make one range; else ''."""
    names = _names(text)
    if not names or text in LISTS:
        return ""
    folded = fold_sorted([*names, name])
    return folded if len(outside(folded).split(",")) == len(outside(fold_sorted(names)).split(",")) else ""


def _kept(text: str, node: yaml.Node) -> str:
    """A scalar as it stands in the text, quoted where it has to be once it is in brackets."""
    written = text[node.start_mark.index : node.end_mark.index]
    return written if written[:1] in "\"'" else quoted(str(node.value))


# ---------------------------------------------------------------- a site's files


def read(config_dir: Path) -> ClusterText:
    """cluster.yml of a site. Raises EditError or OSError."""
    return ClusterText((config_dir / FILE).read_text(encoding="utf-8"))


def write(
    config_dir: Path, texts: Mapping[str, str], wanted: Callable[[Site], str] | None = None
) -> list[Mistake]:
    """Replace files of a site; if it has mistakes then, the old ones come back and the mistakes are returned.

    `wanted` looks at the new site and says what is not as it should be. Raises EditError with it.
    """
    old = {name: (config_dir / name).read_bytes() for name in texts}
    new = {name: text.encode("utf-8") for name, text in texts.items()}
    try:
        for name, content in new.items():
            if content != old[name]:
                replace_file(config_dir / name, content)
        checked = check_site(config_dir)
    except BaseException:
        _restore(config_dir, old)
        raise
    trouble = wanted(checked.site) if checked.site is not None and wanted is not None else ""
    if checked.mistakes or trouble:
        _restore(config_dir, old)
    if trouble:
        raise EditError(trouble, f"Write it into {FILE} by hand.")
    return checked.mistakes


def move(config_dir: Path, name: str, to: Literal["slurm", "kubernetes"]) -> list[Mistake]:
    """Let a node serve Slurm, or Kubernetes, from the next deploy on. Returns mistakes; then nothing was written.

    Raises EditError.
    """
    site = _site(config_dir, name)
    group = SERVES[to]
    others = [other for other in SERVES.values() if other != group]
    text = read(config_dir)
    for other in others:
        text.leave(other, name, {word: site.groups[word] for word in LISTS})
    if to == SLURM and not text.named(group):
        # Slurm's nodes are the compute nodes that are nothing else.
        if site.nodes[name].role != "compute":
            message = f"{name} is no compute node, and {FILE} does not say which others are Slurm's."
            raise EditError(message, f"Name all of them in `services: {{{group}: …}}`, then move it.")
    elif name not in site.groups[group]:
        text.join(group, name)

    def there(after: Site) -> str:
        wrong = [other for other in others if name in after.groups[other]]
        if name in after.groups[group] and not wrong:
            return ""
        return (
            f"{name} would be in {', '.join(wrong) or 'neither of the two'} then, and not in {group} alone."
        )

    return write(config_dir, {FILE: text.text}, there)


def remove(config_dir: Path, name: str, also: Mapping[str, str] | None = None) -> list[Mistake]:
    """Take a node out of everything in cluster.yml that names it; `also` are new texts of other files.

    Returns mistakes; then nothing was written. Raises EditError.
    """
    text = read(config_dir)
    text.forget(name)
    return write(config_dir, {FILE: text.text, **(also or {})})


def replace(config_dir: Path, old: str, new: str, also: Mapping[str, str] | None = None) -> list[Mistake]:
    """Put another node in the place of one; `also` are new texts of other files. As `remove`."""
    text = read(config_dir)
    text.rename(old, new)
    return write(config_dir, {FILE: text.text, **(also or {})})


def set_kubernetes_version(config_dir: Path, version: str) -> list[Mistake]:
    """Write the release of Kubernetes that the site shall have. As `move`."""
    text = read(config_dir)
    text.set_text(("kubernetes", "version"), version)
    return write(config_dir, {FILE: text.text})


def _site(config_dir: Path, name: str) -> Site:
    site = check_site(config_dir).site
    if site is None:
        raise EditError("The site has mistakes.", "Run `rackloom check`.")
    if name not in site.nodes:
        raise EditError(f"{name} is not in nodes.yml.", "Write it there first.")
    return site


def _restore(config_dir: Path, old: Mapping[str, bytes]) -> None:
    for name, content in old.items():
        if (config_dir / name).read_bytes() != content:
            replace_file(config_dir / name, content)
