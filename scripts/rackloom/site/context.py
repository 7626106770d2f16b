"""What the cross checks share: the two files with their lines, and what is known of the cluster so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .groups import LISTS, Group
from .mistakes import Mistakes, suggest
from .mistakes import Path as Where
from .models import ClusterFile, NodesFile
from .ranges import RangeError, expand
from .resolved import Node
from .source import Source


@dataclass(slots=True)
class Reporter:
    """Puts mistakes at places of one file."""

    source: Source
    mistakes: Mistakes

    def __call__(
        self, where: Where, value: object, message: str, cure: str, code: str, *, key: bool = False
    ) -> None:
        """Note a mistake at the line of the value at `where`, or with `key` at that of its key."""
        self.mistakes.add(self.source.file, self.source.line_of(where, key=key), value, message, cure, code)

    def line(self, where: Where) -> int:
        """Line of a value."""
        return self.source.line_of(where)


@dataclass(slots=True)
class Context:
    """cluster and nodes: reporters of the two files; broken_names: hosts of entries too broken to use."""

    config_dir: Path
    mistakes: Mistakes
    cluster: Reporter
    nodes: Reporter
    cluster_file: ClusterFile
    nodes_file: NodesFile
    definitions: dict[str, Group]
    hosts: dict[str, Node] = field(default_factory=dict)
    broken_names: set[str] = field(default_factory=set)
    groups: dict[str, list[str]] = field(default_factory=dict)

    def raw(self, reporter: Reporter, *where: str) -> Any:
        """What the file says at a place, checked or not; None where it says nothing."""
        value: Any = reporter.source.data
        for step in where:
            value = value.get(step) if isinstance(value, dict) else None
        return value

    def declared(self, reporter: Reporter, *where: str, key: str = "name") -> set[str]:
        """Names of a section's items, also of items with mistakes in them, lest one mistake makes others."""
        section = self.raw(reporter, *where)
        if isinstance(section, dict):
            return {str(name) for name in section}
        if isinstance(section, list):
            return {str(item[key]) for item in section if isinstance(item, dict) and key in item}
        return set()

    def knows_host(self, name: str) -> bool:
        """Whether nodes.yml has this name, if only in an entry with mistakes."""
        return name in self.hosts or name in self.broken_names

    def read_hosts(
        self, texts: Iterable[str], where: Where, what: str, *, words: dict[str, list[str]] | None = None
    ) -> list[str]:
        """Host names out of a list of names, ranges and group words in cluster.yml; reports what is not right."""
        found: list[str] = []
        written = self.raw_at(where)
        for index, text in enumerate(texts):
            here = (*where, index) if isinstance(written, list) else where
            if words is not None and text in words:
                found += words[text]
                continue
            try:
                names = expand(text)
            except RangeError as error:
                self.cluster(here, text, f"{error}.", "Write names or ranges like gpu[001-016].", "bad-range")
                continue
            unknown = [name for name in names if not self.knows_host(name)]
            if unknown:
                more = f" (and {len(unknown) - 1} more of {text})" if len(unknown) > 1 else ""
                message = f"{what} names {unknown[0]}{more}, which is no node in nodes.yml."
                cure = (
                    suggest(unknown[0], [*self.hosts, *(words or ())])
                    or "Add it to nodes.yml, or remove it here."
                )
                self.cluster(here, text, message, cure, "unknown-host")
            found += [name for name in names if name in self.hosts]
        return found

    def raw_at(self, where: Where) -> Any:
        """The written value at a path of cluster.yml."""
        value: Any = self.cluster.source.data
        for step in where:
            if isinstance(value, dict):
                value = value.get(str(step))
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        return value


def lists_of(hosts: dict[str, Node]) -> dict[str, list[str]]:
    """The three lists that make a cluster: role → names."""
    lists: dict[str, list[str]] = {name: [] for name in LISTS}
    for node in hosts.values():
        lists[node.role].append(node.name)
    return lists
