"""Host keys of nodes that run from memory: each start makes new ones, and the node tells them to the boot server."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from rackloom.provision.reach import Reach
from rackloom.provision.watch import PATH
from rackloom.site.provision_vars import node_mode
from rackloom.site.resolved import Node, Site

_PATIENCE = 20.0
# One line a node: its folder's name, which is its MAC with hyphens, and what it reported when it was up.
_TELL = (
    f"cd {PATH}/http/nodes && for said in */armed/booted.json; do "
    '[ -f "$said" ] && printf \'%s \' "${said%%/*}" && tr -d \'\\n\' <"$said" && echo; done; true'
)


def learn(site: Site) -> list[str]:
    """Bring known_hosts up to date for the nodes that run from memory; returns the names of those that changed.

    Asks the boot server, once, and only where a site has such nodes. A boot server that cannot be asked changes
    nothing: what is known stays, and SSH says itself what it misses.
    """
    nodes = {node.mac.replace(":", "-"): node for node in _in_memory(site)}
    servers = site.group("provisioner")
    if not nodes or not servers:
        return []
    reach = Reach.of(site)
    try:
        done = subprocess.run(
            reach.command_on(servers[0], "sh", "-c", _TELL if _here(servers[0]) else shlex.quote(_TELL)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = told(done.stdout, nodes)
    known = reach.known_hosts.read_text(encoding="utf-8") if reach.known_hosts.exists() else ""
    news = {name: keys for name, keys in found.items() if not _all_known(known, reach, name, keys)}
    reach.record(news)
    return sorted(name for name, _ in news)


def told(lines: str, nodes: Mapping[str, Node]) -> dict[tuple[str, str], Sequence[str]]:
    """Read what the boot server answers: (name, address) -> public keys. What is no report of ours is left out."""
    found: dict[tuple[str, str], Sequence[str]] = {}
    for line in lines.splitlines():
        folder, _, text = line.partition(" ")
        try:
            keys = json.loads(text)["host_keys"]
        except (ValueError, TypeError, KeyError):
            continue
        node = nodes.get(folder.lower())
        if node is not None and isinstance(keys, list) and keys and all(isinstance(key, str) for key in keys):
            found[node.name, node.address] = keys
    return found


def _in_memory(site: Site) -> list[Node]:
    images = site.cluster.provision.images
    return [
        node
        for node in site.nodes.values()
        if node.mac and (image := images.get(node.image)) is not None and node_mode(image) == "memory"
    ]


def _here(node: Node) -> bool:
    return node.vars.get("ansible_connection") == "local"


def _all_known(known: str, reach: Reach, pair: tuple[str, str], keys: Sequence[str]) -> bool:
    wanted = {f"{reach.label(*pair)} {' '.join(key.split()[:2])}" for key in keys}
    return wanted <= set(known.splitlines())
