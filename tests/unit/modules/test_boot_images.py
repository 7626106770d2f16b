"""An image is published as a whole, with the digests that it was built with, or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunModule = Callable[..., dict[str, Any]]
FILES = {"vmlinuz": b"kernel", "initrd": b"initial", "root.squashfs": b"root" * 1000}


def image(number: str, files: dict[str, bytes] = FILES) -> dict[str, str]:
    described = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in files.items()
    }
    manifest = json.dumps({"name": "compute", "id": number, "files": described})
    return {"name": "compute", "id": number, "manifest": manifest, "script": "#!ipxe\n"}


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "images").mkdir()
    return {"root": str(tmp_path / "images"), "staging": str(tmp_path / "arriving")}


def copy(places: dict[str, str], missing: list[dict[str, str]], **other: bytes) -> None:
    for entry in missing:
        folder = Path(places["staging"]) / f"{entry['name']}-{entry['id']}"
        (folder / entry["file"]).write_bytes(other.get(entry["file"], FILES[entry["file"]]))


def publish(run_module: RunModule, places: dict[str, str], number: str) -> dict[str, Any]:
    wanted = run_module("boot_images", state="wanted", images=[image(number)], **places)
    copy(places, wanted["missing"])
    return run_module("boot_images", images=[image(number)], **places)


def test_first_and_second_run(run_module: RunModule, places: dict[str, str]) -> None:
    done = publish(run_module, places, "aa")
    assert done["published"] == ["compute/aa"]
    home = Path(places["root"]) / "compute"
    assert {path.name for path in (home / "current").iterdir()} == {*FILES, "image.json", "boot.ipxe"}
    assert not Path(places["staging"]).exists()
    assert run_module("boot_images", state="wanted", images=[image("aa")], **places)["missing"] == []
    assert not publish(run_module, places, "aa")["changed"]


def test_a_newer_image_leaves_the_older_one(run_module: RunModule, places: dict[str, str]) -> None:
    publish(run_module, places, "aa")
    publish(run_module, places, "bb")
    home = Path(places["root"]) / "compute"
    assert (home / "current").readlink() == Path("bb")
    assert (home / "aa" / "vmlinuz").read_bytes() == FILES["vmlinuz"]


def test_a_damaged_file_is_named_and_nothing_is_published(
    run_module: RunModule, places: dict[str, str]
) -> None:
    publish(run_module, places, "aa")
    wanted = run_module("boot_images", state="wanted", images=[image("bb")], **places)
    copy(places, wanted["missing"], initrd=b"damaged")
    failed = run_module("boot_images", images=[image("bb")], **places)
    assert failed["failed"]
    assert "initrd has the sha256" in failed["msg"]
    assert "rackloom image build compute" in failed["msg"]
    assert (Path(places["root"]) / "compute" / "current").readlink() == Path("aa")
    # The next run copies that file alone.
    again = run_module("boot_images", state="wanted", images=[image("bb")], **places)
    assert [entry["file"] for entry in again["missing"]] == ["initrd"]


def test_a_copy_that_was_cut_short_is_made_again(run_module: RunModule, places: dict[str, str]) -> None:
    wanted = run_module("boot_images", state="wanted", images=[image("aa")], **places)
    copy(places, wanted["missing"], **{"root.squashfs": b"half"})
    again = run_module("boot_images", state="wanted", images=[image("aa")], **places)
    assert [entry["file"] for entry in again["missing"]] == ["root.squashfs"]


def test_other_kernel_options_reach_an_image_that_is_there(
    run_module: RunModule, places: dict[str, str]
) -> None:
    publish(run_module, places, "aa")
    done = run_module("boot_images", images=[{**image("aa"), "script": "#!ipxe\n# new\n"}], **places)
    assert done["changed"] and not done["published"]
    assert "# new" in (Path(places["root"]) / "compute/current/boot.ipxe").read_text()


@pytest.mark.parametrize("manifest", ["", "{}", '{"files": {"../x": {"sha256": "1"}}}', '{"files": []}'])
def test_a_broken_manifest_is_refused(run_module: RunModule, places: dict[str, str], manifest: str) -> None:
    done = run_module("boot_images", images=[{**image("aa"), "manifest": manifest}], **places)
    assert done["failed"] and "compute" in done["msg"]


def test_check_mode_only_tells(run_module: RunModule, places: dict[str, str]) -> None:
    assert run_module("boot_images", check=True, images=[image("aa")], **places)["changed"]
    assert list(Path(places["root"]).iterdir()) == []
