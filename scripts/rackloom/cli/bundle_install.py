"""`rackloom bundle install|switch|prune`: bundles on the closed side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackloom.cli.bundle import FingerprintOption, UnsignedOption, bundle_app
from rackloom.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, progress_for
from rackloom.result import Block, ExitCode, Result

if TYPE_CHECKING:
    from rackloom.bundle.install import Done


def register(_app: typer.Typer) -> None:
    """Add the commands to the group `bundle`."""
    for command in (install, switch, prune):
        bundle_app.command(command.__name__)(command)


def install(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The bundle, on its disk.")],
    fingerprint: FingerprintOption = "",
    accept_unsigned_bundle: UnsignedOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> Result:
    """Check a bundle and have the site's mirror serve it, beside the older ones."""
    from rackloom.bundle import install as installing  # noqa: PLC0415 - slow to load
    from rackloom.bundle.progress import for_stream  # noqa: PLC0415

    done = installing.install(
        config,
        folder,
        for_stream(sys.stderr if as_json else sys.stdout),
        accept=installing.Accept(fingerprint, accept_unsigned_bundle),
        display=progress_for(as_json=as_json),
    )
    return _result("bundle install", done)


def switch(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="Its id, the beginning of it, or `previous`.")
    ] = "previous",
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> Result:
    """Have the mirror serve another bundle that was installed before."""
    from rackloom.bundle import install as installing  # noqa: PLC0415 - slow to load

    done = installing.switch(config, bundle, display=progress_for(as_json=as_json))
    return _result("bundle switch", done)


def prune(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="A bundle's folder: remove what does not belong to it."),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> Result:
    """Remove the bundles that the mirror does not serve any more; with DIR, what older runs left in that folder."""
    if folder is not None:
        from rackloom.bundle import create as making  # noqa: PLC0415 - slow to load

        removed = making.prune(folder)
        said = f"Removed {len(removed)} files." if removed else "There was nothing to remove."
        return Result("bundle prune", data={"folder": str(folder), "removed": removed}, view=[*removed, said])
    from rackloom.bundle import install as installing  # noqa: PLC0415 - slow to load

    return _result("bundle prune", installing.prune(config, display=progress_for(as_json=as_json)))


def _result(command: str, done: Done) -> Result:
    """The run's outcome, with what it means for bundles."""
    from rackloom.bundle.verify import describe  # noqa: PLC0415
    from rackloom.cli.outcome import as_result  # noqa: PLC0415

    data = {"bundle": done.id, "removed": list(done.removed), "trusted": done.trusted}
    view: list[Block] = []
    if done.signature is not None:
        data["fingerprint"] = done.signature.fingerprint
        view.append(describe(done.signature))
    if done.trusted:
        view.append("The site takes bundles of this signer from now on (bundle-signers in the config).")
    if done.outcome is None:
        return Result(command, data=data, view=view)
    ran = as_result(command, done.outcome)
    view += ran.view
    if done.outcome.exit_code is ExitCode.OK:
        removed = f" Removed: {', '.join(done.removed)}." if done.removed else ""
        view.append(f"The mirror serves bundle {done.id}.{removed}")
    return Result(command, ran.exit_code, {**data, **ran.data}, ran.errors, view, ran.status)
