"""
Brings a bundle into a site: checks it, writes its record into the config, and has the mirror serve it.

What a site keeps of a bundle is its lock, its versions and its unsigned package lists, in `bundles/<id>/`; the content
goes to the mirror's host. Bundles lie beside each other; `bundles/current` leads to the one that is served.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rackloom.bundle import sign, verify
from rackloom.bundle.errors import BundleError
from rackloom.bundle.items import ABOUT, LOCK, SIGNATURE, SIGNERS, VERSIONS, read_about, read_lock
from rackloom.result import ExitCode
from rackloom.site import bundles

if TYPE_CHECKING:
    from rackloom.bundle.progress import Progress
    from rackloom.run.deploy import RunOutcome
    from rackloom.run.progress import ProgressSink

STAGE = "mirror"
_ID = 16


class RefusedError(BundleError, ValueError):
    """The bundle, or the name of one, is wrong; nothing was touched."""


@dataclass(frozen=True)
class Done:
    """How it went. `outcome` is the run of the stage that serves the mirror, None where nothing was to be done."""

    id: str
    outcome: RunOutcome | None = None
    signature: verify.Signature | None = None
    trusted: bool = False
    """Whether the signer was written down as one whose bundles this site takes."""
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Accept:
    """Whose bundle is taken: of a known signer, of the key with this fingerprint, or anybody's."""

    fingerprint: str = ""
    unsigned: bool = False


def install(
    config: Path,
    folder: Path,
    progress: Progress,
    *,
    accept: Accept | None = None,
    display: ProgressSink | None = None,
) -> Done:
    """Check the bundle in `folder` and have the site's mirror serve it. Raises RefusedError or BundleError.

    A site that takes its first bundle learns its signer; later bundles must be of a signer that it knows.
    """
    accept = accept or Accept()
    folder = folder.resolve()
    _need_site(config)
    signature = _verified(config, folder, progress, accept)
    record = _write_record(config, folder)
    trusted = False
    if signature.accepted and not accept.unsigned:
        trusted = _trust(config, folder, signature)
    return _serve(config, record.id, display, signature=signature, trusted=trusted)


def switch(config: Path, wanted: str, display: ProgressSink | None = None) -> Done:
    """Serve another bundle that was installed before: an id, the beginning of one, or `previous`."""
    _need_site(config)
    known = bundles.installed(config)
    now = bundles.current(config)
    if wanted == "previous":
        others = [other for other in known if now is None or other.id != now.id]
        found = others[-1:]
    else:
        found = [other for other in known if other.id.startswith(wanted)]
    if len(found) != 1:
        names = ", ".join(other.id for other in known) or "none"
        what = f"several bundles begin with {wanted}" if found else f"there is no bundle {wanted}"
        raise RefusedError(what, f"installed are: {names}")
    return _serve(config, found[0].id, display)


def prune(config: Path, display: ProgressSink | None = None) -> Done:
    """Remove every bundle but the one that is served, from the site's records and from the mirror's host."""
    _need_site(config)
    now = bundles.current(config)
    if now is None:
        raise RefusedError(
            "no bundle was installed", "run `rackloom bundle install` with the bundle's folder"
        )
    gone = [other for other in bundles.installed(config) if other.id != now.id]
    for other in gone:
        shutil.rmtree(other.record)
    outcome = _run(config, display, {"mirror_prune": True})
    return Done(now.id, outcome, removed=tuple(other.id for other in gone))


def _need_site(config: Path) -> None:
    if not (config / "cluster.yml").is_file():
        raise RefusedError(
            f"there is no site in {config}", "run `rackloom init`, then describe your nodes there"
        )


def _verified(config: Path, folder: Path, progress: Progress, accept: Accept) -> verify.Signature:
    """The bundle's signature; refuses a bundle that is not whole, or not of somebody whose bundles are taken."""
    if not (folder / LOCK).is_file():
        read_about(folder)
        raise RefusedError(f"{folder} holds no finished bundle: there is no {LOCK}", "copy the bundle again")
    items = read_lock(folder)
    if STAGE not in read_about(folder).stages:
        raise RefusedError(
            "the bundle lacks what the mirror itself is made of",
            f"make it with the stage {STAGE} among its --stages, or with all of them",
        )
    own = config / sign.SIGNERS_FILE
    known = own if own.is_file() and not accept.fingerprint else None
    progress.start("checking", len(items), sum(item.size for item in items))
    try:
        report = verify.verify(folder, signers=known, fingerprint=accept.fingerprint, moved=progress.moved)
    finally:
        progress.stop()
    if not report.whole:
        wrong = report.lines()
        more = f" (and {len(wrong) - 5} more)" if len(wrong) > 5 else ""
        raise RefusedError(
            f"the bundle is damaged: {'; '.join(wrong[:5])}{more}",
            "copy it again; `rackloom bundle verify` tells all",
        )
    if not report.good(accept_unsigned=accept.unsigned):
        raise RefusedError(
            verify.describe(report.signature).rstrip("."),
            "get the bundle from whom you trust, or name the key with --fingerprint; "
            "--accept-unsigned-bundle takes it all the same",
        )
    return report.signature


def _write_record(config: Path, folder: Path) -> bundles.Installed:
    """Keep what the site needs of a bundle when its disk has been carried away."""
    content = (folder / LOCK).read_bytes()
    name = hashlib.sha256(content).hexdigest()[:_ID]
    record = config / bundles.FOLDER / name
    fresh = record.with_name(f".{name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    (fresh / LOCK).write_bytes(content)
    lists = [
        item.path
        for item in read_lock(folder)
        if item.path.startswith("apt/") and item.name.endswith("/Release")
    ]
    for path in [*lists, SIGNATURE, ABOUT, SIGNERS, VERSIONS]:
        if (folder / path).is_file():
            (fresh / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / path, fresh / path)
    (fresh / bundles.SOURCE).write_text(f"{folder}\n", encoding="utf-8")
    shutil.rmtree(record, ignore_errors=True)
    fresh.rename(record)
    return bundles.Installed(name, record)


def _trust(config: Path, folder: Path, signature: verify.Signature) -> bool:
    """Remember who signed the site's first bundle."""
    line = (folder / SIGNERS).read_text(encoding="utf-8") if (folder / SIGNERS).is_file() else ""
    if (
        not line
        or verify.check_signature(folder, signers=folder / SIGNERS).fingerprint != signature.fingerprint
    ):
        return False
    return sign.trust(config, line if line.endswith("\n") else f"{line}\n")


def _serve(config: Path, wanted: str, display: ProgressSink | None, **told: Any) -> Done:
    """Point the site to a bundle and have the mirror serve it; back to the old one where that does not work."""
    before = bundles.current(config)
    _point(config, wanted)
    outcome = _run(config, display, {})
    if outcome.exit_code not in (ExitCode.OK, ExitCode.INTERRUPTED):
        if before is not None:
            _point(config, before.id)
        else:
            (config / bundles.FOLDER / bundles.CURRENT).unlink(missing_ok=True)
    return Done(wanted, outcome, **told)


def _point(config: Path, wanted: str) -> None:
    link = config / bundles.FOLDER / bundles.CURRENT
    fresh = link.with_name(f".{bundles.CURRENT}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(wanted)
    fresh.replace(link)


def _run(config: Path, display: ProgressSink | None, extra: Mapping[str, Any]) -> RunOutcome:
    from rackloom.run.deploy import deploy  # noqa: PLC0415 - slow to load
    from rackloom.site import secrets  # noqa: PLC0415

    secrets.init(config)
    return deploy(config, stages=(STAGE,), limit=STAGE, progress=display, extra_vars=extra)
