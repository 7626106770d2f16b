"""Config reference from the JSON schema of the typed models."""

from __future__ import annotations

from typing import Any

from rackloom.docs_gen.markdown import code, page, prose, table

Schema = dict[str, Any]
_PLAIN = {"string": "text", "integer": "whole number", "boolean": "true or false"}


def _model_name(schema: Schema) -> str:
    return str(schema["$ref"]).rsplit("/", 1)[-1] if "$ref" in schema else ""


def _kind(schema: Schema, defs: Schema) -> str:
    """Type of a value in a few words, naming the models that it holds."""
    if name := _model_name(schema):
        target = defs[name]
        if target.get("type") == "object" and "properties" in target:
            return f"[{name}](#{name.lower()})"
        return _kind(target, defs)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            words = [_kind(part, defs) for part in schema[key] if part.get("type") != "null"]
            return " or ".join(dict.fromkeys(words))
    if "enum" in schema:
        return "one of " + ", ".join(code(value) for value in schema["enum"])
    if "const" in schema:
        return code(schema["const"])
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(_PLAIN.get(str(each), str(each)) for each in kind)
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}), defs)}"
    if kind == "object":
        values = schema.get("additionalProperties") or next(
            iter(schema.get("patternProperties", {}).values()), None
        )
        return f"map of name to {_kind(values, defs)}" if isinstance(values, dict) else "map"
    return _PLAIN.get(str(kind), str(kind))


def _default(field: Schema) -> str:
    """Default of a field; nothing where the description says what leaving it out means."""
    value = field.get("default")
    if isinstance(value, list) and [type(part) for part in value] == [int, bool]:  # a memory size
        value = max(value[0], 0) or None
    return "" if value in (None, "") else code(value)


def _model_table(schema: Schema, defs: Schema) -> str:
    required = schema.get("required", [])
    rows = [
        (
            f"`{name}`",
            _kind(field, defs),
            "**required**" if name in required else _default(field),
            prose(field.get("description") or defs.get(_model_name(field), {}).get("description")),
        )
        for name, field in schema.get("properties", {}).items()
    ]
    return table(("Key", "Value", "Default", "Meaning"), rows)


def _page(title: str, schema: Schema) -> str:
    defs = schema.get("$defs", {})
    blocks = [prose(schema.get("description")), _model_table(schema, defs)]
    for name, model in sorted(defs.items()):
        if model.get("type") == "object" and "properties" in model:
            blocks += [f"## {name}", prose(model.get("description")), _model_table(model, defs)]
    return page(title, *blocks)


def pages() -> dict[str, str]:
    """One page for each of the two config files."""
    from rackloom.site import models  # noqa: PLC0415 - pydantic is slow to load and other pages do without

    return {
        f"{file.replace('.', '-')}.md": _page(file, model.model_json_schema())
        for file, model in models.FILES.items()
    }
