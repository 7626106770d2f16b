"""Checking a bundle: every damage is found and named, and nobody else's signature passes."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rackloom.bundle import verify as checking
from rackloom.bundle.create import create
from rackloom.bundle.errors import BundleError
from rackloom.bundle.items import LOCK, SIGNATURE, SIGNERS, check_fits, read_about, read_lock
from rackloom.bundle.progress import Progress
from rackloom.bundle.sign import ensure_key, sign
from rackloom.bundle.verify import verify

if TYPE_CHECKING:
    from tests.unit.bundle.conftest import World


@pytest.fixture
def bundle(world: World, tmp_path: Path, quiet: Progress) -> Path:
    return create(world.request(), tmp_path / "bundle", quiet, key=world.key).folder


def alone(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The copy inside the bundle, with a Python that knows nothing of Rackloom."""
    argv = [sys.executable, "-I", "-S", str(folder / "verify.py"), *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_a_hundred_random_damages(bundle: Path) -> None:
    """Each is made, found, named, and undone."""
    seed = int(os.environ.get("RACKLOOM_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"RACKLOOM_SEED={seed}")
    dice = random.Random(seed)  # noqa: S311 - chance for a test
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    folders = sorted({path.parent for path in files})
    missed = []
    for number in range(100):
        what = ("flip", "truncate", "remove", "add")[number % 4]
        path = dice.choice(files)
        content = path.read_bytes()
        if what == "flip":
            at = dice.randrange(len(content))
            changed = bytearray(content)
            changed[at] ^= 1 << dice.randrange(8)
            path.write_bytes(changed)
        elif what == "truncate":
            path.write_bytes(content[: dice.randrange(len(content))])
        elif what == "remove":
            path.unlink()
        else:
            path = dice.choice(folders) / f"added-{number}"
            path.write_bytes(dice.randbytes(dice.randrange(100)))
        report = verify(bundle)
        name = str(path.relative_to(bundle))
        if report.good() or name not in report.named or not any(name in line for line in report.lines()):
            missed.append((what, name, report.lines()))
        if what == "add":
            path.unlink()
        else:
            path.write_bytes(content)
    assert not missed
    assert verify(bundle).good()


@pytest.mark.parametrize("name", [LOCK, SIGNATURE, "verify.py", "images/index.json"])
def test_every_single_byte_of_what_holds_it_together(bundle: Path, name: str) -> None:
    """Bits that a lenient reader would not miss are missed here all the same."""
    path = bundle / name
    content = path.read_bytes()
    step = max(1, len(content) // 60)
    for at in range(0, len(content), step):
        changed = bytearray(content)
        changed[at] ^= 0x20  # the other case of a letter, the other kind of white space
        path.write_bytes(changed)
        report = verify(bundle)
        assert not report.good(), (name, at)
        assert name in report.named, (name, at)


def test_alone(bundle: Path) -> None:
    done = alone(bundle)
    assert done.returncode == 0, done.stderr
    assert "complete and unmodified" in done.stdout
    wheel = next((bundle / "wheels").iterdir())
    wheel.write_bytes(wheel.read_bytes()[:-1])
    (bundle / "charts" / "more.tgz").write_text("")
    done = alone(bundle)
    assert done.returncode == 1
    assert f"wheels/{wheel.name} is not what the lock says" in done.stderr
    assert "charts/more.tgz does not belong to the bundle" in done.stderr


def test_symbolic_links_are_no_files(bundle: Path) -> None:
    chart = bundle / "charts/web-3.0.tgz"
    chart.rename(bundle.parent / "elsewhere")
    chart.symlink_to(bundle.parent / "elsewhere")
    assert verify(bundle).changed == ["charts/web-3.0.tgz"]


def test_a_copy_of_it_is_as_good(bundle: Path, tmp_path: Path) -> None:
    """Times, owners and modes do not survive the way through many disks."""
    shutil.copytree(bundle, tmp_path / "copy", copy_function=shutil.copyfile)
    assert verify(tmp_path / "copy").good()


def test_who_signed(bundle: Path, world: World, tmp_path: Path) -> None:
    signers = tmp_path / "signers"
    shutil.copy(bundle / SIGNERS, signers)
    plain = verify(bundle).signature
    assert plain.state == checking.GOOD and not plain.known and plain.signer
    assert "compare the key" in checking.describe(plain)
    assert verify(bundle, signers=signers).signature.known
    assert verify(bundle, fingerprint=plain.fingerprint).signature.known
    wrong = verify(bundle, fingerprint="SHA256:" + "A" * 43)
    assert wrong.signature.state == checking.STRANGER and not wrong.good()
    assert plain.fingerprint in checking.describe(wrong.signature)


def test_signed_by_a_stranger(bundle: Path, world: World, tmp_path: Path) -> None:
    """Somebody changes a file, corrects the lock and signs it with a key of his own."""
    signers = tmp_path / "signers"
    shutil.copy(bundle / SIGNERS, signers)
    stranger = ensure_key(tmp_path / "stranger")
    sign(bundle, stranger.path)
    shutil.rmtree(bundle / ".partial")
    report = verify(bundle, signers=signers)
    assert report.whole and not report.good()
    assert report.good(accept_unsigned=True)
    assert alone(bundle, "--signers", str(signers)).returncode == 1
    assert alone(bundle, "--signers", str(signers), "--accept-unsigned-bundle").returncode == 0


def test_unsigned(bundle: Path) -> None:
    (bundle / SIGNATURE).unlink()
    report = verify(bundle)
    assert report.signature.state == checking.UNSIGNED and not report.good()
    assert report.good(accept_unsigned=True)
    assert "not signed" in " ".join(report.lines())
    (bundle / "README").write_text("other")
    assert not verify(bundle).good(accept_unsigned=True)


def test_paths_that_lead_out(bundle: Path) -> None:
    text = (bundle / LOCK).read_text()
    (bundle / LOCK).write_text(text.replace('"path": "README"', '"path": "../README"'))
    assert any("../README" in line for line in verify(bundle).lines())
    with pytest.raises(BundleError, match=r"\.\./README"):
        read_lock(bundle)


def test_for_whom_it_is(bundle: Path) -> None:
    about = read_about(bundle)
    check_fits(about, os="debian-12", arch="amd64", stages=["demo"])
    with pytest.raises(BundleError, match=r"the architecture arm64 \(it is for amd64\)"):
        check_fits(about, arch="arm64")
    with pytest.raises(BundleError, match="the stages slurm"):
        check_fits(about, stages=["slurm"])


def test_what_is_no_bundle(tmp_path: Path) -> None:
    assert not verify(tmp_path / "nowhere").good()
    assert not verify(tmp_path).good(accept_unsigned=True)
    with pytest.raises(BundleError, match="no finished bundle"):
        read_lock(tmp_path)
