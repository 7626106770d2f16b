"""A small outside world on this machine: a web server, a signed apt repository, a package index, OCI layouts."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import daemons

from rackloom.bundle import declared
from rackloom.bundle.progress import Progress
from rackloom.bundle.resolve import _TOOLS, Request

OS = "debian-12"
SUITE = "bookworm"


@dataclass
class Manners:
    """How the server answers; tests change it while it runs."""

    pause: float = 0.0
    """Seconds between two blocks of a body."""
    cut: set[str] = field(default_factory=set)
    """Paths whose next answer breaks off in the middle."""
    gone: set[str] = field(default_factory=set)
    """Paths that are not found."""
    mute: set[str] = field(default_factory=set)
    """Paths whose size is not told."""
    dead: bool = False
    """Every connection breaks off, those at work too."""
    ranges: bool = True
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and Range header of every request."""

    def bodies(self) -> list[str]:
        """Paths that were fetched."""
        return [path for method, path, _ in self.asked if method == "GET"]


class Server(ThreadingHTTPServer):
    """Serves one folder."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, root: Path, port: int = 0) -> None:
        self.root, self.manners = root, Manners()
        super().__init__(("127.0.0.1", port), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """No answer from now on."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        manners = self.server.manners
        path = self.path.split("?")[0]
        manners.asked.append((self.command, path, self.headers.get("Range", "")))
        if manners.dead:
            self.close_connection = True
            return
        file = self.server.root / path.lstrip("/")
        if file.is_dir():
            file /= "index.html"
        if path in manners.gone or not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match and manners.ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        mute = path in manners.mute
        if not mute:
            self.send_header("Content-Length", str(len(content) - start))
        else:
            self.send_header("Connection", "close")
        kind = "text/html" if file.suffix == ".html" else "application/octet-stream"
        notes = file.with_name(f"{file.name}.type")
        self.send_header("Content-Type", notes.read_text() if notes.is_file() else kind)
        self.end_headers()
        if self.command == "HEAD":
            self.close_connection = mute
            return
        body = memoryview(content)[start:]
        cut = path in manners.cut
        if cut:
            manners.cut.discard(path)
            body = body[: len(body) // 2]
        for at in range(0, len(body), 1 << 16):
            if self.server.manners.dead:
                self.close_connection = True
                return
            self.wfile.write(body[at : at + (1 << 16)])
            if manners.pause:
                time.sleep(manners.pause)  # a slow line
        self.close_connection = cut or mute


class World:
    """The outside, and a toolkit whose one role takes something of every kind from it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.web = base / "web"
        self.web.mkdir(parents=True)
        self.server = Server(self.web)
        self.home = base / "home"
        self.config = base / "config"
        self.layout = base / "layout"
        self.cache = base / "cache"
        self.key = base / "key"
        self.records: dict[str, dict[str, Any]] = {"files": {}, "images": {}, "charts": {}}

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def manners(self) -> Manners:
        return self.server.manners

    def request(self, **more: Any) -> Request:
        return Request(**{"stages": ("demo",), "os": (OS,), "config": self.config, **more})

    def environment(self) -> dict[str, str]:
        """For programs that tests start."""
        return {
            **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
            "RACKLOOM_HOME": str(self.home),
            "RACKLOOM_CACHE": str(self.cache),
            "PIP_INDEX_URL": f"{self.url}/simple/",
            "PIP_FIND_LINKS": "",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_CACHE_DIR": "1",
            "PIP_RETRIES": "0",
        }

    def gpg(self, *words: str) -> str:
        """Run gpg with the key that signs the repository."""
        return gpg(self.base / "gnupg", *words)

    # --- What there is outside ---

    def file(
        self, name: str, version: str, content: bytes, arches: tuple[str, ...] = ("amd64", "arm64")
    ) -> None:
        """A vendor's file for each architecture, and its record."""
        digests = {}
        for arch in arches:
            path = self.web / "vendor" / f"{name}-{version}-{arch}.bin"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content + arch.encode())
            digests[arch] = hashlib.sha256(path.read_bytes()).hexdigest()
        url = f"{self.url}/vendor/{name}-{{version}}-{{arch}}.bin"
        self.records["files"][name] = {"version": version, "url": url, "sha256": digests}

    def chart(self, name: str, version: str) -> None:
        """A chart and its record."""
        path = self.web / "vendor" / f"{name}-{version}.tgz"
        path.write_bytes(f"chart {name} {version}".encode())
        self.records["charts"][name] = {
            "version": version,
            "url": f"{self.url}/vendor/{name}-{{version}}.tgz",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }

    def blob(self, content: bytes) -> dict[str, Any]:
        """A part of an image in the layout."""
        sha256 = hashlib.sha256(content).hexdigest()
        path = self.layout / "blobs" / "sha256" / sha256
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return {"digest": f"sha256:{sha256}", "size": len(content)}

    def manifest(self, arch: str, *layers: bytes, docker: bool = False) -> dict[str, Any]:
        """One architecture's image in the layout, of OCI's kind or of Docker's."""
        oci = "application/vnd.oci.image"
        kinds = [f"{oci}.layer.v1.tar+gzip", f"{oci}.config.v1+json", f"{oci}.manifest.v1+json"]
        if docker:
            old = "application/vnd.docker"
            kinds = [f"{old}.image.rootfs.diff.tar.gzip", f"{old}.container.image.v1+json"]
            kinds.append(f"{old}.distribution.manifest.v2+json")
        contents = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
        rootfs = {"type": "layers", "diff_ids": contents}
        config = {"architecture": arch, "os": "linux", "rootfs": rootfs, "config": {}}
        parts = [{"mediaType": kinds[0], **self.blob(gzip.compress(layer, mtime=0))} for layer in layers]
        made = {
            "schemaVersion": 2,
            "mediaType": kinds[2],
            "config": {
                "mediaType": kinds[1],
                **self.blob(json.dumps(config).encode()),
            },
            "layers": parts,
        }
        described = self.blob(json.dumps(made).encode())
        return {
            "mediaType": made["mediaType"],
            **described,
            "platform": {"architecture": arch, "os": "linux"},
        }

    def image(self, name: str, tag: str, *manifests: dict[str, Any]) -> str:
        """An image of one or several architectures, and its record. Returns its digest."""
        if len(manifests) == 1:
            digest = str(manifests[0]["digest"])
        else:
            kind = "application/vnd.oci.image.index.v1+json"
            index = {"schemaVersion": 2, "mediaType": kind, "manifests": list(manifests)}
            digest = str(self.blob(json.dumps(index).encode())["digest"])
        self.records["images"][name] = {"tag": tag, "digest": digest, "source": f"oci:{self.layout}"}
        return digest

    def write(self) -> None:
        """The toolkit: a role that takes something of every kind, one that takes packages, and their stages."""
        names = {kind: sorted(records) for kind, records in self.records.items()}
        for role, artifacts in (("demo", names), ("plain", {})):
            folder = self.home / "roles" / role
            for name in ("tasks", "vars", "meta"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            systems = {"Debian": {"packages": ["demo-app"]}}
            variables = {
                f"__{role}_os": f"{{{{ __{role}_systems[ansible_facts['os_family']] }}}}",
                f"__{role}_systems": systems,
            }
            (folder / "tasks" / "main.yml").write_text("---\n[]\n")
            (folder / "vars" / "main.yml").write_text(yaml.safe_dump(variables))
            (folder / "meta" / "artifacts.yml").write_text(yaml.safe_dump(artifacts))
        stages = self.home / "playbooks" / "stages"
        stages.mkdir(parents=True, exist_ok=True)
        for stage in ("demo", "plain"):
            (stages / f"{stage}.yml").write_text(
                yaml.safe_dump([{"hosts": "all", "roles": [{"role": stage}]}])
            )
        imported = [
            {"ansible.builtin.import_playbook": f"stages/{stage}.yml", "tags": [stage]}
            for stage in ("demo", "plain")
        ]
        (stages.parent / "site.yml").write_text(yaml.safe_dump(imported))
        (self.home / "inventory").mkdir(exist_ok=True)
        (self.home / "inventory" / "versions.yml").write_text(yaml.safe_dump(self.records))
        (self.home / "docs").mkdir(exist_ok=True)
        (self.home / "docs" / "index.md").write_text("# Docs\n")


def make_deb(
    folder: Path, name: str, version: str, *, depends: str = "", arch: str = "all", more: str = ""
) -> Path:
    """A real, small Debian package."""
    tree = folder / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/share/doc" / name).mkdir(parents=True)
    (tree / "usr/share/doc" / name / "note").write_text(f"{name} {version} {more}\n")
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\nMaintainer: Test <test@example.org>\n"
    )
    control += f"Depends: {depends}\n" if depends else ""
    (tree / "DEBIAN" / "control").write_text(f"{control}Description: {name}\n")
    pool = folder / "pool"
    pool.mkdir(exist_ok=True)
    done = subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(pool)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return pool / f"{name}_{version}_{arch}.deb"


def make_repository(folder: Path, gnupg: Path) -> None:
    """Lists and signature of the packages in a folder."""
    for arch in ("amd64", "arm64"):
        lists = folder / "dists" / SUITE / "main" / f"binary-{arch}"
        lists.mkdir(parents=True, exist_ok=True)
        argv = ["apt-ftparchive", "--arch", arch, "packages", "pool"]
        text = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True).stdout
        (lists / "Packages").write_text(text)
    release = folder / "dists" / SUITE
    options = {"Suite": SUITE, "Codename": SUITE, "Architectures": "amd64 arm64", "Components": "main"}
    words = [
        word for key, value in options.items() for word in ("-o", f"APT::FTPArchive::Release::{key}={value}")
    ]
    (release / "Release").unlink(missing_ok=True)
    text = subprocess.run(
        ["apt-ftparchive", *words, "release", str(release)], capture_output=True, text=True, check=True
    ).stdout
    (release / "Release").write_text(text)
    gpg(gnupg, "--yes", "--clearsign", "-o", str(release / "InRelease"), str(release / "Release"))


def gpg(home: Path, *words: str) -> str:
    """Run gpg with keys of the tests' own."""
    argv = [
        "gpg",
        "--homedir",
        str(home),
        "--batch",
        "--quiet",
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "",
    ]
    done = subprocess.run([*argv, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_wheel(name: str, version: str) -> bytes:
    """The smallest wheel that pip takes."""
    buffer = io.BytesIO()
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in (
            (f"{name}.py", ""),
            (f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"),
            (
                f"{info}/WHEEL",
                "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            ),
            (f"{info}/RECORD", ""),
        ):
            archive.writestr(zipfile.ZipInfo(path), text)
    return buffer.getvalue()


def _index(world: World) -> None:
    """A package index with one wheel, and the lock that wants it."""
    content = make_wheel("demowheel", "1.0")
    file = "demowheel-1.0-py3-none-any.whl"
    sha256 = hashlib.sha256(content).hexdigest()
    folder = world.web / "simple" / "demowheel"
    folder.mkdir(parents=True)
    (world.web / "wheels").mkdir()
    (world.web / "wheels" / file).write_bytes(content)
    (folder / "index.html").write_text(f'<a href="/wheels/{file}#sha256={sha256}">{file}</a>')
    lock = f"demowheel==1.0 \\\n    --hash=sha256:{sha256}\n    # via nobody\n"
    (world.home / "requirements.lock").write_text(
        lock + 'onlywindows==2.0 ; sys_platform == "win32" \\\n    --hash=sha256:' + "0" * 64 + "\n"
    )


def _repository(world: World) -> Path:
    """A signed repository with all that a controller and a node are made of. Returns the home of its key."""
    gnupg = world.base / "gnupg"
    gnupg.mkdir(mode=0o700)
    gpg(gnupg, "--quick-generate-key", "test@example.org", "ed25519", "sign", "never")
    (world.base / "repository.asc").write_text(gpg(gnupg, "--armor", "--export"))
    folder = world.web / "debian"
    folder.mkdir()
    wanted = {*declared.node_packages(OS), *declared.controller_packages(OS), *_TOOLS}
    for name in sorted(wanted):
        make_deb(folder, name, "1.0-1")
    make_deb(folder, "demo-app", "1:2.0-1", depends="demo-lib (>= 1), libc-demo | nothing")
    make_deb(folder, "demo-lib", "1.5", depends="libc-demo")
    for arch in ("amd64", "arm64"):
        make_deb(folder, "libc-demo", "2.36", arch=arch)
    shutil.rmtree(folder / "tree")
    make_repository(folder, gnupg)
    return gnupg


@pytest.fixture(scope="session")
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    for program in ("apt-get", "apt-ftparchive", "dpkg-deb", "gpg", "ssh-keygen"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on this machine: no package repository can be made")
    made = World(tmp_path_factory.mktemp("outside"))
    made.home.mkdir()
    made.config.mkdir()
    gnupg = _repository(made)
    _index(made)
    made.file("tool", "1.2.3", bytes(range(256)) * 4096)
    made.file("small", "0.1", b"small")
    made.chart("web", "3.0")
    shared = b"a layer that both have" * 1000
    made.image("registry.example.org/one", "1.0", made.manifest("amd64", shared, b"one"))
    made.image(
        "registry.example.org/two",
        "2.0",
        made.manifest("amd64", shared, b"two"),
        made.manifest("arm64", b"two, arm"),
    )
    made.image("registry.example.org/old", "0.9", made.manifest("amd64", shared, b"old", docker=True))
    made.write()
    (made.config / "cluster.yml").write_text(
        yaml.safe_dump(
            {
                "packages": {
                    "sources": [
                        {
                            "name": "test",
                            "uris": [f"{made.url}/debian"],
                            "suites": [SUITE],
                            "components": ["main"],
                            "signed_by": str(made.base / "repository.asc"),
                        }
                    ]
                }
            }
        )
    )
    yield made
    made.server.close()
    subprocess.run(["gpgconf", "--homedir", str(gnupg), "--kill", "all"], check=False)


@pytest.fixture
def world(_world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The toolkit under test sees this world and no other; the server is polite again after each test."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in _world.environment().items():
        monkeypatch.setenv(name, value)
    _world.server.manners = Manners()
    versions = _world.home / "inventory" / "versions.yml"
    kept = versions.read_text()
    yield _world
    _world.server.manners = Manners()
    versions.write_text(kept)


@pytest.fixture
def quiet() -> Progress:
    return Progress()


@pytest.fixture
def free_port() -> int:
    return daemons.free_port()
