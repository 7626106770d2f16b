"""Making a bundle: what it holds, and that nothing half-done is ever taken for whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rackloom.bundle import create as making
from rackloom.bundle import fetch, sign
from rackloom.bundle.create import create
from rackloom.bundle.diff import diff
from rackloom.bundle.errors import BundleError, FetchError, RequestError, SpaceError
from rackloom.bundle.items import LOCK, PARTIAL, read_about, read_lock
from rackloom.bundle.progress import Progress
from rackloom.bundle.verify import verify

if TYPE_CHECKING:
    from tests.unit.bundle.conftest import World


def lock_of(folder: Path) -> str:
    return (folder / LOCK).read_text()


@pytest.fixture
def reference(world: World, tmp_path: Path, quiet: Progress) -> str:
    """The lock that every run for the same request must come to."""
    create(world.request(), tmp_path / "reference", quiet, key=world.key)
    world.manners.asked.clear()
    return lock_of(tmp_path / "reference")


def names(folder: Path, kind: str) -> set[str]:
    return {item.name for item in read_lock(folder) if item.kind == kind}


def test_it_holds_everything_and_nothing_else(world: World, tmp_path: Path, quiet: Progress) -> None:
    made = create(world.request(), tmp_path / "b", quiet, key=world.key)
    folder = made.folder
    assert verify(folder).good()
    assert {"demo-app", "demo-lib", "libc-demo", "python3-venv", "openssh-server"} <= names(folder, "package")
    assert names(folder, "file") == {"tool", "small"}
    assert names(folder, "chart") == {"web"}
    assert names(folder, "wheel") == {"demowheel"}
    assert (folder / "files/tool/1.2.3/amd64/tool-1.2.3-amd64.bin").is_file()
    assert not (folder / "files/tool/1.2.3/arm64").exists()
    assert read_about(folder).arch == ("amd64",)
    assert all(
        item.origin for item in read_lock(folder) if item.kind in ("package", "file", "chart", "wheel")
    )
    assert not (folder / PARTIAL).exists()


def test_apt_takes_its_repository(world: World, tmp_path: Path, quiet: Progress) -> None:
    """A node of the target finds all that the role wants in the bundle alone, once a mirror has signed the lists."""
    request = world.request(stages=("plain",), arch=("amd64", "arm64"))
    folder = create(request, tmp_path / "b", quiet, key=world.key).folder
    release = folder / "apt/debian-12/dists/bookworm"
    world.gpg("--clearsign", "-o", str(release / "InRelease"), str(release / "Release"))
    for arch in ("amd64", "arm64"):
        root = tmp_path / arch
        for name in ("lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"):
            (root / name).mkdir(parents=True)
        (root / "status").write_text("")
        key = world.base / "repository.asc"
        (root / "etc/sources.list").write_text(
            f"deb [signed-by={key}] file:{folder}/apt/debian-12 bookworm main\n"
        )
        (root / "apt.conf").write_text(
            f'Dir "{root}"; Dir::State "{root}"; Dir::State::status "{root}/status"; Dir::Cache "{root}/cache";'
            f'Dir::Etc "{root}/etc"; Dir::Etc::sourceparts "-"; APT::Architecture "{arch}";'
            f'Dir::Etc::parts "{root}/etc/apt.conf.d";'
            f'APT::Architectures {{ "{arch}"; }}; APT::Sandbox::User "root"; Acquire::Languages "none";'
            'APT::Update::Error-Mode "any";'
        )
        environment = {**os.environ, "APT_CONFIG": str(root / "apt.conf")}
        uris = ""
        for words in (["update"], ["install", "-y", "--print-uris", "demo-app"]):
            done = subprocess.run(
                ["apt-get", "-q", *words], env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            assert "W:" not in done.stderr
            uris = done.stdout
        assert f"libc-demo_2.36_{arch}.deb" in uris


def test_images_share_layers_and_keep_their_digests(world: World, tmp_path: Path, quiet: Progress) -> None:
    folder = create(world.request(), tmp_path / "b", quiet, key=world.key).folder
    index = json.loads((folder / "images/index.json").read_bytes())
    entries = {
        entry["annotations"]["org.opencontainers.image.ref.name"]: entry for entry in index["manifests"]
    }
    one, two = entries["registry.example.org/one:1.0"], entries["registry.example.org/two:2.0"]
    assert one["digest"] == world.records["images"]["registry.example.org/one"]["digest"]
    assert (
        two["annotations"]["io.rackloom.pinned"]
        == world.records["images"]["registry.example.org/two"]["digest"]
    )
    blobs = [item for item in read_lock(folder) if item.path.startswith("images/blobs/")]
    # A manifest, a configuration and a layer of its own each, one layer that all have, and one pinned index.
    assert len(blobs) == 3 + 3 + 3 + 1 + 1
    assert not any(item.arch == "arm64" for item in blobs)
    layers = [
        json.loads((folder / "images/blobs/sha256" / e["digest"][7:]).read_bytes())["layers"]
        for e in (one, two)
    ]
    assert layers[0][0] == layers[1][0]


def test_both_architectures_keep_the_pinned_index(world: World, tmp_path: Path, quiet: Progress) -> None:
    records = {name: record for name, record in world.records["images"].items() if name.endswith("/two")}
    extra = tmp_path / "only-two.yml"
    single = world.manifest("arm64", b"one, arm")
    both = world.manifest("amd64", b"a layer that both have" * 1000, b"one")
    kind = "application/vnd.oci.image.index.v1+json"
    index = world.blob(
        json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [both, single]}).encode()
    )
    source = {"tag": "1.0", "source": f"oci:{world.layout}", "digest": index["digest"]}
    images = {"registry.example.org/one": source, "registry.example.org/old": source}
    extra.write_text(yaml.safe_dump({"images": images}))
    folder = create(
        world.request(arch=("amd64", "arm64"), versions=(extra,)), tmp_path / "b", quiet, key=world.key
    ).folder
    entries = json.loads((folder / "images/index.json").read_bytes())["manifests"]
    assert [entry["digest"] for entry in entries] == [
        index["digest"],
        index["digest"],
        records["registry.example.org/two"]["digest"],
    ]


def test_a_layout_beside_a_versions_file(world: World, tmp_path: Path, quiet: Progress) -> None:
    """Records of another versions file may name files and layouts by where they lie from it."""
    place = tmp_path / "upstream"
    (place / "files").mkdir(parents=True)
    (place / "files" / "tool").write_bytes(b"built here")
    record = {
        "version": "9",
        "url": "file:files/tool",
        "sha256": {"amd64": hashlib.sha256(b"built here").hexdigest()},
    }
    (place / "versions.yml").write_text(yaml.safe_dump({"files": {"tool": record}}))
    folder = create(
        world.request(versions=(place / "versions.yml",)), tmp_path / "b", quiet, key=world.key
    ).folder
    assert (folder / "files/tool/9/amd64/tool").read_bytes() == b"built here"


def test_rackloom_itself_with_its_docs(world: World, tmp_path: Path, quiet: Progress) -> None:
    for name in ("config", ".cache"):
        (world.home / name).mkdir(exist_ok=True)
        (world.home / name / "secret").write_text("x")
    folder = create(world.request(), world.home / "bundle", quiet, key=world.key).folder
    try:
        (archive,) = (folder / "rackloom").iterdir()
        with tarfile.open(archive) as tar:
            held = {name.partition("/")[2] for name in tar.getnames()}
        assert {"docs/index.md", "inventory/versions.yml", "roles/demo/vars/main.yml"} <= held
        assert not any(name.startswith(("config", ".cache", "bundle")) for name in held)
    finally:
        subprocess.run(
            ["rm", "-r", str(folder), str(world.home / "config"), str(world.home / ".cache")], check=True
        )


def test_same_inputs_same_lock(world: World, tmp_path: Path, quiet: Progress, reference: str) -> None:
    assert create(world.request(), tmp_path / "other", quiet, key=world.key).changed
    assert lock_of(tmp_path / "other") == reference


def test_nothing_new_fetches_and_writes_nothing(
    world: World, tmp_path: Path, quiet: Progress, reference: str
) -> None:
    folder = tmp_path / "reference"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    made = create(world.request(), folder, quiet, key=world.key)
    assert not made.changed and made.fetched == 0
    assert not [
        path for path in world.manners.bodies() if path.startswith(("/vendor", "/wheels", "/debian/pool"))
    ]
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert {path for path in after if "dists" not in path.parts and before.get(path) != after[path]} == set()
    assert lock_of(folder) == reference


def test_a_damaged_file_is_brought_again(
    world: World, tmp_path: Path, quiet: Progress, reference: str
) -> None:
    folder = tmp_path / "reference"
    wrong = folder / "files/tool/1.2.3/amd64/tool-1.2.3-amd64.bin"
    wrong.write_bytes(b"x" * wrong.stat().st_size)
    (folder / "charts/web-3.0.tgz").unlink()
    (folder / "apt/debian-12/pool/old.deb").write_text("of an older bundle")
    create(world.request(), folder, quiet, key=world.key)
    assert lock_of(folder) == reference
    assert verify(folder).good()


def test_an_older_bundle_is_reused(world: World, tmp_path: Path, quiet: Progress, reference: str) -> None:
    older, newer = tmp_path / "reference", tmp_path / "newer"
    world.file("small", "0.2", b"small, and newer")
    record = world.records["files"]["small"]
    data = {**world.records, "files": {**world.records["files"], "small": record}}
    (world.home / "inventory" / "versions.yml").write_text(yaml.safe_dump(data))
    create(world.request(), newer, quiet, key=world.key, older=older)
    bodies = [
        path for path in world.manners.bodies() if path.startswith(("/vendor", "/wheels", "/debian/pool"))
    ]
    assert bodies == ["/vendor/small-0.2-amd64.bin"]
    tool = "files/tool/1.2.3/amd64/tool-1.2.3-amd64.bin"
    assert (older / tool).stat().st_ino == (newer / tool).stat().st_ino
    found = diff(older, newer)
    changed = [change for change in found.changes if change.kind == "file"]
    assert [(change.name, change.old, change.new) for change in changed] == [("small", "0.1", "0.2")]
    assert found.new_size < 100_000
    world.file("small", "0.1", b"small")


def test_a_damaged_older_bundle_is_not_trusted(
    world: World, tmp_path: Path, quiet: Progress, reference: str
) -> None:
    wrong = tmp_path / "reference" / "files/small/0.1/amd64/small-0.1-amd64.bin"
    wrong.write_bytes(b"wrong")
    create(world.request(), tmp_path / "newer", quiet, key=world.key, older=tmp_path / "reference")
    assert lock_of(tmp_path / "newer") == reference
    assert verify(tmp_path / "newer").good()


# --- What stops it ---


def test_a_broken_connection_is_taken_up_again(
    world: World, tmp_path: Path, quiet: Progress, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_PAUSE", 0.01)
    tool = "/vendor/tool-1.2.3-amd64.bin"
    world.manners.cut = {tool}
    create(world.request(), tmp_path / "b", quiet, key=world.key)
    ranges = [asked for method, path, asked in world.manners.asked if path == tool and method == "GET"]
    size = (world.web / tool.lstrip("/")).stat().st_size
    assert ranges == ["", f"bytes={size // 2}-"]
    assert lock_of(tmp_path / "b") == reference


def test_a_server_that_cannot_go_on_in_the_middle(
    world: World, tmp_path: Path, quiet: Progress, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_PAUSE", 0.01)
    world.manners.cut = {"/vendor/tool-1.2.3-amd64.bin"}
    world.manners.ranges = False
    create(world.request(), tmp_path / "b", quiet, key=world.key)
    assert lock_of(tmp_path / "b") == reference


def test_a_wrong_beginning_is_thrown_away(
    world: World, tmp_path: Path, quiet: Progress, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an interrupted run left, and something then damaged, does not get into the bundle."""
    monkeypatch.setattr(fetch, "_PAUSE", 0.01)
    sha256 = world.records["files"]["tool"]["sha256"]["amd64"]
    part = tmp_path / "b" / PARTIAL / sha256
    part.parent.mkdir(parents=True)
    part.write_bytes(b"not the beginning")
    create(world.request(), tmp_path / "b", quiet, key=world.key)
    assert lock_of(tmp_path / "b") == reference


@pytest.mark.parametrize("how", ["dead", "gone"])
def test_the_network_goes_away(
    world: World, tmp_path: Path, quiet: Progress, reference: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The server dies, or loses its files, half way; all that is missing is named, and the next run ends well."""
    monkeypatch.setattr(fetch, "_PAUSE", 0.01)
    folder = tmp_path / "b"
    world.manners.pause = 0.02

    class Cut(Progress):
        """Pulls the plug when a good part is here."""

        here = 0

        def moved(self, count: int) -> None:
            self.here += count
            if self.here > 300_000:
                if how == "dead":
                    world.manners.dead = True
                else:
                    world.manners.gone = {f"/{path.relative_to(world.web)}" for path in world.web.rglob("*")}

    with pytest.raises(FetchError) as raised:
        create(world.request(), folder, Cut(), key=world.key)
    assert all(world.url in tried for failure in raised.value.failures for tried in failure.tried)
    if how == "dead":  # the large file was at work, and is gone on with
        assert any("tool 1.2.3" in str(failure) for failure in raised.value.failures)
        assert (folder / PARTIAL / world.records["files"]["tool"]["sha256"]["amd64"]).stat().st_size
    assert not verify(folder).good()
    world.manners.dead, world.manners.gone, world.manners.pause = False, set(), 0
    create(world.request(), folder, quiet, key=world.key)
    assert lock_of(folder) == reference


def test_no_server_at_all(
    world: World, tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setattr(fetch, "_PAUSE", 0.01)
    url = f"http://user:hunter2@127.0.0.1:{free_port}/away"
    record = {"version": "1", "url": url, "sha256": {"amd64": "a" * 64}}
    extra = tmp_path / "extra.yml"
    extra.write_text(yaml.safe_dump({"files": {"tool": record}}))
    with pytest.raises(FetchError, match=r"file tool 1 \(amd64\) could not be fetched: .*refused") as raised:
        create(world.request(versions=(extra,)), tmp_path / "b", quiet, key=world.key)
    assert "hunter2" not in str(raised.value)


def test_a_source_that_lies(world: World, tmp_path: Path, quiet: Progress) -> None:
    extra = tmp_path / "extra.yml"
    record = {**world.records["files"]["tool"], "sha256": {"amd64": "a" * 64}}
    extra.write_text(yaml.safe_dump({"files": {"tool": record}}))
    with pytest.raises(FetchError, match=f"the record says {'a' * 64}"):
        create(world.request(versions=(extra,)), tmp_path / "b", quiet, key=world.key)
    assert not list((tmp_path / "b").glob("files/tool/**/*.bin"))


def command(world: World, folder: Path) -> list[str]:
    words = ["bundle", "create", "-o", str(folder), "--stages", "demo", "--config", str(world.config)]
    return [sys.executable, "-m", "rackloom.cli.main", *words, "--key", str(world.key), "--json"]


def test_killed_at_any_point(world: World, tmp_path: Path, reference: str) -> None:
    """SIGKILL at random moments, in one folder, over and over; then one run to the end."""
    seed = int(os.environ.get("RACKLOOM_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"RACKLOOM_SEED={seed}")
    dice = random.Random(seed)  # noqa: S311 - chance for a test
    environment = {**world.environment(), "PYTHONPATH": str(Path(making.__file__).parents[2])}
    world.manners.pause = 0.03
    began = time.monotonic()
    done = subprocess.run(
        command(world, tmp_path / "whole"), env=environment, capture_output=True, text=True, check=False
    )
    whole = time.monotonic() - began
    assert done.returncode == 0, done.stdout
    folder = tmp_path / "b"
    for _ in range(10):
        with subprocess.Popen(
            command(world, folder), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=dice.uniform(0.2, 1.05) * whole)
            process.send_signal(signal.SIGKILL)
        if folder.is_dir():
            # Whatever the moment: what passes for a bundle is the whole one, and every file with a name is whole.
            if verify(folder).good():
                assert lock_of(folder) == reference
            for item in json.loads(reference):
                path = folder / item["path"]
                if item["kind"] in ("package", "file", "chart", "wheel") and path.exists():
                    assert hashlib.sha256(path.read_bytes()).hexdigest() == item["sha256"], item["path"]
    done = subprocess.run(
        command(world, folder), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert lock_of(folder) == reference
    assert verify(folder).good()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, and at the end none."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=1m", "rackloom-test", str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_the_disk_becomes_full(
    world: World,
    tmp_path: Path,
    quiet: Progress,
    reference: str,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server did not tell sizes, so the disk is full in the middle. With more room the next run ends well."""
    monkeypatch.setattr(making, "_SLACK", 0)
    folder = small_disk / "b"
    world.manners.mute = {"/vendor/tool-1.2.3-amd64.bin"}
    with pytest.raises(SpaceError, match="full"):
        create(world.request(), folder, quiet, key=world.key)
    assert not verify(folder).good()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    create(world.request(), folder, quiet, key=world.key)
    assert lock_of(folder) == reference


def test_space_is_asked_for_first(world: World, tmp_path: Path, quiet: Progress, small_disk: Path) -> None:
    with pytest.raises(SpaceError, match=r"needs .* more .* free"):
        create(world.request(), small_disk / "b", quiet, key=world.key)
    assert list((small_disk / "b").iterdir()) == []
    assert not [path for path in world.manners.bodies() if path.startswith(("/vendor", "/debian/pool"))]


def test_two_at_once(world: World, tmp_path: Path, quiet: Progress) -> None:
    folder = tmp_path / "b"
    folder.mkdir()
    with making._alone(folder), pytest.raises(BundleError, match="another"):
        create(world.request(), folder, quiet, key=world.key)


# --- Wrong input ---


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"stages": ("dmeo",)}, "unknown stage: dmeo"),
        ({"os": ("debian-11",)}, "unknown operating system: debian-11"),
        ({"os": ("rocky-9",)}, "rocky-9 cannot be bundled"),
        ({"arch": ("mips",)}, "unknown architecture: mips"),
        ({"os": ()}, "needs an operating system"),
    ],
)
def test_wrong_requests(
    world: World, tmp_path: Path, quiet: Progress, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        create(world.request(**wrong), tmp_path / "b", quiet, key=world.key)
    assert getattr(raised.value, "cure", "") or words.startswith("needs")
    assert not (tmp_path / "b").exists()
    assert world.manners.asked == []


def test_all_wrong_records_at_once(world: World, tmp_path: Path, quiet: Progress) -> None:
    extra = tmp_path / "extra.yml"
    tool = {key: value for key, value in world.records["files"]["tool"].items() if key != "sha256"}
    small = {**world.records["files"]["small"], "sha256": {"arm64": "b" * 64}}
    extra.write_text(yaml.safe_dump({"files": {"tool": tool, "small": small}}))
    with pytest.raises(RequestError) as raised:
        create(world.request(versions=(extra,)), tmp_path / "b", quiet, key=world.key)
    assert raised.value.mistakes == (
        "the record of the file small 0.1 has no sha256 for amd64",
        "the record of the file tool 1.2.3 has no sha256 for amd64",
    )
    assert world.manners.asked == []


def test_an_image_without_digest_or_of_another_architecture(
    world: World, tmp_path: Path, quiet: Progress
) -> None:
    extra = tmp_path / "extra.yml"
    extra.write_text(yaml.safe_dump({"images": {"registry.example.org/one": {"tag": "1.0"}}}))
    with pytest.raises(RequestError, match=r"registry\.example\.org/one has no digest"):
        create(world.request(versions=(extra,)), tmp_path / "b", quiet, key=world.key)
    with pytest.raises(
        RequestError, match=r"old:0\.9 is made for amd64, and not for arm64.*one:1\.0 is made for"
    ):
        create(world.request(arch=("arm64",)), tmp_path / "b", quiet, key=world.key)


def test_a_package_that_nobody_has(world: World, tmp_path: Path, quiet: Progress) -> None:
    config = tmp_path / "config"
    config.mkdir()
    data = yaml.safe_load((world.config / "cluster.yml").read_text())
    data["packages"]["extra"] = ["no-such-thing"]
    (config / "cluster.yml").write_text(yaml.safe_dump(data))
    with pytest.raises(RequestError, match="no package no-such-thing, which the site wants"):
        create(world.request(config=config), tmp_path / "b", quiet, key=world.key)


def test_a_package_source_that_is_not_signed_by_the_right_key(
    world: World, tmp_path: Path, quiet: Progress
) -> None:
    config = tmp_path / "config"
    config.mkdir()
    data = yaml.safe_load((world.config / "cluster.yml").read_text())
    (tmp_path / "none.asc").write_text("")
    data["packages"]["sources"][0]["signed_by"] = str(tmp_path / "none.asc")
    (config / "cluster.yml").write_text(yaml.safe_dump(data))
    with pytest.raises(BundleError, match="package sources of debian-12") as raised:
        create(world.request(config=config), tmp_path / "b", quiet, key=world.key)
    assert f"{world.url}/debian" in raised.value.cure


def test_a_folder_with_other_things(world: World, tmp_path: Path, quiet: Progress) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("years")
    with pytest.raises(RequestError, match="neither empty nor a bundle"):
        create(world.request(), tmp_path / "b", quiet, key=world.key)
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["thesis.tex"]


def test_the_key_is_made_once_and_private(world: World, tmp_path: Path) -> None:
    first = sign.ensure_key(tmp_path / "keys" / "bundle")
    assert first.made
    assert first.path.stat().st_mode & 0o777 == 0o600
    first.path.chmod(0o644)
    again = sign.ensure_key(first.path)
    assert not again.made and again.line == first.line
    assert first.path.stat().st_mode & 0o777 == 0o600


def test_prune(world: World, tmp_path: Path, quiet: Progress, reference: str) -> None:
    folder = tmp_path / "reference"
    (folder / "wheels/old.whl").write_text("old")
    (folder / PARTIAL).mkdir()
    assert not verify(folder).good()
    assert making.prune(folder) == ["wheels/old.whl"]
    assert verify(folder).good()
