"""What the builder of upstream's programs does without building any."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tarfile
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from tests.loading import loaded

from rackloom.docs_gen.tree import ROOT

HERE = ROOT / "tests" / "upstream"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    return loaded(HERE / "build.py", "rackloom_upstream_build")


@pytest.fixture
def record(build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A project that was built, with a file, an image, a chart and a manifest."""
    kept = tmp_path / "kept"
    monkeypatch.setattr(build, "place", lambda _name: kept)
    for name in ("files/tool/1.0.0/amd64/tool", "charts/tool-2.0.0.tgz", "manifests/tool/tool.yml"):
        (kept / name).parent.mkdir(parents=True)
        (kept / name).write_text(name)
    layer = build.layer(kept, {"bin/tool": kept / "files/tool/1.0.0/amd64/tool"})
    image = build.image(kept, [layer], {"entrypoint": ["/bin/tool"], "user": "1:1"})
    return {
        "version": "1.0.0",
        "files": {"tool": {"version": "1.0.0", "path": "files/tool/1.0.0/amd64/tool", "sha256": "0" * 64}},
        "charts": {"tool": {"version": "2.0.0", "path": "charts/tool-2.0.0.tgz", "sha256": "1" * 64}},
        "images": {"registry.example/tool": {"tag": "v1.0.0", "descriptor": image.descriptor}},
        "costs": [{"program": "tool", "user": 12.4, "wall": 20.0, "size": 3_000_000}],
    }


def test_the_catalogue_names_only_what_there_is(build: ModuleType) -> None:
    known = build.catalogue()
    assert set(known) == set(tomllib.loads((HERE / "programs.toml").read_text()))
    for name, project in known.items():
        assert project.suite in {"quick", "full", "named"}, name
        assert not project.like or project.like in known, name
        assert bool(project.modules) + bool(project.source) + bool(project.packages) == 1, name
        assert project.needs <= set(known), name
        for wanted in project.images.values():
            assert set(wanted.get("programs", {}).values()) <= set(project.programs), name
            assert "base" not in wanted or known[wanted["base"]].packages, name
        for wanted in project.files.values():
            assert set(wanted.get("members", {}).values()) <= set(project.programs), name
        assert set(project.check) <= set(project.programs), name
        if project.modules:
            assert (HERE / name / "go.mod").is_file(), name


def test_every_folder_is_a_project(build: ModuleType) -> None:
    assert {path.parent.name for path in HERE.glob("*/go.mod")} <= set(build.catalogue())


def test_quick_projects_stand_on_quick_ones(build: ModuleType) -> None:
    known = build.catalogue()
    assert not [
        name
        for name, each in known.items()
        if each.suite == "quick" and any(known[other].suite != "quick" for other in each.needs)
    ]


def test_archives_are_the_same_whenever_they_are_made(build: ModuleType, tmp_path: Path) -> None:
    made = []
    for name, mode in (("one", 0o755), ("two", 0o700)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "b").write_text("text")
        (folder / "b").chmod(mode)
        members = {"x/y/b": folder / "b", "x/link": "y/b"}
        made.append(build.squeezed(build.pack(members if name == "one" else dict(reversed(members.items())))))
    assert made[0] == made[1]
    with tarfile.open(fileobj=io.BytesIO(made[0]), mode="r:gz") as archive:
        assert [entry.name for entry in archive] == ["x", "x/link", "x/y", "x/y/b"]
        assert {entry.mtime for entry in archive} == {0}
        assert archive.getmember("x/y/b").mode & 0o111
        assert archive.getmember("x/link").linkname == "y/b"


def test_a_program_alone_is_copied_as_it_is(build: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("program")
    build.archive(tmp_path / "out", {"": "tool"}, tmp_path)
    assert (tmp_path / "out").read_text() == "program"


def test_versions_are_filled_in(build: ModuleType) -> None:
    assert build.filled("v{version}: {major}, {minor}, {patch}", "1.36.4") == "v1.36.4: 1, 36, 4"
    assert build.filled("{minor}", "2") == "0"
    assert build.filled("a-{arch}", "1") == f"a-{build.ARCH}"


def test_versions_are_read_from_go_mod(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "HERE", tmp_path)
    project = build.Project(name="tool", suite="full", modules=["tool.example/a/v2"])
    (tmp_path / "tool").mkdir()
    for text in (
        "require tool.example/a/v2 v2.1.0 // indirect",
        "require (\n\ttool.example/a/v2 v2.1.0\n)",
        "replace other.example/a => tool.example/a/v2 v2.1.0",
    ):
        (tmp_path / "tool" / "go.mod").write_text(f"module x\n\ntool tool.example/a/v2/cmd\n\n{text}\n")
        assert build.pinned(project) == "2.1.0"
    (tmp_path / "tool" / "go.mod").write_text("require tool.example/a v1.0.0\n")
    with pytest.raises(build.BuildError, match=r"tool.example/a/v2"):
        build.pinned(project)


def test_a_chart_tells_its_name(build: ModuleType, tmp_path: Path) -> None:
    text = 'apiVersion: v2\nname: tool # the tool\nversion: "1.2.3"\ndependencies:\n  - name: other\n'
    (tmp_path / "Chart.yaml").write_text(text)
    assert build.chart_name(tmp_path) == ("tool", "1.2.3")


def test_what_is_chosen_comes_after_what_it_stands_on(build: ModuleType) -> None:
    order = build.chosen([], "full")
    assert len(order) == len(set(order))
    assert set(order) == {name for name, each in build.catalogue().items() if each.suite != "named"}
    for name in order:
        assert all(order.index(other) < order.index(name) for other in build.catalogue()[name].needs)
    assert set(build.chosen([], "quick")) < set(order)
    with pytest.raises(build.BuildError, match="no such project: nothing"):
        build.chosen(["nothing"], "full")


def test_the_layout_is_whole(build: ModuleType, record: dict[str, Any], tmp_path: Path) -> None:
    output = tmp_path / "out"
    (output / "files" / "old").mkdir(parents=True)
    build.lay_out({"tool": record}, output)
    assert not (output / "files" / "old").exists()
    versions = yaml.safe_load((output / "versions.yml").read_text())
    assert set(versions) == {"files", "images", "charts"}
    for kind in ("files", "charts"):
        url = versions[kind]["tool"]["url"]
        assert (output / url.removeprefix("file:")).is_file()
    image = versions["images"]["registry.example/tool"]
    layout = output / image["source"].removeprefix("oci:")
    [entry] = json.loads((layout / "index.json").read_text())["manifests"]
    assert entry["digest"] == image["digest"]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "registry.example/tool:v1.0.0"
    for path in (layout / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    manifest = json.loads(blob(layout, entry["digest"]))
    config = json.loads(blob(layout, manifest["config"]["digest"]))
    assert config["config"]["User"] == "1:1"
    [layer] = manifest["layers"]
    inside = gzip.decompress(blob(layout, layer["digest"]))
    assert [f"sha256:{hashlib.sha256(inside).hexdigest()}"] == config["rootfs"]["diff_ids"]


def blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / digest.replace(":", "/")).read_bytes()


def test_the_layout_can_be_made_again(build: ModuleType, record: dict[str, Any], tmp_path: Path) -> None:
    build.lay_out({"tool": record}, tmp_path / "out")
    before = (tmp_path / "out" / "versions.yml").read_bytes()
    build.lay_out({"tool": record}, tmp_path / "out")
    assert (tmp_path / "out" / "versions.yml").read_bytes() == before


def test_the_table_adds_up(build: ModuleType, record: dict[str, Any]) -> None:
    lines = build.table({"a": record, "b": record}).splitlines()
    assert lines[2] == "| tool | 1.0.0 | 12 | 3 MB |"
    assert lines[-1] == "| all | | 25 | |"


def test_a_program_that_is_missing_is_named(build: ModuleType) -> None:
    with pytest.raises(build.BuildError, match="there is no no-such-program"):
        build.run(["no-such-program"])


def test_what_a_program_said_is_told_when_it_fails(build: ModuleType) -> None:
    with pytest.raises(build.BuildError, match="the cause"):
        build.run([sys.executable, "-c", "import sys; sys.exit('the cause')"])


def test_unknown_names_end_with_a_sentence(build: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["build", "nothing"]) == 1
    assert "no such project: nothing; there are: kubernetes" in capsys.readouterr().err
    assert build.main(["pin", "busybox", "1.0"]) == 1
    assert "busybox has no go.mod" in capsys.readouterr().err
