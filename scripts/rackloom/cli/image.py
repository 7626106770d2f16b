"""`rackloom image`: operating systems for nodes, built from packages."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackloom.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from rackloom.result import Block, ExitCode, Result, Table, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from rackloom.image.spec import ImageSpec
    from rackloom.image.store import Built
    from rackloom.site.models import ClusterFile

image_app = typer.Typer(help="Operating systems for nodes.", no_args_is_help=True, rich_markup_mode=None)

FOLDER = "images"
_SHOWN = 40
_FIRMWARE = (
    "No firmware package is inside. Network cards that load their own (bnx2x, qede) want firmware-bnx2x or "
    "firmware-misc-nonfree in packages:, and the component non-free-firmware in packages.sources."
)

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="DIR", help="Where images are kept; left out: images/ of the site."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(image_app, name="image")


@image_app.callback()
def group() -> None:
    """Build the operating systems that nodes get, and compare builds."""


@image_app.command("build")
def build(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of provision.images in cluster.yml.")],
    output: FolderOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Build an image from packages: kernel, initrd and root file system. The same packages give the same image."""
    from rackloom.image import recipe, store  # noqa: PLC0415 - slow to load
    from rackloom.image.build import build as make  # noqa: PLC0415
    from rackloom.run.preflight import mistakes_as_problems  # noqa: PLC0415
    from rackloom.site.check import check_site  # noqa: PLC0415

    found = check_site(config)
    if found.site is None:
        return Result("image build", ExitCode.MISTAKES, errors=mistakes_as_problems(config, found.mistakes))
    cluster = found.site.cluster
    if name not in cluster.provision.images:
        known = ", ".join(cluster.provision.images) or "none yet"
        return refused(
            "image build", "unknown_image", f"cluster.yml has no image '{name}'", f"there is: {known}"
        )
    if cluster.provision.images[name].kind != "image":
        cure = "nothing is to be built: the boot server hands out the distribution's own installer"
        return refused("image build", "installer", f"'{name}' is an installer", cure)
    began = time.monotonic()
    images = output or config / FOLDER
    before = store.current(images, name)
    wanted = recipe.make(spec_of(name, cluster), [s.model_dump() for s in cluster.packages.sources])
    built = make(wanted, images, _tell(as_json=as_json))
    return _built(built, before, time.monotonic() - began)


@image_app.command("list")
def list_(
    output: FolderOption = None, _json: JsonOption = False, config: ConfigOption = DEFAULT_CONFIG
) -> Result:
    """List the builds on this machine; `current` is what nodes get at the next `rackloom provision`."""
    from rackloom.image import store  # noqa: PLC0415

    images = output or config / FOLDER
    rows, data = [], []
    for one in store.builds(images):
        now = store.current(images, one.name)
        current = now is not None and now.id == one.id
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime((one.folder / store.RECORD).stat().st_mtime))
        rows.append((one.name, one.id, "current" if current else "", one.record["os"], _mib(one.size), made))
        data.append({**summary(one), "current": current})
    if not rows:
        return Result(
            "image list", data={"images": []}, view=(f"No image in {images} yet: rackloom image build NAME.",)
        )
    return Result(
        "image list", data={"images": data}, view=(Table(("image", "id", "", "os", "size", "built"), rows),)
    )


@image_app.command("diff")
def diff(
    first: Annotated[
        str, typer.Argument(metavar="A", help="An image's name, an id or its beginning, or a folder.")
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="The one to compare with.")],
    output: FolderOption = None,
    _json: JsonOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> Result:
    """Tell which files two builds differ in, and why."""
    from dataclasses import asdict  # noqa: PLC0415

    from rackloom.image import store  # noqa: PLC0415
    from rackloom.image.diff import compare  # noqa: PLC0415

    images = output or config / FOLDER
    one, two = store.find(images, first), store.find(images, second)
    found = compare(one, two)
    data = {"first": summary(one), "second": summary(two), **asdict(found)}
    if found.same:
        return Result("image diff", data=data, view=(f"The same image: {one.id}.",))
    view: list[Block] = []
    if found.inputs:
        view += [
            Table(("asked for", one.id, two.id), [(key, *pair) for key, pair in found.inputs.items()]),
            "",
        ]
    if found.packages:
        rows = [(key, old or "–", new or "–") for key, (old, new) in found.packages.items()]
        view += [Table(("package", one.id, two.id), rows), ""]
    rows = [(file.path, file.kind, file.why) for file in found.files[:_SHOWN]]
    view += [Table(("file", "", "why"), rows), ""] if rows else []
    more = f"; the first {_SHOWN} are shown, --json has all" if len(found.files) > _SHOWN else ""
    view.append(f"{len(found.packages)} packages and {len(found.files)} files differ{more}.")
    return Result("image diff", data=data, view=view)


def spec_of(name: str, cluster: ClusterFile) -> ImageSpec:
    """The site's image as the builder wants it. Raises ImageError for a system that cannot be built."""
    from rackloom.image.spec import ImageSpec  # noqa: PLC0415

    image = cluster.provision.images[name]
    layouts = [cluster.provision.layout(image.layout), *cluster.provision.layouts.values()]
    filesystems = {part.filesystem for layout in layouts for part in layout.partitions}
    return ImageSpec(
        name=name,
        os=image.os,
        mode=image.mode,
        roles=tuple(image.roles),
        packages=tuple(sorted({*image.packages, *cluster.packages.extra})),
        kernel=image.kernel,
        initrd=image.initrd,
        filesystems=tuple(sorted(filesystems)),
        kernel_options=image.kernel_options,
    )


def summary(built: Built) -> dict[str, object]:
    """What programs want to know of a build."""
    keys = ("name", "id", "os", "arch", "kernel", "roles")
    return {**{key: built.record[key] for key in keys}, "size": built.size, "path": str(built.folder)}


def _built(built: Built, before: Built | None, seconds: float) -> Result:
    """Tell what was built and how it stands to the build before it."""
    same_recipe = before is not None and before.record.get("recipe") == built.record["recipe"]
    changed = before is None or before.id != built.id
    record = built.record
    what = (
        f"{record['os']}, kernel {record['kernel']}, {len(record['packages'])} packages, {_mib(built.size)}"
    )
    view: list[Block] = [
        f"{built.name} {built.id}: {what}, built in {seconds:.0f} s.",
        f"It lies in {built.folder} and is the current one.",
    ]
    if before and not changed:
        view.append("It is the same as before, byte for byte.")
    elif before:
        reason = (
            "packages changed"
            if same_recipe and before.record["packages"] != built.record["packages"]
            else ""
        )
        view.append(f"Before it was {before.id}{f': {reason}' if reason else ''}. What differs, and why:")
        view.append(f"rackloom image diff {built.name}/{before.id} {built.name}/{built.id}")
    if built.record["os"].startswith("debian") and "cloud" not in built.record["kernel"]:
        firmware = [name for name in built.record["packages"] if name.startswith("firmware-")]
        if not firmware:
            view.append(_FIRMWARE)
    data = {**summary(built), "changed": changed, "seconds": round(seconds, 1)}
    return Result("image build", data=data, view=view)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"


def _tell(*, as_json: bool) -> Callable[[str], None]:
    stream = sys.stderr if as_json else sys.stdout

    def tell(text: str) -> None:
        stream.write(f"image: {text}\n")
        stream.flush()

    return tell
