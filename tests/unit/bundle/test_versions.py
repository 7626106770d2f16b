"""Records in bundles: all releases of a name, what a bundle says of itself, and digests that nobody knew."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rackloom.bundle import pin, records, resolve
from rackloom.bundle.create import create
from rackloom.bundle.errors import FetchError, RequestError
from rackloom.bundle.items import LOCK, VERSIONS, read_lock
from rackloom.bundle.progress import Progress

if TYPE_CHECKING:
    from tests.unit.bundle.conftest import World


def lay_over(folder: Path, **sections: Any) -> Path:
    path = folder / "extra.yml"
    path.write_text(yaml.safe_dump(sections))
    return path


def test_who_takes_a_name_takes_all_its_releases(world: World, tmp_path: Path, quiet: Progress) -> None:
    older = tmp_path / "tool-older"
    older.write_bytes(b"older")
    extra = lay_over(
        tmp_path,
        files={
            "tool@0.9": {
                "version": "0.9",
                "url": older.as_uri(),
                "sha256": {"amd64": hashlib.sha256(b"older").hexdigest()},
            }
        },
        images={"registry.example.org/one@0.9": world.records["images"]["registry.example.org/old"]},
    )
    folder = create(world.request(versions=(extra,)), tmp_path / "b", quiet, key=world.key).folder
    items = read_lock(folder)
    plain = world.records["files"]["tool"]["version"]
    assert {item.version for item in items if item.kind == "file" and item.name == "tool"} == {plain, "0.9"}
    assert (folder / "files/tool/0.9/amd64/tool-older").read_bytes() == b"older"
    entries = json.loads((folder / "images/index.json").read_text())["manifests"]
    names = {entry["annotations"]["org.opencontainers.image.ref.name"] for entry in entries}
    assert {"registry.example.org/one:1.0", "registry.example.org/one:0.9"} <= names
    held = yaml.safe_load((folder / VERSIONS).read_text())
    assert held["files"]["tool@0.9"]["version"] == "0.9"


def test_a_bundle_says_what_it_holds(world: World, tmp_path: Path, quiet: Progress) -> None:
    extra = lay_over(
        tmp_path, files={"nobody-takes-this": {"version": "1", "url": "https://tool.example/x", "sha256": {}}}
    )
    request = world.request(versions=(extra,))
    folder = create(request, tmp_path / "b", quiet, key=world.key).folder
    text = (folder / VERSIONS).read_text()
    held = yaml.safe_load(text)
    for section, known in world.records.items():
        assert set(held[section]) == set(known)
    for record in held["images"].values():
        assert set(record) == {"tag", "digest"}
    assert str(world.base) not in text
    assert VERSIONS in {item.path for item in read_lock(folder)}
    lock = (folder / LOCK).read_bytes()
    assert not create(request, folder, quiet, key=world.key).changed
    assert (folder / LOCK).read_bytes() == lock


def test_a_site_has_records_of_its_own(world: World, tmp_path: Path) -> None:
    (tmp_path / "versions.yml").write_text(
        yaml.safe_dump({"files": {"tool": {"version": "7", "url": "https://tool.example/7", "sha256": {}}}})
    )
    assert records.read_versions(config=tmp_path).files["tool"]["version"] == "7"
    extra = lay_over(
        tmp_path, files={"tool": {"version": "8", "url": "https://tool.example/8", "sha256": {}}}
    )
    assert records.read_versions((extra,), config=tmp_path).files["tool"]["version"] == "8"
    assert records.read_versions(config=tmp_path / "none").files == records.read_versions().files


def test_records_without_a_digest_are_told_before_anything_is_asked(
    world: World, tmp_path: Path, quiet: Progress
) -> None:
    [chart, *_] = world.records["charts"]
    extra = lay_over(
        tmp_path,
        images={"registry.example.org/one": {"tag": "1.0", "digest": ""}},
        charts={chart: {**world.records["charts"][chart], "sha256": ""}},
    )
    with pytest.raises(RequestError) as raised:
        create(world.request(versions=(extra,)), tmp_path / "b", quiet, key=world.key)
    assert raised.value.mistakes == (
        "the record of the image registry.example.org/one has no digest",
        f"the record of the chart {chart} has no digest",
    )
    assert "bundle pin" in raised.value.cure
    assert not world.manners.asked
    assert not (tmp_path / "b").exists()


@pytest.fixture
def site(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site, and a versions file in which a chart and an image have no digest; the registry is made up."""
    data = yaml.safe_load((world.home / "inventory" / "versions.yml").read_text())
    name = next(iter(data["charts"]))
    chart = gzip.compress(b"a chart", mtime=0)
    (world.web / "vendor" / "pinned-1.tgz").write_bytes(chart)
    data["charts"][name] = {"version": "1", "url": f"{world.url}/vendor/pinned-{{version}}.tgz", "sha256": ""}
    data["images"]["registry.example.org/one"] = {"tag": "1.0", "digest": ""}
    (world.home / "inventory" / "versions.yml").write_text(yaml.safe_dump(data))
    monkeypatch.setattr(pin, "image_digest", lambda record: "sha256:" + f"{len(record.reference):064x}")
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "cluster.yml").write_text("name: demo\n")
    return folder


def test_digests_are_looked_up_and_kept(world: World, site: Path) -> None:
    found = {each.name: each for each in pin.pin(site)}
    [chart] = set(found) - {"registry.example.org/one"}
    held = records.read_versions(config=site)
    assert held.images["registry.example.org/one"]["digest"] == found["registry.example.org/one"].digest
    assert held.charts[chart]["sha256"] == hashlib.sha256(gzip.compress(b"a chart", mtime=0)).hexdigest()
    assert held.charts[chart]["url"] == f"{world.url}/vendor/pinned-{{version}}.tgz"
    before = (site / "versions.yml").read_bytes()
    assert pin.pin(site) == []
    assert (site / "versions.yml").read_bytes() == before


def test_what_a_site_wrote_stays(site: Path) -> None:
    own = (
        "# Ours.\n---\nimages:\n  # not that one\n  registry.example.org/other: {tag: a, digest: ''} # odd\n"
        "  registry.example.org/one:\n    tag: '2.0' # newer\n    digest: ''\n  # end\nfiles: {}\n"
    )
    (site / "versions.yml").write_text(own)
    pin.pin(site)
    text = (site / "versions.yml").read_text()
    for line in ("# Ours.", "  # not that one", "{tag: a, digest: ''} # odd", "  # end", "files: {}"):
        assert line in text
    held = records.read_versions(config=site)
    assert held.images["registry.example.org/one"]["tag"] == "2.0"
    assert held.images["registry.example.org/one"]["digest"]


def test_what_can_be_looked_up_is_kept_where_something_cannot(world: World, site: Path) -> None:
    world.manners.gone = {"/vendor/pinned-1.tgz"}
    with pytest.raises(FetchError, match="answered 404"):
        pin.pin(site)
    assert records.read_versions(config=site).images["registry.example.org/one"]["digest"]


def test_a_page_is_no_chart(world: World, site: Path) -> None:
    (world.web / "vendor" / "pinned-1.tgz").write_text("<html>")
    with pytest.raises(FetchError, match="this is no chart"):
        pin.pin(site)


def test_a_files_digests_are_looked_up_for_each_architecture(world: World, site: Path) -> None:
    path = world.home / "inventory" / "versions.yml"
    data = yaml.safe_load(path.read_text())
    name = next(iter(data["files"]))
    known = "0" * 64
    url = f"{world.url}/vendor/file-{{version}}-{{arch}}"
    data["files"][name] = {"version": "1", "url": url, "sha256": {"amd64": "", "arm64": known}}
    path.write_text(yaml.safe_dump(data))
    (world.web / "vendor" / "file-1-amd64").write_bytes(b"a program")
    pin.pin(site)
    held = records.read_versions(config=site).files[name]["sha256"]
    assert held == {"amd64": hashlib.sha256(b"a program").hexdigest(), "arm64": known}
    assert not pin.pin(site)
    data["files"][name]["sha256"]["amd64"] = ""
    data["files"][name]["version"] = "2"
    (site / "versions.yml").unlink()
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(FetchError, match="answered 404"):
        pin.pin(site)


def test_digests_are_kept_in_a_site(world: World, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no site"):
        pin.pin(tmp_path / "nowhere")


def choose(world: World, tmp_path: Path, kubernetes: Any = None) -> tuple[Path, Path]:
    """One name of each kind is a choice; a site that has made some, and the declaration that was changed."""
    path = world.home / "roles" / "demo" / "meta" / "artifacts.yml"
    names = {kind: sorted(found) for kind, found in world.records.items()}
    picked = {"calico": {"charts": [names["charts"].pop()]}, "crio": {"files": [names["files"].pop()]}}
    picked["gateway"] = {"images": [names["images"].pop()]}
    path.write_text(yaml.safe_dump({**names, "choices": picked}))
    site = tmp_path / "config"
    site.mkdir()
    data = yaml.safe_load((world.config / "cluster.yml").read_text())
    if kubernetes is not None:
        data["kubernetes"] = kubernetes
    (site / "cluster.yml").write_text(yaml.safe_dump(data))
    return site, path


@pytest.mark.parametrize(
    ("kubernetes", "asked", "wanted"),
    [
        (None, (), set()),
        ({}, (), set()),
        ({"network": {"plugin": "calico"}}, (), {"calico"}),
        ({"runtime": "crio", "addons": {"gateway": {}}}, (), {"crio", "gateway"}),
        ({"addons": {"gateway": {"enabled": False}}}, (), set()),
        (None, ("calico",), {"calico"}),
        ({"runtime": "crio"}, ("calico",), {"calico", "crio"}),
        (None, ("all",), {"calico", "crio", "gateway"}),
    ],
)
def test_a_bundle_holds_what_a_site_has_chosen(
    world: World, tmp_path: Path, kubernetes: Any, asked: tuple[str, ...], wanted: set[str]
) -> None:
    site, path = choose(world, tmp_path, kubernetes)
    try:
        declaration = yaml.safe_load(path.read_text())
        request = resolve.checked(world.request(config=site, choices=asked))
        found = resolve.wanted(["demo"], {*request.choices, *resolve.chosen_by(site)})
    finally:
        world.write()
    for name, part in declaration["choices"].items():
        [(kind, [record])] = part.items()
        assert (record in getattr(found, kind)) == (name in wanted), name
    assert set(declaration["files"]) <= set(found.files)


def test_an_unknown_choice_is_told_with_those_that_exist(world: World, tmp_path: Path) -> None:
    choose(world, tmp_path)
    try:
        with pytest.raises(RequestError, match="unknown choice: weave") as raised:
            resolve.checked(world.request(choices=("weave", "crio")))
    finally:
        world.write()
    assert "calico, crio, gateway" in raised.value.cure


def test_a_site_with_mistakes_has_chosen_nothing(world: World, tmp_path: Path) -> None:
    (tmp_path / "cluster.yml").write_text("kubernetes: {runtime: docker}\n")
    with pytest.raises(RequestError, match="docker"):
        resolve.chosen_by(tmp_path)
