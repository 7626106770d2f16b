"""Group and version reference from inventory/groups.yml and inventory/versions.yml."""

from __future__ import annotations

from typing import Any

from rackloom.docs_gen.markdown import page, table
from rackloom.docs_gen.tree import ROOT, load


def _members(group: dict[str, Any]) -> str:
    if group.get("list"):
        return "as listed in `nodes.yml`"
    if group.get("children"):
        return "the hosts of " + ", ".join(f"`{name}`" for name in group["children"])
    named = {None: "nobody", "none": "nobody", "first_management": "the first management node"}
    members = group.get("members")
    words = named.get(members, f"all {members} nodes")
    rules = (
        [f"not those of {', '.join(f'`{name}`' for name in group['except'])}"] if group.get("except") else []
    )
    rules += [f"at most {group['max']}"] if group.get("max") else []
    rules += ["an odd number"] if group.get("odd") else []
    rules += (
        [f"needs {', '.join(f'`{name}`' for name in group['requires'])}"] if group.get("requires") else []
    )
    return words + (f" ({'; '.join(rules)})" if rules else "")


def _versions() -> str:
    data = load(ROOT / "inventory" / "versions.yml") or {}
    rows = [
        (name, record["version"], ", ".join(record.get("sha256", {})) or "")
        for name, record in sorted(data.get("files", {}).items())
    ]
    images = [
        (name, record["tag"], record["digest"] or "looked up by `rackloom bundle pin`")
        for name, record in sorted((data.get("images") or {}).items())
    ]
    charts = [(name, record["version"]) for name, record in sorted((data.get("charts") or {}).items())]
    return page(
        "Versions",
        "What may be fetched from outside, from `inventory/versions.yml`. Each file is pinned by its "
        "sha256 for each architecture; images and charts by a digest, which a site looks up where there "
        "is none. Programs that come as packages of "
        "the distribution are not listed: the distribution decides on them.",
        "## Files" if rows else "",
        table(("File", "Version", "Architectures"), rows),
        "## Images" if images else "",
        table(("Image", "Tag", "Digest"), images),
        "## Charts" if charts else "",
        table(("Chart", "Version"), charts),
    )


def pages() -> dict[str, str]:
    """The groups page and the versions page."""
    groups = load(ROOT / "inventory" / "groups.yml")["groups"]
    rows = [(f"`{name}`", each.get("description", ""), _members(each)) for name, each in groups.items()]
    text = page(
        "Service groups",
        "A site lists three kinds of nodes: `management`, `login`, `compute`. Every service group "
        "follows from them. Each group exists, also when it is empty. A service is on when its group "
        "has hosts. Name a group under `services:` in `cluster.yml` to choose its hosts, or give it "
        "`[]` to switch it off. Groups of services that no stage sets up yet are names for later: "
        "their hosts get nothing.",
        table(("Group", "What its hosts do", "Members unless you say otherwise"), rows),
    )
    return {"groups.md": text, "versions.md": _versions()}
