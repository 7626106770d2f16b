"""From a site to its BMCs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rackloom.site.mistakes import suggest
from rackloom.site.ranges import RangeError, expand, natural_key
from rackloom.site.resolved import Site

from .bmc import BmcError, BmcTarget

EVERY_NODE = "all"


class UnknownNodeError(ValueError):
    """A name that is neither a node nor a group. `cure` says what to do."""

    def __init__(self, message: str, cure: str) -> None:
        super().__init__(message)
        self.cure = cure


def select(site: Site, words: Iterable[str]) -> list[str]:
    """Node names out of names, ranges, groups and `all`, each once. Raises UnknownNodeError."""
    found: dict[str, None] = {}
    for word in words:
        if word == EVERY_NODE:
            found |= dict.fromkeys(site.nodes)
        elif word in site.groups:
            found |= dict.fromkeys(site.groups[word])
        else:
            try:
                names = expand(word)
            except RangeError as error:
                raise UnknownNodeError(f"{error}.", "Write names or ranges like gpu[001-016].") from None
            unknown = [name for name in names if name not in site.nodes]
            if unknown:
                cure = suggest(unknown[0], [*site.nodes, *site.groups]) or "See nodes.yml."
                raise UnknownNodeError(f"not in nodes.yml: {', '.join(unknown[:8])}", cure)
            found |= dict.fromkeys(names)
    return sorted(found, key=natural_key)


def targets(site: Site, secrets: Mapping[str, str], names: Iterable[str]) -> list[BmcTarget]:
    """One target a node. A node without a BMC is among them: `connect` says so in its turn.

    Raises BmcError if the site has not told user and password.
    """
    bmc = site.cluster.provision.bmc
    missing = [name for name in ("bmc_user", "bmc_password") if not secrets.get(name)]
    if missing and bmc.protocol != "none":
        cure = "Run: " + " and ".join(f"rackloom secrets set {name}" for name in missing)
        raise BmcError("", "The user and password of the BMCs are not known.", cure)
    result = []
    for name in names:
        node = site.nodes[name]
        profile = site.profiles.get(node.profile)
        url = node.bmc if "://" in node.bmc else ""
        result.append(
            BmcTarget(
                node=name,
                address="" if url else node.bmc,
                url=url,
                protocol=bmc.protocol,
                port=bmc.port,
                user=secrets.get("bmc_user", ""),
                password=secrets.get("bmc_password", ""),
                verify=bmc.verify,
                ca_file=str(site.config_dir / bmc.ca_file) if bmc.ca_file else "",
                firmware=profile.firmware if profile else "uefi",
            )
        )
    return result
