"""The package sources of this machine, carried over to nodes that may run another release.

A node takes its packages from where this machine takes its own: the same mirror, proxy,
credentials and signing keys, with the release's name exchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

RELEASES: Mapping[str, tuple[str, str]] = {
    "debian-12": ("debian", "bookworm"),
    "debian-13": ("debian", "trixie"),
    "ubuntu-22.04": ("ubuntu", "jammy"),
    "ubuntu-24.04": ("ubuntu", "noble"),
}
"""The node systems the lab can build, as id: (distribution, codename)."""

_POCKETS = ("", "-updates", "-security")
_ALIASES = ("stable", "oldstable", "testing")
_APT_KEYS = re.compile(
    r"^Acquire::(?:(?:http|https)::(?!.*Proxy-Auto-Detect)\S+|Check-Valid-Until|Check-Date|Retries|ForceIPv[46])$"
)


@dataclass(frozen=True)
class Source:
    """One package source: every combination of `uris` and `suites`, with their `components`."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""
    """A path, or an armoured key itself, or nothing."""
    trusted: bool = False


@dataclass(frozen=True)
class AptSetup:
    """What a node of one release gets for its package manager."""

    lines: tuple[str, ...]
    """Lines of sources.list; empty where this machine has no source of that distribution."""
    options: tuple[str, ...]
    """Lines of apt.conf."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Signing keys to write into the node: path -> armoured key."""


def parse_deb822(text: str) -> list[Source]:
    """Read the stanzas of a *.sources file; stanzas that are off or hold no binary packages are left out."""
    found = []
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0] in " \t":
                fields[key] = fields.get(key, "") + "\n" + line.strip()
            elif ":" in line:
                key, _, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value.strip()
        off = fields.get("enabled", "yes").lower() in ("no", "false")
        if off or "deb" not in fields.get("types", "").split():
            continue
        found.append(
            Source(
                uris=tuple(fields.get("uris", "").split()),
                suites=tuple(fields.get("suites", "").split()),
                components=tuple(fields.get("components", "").split()),
                signed_by=fields.get("signed-by", "").strip(),
                trusted=fields.get("trusted", "").lower() == "yes",
            )
        )
    return found


def parse_list(text: str) -> list[Source]:
    """Read the lines of a *.list file."""
    found = []
    for line in text.splitlines():
        match = re.match(r"^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if not match:
            continue
        options = dict(word.split("=", 1) for word in (match[1] or "").split() if "=" in word)
        found.append(
            Source(
                uris=(match[2],),
                suites=(match[3],),
                components=tuple(match[4].split()),
                signed_by=options.get("signed-by", ""),
                trusted=options.get("trusted") == "yes",
            )
        )
    return found


def read_sources(root: Path = Path("/")) -> list[Source]:
    """Return every package source this machine has switched on."""
    apt = root / "etc/apt"
    found: list[Source] = []
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        if path.suffix == ".sources":
            found += parse_deb822(text)
        elif path.suffix == ".list":
            found += parse_list(text)
    return found


def resolve_uri(uri: str, root: Path = Path("/")) -> str:
    """Return a URI a node can use; '' where there is none (a local folder).

    A `mirror+file:` list is replaced by its first entry.
    """
    if uri.startswith("mirror+file:"):
        path = root / uri.removeprefix("mirror+file:").lstrip("/")
        lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
        entries = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
        uri = entries[0] if entries else ""
    return uri if uri.startswith(("http://", "https://")) else ""


def adapt(
    sources: Iterable[Source], host: tuple[str, str], target: tuple[str, str], root: Path = Path("/")
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the sources.list lines of a `target` node on a `host` machine, and the keys they need.

    `host` and `target` are (distribution, codename). Only sources of the host's own release
    are carried over (its name, -updates, -security); a vendor's extra repository is the site's
    business. Another distribution's node gets no line: its sources cannot be guessed from ours.
    """
    if host[0] != target[0]:
        return (), {}
    lines: list[str] = []
    keys: dict[str, str] = {}
    bases = (host[1], *(_ALIASES if host[0] == "debian" else ()))
    known = {base + pocket: target[1] + pocket for base in bases for pocket in _POCKETS}
    for source in sources:
        suites = [known[suite.rstrip("/")] for suite in source.suites if suite.rstrip("/") in known]
        uris = [uri for uri in (resolve_uri(uri, root) for uri in source.uris) if uri]
        if not suites or not uris:
            continue
        options = ["trusted=yes"] if source.trusted else []
        if source.signed_by.startswith("/"):
            options.append(f"signed-by={source.signed_by.split()[0]}")
        elif source.signed_by:
            path = f"/etc/apt/keyrings/site-{len(keys)}.asc"
            keys[path] = _armoured(source.signed_by)
            options.append(f"signed-by={path}")
        components = list(source.components)
        if target[0] == "ubuntu" and "universe" not in components:
            components.append("universe")
        prefix = f"deb [{' '.join(options)}]" if options else "deb"
        lines += [f"{prefix} {uri} {suite} {' '.join(components)}" for uri in uris for suite in suites]
    return tuple(dict.fromkeys(lines)), keys


def _armoured(block: str) -> str:
    """Return an embedded deb822 key as the file it stands for (a lone dot is an empty line)."""
    lines = (line.strip() for line in block.strip().splitlines())
    return "\n".join("" if line == "." else line for line in lines) + "\n"


def apt_options(dump: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the apt.conf lines a node needs, out of `apt-config dump` and the proxy variables.

    A proxy on this machine's loopback is left out: a node cannot reach it.
    """
    kept: dict[str, str] = {}
    for line in dump.splitlines():
        match = re.match(r'^(\S+) "(.*)";$', line.strip())
        if match and match[2] and _APT_KEYS.match(match[1]):
            kept[match[1]] = match[2]
    for scheme in ("http", "https"):
        proxy = environment.get(f"{scheme}_proxy") or environment.get(f"{scheme.upper()}_PROXY")
        if proxy:
            kept.setdefault(f"Acquire::{scheme}::Proxy", proxy)
    loopback = re.compile(r"//(127\.|localhost|\[?::1)")
    return tuple(f'{key} "{value}";' for key, value in kept.items() if not loopback.search(value))


def host_release(root: Path = Path("/")) -> tuple[str, str]:
    """Return this machine's (distribution, codename), empty where os-release does not tell."""
    path = root / "etc/os-release"
    text = path.read_text() if path.is_file() else ""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return fields.get("ID", "").strip('"'), fields.get("VERSION_CODENAME", "").strip('"')
