"""The parts of which bundles are made: the bill, registries, logins, wheels, the command."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rackloom.bundle import images, records, sbom, wheels
from rackloom.bundle.apt import plain_words, sources_for
from rackloom.bundle.create import create
from rackloom.bundle.diff import diff
from rackloom.bundle.errors import BundleError, FetchError, RequestError
from rackloom.bundle.items import SBOM, Item, lock_text, read_lock
from rackloom.bundle.pin import image_digest
from rackloom.bundle.progress import Plain, Progress, human
from rackloom.bundle.verify import verify
from rackloom.bundle.web import plain_url, read_netrc
from rackloom.cli.main import run
from rackloom.site.versions import Record

if TYPE_CHECKING:
    from tests.unit.bundle.conftest import World


def item(kind: str, name: str, version: str, **more: Any) -> Item:
    sha256 = hashlib.sha256(f"{kind}{name}{version}{more}".encode()).hexdigest()
    path = more.pop("path", f"{kind}/{name}/{version}")
    return Item(path, kind, name, version, sha256, 1, more.pop("origin", "https://example.org/x"), **more)


ITEMS = [
    item("package", "libstdc++6", "12.2.0-14", os="debian-12", arch="amd64"),
    item("file", "kubeadm", "1.36.4", arch="amd64"),
    item(
        "image",
        "registry.example.org/pause",
        "3.10",
        arch="amd64",
        origin="docker://registry.example.org/pause",
    ),
    item("chart", "web", "3.0"),
    item("wheel", "ruamel.yaml", "0.18"),
    item("rackloom", "rackloom", "0.1.0", origin=""),
    item("index", "bookworm/Release", "", os="debian-12"),
]


def test_the_bill_keeps_the_rules_of_spdx() -> None:
    """What SPDX 2.3 asks of a document: required fields, forms of identifiers, references that lead somewhere."""
    document = json.loads(sbom.text(ITEMS))
    assert document["spdxVersion"] == "SPDX-2.3" and document["dataLicense"] == "CC0-1.0"
    assert document["SPDXID"] == "SPDXRef-DOCUMENT" and document["name"]
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", document["documentNamespace"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["creationInfo"]["created"])
    assert all(
        re.match(r"(Tool|Person|Organization): .", who) for who in document["creationInfo"]["creators"]
    )
    identities = [package["SPDXID"] for package in document["packages"]]
    assert (
        len(set(identities)) == len(identities) == len(ITEMS) - 1 + 1
    )  # the index is no package, the bundle is one
    assert all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", identity) for identity in identities)
    for package in document["packages"]:
        assert {"name", "downloadLocation", "filesAnalyzed", "licenseConcluded", "copyrightText"} <= set(
            package
        )
        assert re.fullmatch(r"NOASSERTION|https?://\S+", package["downloadLocation"])
        for checksum in package.get("checksums", []):
            assert checksum["algorithm"] == "SHA256" and re.fullmatch(
                r"[0-9a-f]{64}", checksum["checksumValue"]
            )
    known = {"SPDXRef-DOCUMENT", *identities}
    for relation in document["relationships"]:
        assert {relation["spdxElementId"], relation["relatedSpdxElement"]} <= known
    assert any(relation["relationshipType"] == "DESCRIBES" for relation in document["relationships"])


def test_the_bill_depends_on_the_content_alone() -> None:
    assert sbom.text(ITEMS) == sbom.text(list(reversed(ITEMS)))
    assert sbom.text(ITEMS) != sbom.text(ITEMS[1:])


def test_package_urls() -> None:
    found = [sbom.purl(each) for each in ITEMS[:5]]
    assert found[0] == "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14?arch=amd64&distro=debian-12"
    assert found[1] == "pkg:generic/kubeadm@1.36.4?arch=amd64"
    assert found[2].startswith("pkg:oci/pause@sha256%3A")
    assert found[4] == "pkg:pypi/ruamel-yaml@0.18"


def test_the_bill_of_a_bundle_lists_what_it_holds(world: World, tmp_path: Path, quiet: Progress) -> None:
    folder = create(world.request(), tmp_path / "b", quiet, key=world.key).folder
    document = json.loads((folder / SBOM).read_text())
    listed = {package.get("packageFileName") for package in document["packages"]}
    kinds = {"package", "file", "image", "chart", "wheel", "rackloom"}
    assert listed - {None} == {each.path for each in read_lock(folder) if each.kind in kinds}


# --- A registry ---


def publish(world: World) -> None:
    """Let the test server answer as a registry does, with what lies in the layout."""
    for name, record in world.records["images"].items():
        base = world.web / "v2" / name.partition("/")[2]
        for folder in ("manifests", "blobs"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        for blob in (world.layout / "blobs" / "sha256").iterdir():
            shutil.copy(blob, base / "blobs" / f"sha256:{blob.name}")
            content = blob.read_bytes()
            if b'"schemaVersion"' in content:
                target = base / "manifests" / f"sha256:{blob.name}"
                target.write_bytes(content)
                target.with_name(f"{target.name}.type").write_text(json.loads(content)["mediaType"])
        assert record["digest"]
    (world.web / "v2" / "index.html").write_text("{}")


@pytest.fixture
def registry(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The images again, from a registry. Returns the versions file that says so."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not on this machine: nothing here speaks to registries")
    publish(world)
    host = world.url.removeprefix("http://")
    own = tmp_path / "home" / ".config" / "containers" / "registries.conf"
    own.parent.mkdir(parents=True)
    own.write_text(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = {
        name: {**record, "source": f"docker://{host}/{name.partition('/')[2]}"}
        for name, record in world.records["images"].items()
    }
    versions = tmp_path / "registry.yml"
    versions.write_text(yaml.safe_dump({"images": found}))
    return versions


def test_images_from_a_registry_are_those_of_the_layout(
    world: World, tmp_path: Path, quiet: Progress, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = create(world.request(), tmp_path / "layout", quiet, key=world.key).folder
    monkeypatch.setenv("RACKLOOM_CACHE", str(tmp_path / "cache"))  # nothing is known of them yet
    second = create(world.request(versions=(registry,)), tmp_path / "registry", quiet, key=world.key).folder
    assert (first / "images/index.json").read_bytes() == (second / "images/index.json").read_bytes()
    blobs = [{path.name for path in (each / "images/blobs/sha256").iterdir()} for each in (first, second)]
    assert blobs[0] == blobs[1]
    assert verify(second).good()


def test_a_registry_tells_the_digest_of_a_tag(world: World, registry: Path) -> None:
    """Of the index, where the image is for several architectures."""
    host = world.url.removeprefix("http://")
    for name, record in world.records["images"].items():
        path = name.partition("/")[2]
        manifests = world.web / "v2" / path / "manifests"
        for suffix in ("", ".type"):
            shutil.copy(manifests / f"{record['digest']}{suffix}", manifests / f"{record['tag']}{suffix}")
        asked = Record("image", f"{host}/{path}", {"tag": record["tag"], "digest": ""}, registry)
        assert image_digest(asked) == record["digest"]
    away = Record("image", f"{host}/one", {"tag": "none", "digest": ""}, registry)
    with pytest.raises(FetchError, match=rf"image {host}/one:none could not be fetched"):
        image_digest(away)


def test_an_image_that_is_gone(
    world: World, tmp_path: Path, quiet: Progress, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RACKLOOM_CACHE", str(tmp_path / "cache"))  # manifests that were read once are kept
    digest = world.records["images"]["registry.example.org/one"]["digest"]
    world.manners.gone = {f"/v2/one/manifests/{digest}"}
    with pytest.raises(FetchError, match=r"image registry\.example\.org/one") as raised:
        create(world.request(versions=(registry,)), tmp_path / "b", quiet, key=world.key)
    assert f"docker://{world.url.removeprefix('http://')}/one@{digest}" in str(raised.value)


def test_a_layer_that_is_gone(
    world: World, tmp_path: Path, quiet: Progress, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rackloom.bundle.fetch._PAUSE", 0.01)
    layer = hashlib.sha256(gzip.compress(b"one", mtime=0)).hexdigest()
    world.manners.gone = {f"/v2/one/blobs/sha256:{layer}"}
    with pytest.raises(FetchError, match=r"image registry\.example\.org/one:1\.0 could not be fetched"):
        create(world.request(versions=(registry,)), tmp_path / "b", quiet, key=world.key)
    world.manners.gone = set()
    assert verify(
        create(world.request(versions=(registry,)), tmp_path / "b", quiet, key=world.key).folder
    ).good()


def test_an_image_for_all_architectures_is_taken_as_it_is(world: World) -> None:
    plan = images.plan(["registry.example.org/two"], records.read_versions(), ("amd64", "arm64"))
    (entry,) = plan.descriptors
    assert entry["digest"] == world.records["images"]["registry.example.org/two"]["digest"]
    assert images.PINNED not in entry["annotations"]


# --- Sources ---


def test_logins_and_passwords() -> None:
    found = read_netrc(
        "# mine\nmachine example.org/debian login me password p4ss\nmachine b login x password y\n"
    )
    assert found == {"example.org/debian": ("me", "p4ss"), "b": ("x", "y")}
    assert plain_url("https://me:p4ss@example.org:8/x?y") == "https://example.org:8/x?y"
    assert plain_words("deb [a=b] https://me:p4ss@example.org/debian s main") == (
        "deb [a=b] https://example.org/debian s main"
    )


def test_passwords_of_a_source_are_used_and_not_written_down(
    world: World, tmp_path: Path, quiet: Progress
) -> None:
    record = world.records["files"]["small"]
    url = record["url"].replace("http://", "http://me:p4ss@")
    extra = tmp_path / "extra.yml"
    extra.write_text(yaml.safe_dump({"files": {"small": {**record, "url": url}}}))
    folder = create(world.request(versions=(extra,)), tmp_path / "b", quiet, key=world.key).folder
    assert not [path for path in folder.rglob("*") if path.is_file() and b"p4ss" in path.read_bytes()]


def test_sources_of_the_site_are_those_of_the_release() -> None:
    site: list[dict[str, Any]] = [
        {
            "name": "a",
            "uris": ["http://a/x"],
            "suites": ["bookworm", "bookworm-updates"],
            "components": ["main"],
        },
        {"name": "b", "uris": ["http://b/x"], "suites": ["trixie"], "components": ["main"], "trusted": True},
    ]
    assert sources_for("debian-12", site).lines == (
        "deb http://a/x bookworm main",
        "deb http://a/x bookworm-updates main",
    )
    assert sources_for("debian-13", site).lines == ("deb [trusted=yes] http://b/x trixie main",)


def test_a_system_for_which_nobody_has_sources(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no package source of ubuntu-24\.04"):
        sources_for("ubuntu-24.04", (), tmp_path)


def test_an_index_that_offers_other_wheels(world: World, tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"demowheel==1.0 --hash=sha256:{'c' * 64}\n")
    with pytest.raises(BundleError, match=r"other files than the lock allows: demowheel-1\.0"):
        wheels.plan(lock, ["debian-12"], ["amd64"])
    lock.write_text(f"nosuchwheel==1.0 --hash=sha256:{'c' * 64}\n")
    with pytest.raises(BundleError, match=r"no wheels for Python 3\.11 on amd64"):
        wheels.plan(lock, ["debian-12"], ["amd64"])


def test_a_lock_is_one_text() -> None:
    assert lock_text(ITEMS) == lock_text(list(reversed(ITEMS)))
    assert [Item(**entry) for entry in json.loads(lock_text(ITEMS))] == sorted(ITEMS)


def test_differences(tmp_path: Path) -> None:
    older, newer = tmp_path / "a", tmp_path / "b"
    changed = [item("package", "munge", "0.5.16", os="debian-12", arch="amd64", path="new")]
    for folder, items in (
        (older, ITEMS),
        (newer, [*ITEMS[1:], *changed, item("chart", "web", "3.0", arch="x")]),
    ):
        folder.mkdir()
        (folder / "bundle.lock").write_text(lock_text(items))
    found = diff(older, newer)
    assert [(each.what, each.kind, each.name) for each in found.changes] == [
        ("added", "chart", "web"),
        ("removed", "package", "libstdc++6"),
        ("added", "package", "munge"),
    ]
    assert (found.new_files, found.gone_files) == (2, 1)
    assert diff(older, older).changes == ()


def test_what_people_see() -> None:
    stream = io.StringIO()
    shown = Plain(stream)
    shown.start("fetching", 2, 3 << 20)
    shown.moved(1 << 20)
    shown.finished("x")
    shown.stop()
    assert "fetching: 2 files, 3.0 MiB" in stream.getvalue()
    assert "fetching: 1 files, 1.0 MiB" in stream.getvalue()
    assert (human(-1), human(0), human(2048), human(3 << 40)) == ("?", "0 B", "2 KiB", "3072.0 GiB")


# --- The command ---


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = run(["bundle", *words, "--json"])
    assert isinstance(code, int)
    return code, json.loads(capsys.readouterr().out)


def test_the_commands_from_list_to_diff(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--stages", "demo", "--config", str(world.config))
    code, said = answer(capsys, "list", *common)
    assert code == 0 and all(each["size"] > 0 for each in said["data"]["items"])
    assert not [path for path in world.manners.bodies() if path.startswith(("/vendor", "/debian/pool"))]
    folder = str(tmp_path / "b")
    code, said = answer(capsys, "create", "-o", folder, *common)
    assert code == 0 and said["data"]["key_created"], said
    assert (world.config / "ssh" / "bundle").stat().st_mode & 0o777 == 0o600
    # The site's own config now knows the signer.
    code, said = answer(capsys, "verify", folder, "--config", str(world.config))
    assert code == 0 and said["data"]["signature"]["known"]
    code, said = answer(
        capsys, "verify", folder, "--fingerprint", "SHA256:other", "--config", str(world.config)
    )
    assert code == 1 and said["errors"][0]["code"] == "signature"
    assert answer(capsys, "diff", folder, folder)[1]["data"]["changes"] == []
    (tmp_path / "b" / "README").unlink()
    code, said = answer(capsys, "verify", folder, "--config", str(world.config))
    assert code == 1 and said["data"]["missing"] == ["README"]
    shutil.rmtree(world.config / "ssh")
    (world.config / "bundle-signers").unlink()


def test_mistakes_are_told_one_by_one(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = answer(
        capsys,
        "create",
        "-o",
        str(tmp_path / "b"),
        "--os",
        "beos",
        "--arch",
        "pdp11",
        "--config",
        str(world.config),
    )
    assert code == 2
    assert [error["message"] for error in said["errors"]] == [
        "unknown operating system: beos",
        "unknown architecture: pdp11",
    ]
    code, said = answer(capsys, "list", "--stages", "dmeo", "--config", str(world.config))
    assert code == 2 and "did you mean demo" in said["errors"][0]["cure"]
