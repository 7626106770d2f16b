"""`rackloom image`: what the commands answer, without building."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackloom.cli.image import spec_of
from rackloom.cli.main import run
from rackloom.image import build as building
from rackloom.image import store
from rackloom.image.recipe import Recipe
from rackloom.site.check import load_site
from rackloom.site.paths import home

PROVISION: dict[str, Any] = {
    "images": {
        "compute": {
            "os": "debian-12", "roles": ["munge"], "packages": ["nvme-cli"], "kernel": "cloud", "initrd": "small",
        },
        "ubuntu": {"os": "ubuntu-24.04", "kind": "installer"},
    },
    "layouts": {"fast": {"partitions": [{"mount": "/", "size": "20G"}, {"mount": "/scratch", "filesystem": "xfs"}]}},
}  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    shutil.copytree(home() / "config.example", folder)
    path = folder / "cluster.yml"
    data = yaml.safe_load(path.read_text())
    first = yaml.safe_load((folder / "nodes.yml").read_text())["management"][0]["name"].partition("[")[0]
    names = [name for name in load_site(home() / "config.example").nodes if name.startswith(first)]
    data["services"] = {**(data.get("services") or {}), "provisioner": names[:1]}
    path.write_text(yaml.safe_dump({**data, "provision": PROVISION}))
    return folder


def call(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    code = run([*argv, "--json"])
    assert isinstance(code, int)
    return code, json.loads(capsys.readouterr().out)


def play_build(content: str, packages: dict[str, str]) -> Any:
    """A build that takes no time: three files and a record."""

    def make(recipe: Recipe, images: Path, _progress: object) -> store.Built:
        folder = images / ".made"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("initrd", "root.squashfs", "vmlinuz"):
            (folder / name).write_text(content + name)
        files = store.file_records(folder)
        record = {
            "name": recipe.spec.name, "id": store.identify(files), "os": recipe.spec.os, "arch": "amd64",
            "kernel": "6.1-cloud", "roles": [], "packages": packages, "files": files, "recipe": recipe.digest,
        }  # fmt: skip
        return store.keep(folder, images, recipe.spec.name, record)

    return make


def test_the_site_says_what_is_built(site: Path) -> None:
    spec = spec_of("compute", load_site(site).cluster)
    assert (spec.os, spec.roles, spec.kernel, spec.initrd) == ("debian-12", ("munge",), "cloud", "small")
    assert "nvme-cli" in spec.packages
    assert set(spec.filesystems) == {"ext4", "xfs"}  # any node may get any layout


@pytest.mark.parametrize(("name", "code"), [("nosuch", "unknown_image"), ("ubuntu", "installer")])
def test_what_is_no_image_is_refused(
    site: Path, capsys: pytest.CaptureFixture[str], name: str, code: str
) -> None:
    status, answer = call(capsys, "image", "build", name, "-c", str(site))
    assert (status, answer["command"], answer["errors"][0]["code"]) == (2, "image build", code)
    assert answer["errors"][0]["cure"]


def test_a_build_tells_whether_it_changed(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for content, version in (("a", "1"), ("a", "1"), ("b", "2")):
        monkeypatch.setattr(building, "build", play_build(content, {"tool": version}))
        status, answer = call(capsys, "image", "build", "compute", "-c", str(site))
        assert status == 0
        seen.append(answer["data"]["changed"])
    assert seen == [True, False, True]
    _, answer = call(capsys, "image", "list", "-c", str(site))
    assert [image["current"] for image in answer["data"]["images"]].count(True) == 1
    assert len(answer["data"]["images"]) == 2


def test_no_image_yet(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, answer = call(capsys, "image", "list", "-c", str(site))
    assert (status, answer["data"]["images"]) == (0, [])
    status, answer = call(capsys, "image", "diff", "a", "b", "-c", str(site))
    assert status == 1 and "image list" in answer["errors"][0]["cure"]
