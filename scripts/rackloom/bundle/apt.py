"""Packages of Debian and Ubuntu for any release and architecture, told by apt from a root of its own.

The root has an empty list of installed packages and the target's sources and keys, so what apt would install is
everything a name needs, down to libc. Nothing of the machine's own packages counts, and nothing is installed.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rackloom.bundle.errors import BundleError, RequestError
from rackloom.bundle.fetch import Fetch
from rackloom.bundle.items import Item
from rackloom.bundle.seen import cache_dir
from rackloom.bundle.web import plain_url
from rackloom.lab.sources import RELEASES, adapt, apt_options, host_release, read_sources

COMPONENT = "main"
_ESSENTIAL = re.compile(r"^(?:Priority: required|Essential: yes)$", re.MULTILINE)
_URI = re.compile(r"^'([^']+)' (\S+) (\d+) (?:SHA256:([0-9a-f]{64}))?", re.MULTILINE)
_UNKNOWN = re.compile(
    r"^E: (?:Unable to locate package |Package '?|Couldn't find any package by \S+ ')([^\s']+)", re.MULTILINE
)


@dataclass(frozen=True)
class AptSources:
    """Where the packages of one operating system come from."""

    lines: tuple[str, ...]
    """Lines of sources.list."""
    options: tuple[str, ...] = ()
    """Lines of apt.conf."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys that come along as text: a file name -> the key."""


def sources_for(os_id: str, site: Sequence[Mapping[str, Any]] = (), root: Path = Path("/")) -> AptSources:
    """The site's own sources for an operating system, else those of this machine. Raises RequestError.

    `site` is `packages.sources` of cluster.yml. Its sources for other releases do not count.
    """
    distribution, suite = RELEASES[os_id]
    options = machine_options()
    lines = _site_lines(site, suite)
    if lines:
        return AptSources(tuple(lines), options)
    found, keys = adapt(read_sources(root), host_release(root), (distribution, suite), root)
    if not found:
        raise RequestError(
            [f"this machine has no package source of {os_id}, and the site names none"],
            f"name the sources of {suite} under packages.sources in cluster.yml and give the command that config",
        )
    return AptSources(found, options, keys)


def machine_options() -> tuple[str, ...]:
    """What this machine tells apt of proxies and certificates."""
    dump = _output(["apt-config", "dump"]) if shutil.which("apt-config") else ""
    return apt_options(dump, os.environ)


def _site_lines(site: Sequence[Mapping[str, Any]], suite: str) -> list[str]:
    lines = []
    for source in site:
        suites = [word for word in source.get("suites", []) if re.match(rf"{suite}(?![a-z])", word)]
        if not suites or "deb" not in source.get("types", ["deb"]):
            continue
        options = []
        if source.get("trusted"):
            options.append("trusted=yes")
        if key := source.get("signed_by"):
            options.append(f"signed-by={key}")
        prefix = f"deb [{' '.join(options)}]" if options else "deb"
        components = " ".join(source.get("components", []))
        lines += [f"{prefix} {uri} {word} {components}" for uri in source.get("uris", []) for word in suites]
    return lines


@dataclass(frozen=True)
class Deb:
    """One package file as the sources offer it."""

    name: str
    version: str
    arch: str
    file: str
    url: str
    size: int
    sha256: str


class AptRoot:
    """A private place for apt, for one operating system and one architecture."""

    def __init__(self, os_id: str, arch: str, sources: AptSources) -> None:
        self.os, self.arch, self.sources = os_id, arch, sources
        key = json.dumps([sources.lines, sources.options, dict(sources.keys)], sort_keys=True)
        self.folder = cache_dir() / "apt" / f"{os_id}-{arch}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"

    def update(self) -> None:
        """Read the sources' lists and check their signatures. Raises BundleError when one does not answer."""
        folder = self.folder
        for name in (
            "etc/apt.conf.d",
            "etc/preferences.d",
            "etc/keys",
            "lists/partial",
            "cache/archives/partial",
        ):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "status").write_text("")
        lines = list(self.sources.lines)
        for number, (path, key) in enumerate(sorted(self.sources.keys.items())):
            file = folder / "etc" / "keys" / f"{number}.asc"
            file.write_text(key, encoding="utf-8")
            lines = [line.replace(f"signed-by={path}", f"signed-by={file}") for line in lines]
        (folder / "etc" / "sources.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / "apt.conf").write_text(self._config(), encoding="utf-8")
        done = self._apt("update", "-o", "pkgCacheFile::Generate=false")
        if done.returncode:
            words = [line[3:] for line in done.stderr.splitlines() if line[:3] in ("E: ", "W: ")]
            raise BundleError(
                f"the package sources of {self.os} ({self.arch}) cannot be read: {'; '.join(words)[:1500]}",
                f"they are: {'; '.join(plain_words(line) for line in self.sources.lines)}",
            )

    def _config(self) -> str:
        at = self.folder
        return "\n".join([
            f'Dir "{at}";',
            f'Dir::State "{at}";',
            f'Dir::State::Lists "{at}/lists";',
            f'Dir::State::status "{at}/status";',
            f'Dir::Cache "{at}/cache";',
            f'Dir::Etc "{at}/etc";',
            f'Dir::Etc::Parts "{at}/etc/apt.conf.d";',
            'Dir::Etc::sourceparts "-";',
            # Keys and logins are this machine's; the sources are not.
            'Dir::Etc::trustedparts "/etc/apt/trusted.gpg.d";',
            'Dir::Etc::netrc "/etc/apt/auth.conf";',
            'Dir::Etc::netrcparts "/etc/apt/auth.conf.d";',
            f'APT::Architecture "{self.arch}";',
            f'APT::Architectures {{ "{self.arch}"; }};',
            *(['APT::Sandbox::User "root";'] if os.geteuid() == 0 else []),
            'APT::Install-Recommends "false";',
            'APT::Update::Error-Mode "any";',
            'APT::Get::List-Cleanup "true";',
            'Acquire::Languages "none";',
            'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";',
            'Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";',
            'Acquire::ForceHash "SHA256";',
            *self.sources.options,
            "",
        ])  # fmt: skip

    def _apt(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C.UTF-8"}
        try:
            return subprocess.run(
                ["apt-get", "-q", *words], env=environment, capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            raise BundleError(
                "apt-get is not installed", "make the bundle on a machine that runs Debian or Ubuntu"
            ) from None

    def essential(self) -> set[str]:
        """Names of the packages that every installation of the system has."""
        found: set[str] = set()
        for path in self._lists("Packages"):
            text = path.read_text(encoding="utf-8", errors="replace")
            for match in _ESSENTIAL.finditer(text):
                start = text.rfind("\nPackage: ", 0, match.start()) + 1
                found.add(text[start : text.index("\n", start)].removeprefix("Package: "))
        return found

    def _lists(self, kind: str) -> list[Path]:
        return sorted((self.folder / "lists").glob(f"*{kind}"))

    def system_and(self, groups: Mapping[str, Iterable[str]]) -> list[Deb]:
        """What the names of all groups need, and the system itself; see `resolve`. Equal lists: the answer is kept."""
        key = hashlib.sha256(json.dumps({who: sorted(names) for who, names in groups.items()}).encode())
        for path in self._lists("Release"):
            key.update(path.read_bytes())
        for path in self._lists("Packages"):
            info = path.stat()
            key.update(f"{path.name} {info.st_size} {info.st_mtime_ns}\n".encode())
        kept = self.folder / "resolved.json"
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            data = json.loads(kept.read_text(encoding="utf-8"))
            if data["key"] == key.hexdigest():
                return [Deb(**entry) for entry in data["debs"]]
        found = self.resolve({**groups, "the system": self.essential()})
        data = {"key": key.hexdigest(), "debs": [asdict(deb) for deb in found]}
        _replace(kept, json.dumps(data).encode())
        return found

    def resolve(self, groups: Mapping[str, Iterable[str]]) -> list[Deb]:
        """Every package file that the names of all groups need. Raises RequestError for names that nobody has.

        Groups are resolved together; where they cannot live on one machine, each for itself.
        """
        wanted = {who: sorted(set(names)) for who, names in groups.items()}
        everything = sorted({name for names in wanted.values() for name in names})
        if not everything:
            return []
        done = self._simulate(everything)
        if done.returncode == 0:
            return self._debs(done.stdout)
        if unknown := sorted(set(_UNKNOWN.findall(done.stderr)) & set(everything)):
            askers = {name: [who for who, names in wanted.items() if name in names] for name in unknown}
            raise RequestError(
                [
                    f"{self.os} ({self.arch}) has no package {name}, which {', '.join(askers[name])} wants"
                    for name in unknown
                ],
                "see that the package sources are whole, or leave out the stage or the operating system",
            )
        found: dict[str, Deb] = {}
        for who, names in wanted.items():
            done = self._simulate(names)
            if done.returncode:
                raise BundleError(
                    f"the packages of {who} cannot be resolved for {self.os} ({self.arch}): {_why(done)}",
                    "see that the package sources are whole and of one release",
                )
            found.update({deb.file: deb for deb in self._debs(done.stdout)})
        return sorted(found.values(), key=lambda deb: deb.file)

    def _simulate(self, names: Sequence[str]) -> subprocess.CompletedProcess[str]:
        # The list may be longer than a command line should be; apt-get reads none from a file.
        return self._apt("install", "-y", "--print-uris", "--no-install-recommends", *names)

    def _debs(self, text: str) -> list[Deb]:
        found = {}
        for match in _URI.finditer(text):
            url, named, size, sha256 = match.groups()
            if not sha256:
                raise BundleError(
                    f"the package source of {self.os} gives no sha256 for {named}",
                    "use a source whose lists carry sha256 digests",
                )
            name, version, arch = named.removesuffix(".deb").rsplit("_", 2)
            file = unquote(urlsplit(url).path.rpartition("/")[2])
            found[file] = Deb(name, unquote(version), arch, file, url, int(size), sha256)
        return sorted(found.values(), key=lambda deb: deb.file)


def fetches(os_id: str, debs: Iterable[Deb]) -> list[Fetch]:
    """What to bring, and where it goes: `apt/<os>/pool/`."""
    made = []
    for deb in debs:
        initial = deb.name[:4] if deb.name.startswith("lib") else deb.name[:1]
        path = f"apt/{os_id}/pool/{initial}/{deb.name}/{deb.file}"
        url = deb.url.replace("copy:", "file://") if deb.url.startswith("copy:") else deb.url
        if url.startswith("file:/") and not url.startswith("file://"):
            url = url.replace("file:", "file://", 1)
        item = Item(
            path, "package", deb.name, deb.version, deb.sha256, deb.size, plain_url(url), os_id, deb.arch
        )
        made.append(Fetch(item, (url,)))
    return made


def write_indexes(root: Path, os_id: str, arches: Sequence[str], items: Sequence[Item]) -> list[Item]:
    """Make `apt/<os>/dists` for the package files that lie in the pool, and return its items.

    The release file bears no real date, so equal packages give equal files; the mirror that signs it dates it.
    """
    suite = RELEASES[os_id][1]
    repository = root / "apt" / os_id
    release = repository / "dists" / suite
    made: list[Path] = []
    for arch in arches:
        pool = [item for item in items if item.os == os_id and item.arch in (arch, "all")]
        text = _packages(repository, arch, pool)
        folder = release / COMPONENT / f"binary-{arch}"
        folder.mkdir(parents=True, exist_ok=True)
        packed = gzip.compress(text.encode(), compresslevel=6, mtime=0)
        for name, content in (("Packages", text.encode()), ("Packages.gz", packed)):
            _replace(folder / name, content)
            made.append(folder / name)
    fields = {
        "Origin": "Rackloom",
        "Label": "Rackloom",
        "Suite": suite,
        "Codename": suite,
        "Architectures": " ".join(arches),
        "Components": COMPONENT,
        "Date": _date(),
        "Description": f"Packages of a Rackloom bundle for {os_id}",
    }
    options = [f"APT::FTPArchive::Release::{key}={value}" for key, value in fields.items()]
    options += ["APT::FTPArchive::MD5=false", "APT::FTPArchive::SHA1=false", "APT::FTPArchive::SHA512=false"]
    (release / "Release").unlink(missing_ok=True)
    (release / "InRelease").unlink(missing_ok=True)
    words = [word for option in options for word in ("-o", option)]
    text = _output(["apt-ftparchive", *words, "release", str(release)])
    _replace(release / "Release", text.encode())
    made.append(release / "Release")
    return [
        Item(
            str(path.relative_to(root)),
            "index",
            f"{suite}/{path.relative_to(release)}",
            "",
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_size,
            "",
            os_id,
            path.parent.name.removeprefix("binary-") if path.parent != release else "",
        )
        for path in made
    ]


def _packages(repository: Path, arch: str, pool: Sequence[Item]) -> str:
    """The package list of one architecture; the same pool was perhaps listed before."""
    key = hashlib.sha256(json.dumps([arch, *sorted((item.path, item.sha256) for item in pool)]).encode())
    kept = cache_dir() / "index" / key.hexdigest()[:32]
    if kept.is_file():
        return kept.read_text(encoding="utf-8")
    switches = ("MD5", "SHA1", "SHA512")
    options = [word for name in switches for word in ("-o", f"APT::FTPArchive::{name}=false")]
    if pool:
        text = _output(
            ["apt-ftparchive", "--quiet", *options, "--arch", arch, "packages", "pool"], at=repository
        )
        stanzas = sorted(stanza.strip("\n") for stanza in text.split("\n\n") if stanza.strip())
        text = "\n\n".join(stanzas) + "\n"
    else:
        text = ""
    kept.parent.mkdir(parents=True, exist_ok=True)
    _replace(kept, text.encode())
    return text


def _date() -> str:
    from datetime import UTC, datetime  # noqa: PLC0415
    from email.utils import format_datetime  # noqa: PLC0415

    moment = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), UTC)
    return format_datetime(moment).replace("+0000", "UTC")


def plain_words(line: str) -> str:
    """A line of sources.list without passwords."""
    return " ".join(plain_url(word) if "://" in word else word for word in line.split())


def _why(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    start = next((n for n, line in enumerate(lines) if "unmet dependencies" in line), 0)
    return " ".join(lines[start:])[:1500]


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    fresh.replace(path)


def _output(argv: Sequence[str], at: Path | None = None) -> str:
    try:
        done = subprocess.run(argv, cwd=at, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BundleError(f"{argv[0]} is not installed", "install the package apt-utils") from None
    if done.returncode:
        raise BundleError(f"{argv[0]} ended with status {done.returncode}: {done.stderr.strip()[-1000:]}")
    return done.stdout
