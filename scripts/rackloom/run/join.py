"""Which hosts a run must touch when nodes join: the nodes, those whose files list all nodes, those who let them in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class NotANodeError(ValueError):
    """A name that is not in nodes.yml. `cure` says what to do."""

    cure = "write the node into nodes.yml first"


def limit_for(config_dir: Path, names: Sequence[str]) -> str | None:
    """The --limit for `names` (ranges allowed); None when the site has mistakes, which the run itself will tell.

    Raises NotANodeError.
    """
    from rackloom.site.check import check_site  # noqa: PLC0415 - slow to load
    from rackloom.site.groups import groups  # noqa: PLC0415
    from rackloom.site.ranges import expand  # noqa: PLC0415

    site = check_site(config_dir).site
    if site is None:
        return None
    wanted = expand(names)
    if unknown := [name for name in wanted if name not in site.nodes]:
        raise NotANodeError(f"not in nodes.yml: {', '.join(unknown)}")
    known = groups()
    taking_part = {name for name, group in known.items() if group.service and group.sees_nodes}
    for name, group in known.items():
        if not set(wanted).isdisjoint(site.groups.get(name, [])):
            taking_part |= set(group.joins_with)
    return ",".join([*wanted, *(name for name in known if name in taking_part and site.groups.get(name))])
