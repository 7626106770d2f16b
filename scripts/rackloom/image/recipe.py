"""How an image is made: sources, the call of mmdebstrap, and the files of ours that go in."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackloom.image import packages
from rackloom.image.spec import SMALL, ImageSpec
from rackloom.lab.shell import run
from rackloom.lab.sources import adapt, apt_options, host_release, read_sources

_HERE = Path(__file__).parent
AGENT = "usr/lib/rackloom/agent"
"""Where the agent lies in an image."""

_EXECUTABLE = "usr/lib/systemd/system-generators/"
_DPKG_RULES = "etc/dpkg/dpkg.cfg.d/rackloom"
_AUTHORITIES = "usr/local/share/ca-certificates"


# Runs in the finished root with root's rights; $1 is the root. The epoch is the time of the newest file that a
# package brought, so it changes only when the packages do. Whatever the build itself made gets that time.
_FINISH = r"""
set -eu
export LC_ALL=C
chroot "$1" update-ca-certificates >/dev/null 2>&1
chroot "$1" systemctl preset-all --preset-mode=full >/dev/null 2>&1
chroot "$1" systemctl mask @MASKED@ >/dev/null 2>&1
chroot "$1" python3 -m compileall -q --invalidation-mode unchecked-hash /@AGENT@
rm -f "$1/etc/systemd/system-preset/00-rackloom.preset" "$1/etc/apt/apt.conf.d/99mmdebstrap" \
    "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
kernel=$(ls "$1/lib/modules" | sort -V | tail -n 1)
epoch=$(find "$1/usr" -xdev -type f ! -newermt '@STARTED@' -printf '%T@\n' | sort -n | tail -n 1)
epoch=${epoch%%.*}
find "$1/etc" "$1/usr" "$1/var/lib" -xdev -newermt "@$epoch" -exec touch --no-dereference --date="@$epoch" {} +
chroot "$1" env SOURCE_DATE_EPOCH="$epoch" mkinitramfs -o "/boot/initrd.img-$kernel" "$kernel"
printf '%s %s\n' "$epoch" "$kernel" >"$1/.rackloom"
"""
# Waits that no node needs, and old-style services that newer ones replace.
_MASKED = ("mdadm.service", "mdadm-waitidle.service", "systemd-networkd-persistent-storage.service")


@dataclass(frozen=True)
class Recipe:
    """Everything an image is made of, but for the versions of its packages."""

    spec: ImageSpec
    packages: tuple[str, ...]
    sources: tuple[str, ...]
    """Lines of sources.list for the build; empty leaves the mirror to mmdebstrap's default for the release."""
    options: tuple[str, ...]
    """Lines of apt.conf for the build and for the node."""
    files: Mapping[str, bytes]
    """Files laid into the root: path without the leading / -> content."""

    @property
    def digest(self) -> str:
        """The first 16 hex digits of the recipe's sha256."""
        spec = self.spec
        text = json.dumps(
            [
                [spec.os, spec.arch, spec.kernel, spec.initrd, spec.kernel_options],
                [self.packages, self.sources, self.options, _FINISH, _MASKED],
                {path: hashlib.sha256(content).hexdigest() for path, content in self.files.items()},
            ],
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def make(
    spec: ImageSpec,
    site_sources: Sequence[Mapping[str, Any]] = (),
    *,
    root: Path = Path("/"),
    environment: Mapping[str, str] | None = None,
) -> Recipe:
    """Write down how `spec` is built.

    Packages come from `site_sources` (cluster.yml's `packages.sources`) where there are any, else from where this
    machine takes its own, as in the lab. Nothing secret of this machine goes in: an image is served to whoever asks.
    """
    keys: Mapping[str, str] = {}
    if site_sources:
        lines = tuple(line for source in site_sources for line in source_lines(source))
    else:
        lines, keys = adapt(read_sources(root), host_release(root), (spec.distribution, spec.suite), root)
    dump = run(["apt-config", "dump"]).stdout if shutil.which("apt-config") else ""
    options = apt_options(dump, os.environ if environment is None else environment)
    options = tuple(option for option in options if not re.search(r"//[^/\s]*@", option))
    files = own_files(spec)
    files["etc/apt/sources.list"] = ("\n".join(lines) + "\n").encode() if lines else b""
    if not lines:
        del files["etc/apt/sources.list"]  # mmdebstrap's own stay
    if options:
        files["etc/apt/apt.conf.d/80rackloom"] = ("\n".join(options) + "\n").encode()
    for path, key in keys.items():
        files[path.lstrip("/")] = key.encode()
    for authority in sorted((root / _AUTHORITIES).glob("*.crt")):
        files[f"{_AUTHORITIES}/{authority.name}"] = authority.read_bytes()
    return Recipe(spec, packages.of_image(spec), lines, options, files)


def source_lines(source: Mapping[str, Any]) -> list[str]:
    """One entry of `packages.sources` as lines of sources.list; entries without binary packages give none."""
    if "deb" not in source.get("types", ["deb"]):
        return []
    options = []
    if source.get("architectures"):
        options.append(f"arch={','.join(source['architectures'])}")
    if source.get("signed_by"):
        options.append(f"signed-by={source['signed_by']}")
    if source.get("trusted"):
        options.append("trusted=yes")
    prefix = f"deb [{' '.join(options)}]" if options else "deb"
    components = " ".join(source.get("components", []))
    return [
        f"{prefix} {uri} {suite} {components}".rstrip()
        for uri in source.get("uris", [])
        for suite in source.get("suites", [])
    ]


def own_paths() -> frozenset[str]:
    """Where files of Rackloom's lie in an image, besides the agent."""
    base = _HERE / "files"
    found = {str(path.relative_to(base)) for path in base.rglob("*") if path.is_file()}
    return frozenset(
        found | {"etc/initramfs-tools/modules", "etc/apt/sources.list", "etc/apt/apt.conf.d/80rackloom"}
    )


def own_files(spec: ImageSpec) -> dict[str, bytes]:
    """What Rackloom itself puts into every image: the agent, its units, and the settings for booting."""
    base = _HERE / "files"
    found = {
        str(path.relative_to(base)): path.read_bytes() for path in sorted(base.rglob("*")) if path.is_file()
    }
    for path in sorted((_HERE / "agent").glob("*.py")):
        found[f"{AGENT}/{path.name}"] = path.read_bytes()
    chosen = "list" if spec.initrd == SMALL else "most"
    found["etc/initramfs-tools/conf.d/rackloom"] += f"MODULES={chosen}\n".encode()
    if spec.initrd == SMALL:
        found["etc/initramfs-tools/modules"] = (_HERE / "small-modules").read_bytes()
    return found


def files_archive(recipe: Recipe) -> bytes:
    """The recipe's files as a tar, folders first, everything root's."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        folders = {str(parent) for path in recipe.files for parent in Path(path).parents} - {"."}
        for folder in sorted(folders):
            entry = tarfile.TarInfo(f"./{folder}")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for path, content in sorted(recipe.files.items()):
            entry = tarfile.TarInfo(f"./{path}")
            entry.size, entry.mode = len(content), 0o755 if path.startswith(_EXECUTABLE) else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def argv(recipe: Recipe, folder: Path, started: int) -> list[str]:
    """The call of mmdebstrap that writes root.tar into `folder`, where files.tar and sources.list lie already.

    `started` is when the build began: what is younger was made by it.
    """
    finish = (
        _FINISH.replace("@STARTED@", f"@{started}")
        .replace("@MASKED@", " ".join(_MASKED))
        .replace("@AGENT@", AGENT)
    )
    rules = recipe.files[_DPKG_RULES].decode().splitlines()
    words = [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        f"--architectures={recipe.spec.arch}",
        f"--include={','.join(recipe.packages)}",
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt={rule}" for rule in rules if rule and not rule.startswith("#")),
        '--aptopt=Acquire::Languages "none"',
        *(f"--aptopt={option.rstrip(';')}" for option in recipe.options),
        f"--customize-hook=tar-in {folder}/files.tar /",
        f"--customize-hook={finish}",
        "--format=tar",
        recipe.spec.suite,
        f"{folder}/root.tar",
    ]
    return [*words, f"{folder}/sources.list"] if recipe.sources else words
