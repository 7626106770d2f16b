"""Role reference from meta/argument_specs.yml."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rackloom.docs_gen.markdown import code, page, paragraphs, prose, table
from rackloom.docs_gen.tree import role_spec, roles


def _rows(options: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    for name, option in options.items():
        kind = option.get("type", "str")
        if kind == "list" and "elements" in option:
            kind = f"list of {option['elements']}"
        words = prose(option.get("description"))
        if option.get("choices"):
            words += " One of " + ", ".join(code(choice) for choice in option["choices"]) + "."
        default = "**required**" if option.get("required") else code(option.get("default"))
        yield f"`{prefix}{name}`", kind, default, words
        if option.get("options"):
            yield from _rows(option["options"], f"{prefix}{name}{'.' if kind == 'dict' else '[].'}")


def pages() -> dict[str, str]:
    """One page a role, and a list of them all."""
    found: dict[str, str] = {}
    index = []
    for role in roles():
        spec = role_spec(role)
        index.append((f"[{role}](roles/{role}.md)", prose(spec.get("short_description"))))
        found[f"roles/{role}.md"] = page(
            f"Role {role}",
            prose(spec.get("short_description")),
            paragraphs(spec.get("description")),
            table(("Input", "Type", "Default", "Meaning"), _rows(spec.get("options", {})))
            or "It takes no input.",
        )
    found["roles.md"] = page(
        "Roles",
        "Each role does one component. It knows nothing of groups and playbooks: it takes what it "
        "needs as input. The inventory plugin fills most inputs from `cluster.yml` and `nodes.yml`; a "
        "value set in the site's `group_vars` or `host_vars` wins over it.",
        table(("Role", "What it does"), index),
    )
    return found
