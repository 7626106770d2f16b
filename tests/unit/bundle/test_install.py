"""Bundles on the closed side: what is taken, what is refused, and what a failed run leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rackloom.bundle import install as installing
from rackloom.bundle import sign
from rackloom.bundle.install import Accept, RefusedError
from rackloom.bundle.items import Item, lock_text
from rackloom.bundle.progress import Progress
from rackloom.bundle.seen import digest_of
from rackloom.result import ExitCode
from rackloom.run.deploy import RunOutcome
from rackloom.site import bundles, versions

Runs = list[Mapping[str, Any]]
RELEASE = "apt/debian-12/dists/bookworm/Release"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "cluster.yml").write_text("name: demo\n")
    return folder


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """The runs of the mirror's stage, which all end well."""
    return answer(monkeypatch, ExitCode.OK)


def answer(monkeypatch: pytest.MonkeyPatch, code: ExitCode) -> Runs:
    seen: Runs = []

    def run(config: Path, display: object, extra: Mapping[str, Any]) -> RunOutcome:
        now = bundles.current(config)
        seen.append({"bundle": now.id if now else "", **extra})
        return RunOutcome(code)

    monkeypatch.setattr(installing, "_run", run)
    return seen


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Make a small bundle, signed with a key of its own name."""

    def make(name: str, content: str = "", key: str = "key", stage: str = "mirror") -> Path:
        folder = tmp_path / name
        release = folder / RELEASE
        release.parent.mkdir(parents=True)
        release.write_text(f"Suite: bookworm\nDescription: {content or name}\n")
        signing = sign.ensure_key(tmp_path / key)
        (folder / "bundle.signers").write_text(signing.line)
        about = {"stages": [stage], "os": ["debian-12"], "arch": ["amd64"], "version": "1", "format": 1}
        (folder / "bundle.json").write_text(json.dumps(about))
        (folder / "versions.yml").write_text(f"files: {{{name}: {{version: '1'}}}}\n")
        paths = [path for path in folder.rglob("*") if path.is_file()]
        items = [
            Item(
                str(path.relative_to(folder)),
                "index",
                "bookworm/Release" if path == release else path.name,
                "",
                digest_of(path),
                path.stat().st_size,
                "",
            )
            for path in paths
        ]
        (folder / "bundle.lock").write_text(lock_text(items))
        sign.sign(folder, signing.path)
        shutil.rmtree(folder / ".partial")
        return folder

    return make


def install(site: Path, folder: Path, accept: Accept | None = None) -> installing.Done:
    return installing.install(site, folder, Progress(), accept=accept)


def test_a_bundle_is_recorded_and_served(site: Path, make: Callable[..., Path], runs: Runs) -> None:
    done = install(site, make("one"))
    now = bundles.current(site)
    assert now is not None
    assert (now.id, now.source) == (done.id, str(site.parent / "one"))
    assert (now.record / RELEASE).is_file()
    assert versions.effective(site).get("file", "one").version == "1"
    assert runs == [{"bundle": done.id}]
    assert done.trusted
    assert sign.SIGNERS_FILE.name in {path.name for path in site.iterdir()}


def test_the_next_bundle_must_be_of_a_signer_that_the_site_knows(
    site: Path, make: Callable[..., Path], runs: Runs
) -> None:
    install(site, make("one"))
    install(site, make("two"))
    stranger = make("three", key="other")
    with pytest.raises(RefusedError, match="not with one of those") as refused:
        install(site, stranger)
    assert "--accept-unsigned-bundle" in refused.value.cure
    assert len(runs) == 2
    assert not install(site, stranger, Accept(unsigned=True)).trusted
    with pytest.raises(RefusedError, match="not with one of those"):
        install(site, make("four", key="other"))


@pytest.mark.parametrize("hurt", ["change", "remove", "add", "unsign", "unlock"])
def test_what_is_not_whole_is_refused_and_nothing_is_touched(
    site: Path, make: Callable[..., Path], runs: Runs, hurt: str
) -> None:
    folder = make("one")
    if hurt == "change":
        (folder / RELEASE).write_text("Suite: bookworm\nDescription: two\n")
    elif hurt == "remove":
        (folder / RELEASE).unlink()
    elif hurt == "add":
        (folder / "apt/more").write_text("")
    else:
        (folder / ("bundle.lock" if hurt == "unlock" else "bundle.lock.sig")).unlink()
    before = sorted(site.rglob("*"))
    with pytest.raises(RefusedError):
        install(site, folder)
    assert sorted(site.rglob("*")) == before
    assert not runs


def test_a_bundle_without_the_mirrors_own_packages_is_refused(
    site: Path, make: Callable[..., Path], runs: Runs
) -> None:
    with pytest.raises(RefusedError, match="lacks what the mirror"):
        install(site, make("one", stage="slurm"))
    assert not runs


def test_a_folder_that_is_no_site_or_no_bundle(
    tmp_path: Path, site: Path, make: Callable[..., Path], runs: Runs
) -> None:
    with pytest.raises(RefusedError, match="no site"):
        install(tmp_path / "nowhere", make("one"))
    with pytest.raises(Exception, match="no bundle"):
        install(site, tmp_path)
    assert not runs


def test_a_failed_run_goes_back_to_the_older_bundle(
    site: Path, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, ExitCode.FAILED)
    install(site, make("one"))
    assert bundles.current(site) is None
    answer(monkeypatch, ExitCode.OK)
    first = install(site, site.parent / "one")
    answer(monkeypatch, ExitCode.FAILED)
    install(site, make("two"))
    now = bundles.current(site)
    assert now is not None
    assert now.id == first.id


def test_switching_there_and_back_and_pruning(site: Path, make: Callable[..., Path], runs: Runs) -> None:
    first, second = install(site, make("one")), install(site, make("two"))
    assert installing.switch(site, "previous").id == first.id
    assert installing.switch(site, second.id[:6]).id == second.id
    with pytest.raises(RefusedError, match="no bundle zzz"):
        installing.switch(site, "zzz")
    done = installing.prune(site)
    assert done.removed == (first.id,)
    assert [other.id for other in bundles.installed(site)] == [second.id]
    assert runs[-1] == {"bundle": second.id, "mirror_prune": True}


def test_there_is_nothing_to_prune_without_a_bundle(site: Path, runs: Runs) -> None:
    with pytest.raises(RefusedError, match="no bundle was installed"):
        installing.prune(site)
    assert not runs
