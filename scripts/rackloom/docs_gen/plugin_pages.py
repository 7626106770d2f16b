"""Plugin reference from the DOCUMENTATION and EXAMPLES strings in plugins/."""

from __future__ import annotations

from typing import Any

import yaml

from rackloom.docs_gen.markdown import code, page, paragraphs, prose, table
from rackloom.docs_gen.tree import ROOT, constant

KINDS = {
    "modules": "Module",
    "filter": "Filter",
    "inventory": "Inventory plugin",
    "lookup": "Lookup",
    "test": "Test",
    "callback": "Callback",
}


def _rows(options: dict[str, Any], prefix: str = "") -> list[tuple[str, str, str, str]]:
    rows = []
    for name, option in options.items():
        kind = option.get("type", "str")
        default = "**required**" if option.get("required") else code(option.get("default"))
        rows.append((f"`{prefix}{name}`", kind, default, prose(option.get("description"))))
        rows += _rows(option.get("suboptions", {}), f"{prefix}{name}{'[]' if kind == 'list' else ''}.")
    return rows


def pages() -> dict[str, str]:
    """One page for all plugins: there are few."""
    blocks = []
    for folder, kind in KINDS.items():
        for path in sorted((ROOT / "plugins" / folder).glob("*.py")):
            text = constant(path, "DOCUMENTATION")
            if not text:
                continue
            spec = yaml.safe_load(text)
            examples = constant(path, "EXAMPLES").strip().removeprefix("---").strip()
            blocks += [
                f"## {kind} rackloom.cluster.{path.stem}",
                prose(spec.get("short_description")),
                paragraphs(spec.get("description")),
                table(("Option", "Type", "Default", "Meaning"), _rows(spec.get("options", {}))),
                f"```yaml\n{examples}\n```" if examples else "",
            ]
    return {"plugins.md": page("Plugins", "Plugins of the collection `rackloom.cluster`.", *blocks)}
