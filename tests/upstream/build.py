#!/usr/bin/env python3
"""
Build the real programs that Rackloom installs, where no vendor's site can be reached.

    build.py list                          what can be built
    build.py build [NAME…] [--suite …]     build and lay out; --output says where
    build.py pin NAME VERSION              write NAME/go.mod and go.sum anew

Upstream's Go modules come from wherever this machine's Go takes modules from; go.sum says that they are upstream's.
What is built is kept under .cache/upstream/NAME/VERSION/, by a digest of all that it was built from, so what did not
change costs nothing. The output holds bin/NAME/, files/, images/ (an OCI layout), charts/, manifests/ and versions.yml,
a record of them in the form of inventory/versions.yml that `rackloom bundle create --versions` takes.

Needs Python 3.11 and Go; gcc and libc6-dev for pause and runc, which also wants pkg-config; mmdebstrap for runc and for
images that bring programs of the distribution.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fcntl import LOCK_EX, flock
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "upstream"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
EPOCH = "1970-01-01T00:00:00Z"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RECIPE = 1
"""Counts changes of this file that change what it makes."""

KEYS = {
    *("modules", "staging", "also", "suite", "programs", "stamps", "tags", "cgo", "check", "files", "images"),
    *("charts", "manifests", "source", "version", "packages", "libraries", "like", "fork_of", "replaces"),
}


class BuildError(Exception):
    """Something that the reader has to mend; the text says what."""


@dataclass(frozen=True)
class Project:
    """One table of programs.toml."""

    name: str
    suite: str
    programs: Mapping[str, str] = field(default_factory=dict)
    modules: Sequence[str] = ()
    staging: str = ""
    also: Sequence[str] = ()
    stamps: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()
    cgo: bool = False
    libraries: Sequence[str] = ()
    check: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, Any] = field(default_factory=dict)
    charts: Mapping[str, str] = field(default_factory=dict)
    manifests: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    version: Mapping[str, str] = field(default_factory=dict)
    packages: Sequence[str] = ()
    like: str = ""
    fork_of: str = ""
    replaces: bool = False

    @property
    def folder(self) -> Path:
        """Where its go.mod is."""
        return HERE / (self.source or self.name)

    @property
    def sources(self) -> list[Path]:
        """Go files of ours beside its go.mod: a program of tests that stands on the modules."""
        return sorted(self.folder.glob("*.go"))

    @property
    def needs(self) -> set[str]:
        """Projects whose packages its images stand on."""
        return {image["base"] for image in self.images.values() if "base" in image} - {self.name}


@cache
def tables() -> Mapping[str, Mapping[str, Any]]:
    """programs.toml, with what a project takes over from another filled in."""
    read = tomllib.loads((HERE / "programs.toml").read_text(encoding="utf-8"))
    return {name: {**read.get(table.get("like", ""), {}), **table} for name, table in read.items()}


@cache
def catalogue() -> Mapping[str, Project]:
    """Everything that programs.toml names."""
    found = {}
    for name, table in tables().items():
        if unknown := set(table) - KEYS:
            raise BuildError(f"programs.toml: {name} has unknown keys: {', '.join(sorted(unknown))}")
        found[name] = Project(name=name, **table)
    return found


def say(text: str) -> None:
    """Tell the reader how far things are."""
    print(text, file=sys.stderr, flush=True)


def run(argv: Sequence[str], *, cwd: Path = HERE, env: Mapping[str, str] | None = None) -> str:
    """Run a program and return what it printed; what it said is in the error when it fails."""
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise BuildError(f"there is no {argv[0]} on this machine") from None
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise BuildError(f"{' '.join(argv[:6])}… ended with {done.returncode}:\n{tail}")
    return done.stdout


def digest(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- What it is built from ----------------------------------------------------------------


@cache
def module_folder(name: str, module: str) -> Path:
    """A module of a project on this machine, fetched when it is not there yet."""
    run(["go", "mod", "download", module], cwd=HERE / name)
    return Path(run(["go", "list", "-m", "-f", "{{.Dir}}", module], cwd=HERE / name).strip())


def pinned(project: Project) -> str:
    """The version of a project's first module, out of its go.mod."""
    text = (project.folder / "go.mod").read_text(encoding="utf-8")
    # a fork stands on the right side of a replacement
    line = rf"^(?:\s*|require |replace \S+ => ){re.escape(project.modules[0])} v(\S+)"
    found = re.search(line, text, flags=re.MULTILINE)
    if found is None:
        raise BuildError(f"{project.name}/go.mod does not require {project.modules[0]}")
    return found[1]


@cache
def candidates(packages: tuple[str, ...]) -> str:
    """The packages with the versions that the distribution would install today."""
    told = run(["apt-cache", "policy", *packages])
    found = re.findall(r"^(\S+):\n.*\n\s+Candidate: (\S+)", told, flags=re.MULTILINE)
    if missing := set(packages) - {name for name, version in found if version != "(none)"}:
        raise BuildError(
            f"the package sources of this machine lack {', '.join(sorted(missing))}: apt-get update?"
        )
    return " ".join(f"{name}={version}" for name, version in sorted(found))


@cache
def version_of(name: str) -> str:
    """The version of what is built."""
    project = catalogue()[name]
    if project.packages:
        # the first package's: 1:1.35.0-4+b5 is 1.35.0 of upstream
        found = re.search(r"=(?:\d+:)?([0-9][0-9.]*)", candidates(tuple(project.packages)))
        return found[1].rstrip(".") if found else "0"
    if project.version:
        source = catalogue()[project.source or name]
        path = module_folder(source.name, source.modules[0]) / project.version["file"]
        found = re.search(project.version["pattern"], path.read_text(encoding="utf-8"))
        if found is None:
            raise BuildError(f"{project.version['file']} of {source.name} names no version of {name}")
        return found[1]
    return pinned(project)


def filled(text: str, version: str) -> str:
    """A text of the catalogue with the version in its place."""
    major, minor, patch = (*version.split("-", maxsplit=1)[0].split("."), "0", "0")[:3]
    for key, value in {
        "version": version,
        "arch": ARCH,
        "major": major,
        "minor": minor,
        "patch": patch,
    }.items():
        text = text.replace(f"{{{key}}}", value)
    return text


@cache
def key_of(name: str) -> str:
    """A digest of everything that what is built depends on."""
    project = catalogue()[name]
    parts: list[str] = [json.dumps(tables()[name], sort_keys=True), ARCH, str(RECIPE)]
    for packages in (project.packages, project.libraries):
        parts += [candidates(tuple(packages))] if packages else []
    if not project.packages:
        parts += [(project.folder / file).read_text(encoding="utf-8") for file in ("go.mod", "go.sum")]
        parts += [path.read_text(encoding="utf-8") for path in project.sources]
        parts.append(run(["go", "env", "GOVERSION", "GOFLAGS", "GOEXPERIMENT", "GOAMD64"]))
    parts += [key_of(other) for other in sorted(project.needs)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def extract(packages: Sequence[str], root: Path) -> None:
    """Unpack packages of this machine's distribution, and what they need, without installing them."""
    about = Path("/etc/os-release").read_text(encoding="utf-8")
    release = dict(line.split("=", 1) for line in about.splitlines() if "=" in line)
    argv = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(packages)}"]
    run([*argv, release["VERSION_CODENAME"].strip('"'), str(root)])


# --- Programs -----------------------------------------------------------------------------


@dataclass
class Cost:
    """What building one program took."""

    program: str
    user: float
    wall: float
    size: int


@contextmanager
def clocked(program: str, path: Path, costs: list[Cost]) -> Iterator[None]:
    """Add to `costs` what the block's programs took."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    yield
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    costs.append(Cost(program, round(used, 1), round(time.monotonic() - began, 1), path.stat().st_size))
    say(f"  {program}: {used:.0f} s of CPU, {costs[-1].wall:.0f} s, {costs[-1].size / 1e6:.0f} MB")


def compile_go(project: Project, version: str, folder: Path, jobs: int) -> list[Cost]:
    """Build the project's Go programs, one after the other."""
    costs: list[Cost] = []
    link = ["-s", "-w", "-buildid="]
    link += [f"-X={variable}={filled(value, version)}" for variable, value in project.stamps.items()]
    if project.cgo:
        link += ["-linkmode=external", "-extldflags=-static"]
    flags = ["-trimpath", "-buildvcs=false", f"-ldflags={' '.join(link)}"]
    flags += [f"-tags={','.join(project.tags)}"] if project.tags else []
    flags += ["-p", str(jobs)] if jobs else []
    env = {"CGO_ENABLED": "1" if project.cgo else "0", "GOWORK": "off"}
    if project.libraries:
        root = folder.parent / "libraries"
        extract(project.libraries, root)
        found = sorted(root.glob("usr/lib/**/pkgconfig"))
        env |= {
            "PKG_CONFIG_SYSROOT_DIR": str(root),
            "PKG_CONFIG_LIBDIR": ":".join(str(path) for path in found),
            # Go keeps what it compiled by its flags, but not by what pkg-config said: a later build, in a folder of
            # another name, would be given objects that name this one, which is gone by then.
            "CGO_LDFLAGS": " ".join(["-O2 -g", *(f"-L{path.parent}" for path in found)]),
        }
    for program, package in project.programs.items():
        path = folder / program
        with clocked(program, path, costs):
            run(["go", "build", *flags, "-o", str(path), package], cwd=project.folder, env=env)
    shutil.rmtree(folder.parent / "libraries", ignore_errors=True)
    return costs


def compile_c(project: Project, version: str, folder: Path) -> list[Cost]:
    """Build programs of a single C file each."""
    costs: list[Cost] = []
    source = module_folder(project.source, catalogue()[project.source].modules[0])
    for program, file in project.programs.items():
        path = folder / program
        with clocked(program, path, costs):
            flags = [
                "-Os",
                "-Wall",
                "-static",
                "-s",
                f"-DVERSION=v{version}",
                f"-ffile-prefix-map={source}=.",
            ]
            run(["gcc", *flags, "-o", str(path), str(source / file)])
    return costs


# --- Archives -----------------------------------------------------------------------------


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, 0
    return info


def pack(members: Mapping[str, Path | str | None]) -> bytes:
    """
    A tar archive that is the same whenever it is made.

    A member is a file, the target of a link (text), or a folder (None). Folders above members come along.
    """
    names: dict[str, Path | str | None] = {}
    for name, what in sorted(members.items()):
        parts = name.split("/")
        for depth in range(1, len(parts)):
            names.setdefault("/".join(parts[:depth]), None)
        names[name] = what
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, what in sorted(names.items()):
            if what is None:
                archive.addfile(_entry(name, tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755))
            elif isinstance(what, str):
                info = _entry(name, tarfile.SYMTYPE, 0o777)
                info.linkname = what
                archive.addfile(info)
            else:
                info = _entry(name, tarfile.REGTYPE, 0o755 if os.access(what, os.X_OK) else 0o644)
                info.size = what.stat().st_size
                with what.open("rb") as stream:
                    archive.addfile(info, stream)
    return out.getvalue()


def squeezed(data: bytes) -> bytes:
    """Compressed, lightly: these archives travel over a lab's bridge."""
    return gzip.compress(data, compresslevel=1, mtime=0)


def archive(path: Path, members: Mapping[str, str], bin_folder: Path) -> None:
    """Write one file of the kind that upstream publishes: an archive, or a program itself."""
    if list(members) == [""]:
        shutil.copy2(bin_folder / members[""], path)
    else:
        path.write_bytes(squeezed(pack({name: bin_folder / program for name, program in members.items()})))


def chart_name(folder: Path) -> tuple[str, str]:
    """Name and version out of a Chart.yaml, whose upper level is plain `key: value`."""
    found = {}
    for line in (folder / "Chart.yaml").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"(name|version): *[\"']?([^\"'#\s]+)", line):
            found[match[1]] = match[2]
    return found["name"], found["version"]


# --- Images -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Blob:
    """One blob of an OCI layout."""

    kind: str
    digest: str
    size: int

    @property
    def descriptor(self) -> dict[str, Any]:
        """As other documents name it."""
        return {
            "mediaType": f"application/vnd.oci.image.{self.kind}",
            "digest": self.digest,
            "size": self.size,
        }


def blob(folder: Path, kind: str, data: bytes) -> Blob:
    """Store data under its digest."""
    name = hashlib.sha256(data).hexdigest()
    (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    (folder / "blobs" / "sha256" / name).write_bytes(data)
    return Blob(kind, f"sha256:{name}", len(data))


def document(folder: Path, kind: str, content: Mapping[str, Any]) -> Blob:
    """Store a JSON document under its digest."""
    return blob(folder, f"{kind}+json", json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def layer(folder: Path, members: Mapping[str, Path | str | None]) -> dict[str, Any]:
    """Store a layer; returns its descriptor with the digest of what is inside."""
    data = pack(members)
    stored = blob(folder, "layer.v1.tar+gzip", squeezed(data))
    return {"descriptor": stored.descriptor, "diff_id": f"sha256:{hashlib.sha256(data).hexdigest()}"}


def image(folder: Path, layers: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any]) -> Blob:
    """Store an image's config and manifest."""
    config: dict[str, Any] = {"Env": [f"PATH={PATH}"]}
    for ours, theirs in (("entrypoint", "Entrypoint"), ("command", "Cmd"), ("user", "User")):
        if ours in wanted:
            config[theirs] = wanted[ours]
    stored = document(
        folder,
        "config.v1",
        {
            "created": EPOCH,
            "architecture": ARCH,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [each["diff_id"] for each in layers]},
            "history": [{"created": EPOCH, "created_by": "tests/upstream/build.py"} for _ in layers],
        },
    )
    return document(
        folder,
        "manifest.v1",
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": stored.descriptor,
            "layers": [each["descriptor"] for each in layers],
        },
    )


def distribution_layer(project: Project, folder: Path) -> dict[str, Any]:
    """The files of packages as a layer: no package manager, no documentation, busybox's programs as links."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        root = Path(name) / "root"
        extract(project.packages, root)
        return layer(folder, _tree(root))


def _tree(root: Path) -> dict[str, Path | str | None]:
    left_out = re.compile(
        r"(dev|run|var/(lib/dpkg|lib/apt|cache|log)|etc/apt|usr/share/(doc|man|locale|lintian|bug))(/|$)"
    )
    members: dict[str, Path | str | None] = {"tmp": None}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if left_out.match(name):
            continue
        if path.is_symlink():
            members[name] = str(path.readlink())
        elif path.is_file():
            members[name] = path
    for top in ("bin", "sbin", "lib", "lib64"):  # what base-files would have linked
        if not (root / top).exists() and (root / "usr" / top).exists():
            members[top] = f"usr/{top}"
    taken = {Path(name).name for name in members}
    # what update-alternatives would have linked
    for program in (f"{kind}tables{what}" for kind in ("ip", "ip6") for what in ("", "-save", "-restore")):
        if "xtables-nft-multi" in taken and program not in taken:
            members[f"usr/sbin/{program}"] = "xtables-nft-multi"
    if "busybox" in taken:
        box = next(root / name for name in members if Path(name).name == "busybox")
        for applet in run([str(box), "--list"]).split():
            if applet not in taken:
                members[f"bin/{applet}"] = "/" + str(box.relative_to(root))
    return members


# --- One project --------------------------------------------------------------------------


def place(name: str) -> Path:
    """Where what is built of a project is kept."""
    return CACHE / name / version_of(name) / key_of(name)


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Two runs do not build the same project at once; the second finds it built."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as stream:
        flock(stream, LOCK_EX)
        yield


def made(name: str, jobs: int) -> dict[str, Any]:
    """Build a project unless it is built; returns the record of it."""
    with only_one(name):
        target = place(name)
        if not (target / "record.json").is_file():
            version = version_of(name)
            say(f"{name} {version}")
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as work:
                inside = Path(work) / "made"
                inside.mkdir()
                record = make(catalogue()[name], version, inside, jobs)
                write(inside / "record.json", json.dumps(record, indent=1))
                shutil.rmtree(target, ignore_errors=True)
                inside.rename(target)  # whole or not at all
            for old in target.parents[1].glob("*/*"):
                if old != target:
                    shutil.rmtree(old, ignore_errors=True)
        found: dict[str, Any] = json.loads((target / "record.json").read_text(encoding="utf-8"))
        return found


def make(project: Project, version: str, folder: Path, jobs: int) -> dict[str, Any]:
    """Build one project into an empty folder and say what is there."""
    record: dict[str, Any] = {
        "name": project.name,
        "version": version,
        "like": project.like,
        "files": {},
        "images": {},
        "charts": {},
    }
    programs = folder / "bin"
    programs.mkdir()
    costs: list[Cost] = []
    if project.packages:
        began = time.monotonic()
        record["layer"] = distribution_layer(project, folder)
        say(f"  packages: {time.monotonic() - began:.0f} s")
    elif project.source:
        costs = compile_c(project, version, programs)
    else:
        costs = compile_go(project, version, programs, jobs)
    record["costs"] = [vars(cost) for cost in costs]
    for name, wanted in project.files.items():
        file = filled(wanted["file"], version)
        path = folder / "files" / name / version / ARCH / file
        path.parent.mkdir(parents=True)
        members = wanted.get("members") or {program: program for program in project.programs}
        archive(path, {filled(inside, version): program for inside, program in members.items()}, programs)
        record["files"][name] = {
            "version": version,
            "path": str(path.relative_to(folder)),
            "sha256": digest(path),
        }
    for repository, wanted in project.images.items():
        layers = []
        if base := wanted.get("base"):
            layers.append((record if base == project.name else made(base, jobs))["layer"])
        if wanted.get("programs"):
            members = {path.lstrip("/"): programs / program for path, program in wanted["programs"].items()}
            layers.append(layer(folder, members))
        stored = image(folder, layers, wanted)
        tag = filled(wanted.get("tag", "v{version}"), version)
        record["images"][repository] = {"tag": tag, "descriptor": stored.descriptor}
    if project.charts or project.manifests:
        source = module_folder(project.name, project.modules[0])
        record |= taken_along(project, source, folder)
    return record


def taken_along(project: Project, source: Path, folder: Path) -> dict[str, Any]:
    """Charts and manifests that ship inside the module."""
    charts, manifests = {}, {}
    for wanted, inside in project.charts.items():
        name, version = chart_name(source / inside)
        if name != wanted:
            raise BuildError(f"{project.name}: the chart in {inside} is called {name}, not {wanted}")
        path = folder / "charts" / f"{name}-{version}.tgz"
        path.parent.mkdir(exist_ok=True)
        inner = [file for file in (source / inside).rglob("*") if file.is_file()]
        members: dict[str, Path | str | None] = {
            f"{name}/{file.relative_to(source / inside)}": file for file in inner
        }
        path.write_bytes(squeezed(pack(members)))
        charts[name] = {"version": version, "path": str(path.relative_to(folder)), "sha256": digest(path)}
    for name, inside in project.manifests.items():
        path = folder / "manifests" / project.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((source / inside).read_bytes())
        manifests[name] = str(path.relative_to(folder))
    return {"charts": charts, "manifests": manifests}


# --- All of it ----------------------------------------------------------------------------


def link(source: Path, target: Path) -> None:
    """Have a file at another place too, without its bytes where the file system can."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def lay_out(records: Mapping[str, Mapping[str, Any]], output: Path) -> None:
    """Put everything that was built into one folder, with a record of it."""
    for old in ("bin", "files", "images", "charts", "manifests"):
        shutil.rmtree(output / old, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    versions: dict[str, dict[str, Any]] = {"files": {}, "images": {}, "charts": {}}
    manifests: list[dict[str, Any]] = []
    for name, record in records.items():
        kept = place(name)
        # of a program with several versions, one record has the plain name
        release = f"@{record['version']}" if record.get("like") else ""
        for part in ("bin", "files", "charts", "manifests", "blobs"):
            for path in (kept / part).rglob("*"):
                if path.is_file():
                    below = {"bin": Path("bin", name), "blobs": Path("images", "blobs")}.get(part, Path(part))
                    link(path, output / below / path.relative_to(kept / part))
        # Places are told from where versions.yml lies, so the folder can be moved.
        for file, found in record["files"].items():
            url = f"file:{found['path']}"
            versions["files"][f"{file}{release}"] = {
                "version": found["version"],
                "url": url,
                "sha256": {ARCH: found["sha256"]},
            }
        for chart, found in record["charts"].items():
            url = f"file:{found['path']}"
            versions["charts"][chart] = {"version": found["version"], "url": url, "sha256": found["sha256"]}
        for repository, found in record["images"].items():
            wanted = found["descriptor"]
            entry = {"tag": found["tag"], "digest": wanted["digest"], "source": "oci:images"}
            versions["images"][f"{repository}{release}"] = entry
            reference = {"org.opencontainers.image.ref.name": f"{repository}:{found['tag']}"}
            place_of = {"platform": {"architecture": ARCH, "os": "linux"}}
            manifests.append({**wanted, **place_of, "annotations": reference})
    manifests.sort(key=lambda each: str(each["annotations"]))
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    }
    if manifests:
        write(output / "images" / "index.json", json.dumps(index, indent=1, sort_keys=True))
        write(output / "images" / "oci-layout", '{"imageLayoutVersion": "1.0.0"}')
    for section, entries in versions.items():
        versions[section] = dict(sorted(entries.items()))
    # JSON is YAML too, and the standard library writes it.
    head = "# Written by tests/upstream/build.py: what it built, in the form of inventory/versions.yml."
    write(output / "versions.yml", f"---\n{head}\n{json.dumps(versions, indent=2)}\n")


def write(path: Path, text: str) -> None:
    """Replace a file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def chosen(names: Sequence[str], suite: str) -> list[str]:
    """What to build, with what it stands on before it."""
    known = catalogue()
    if unknown := [name for name in names if name not in known]:
        raise BuildError(f"no such project: {', '.join(unknown)}; there are: {', '.join(known)}")
    suites = {"full": {"quick", "full"}}.get(suite, {suite})
    wanted = list(names) or [name for name, each in known.items() if each.suite in suites]
    out: list[str] = []
    for name in wanted:
        out += [each for each in (*sorted(known[name].needs), name) if each not in out]
    return out


def pin(name: str, version: str) -> None:
    """Write a project's go.mod and go.sum for a version."""
    project = catalogue()[name]
    if not project.modules:
        raise BuildError(f"{name} has no go.mod")
    lines = [f"module rackloom.example/upstream/{name}", "", "go 1.24.0", ""]
    if project.staging:
        argv = ["go", "mod", "download", "-json", f"{project.modules[0]}@v{version}"]
        text = Path(json.loads(run(argv, cwd=Path("/")))["GoMod"]).read_text(encoding="utf-8")
        staged = re.findall(r"^\s*(?:replace )?(\S+) => \./", text, flags=re.MULTILINE)
        published = filled(project.staging, version)
        lines += ["replace (", *(f"\t{module} => {module} {published}" for module in sorted(staged)), ")", ""]
    if project.replaces:
        argv = ["go", "mod", "download", "-json", f"{project.modules[0]}@v{version}"]
        text = Path(json.loads(run(argv, cwd=Path("/")))["GoMod"]).read_text(encoding="utf-8")
        taken = re.findall(r"^\s*(?:replace )?(\S+(?: v\S+)? => [^.\s]\S* v\S+)", text, flags=re.MULTILINE)
        lines += ["replace (", *(f"\t{each}" for each in sorted(taken)), ")", ""]
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        (folder / "go.mod").write_text("\n".join(lines), encoding="utf-8")
        env = {"GOWORK": "off"}
        if project.also:
            run(["go", "get", *project.also], cwd=folder, env=env)
        packages = list(project.programs.values())
        if project.fork_of:
            # Go asks for versions under the name that is replaced, so the requirement is written and not got.
            fork = f"replace {project.fork_of} => {project.modules[0]} v{version}"
            lines += [fork, "", *(f"tool {package}" for package in packages), ""]
            lines += [f"require {project.fork_of} v{version}", ""]
            (folder / "go.mod").write_text("\n".join(lines), encoding="utf-8")
            run(["go", "list", "-mod=mod", "-deps", *packages], cwd=folder, env=env)
        elif project.sources:
            for path in project.sources:
                shutil.copy(path, folder)
            run(["go", "get", *(f"{module}@v{version}" for module in project.modules)], cwd=folder, env=env)
            run(["go", "mod", "tidy"], cwd=folder, env=env)
        else:
            tools = [f"{package}@v{version}" for package in packages]
            # what has no program is a module that only its files are taken of
            modules = [f"{module}@v{version}" for module in project.modules]
            run(["go", "get", *(["-tool", *tools] if tools else modules)], cwd=folder, env=env)
        for file in ("go.mod", "go.sum"):
            write(project.folder / file, (folder / file).read_text(encoding="utf-8"))
    say(f"{name}: {pinned(project)}")


def table(records: Mapping[str, Mapping[str, Any]]) -> str:
    """What each program's building took, when it was built."""
    lines = ["| Program | Version | CPU seconds | Size |", "| --- | --- | --: | --: |"]
    lines += [
        f"| {cost['program']} | {record['version']} | {cost['user']:.0f} | {cost['size'] / 1e6:.0f} MB |"
        for record in records.values()
        for cost in record["costs"]
    ]
    total = sum(cost["user"] for record in records.values() for cost in record["costs"])
    return "\n".join([*lines, f"| all | | {total:.0f} | |"])


def main(argv: Sequence[str]) -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        prog="build.py", description="Build the real programs that Rackloom installs."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what can be built")
    build = commands.add_parser("build", help="build and lay out")
    build.add_argument("names", nargs="*", metavar="NAME")
    build.add_argument(
        "--suite", choices=("quick", "full", "named"), default="full", help="what to build without NAMEs"
    )
    build.add_argument("--output", type=Path, default=CACHE / "bundle", help="folder for what was built")
    build.add_argument("--jobs", type=int, default=0, help="compilers at a time (0: one a core)")
    build.add_argument("--table", action="store_true", help="print what building took")
    pinning = commands.add_parser("pin", help="write go.mod and go.sum anew")
    pinning.add_argument("name")
    pinning.add_argument("version", help="without the v")
    options = parser.parse_args(argv)
    try:
        if options.command == "list":
            for name, project in catalogue().items():
                print(
                    f"{name:24} {project.suite:6} {', '.join(project.programs) or 'packages of the distribution'}"
                )
        elif options.command == "pin":
            chosen([options.name], "")
            pin(options.name, options.version)
        else:
            records = {name: made(name, options.jobs) for name in chosen(options.names, options.suite)}
            lay_out(records, options.output.resolve())
            if options.table:
                print(table(records))
            print(options.output.resolve() / "versions.yml")
    except BuildError as error:
        say(f"build.py: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
