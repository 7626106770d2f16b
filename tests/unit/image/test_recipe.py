"""What an image is made of: packages of its roles, sources, files; and what must never go in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from rackloom.bundle import declared
from rackloom.image import packages, recipe
from rackloom.image.errors import ImageError
from rackloom.image.spec import CLOUD, SMALL, ImageSpec

SPEC = ImageSpec("compute", "debian-12", roles=("munge", "slurmd"))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "etc/apt").mkdir(parents=True)
    (tmp_path / "etc/os-release").write_text("ID=debian\nVERSION_CODENAME=bookworm\n")
    (tmp_path / "etc/apt/sources.list").write_text("deb http://m.example/debian bookworm main\n")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    return tmp_path


def test_packages_of_the_roles_are_inside() -> None:
    found = packages.of_image(SPEC)
    assert set(declared.packages("slurmd", "debian-12")) <= set(found)
    assert set(declared.node_packages("debian-12")) <= set(found)
    assert list(found) == sorted(set(found))


def test_kernel_and_file_systems_are_chosen() -> None:
    cloud = ImageSpec("c", "debian-12", kernel=CLOUD, filesystems=("ext4", "xfs"))
    assert set(packages.of_image(cloud)) - set(packages.of_image(ImageSpec("c", "debian-12"))) == {
        cloud.kernel_package,
        "xfsprogs",
    }


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"os": "rocky-9"}, "kind: installer"),
        ({"os": "debian-12", "kernel": "realtime"}, "generic or cloud"),
        ({"os": "debian-12", "arch": "s390x"}, "amd64"),
        ({"os": "debian-12", "name": "../x"}, "letters"),
    ],
)
def test_what_cannot_be_built_is_refused(wrong: dict[str, str], word: str) -> None:
    with pytest.raises(ImageError) as caught:
        ImageSpec(**{"name": "x", **wrong})  # type: ignore[arg-type]
    assert word in caught.value.cure


def test_a_role_that_is_none_is_named() -> None:
    with pytest.raises(ImageError, match="nosuchrole"):
        packages.of_image(ImageSpec("x", "debian-12", roles=("nosuchrole",)))


def test_sources_are_the_sites_or_this_machines(host: Path) -> None:
    site = [
        {"types": ["deb"], "uris": ["http://s.example/d"], "suites": ["bookworm"], "components": ["main"]}
    ]
    assert recipe.make(SPEC, site, root=host, environment={}).sources == (
        "deb http://s.example/d bookworm main",
    )
    assert recipe.make(SPEC, root=host, environment={}).sources == (
        "deb http://m.example/debian bookworm main",
    )


def test_a_source_becomes_its_lines() -> None:
    source = {
        "uris": ["http://a", "http://b"],
        "suites": ["x"],
        "signed_by": "/k.gpg",
        "architectures": ["amd64"],
    }
    assert recipe.source_lines(source) == [
        "deb [arch=amd64 signed-by=/k.gpg] http://a x",
        "deb [arch=amd64 signed-by=/k.gpg] http://b x",
    ]
    assert recipe.source_lines({**source, "types": ["deb-src"]}) == []


def test_no_secret_of_this_machine_goes_in(host: Path) -> None:
    (host / "etc/apt/auth.conf.d").mkdir()
    (host / "etc/apt/auth.conf.d/site.conf").write_text("machine m.example login me password hush")
    made = recipe.make(SPEC, root=host, environment={"http_proxy": "http://me:hush@p.example:3128"})
    assert not made.options
    assert all(b"hush" not in content for content in made.files.values())


def test_same_inputs_same_recipe(host: Path) -> None:
    assert (
        recipe.make(SPEC, root=host, environment={}).digest
        == recipe.make(SPEC, root=host, environment={}).digest
    )
    seen = {
        recipe.make(spec, root=host, environment=environment).digest
        for spec, environment in (
            (SPEC, {}),
            (SPEC, {"http_proxy": "http://p.example:3128"}),
            (ImageSpec("compute", "debian-13", roles=SPEC.roles), {}),
            (ImageSpec("compute", "debian-12", roles=SPEC.roles, initrd=SMALL), {}),
            (ImageSpec("compute", "debian-12"), {}),
        )
    }
    assert len(seen) == 5


def test_the_agent_is_inside_and_runs_there(host: Path, tmp_path: Path) -> None:
    made = recipe.make(SPEC, root=host, environment={})
    for path, content in made.files.items():
        if path.startswith("usr/lib/rackloom/"):
            target = tmp_path / "node" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    argv = ["python3", "-I", "-c", f"import sys; sys.path.insert(0, '{tmp_path}/node/usr/lib/rackloom')\n"]
    argv[-1] += "import agent.__main__, agent.install, agent.discover; print('loaded')"
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "loaded\n"


def test_shell_parts_are_sound() -> None:
    parts = [path for path in (Path(recipe.__file__).parent / "files").rglob("*") if path.is_file()]
    scripts = [path for path in parts if path.read_bytes().startswith(b"#!/bin/sh")]
    assert scripts
    for path in scripts:
        subprocess.run(["sh", "-n", str(path)], check=True)
