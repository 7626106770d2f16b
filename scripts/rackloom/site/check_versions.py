"""Checks of a site's own versions.yml, and of whether all versions files can be read together."""

from __future__ import annotations

import re
from typing import Any

from . import versions
from .context import Context, Reporter
from .mistakes import show, suggest
from .source import read
from .versions import FILE, SECTIONS, VersionsError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_KEYS = {
    "files": {"version", "url", "sha256"},
    "images": {"tag", "digest"},
    "charts": {"version", "url", "sha256"},
}
_FREE = {"images": {"source"}}
ARCHES = ("amd64", "arm64")


def check_versions(ctx: Context) -> None:
    """Nothing where the site has no such file."""
    path = ctx.config_dir / FILE
    before = len(ctx.mistakes.found)
    if path.is_file():
        source = read(path, FILE, ctx.mistakes)
        if source.data is not None:
            _sections(Reporter(source, ctx.mistakes), source.data)
    if len(ctx.mistakes.found) > before:
        return
    try:
        versions.effective(ctx.config_dir)
    except VersionsError as error:
        file = str(error.path or FILE)
        cure = f"{error.cure[:1].upper()}{error.cure[1:]}." if error.cure else "Install the bundle again."
        ctx.mistakes.add(file, error.line, file, f"{str(error).capitalize()}.", cure, "bad-versions")


def _sections(say: Reporter, data: dict[str, Any]) -> None:
    for section, records in data.items():
        if section not in SECTIONS:
            cure = suggest(section, SECTIONS)
            say((section,), section, f"There is no section {section}.", cure, "unknown-key", key=True)
        elif records is not None and not isinstance(records, dict):
            say(
                (section,),
                records,
                f"{section} must be a mapping of records.",
                "Write name: {…}.",
                "wrong-type",
            )
        else:
            for name, record in (records or {}).items():
                _record(say, section, name, record)


def _record(say: Reporter, section: str, name: str, record: Any) -> None:
    where = (section, name)
    keys = _KEYS[section]
    if not isinstance(record, dict):
        say(
            where,
            record,
            f"The record of {name} must be a mapping.",
            f"Write {', '.join(sorted(keys))}.",
            "wrong-type",
        )
        return
    for key in record:
        if key not in keys | _FREE.get(section, set()):
            say(
                (*where, key),
                key,
                f"A record of {section} has no key {key}.",
                suggest(key, keys),
                "unknown-key",
                key=True,
            )
    for key in sorted(keys - set(record)):
        say(where, name, f"The record of {name} has no {key}.", f"Add `{key}:`.", "missing-key", key=True)
    for key, value in record.items():
        if key in keys and (trouble := _trouble(section, key, value)):
            say((*where, key), value, trouble[0], trouble[1], "bad-value")


def _trouble(section: str, key: str, value: Any) -> tuple[str, str] | None:
    if section == "files" and key == "sha256":
        whole = isinstance(value, dict) and value and set(value) <= set(ARCHES)
        if whole and all(each == "" or _SHA256.fullmatch(str(each)) for each in value.values()):
            return None
        return (
            "A file has a sha256 for each architecture.",
            'Write sha256: {amd64: …, arm64: …}, 64 hexadecimal digits each; or "".',
        )
    if value in (None, "") and key in ("sha256", "digest"):
        return None
    if not isinstance(value, (str, int)) or isinstance(value, bool) or not str(value):
        return f"{key} must be text.", "Write one value, quoted if need be."
    if key == "digest" and not _DIGEST.fullmatch(str(value)):
        return (
            f"{show(value)} is no digest of an image.",
            'Write sha256: and 64 hexadecimal digits, quoted; or "".',
        )
    if key == "sha256" and not _SHA256.fullmatch(str(value)):
        return f"{show(value)} is no sha256.", 'Write 64 hexadecimal digits; or "".'
    return None
