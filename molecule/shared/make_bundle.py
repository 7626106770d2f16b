"""A small bundle for scenarios, and the site's secrets that go with it: `make_bundle.py FOLDER VERSION`.

It has one package, one file, one chart, and two images with a layer in common, each with VERSION in it. Made again, it
is the same. The records of file and chart come out as versions.yml, the bundle as bundle/, the secrets as secrets.json.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import yaml

from rackloom.site.secrets import SECRETS

SUITES = {"debian-12": "bookworm", "debian-13": "trixie"}
CONTROL = """Package: rackloom-test
Version: {version}
Architecture: all
Maintainer: Nobody <nobody@demo.example>
Description: a package that no distribution has
"""
REF = "org.opencontainers.image.ref.name"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def archive(name: str, data: bytes) -> bytes:
    """A tar file of one file, the same at any time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        item = tarfile.TarInfo(name)
        item.size, item.mode = len(data), 0o755
        tar.addfile(item, io.BytesIO(data))
    return gzip.compress(out.getvalue(), mtime=0)


def packages(bundle: Path, os: str, suite: str, version: str) -> None:
    """A repository of one package."""
    pool = bundle / "apt" / os / "pool" / "rackloom-test.deb"
    build = bundle.parent / "build"
    put(build / "DEBIAN" / "control", CONTROL.format(version=version).encode())
    pool.parent.mkdir(parents=True, exist_ok=True)
    if not pool.exists():
        argv = ["dpkg-deb", "--build", "--root-owner-group", str(build), str(pool)]
        subprocess.run(argv, check=True, env={"SOURCE_DATE_EPOCH": "0", "PATH": "/usr/bin:/bin"})
    data = pool.read_bytes()
    more = f"Filename: pool/{pool.name}\nSize: {len(data)}\nSHA256: {sha256(data)}\n"
    release = "Origin: Rackloom\nSuite: {0}\nCodename: {0}\nArchitectures: amd64 arm64\nComponents: main\n"
    release = release.format(suite) + "Date: Thu, 01 Jan 1970 00:00:00 UTC\nSHA256:\n"
    for arch in ("amd64", "arm64"):
        listed = (CONTROL.format(version=version) + more).encode()
        path = f"main/binary-{arch}/Packages"
        put(bundle / "apt" / os / "dists" / suite / path, listed)
        release += f" {sha256(listed)} {len(listed)} {path}\n"
    put(bundle / "apt" / os / "dists" / suite / "Release", release.encode())


def image(layout: Path, name: str, layers: list[bytes]) -> dict[str, Any]:
    """One image in an OCI layout; returns its entry of index.json."""

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        put(layout / "blobs" / "sha256" / sha256(data), data)
        return {"mediaType": kind, "digest": f"sha256:{sha256(data)}", "size": len(data)}

    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/hello"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{sha256(gzip.decompress(layer))}" for layer in layers],
        },
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [blob(layer, "application/vnd.oci.image.layer.v1.tar+gzip") for layer in layers],
    }
    return {**blob(json.dumps(manifest).encode(), MANIFEST), "annotations": {REF: name}}


def make(folder: Path, version: str) -> None:
    """Write everything below `folder`."""
    bundle = folder / "bundle"
    for os, suite in SUITES.items():
        packages(bundle, os, suite, version)
    program = archive("linux-amd64/hello", f"#!/bin/sh\necho hello {version}\n".encode())
    put(bundle / "files" / "hello" / version / "amd64" / f"hello-{version}.tar.gz", program)
    put(bundle / "files" / "hello" / version / "arm64" / f"hello-{version}.tar.gz", program)
    chart = archive("greeter/Chart.yaml", f"name: greeter\nversion: {version}\n".encode())
    put(bundle / "charts" / f"greeter-{version}.tgz", chart)
    put(bundle / "wheels" / "index.txt", b"none\n")
    shared = archive("shared", b"in common " * 20000)
    own = archive("own", version.encode())
    names = {
        "registry.example/one": [shared, own],
        "registry.example/deep/two": [shared, own, archive("two", b"2")],
    }
    entries = [image(bundle / "images", f"{name}:{version}", layers) for name, layers in names.items()]
    put(bundle / "images" / "index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
    put(bundle / "images" / "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    place = "https://outside.example/{version}/hello-{version}.tar.gz"
    digests = dict.fromkeys(("amd64", "arm64"), sha256(program))
    versions = {
        "files": {
            "hello": {"version": version, "url": place, "sha256": digests},
            "absent": {"version": version, "url": place, "sha256": digests},
            "broken": {
                "version": version,
                "url": place,
                "sha256": dict.fromkeys(digests, sha256(b"another")),
            },
        },
        "images": {},
        "charts": {
            "greeter": {
                "version": version,
                "url": "https://outside.example/greeter.tgz",
                "sha256": sha256(chart),
            }
        },
    }
    put(bundle / "files" / "broken" / version / "amd64" / f"hello-{version}.tar.gz", program)
    put(bundle / "files" / "broken" / version / "arm64" / f"hello-{version}.tar.gz", program)
    put(folder / "versions.yml", yaml.safe_dump(versions).encode())
    paths = sorted(path for path in bundle.rglob("*") if path.is_file() and path.name != "bundle.lock")
    rows = [
        {
            "path": str(path.relative_to(bundle)),
            "sha256": sha256(path.read_bytes()),
            "size": path.stat().st_size,
            "arch": "all",
        }
        for path in paths
    ]
    put(bundle / "bundle.lock", json.dumps(rows, indent=1).encode())
    secrets = folder.parent / "secrets.json"
    if not secrets.exists():
        made: dict[str, str] = {}
        for secret in SECRETS:
            if secret.name.startswith(("ca_", "package_")):
                made[secret.name] = secret.make(made)
        put(secrets, json.dumps(made).encode())


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2])
