"""`rackloom bundle`: everything a closed site takes from outside, in one folder."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackloom.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from rackloom.result import Block, ExitCode, Problem, Result, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rackloom.bundle.items import Item
    from rackloom.bundle.progress import Progress
    from rackloom.bundle.resolve import Request

bundle_app = typer.Typer(
    help="One folder with all that a closed site takes from outside.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(bundle_app, name="bundle")


@bundle_app.callback()
def group() -> None:
    """Carry everything across the air gap: make one bundle, check it, compare it with an older one."""


StagesOption = Annotated[
    str, typer.Option("--stages", metavar="LIST", help="Only what these stages take, like base,slurm.")
]
OsOption = Annotated[
    str,
    typer.Option("--os", metavar="LIST", help="Systems of the nodes and of the controller, like debian-12."),
]
ArchOption = Annotated[str, typer.Option("--arch", metavar="LIST", help="amd64, arm64 or both.")]
WithOption = Annotated[
    str,
    typer.Option(
        "--with",
        metavar="LIST",
        help="Beside what the site has chosen: like calico,gateway; all = everything.",
    ),
]
VersionsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--versions", metavar="FILE", help="A versions file whose records win over inventory/versions.yml."
    ),
]
JobsOption = Annotated[int, typer.Option("--jobs", metavar="N", min=1, help="Downloads at the same time.")]
FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The bundle.")]
SignersOption = Annotated[
    Path | None,
    typer.Option(
        "--signers",
        metavar="FILE",
        help="Keys to be trusted (allowed_signers); default: the config's bundle-signers.",
    ),
]
FingerprintOption = Annotated[
    str, typer.Option("--fingerprint", metavar="SHA256:…", help="The key that must have signed.")
]
UnsignedOption = Annotated[
    bool, typer.Option("--accept-unsigned-bundle", help="Take the bundle, whoever signed it, or nobody.")
]


@bundle_app.command("list")
def list_(
    stages: StagesOption = "",
    os: OsOption = "debian-12",
    arch: ArchOption = "amd64",
    choices: WithOption = "",
    versions: VersionsOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> Result:
    """Tell what a bundle would hold, with sizes. Fetches nothing."""
    from rackloom.bundle import resolve  # noqa: PLC0415 - slow to load
    from rackloom.bundle.progress import human  # noqa: PLC0415
    from rackloom.bundle.seen import Seen  # noqa: PLC0415

    def work() -> Result:
        request = _request(stages, os, arch, choices, versions, config)
        plan = resolve.resolve(request, _progress(as_json=as_json))
        resolve.measure(plan, Seen(Path("/nonexistent")), resolve.web_for(request))
        items = plan.items
        rows = [(item.kind, item.name, item.version, item.os, item.arch, human(item.size)) for item in items]
        data = {
            "stages": plan.request.stages,
            "os": plan.request.os,
            "arch": plan.request.arch,
            "items": [asdict(item) for item in items],
            "size": _size(items),
        }
        view: list[Block] = [Table(("kind", "name", "version", "system", "arch", "size"), rows), ""]
        return Result("bundle list", data=data, view=[*view, *_totals(items)])

    return _guarded("bundle list", work)


@bundle_app.command("create")
def create(  # noqa: PLR0913, PLR0917 - each is an option of the command
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the bundle goes.")],
    stages: StagesOption = "",
    os: OsOption = "debian-12",
    arch: ArchOption = "amd64",
    choices: WithOption = "",
    older: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="An older bundle: only what changed is fetched."),
    ] = None,
    versions: VersionsOption = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="FILE", help="Sign with this SSH key; default: one of the site's, made at need."
        ),
    ] = None,
    jobs: JobsOption = 8,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> Result:
    """Fetch everything, check it, and sign the list of it. Stopped at any point, run it again: it goes on."""
    from rackloom.bundle import create as making  # noqa: PLC0415 - slow to load
    from rackloom.bundle import sign  # noqa: PLC0415
    from rackloom.bundle.progress import human  # noqa: PLC0415

    def work() -> Result:
        request = _request(stages, os, arch, choices, versions, config, jobs)
        path = key or sign.key_path(config)
        made = making.create(request, output, _progress(as_json=as_json), older=older, key=path)
        if config.is_dir():
            sign.trust(config, sign.ensure_key(path).line)
        data = {
            "folder": str(made.folder),
            "files": len(made.items),
            "size": made.size,
            "fetched": made.fetched,
            "changed": made.changed,
            "signer": made.signer,
            "fingerprint": made.fingerprint,
            "key": str(made.key),
            "key_created": made.key_made,
            "not_ours": made.left,
            "seconds": round(made.seconds, 1),
        }
        view: list[Block] = [*_totals(made.items)]
        if made.changed:
            view.append(f"The bundle is whole: {made.folder}, {human(made.size)}, {made.seconds:.0f} s.")
        else:
            view.append(f"Nothing is new: {made.folder}, {human(made.size)}, {made.seconds:.1f} s.")
        view.append(f"Signed by {made.signer} with the key {made.fingerprint} ({made.key}).")
        if made.key_made:
            view.append("The key is new. Write its fingerprint down for the person who checks the bundle.")
        if made.left:
            view.append(f"Not of the bundle, and left alone: {', '.join(made.left)}. `verify` will name it.")
        return Result("bundle create", data=data, view=view)

    return _guarded("bundle create", work)


@bundle_app.command("pin")
def pin(
    stages: StagesOption = "",
    choices: WithOption = "",
    jobs: JobsOption = 4,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> Result:
    """Look up digests of images and charts that nobody has written down; keep them in the site's versions.yml."""
    from rackloom.bundle import pin as pinning  # noqa: PLC0415 - slow to load

    def work() -> Result:
        _progress(as_json=as_json).step("asking the registries")
        found = pinning.pin(config, _words(stages), _words(choices), jobs)
        rows = [(each.kind, each.name, each.version, each.digest) for each in found]
        data = {"file": str(config / "versions.yml"), "pinned": [asdict(each) for each in found]}
        view: list[Block] = [Table(("kind", "name", "version", "digest"), rows), ""] if rows else []
        said = f"{len(found)} digests were written into {config / 'versions.yml'}."
        view.append(said if found else "Every record has its digest.")
        return Result("bundle pin", data=data, view=view)

    return _guarded("bundle pin", work)


@bundle_app.command("verify")
def verify(
    folder: FolderArgument,
    signers: SignersOption = None,
    fingerprint: FingerprintOption = "",
    accept_unsigned_bundle: UnsignedOption = False,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", min=0, help="Readers; 0 = one for each core.")
    ] = 0,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> Result:
    """Tell whether a bundle is complete, unmodified and signed, and by whom. Names every file that is wrong."""
    from rackloom.bundle import verify as checking  # noqa: PLC0415 - slow to load
    from rackloom.bundle.items import LOCK, read_lock  # noqa: PLC0415
    from rackloom.bundle.progress import human  # noqa: PLC0415
    from rackloom.bundle.sign import SIGNERS_FILE  # noqa: PLC0415

    def work() -> Result:
        if signers is not None and not signers.is_file():
            return Result(
                "bundle verify",
                ExitCode.MISTAKES,
                errors=(Problem("signers", f"there is no file {signers}", "name an allowed_signers file"),),
            )
        own = config / SIGNERS_FILE
        known = signers or (own if own.is_file() and not fingerprint else None)
        progress = _progress(as_json=as_json)
        if (folder / LOCK).is_file():
            try:
                items = read_lock(folder)
                progress.start("checking", len(items), sum(item.size for item in items))
            except Exception:  # noqa: BLE001, S110 - verify tells what is wrong with it
                pass
        report = checking.verify(
            folder, signers=known, fingerprint=fingerprint, jobs=jobs, moved=progress.moved
        )
        progress.stop()
        good = report.good(accept_unsigned=accept_unsigned_bundle)
        errors = [
            Problem("damaged", line, "copy that file again, or make the bundle again")
            for line in report.lines()
        ]
        if not good and not report.signature.accepted and not accept_unsigned_bundle:
            errors.append(
                Problem(
                    "signature",
                    checking.describe(report.signature),
                    "get the bundle from whom you trust; --accept-unsigned-bundle takes it all the same",
                )
            )
        data = {
            "folder": str(folder),
            "good": good,
            "files": report.files,
            "size": report.size,
            "changed": report.changed,
            "missing": report.missing,
            "extra": report.extra,
            "signature": asdict(report.signature),
            "seconds": round(report.seconds, 2),
        }
        said = [
            checking.describe(report.signature),
            f"{report.files} files, {human(report.size)} in {report.seconds:.1f} s: the bundle is "
            + ("complete and unmodified." if good else "not to be used."),
        ]
        return Result(
            "bundle verify", ExitCode.OK if good else ExitCode.FAILED, data, () if good else errors, said
        )

    return _guarded("bundle verify", work)


@bundle_app.command("diff")
def diff(
    older: Annotated[Path, typer.Argument(metavar="OLDER", help="One bundle.")],
    newer: Annotated[Path, typer.Argument(metavar="NEWER", help="Another.")],
    _json: JsonOption = False,
) -> Result:
    """Tell what a bundle brings that another has not, and how much it is to carry."""
    from rackloom.bundle import diff as comparing  # noqa: PLC0415 - slow to load
    from rackloom.bundle.progress import human  # noqa: PLC0415

    def work() -> Result:
        found = comparing.diff(older, newer)
        rows = [
            (each.what, each.kind, each.name, each.os, each.arch, each.old, each.new)
            for each in found.changes
        ]
        view: list[Block] = []
        if rows:
            view += [Table(("what", "kind", "name", "system", "arch", "old", "new"), rows), ""]
        view.append(
            f"{newer} brings {found.new_files} files, {human(found.new_size)}, that {older} has not; "
            f"{found.gone_files} files, {human(found.gone_size)}, are no longer in it."
        )
        return Result("bundle diff", data=asdict(found), view=view)

    return _guarded("bundle diff", work)


def _request(
    stages: str, os: str, arch: str, choices: str, versions: list[Path] | None, config: Path, jobs: int = 8
) -> Request:
    from rackloom.bundle.resolve import Request  # noqa: PLC0415

    return Request(
        _words(stages),
        _words(os),
        _words(arch),
        config if config.is_dir() else None,
        tuple(versions or ()),
        jobs,
        _words(choices),
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in (part.strip() for part in text.split(",")) if word)


def _progress(*, as_json: bool) -> Progress:
    from rackloom.bundle.progress import for_stream  # noqa: PLC0415

    return for_stream(sys.stderr if as_json else sys.stdout)


def _guarded(command: str, work: Callable[[], Result]) -> Result:
    """Turn errors that tell of several things into one problem each."""
    from rackloom.bundle.errors import FetchError, RequestError  # noqa: PLC0415

    try:
        return work()
    except FetchError as error:
        problems = [
            Problem("source", str(failure), error.cure, {"tried": list(failure.tried)})
            for failure in error.failures
        ]
        return Result(command, ExitCode.FAILED, errors=problems)
    except RequestError as error:
        problems = [Problem("request", mistake, error.cure) for mistake in error.mistakes]
        return Result(command, ExitCode.MISTAKES, errors=problems)


def _size(items: Sequence[Item]) -> int:
    return sum({item.sha256: max(0, item.size) for item in items}.values())


def _totals(items: Sequence[Item]) -> list[Block]:
    """How much there is of each kind."""
    from rackloom.bundle.progress import human  # noqa: PLC0415

    rows = []
    for kind in sorted({item.kind for item in items}):
        these = [item for item in items if item.kind == kind]
        rows.append((kind, str(len(these)), human(_size(these))))
    unknown = sum(1 for item in items if item.size < 0)
    rows.append(
        ("all", str(len(items)), human(_size(items)) + (f" and {unknown} of unknown size" if unknown else ""))
    )
    return [Table(("kind", "files", "size"), rows)]
