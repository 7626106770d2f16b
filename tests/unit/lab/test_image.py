"""The node image's recipe."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rackloom.lab.errors import LabError
from rackloom.lab.image import build_argv, recipe


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "etc/apt").mkdir(parents=True)
    (tmp_path / "etc/os-release").write_text("ID=debian\nVERSION_CODENAME=bookworm\n")
    (tmp_path / "etc/apt/sources.list").write_text("deb http://m.example/debian bookworm main\n")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    return tmp_path


def test_same_machine_same_digest(host: Path) -> None:
    assert recipe("debian-12", host, {}).tag == recipe("debian-12", host, {}).tag
    assert recipe("debian-12", host, {}).tag.startswith("localhost/rackloom-node:debian-12-")


def test_all_that_goes_in_changes_the_digest(host: Path) -> None:
    seen = {recipe("debian-12", host, {}).digest, recipe("debian-13", host, {}).digest}
    seen.add(recipe("debian-12", host, {"http_proxy": "http://p.example:3128"}).digest)
    authority = host / "usr/local/share/ca-certificates/site.crt"
    authority.parent.mkdir(parents=True)
    authority.write_text("-----BEGIN CERTIFICATE-----\n")
    seen.add(recipe("debian-12", host, {}).digest)
    (host / "etc/apt/sources.list").write_text("deb http://other.example/debian bookworm main\n")
    seen.add(recipe("debian-12", host, {}).digest)
    assert len(seen) == 5


def test_build_takes_this_machines_sources_or_the_builders_default(host: Path) -> None:
    own = build_argv(recipe("debian-13", host, {}), Path("/build"))
    assert own[-3:] == ["trixie", "-", "-"]
    foreign = build_argv(recipe("ubuntu-24.04", host, {}), Path("/build"))
    assert foreign[-2:] == ["noble", "-"]


def test_unknown_system_names_the_known_ones(host: Path) -> None:
    with pytest.raises(LabError) as caught:
        recipe("plan-9", host, {})
    assert "debian-12" in caught.value.hint
