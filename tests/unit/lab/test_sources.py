"""Package sources of this machine, carried over to nodes of its own and of another release."""

from __future__ import annotations

from pathlib import Path

import pytest

from rackloom.lab.sources import (
    Source,
    adapt,
    apt_options,
    host_release,
    parse_deb822,
    parse_list,
    read_sources,
    resolve_uri,
)

DEB822 = """\
# the mirror
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://vendor.example/node
Suites: nodistro
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://mirror.example/debian
Suites: bookworm
Components: main
"""


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_deb822_leaves_out_what_is_off_and_what_is_source_only() -> None:
    found = parse_deb822(DEB822)
    assert [source.uris for source in found] == [
        ("http://mirror.example/debian",),
        ("http://vendor.example/node",),
    ]
    assert found[0].components == ("main", "contrib")


def test_list_lines_with_options_and_comments() -> None:
    text = (
        "# no\ndeb [arch=amd64 signed-by=/k.gpg trusted=yes] http://m.example/u jammy main universe # yes\n"
        "deb-src x y z\n"
    )
    assert parse_list(text) == [
        Source(("http://m.example/u",), ("jammy",), ("main", "universe"), "/k.gpg", trusted=True)
    ]


@pytest.mark.parametrize(("target", "suites"), [("bookworm", "bookworm"), ("trixie", "trixie")])
def test_own_distribution_changes_only_the_release(target: str, suites: str) -> None:
    lines, keys = adapt(parse_deb822(DEB822), ("debian", "bookworm"), ("debian", target))
    option = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    assert lines == (
        f"deb {option} http://mirror.example/debian {suites} main contrib",
        f"deb {option} http://mirror.example/debian {suites}-updates main contrib",
    )
    assert keys == {}


def test_another_distribution_takes_nothing() -> None:
    assert adapt(parse_deb822(DEB822), ("debian", "bookworm"), ("ubuntu", "noble")) == ((), {})


def test_ubuntu_nodes_get_universe() -> None:
    source = Source(("http://m.example/ubuntu",), ("noble", "noble-security"), ("main",))
    lines, _ = adapt([source], ("ubuntu", "noble"), ("ubuntu", "jammy"))
    assert lines == (
        "deb http://m.example/ubuntu jammy main universe",
        "deb http://m.example/ubuntu jammy-security main universe",
    )


def test_an_embedded_key_is_written_into_the_node() -> None:
    text = (
        "Types: deb\nURIs: https://m.example/debian\nSuites: stable\nComponents: main\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----\n"
    )
    lines, keys = adapt(parse_deb822(text), ("debian", "bookworm"), ("debian", "bookworm"))
    assert lines == ("deb [signed-by=/etc/apt/keyrings/site-0.asc] https://m.example/debian bookworm main",)
    assert keys["/etc/apt/keyrings/site-0.asc"].splitlines()[1:3] == ["", "abc"]


def test_mirror_lists_are_looked_up_and_local_sources_left_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        "etc/apt/mirrors/debian.list",
        "# best first\nhttps://near.example/debian\nhttps://far.example\n",
    )
    assert resolve_uri("mirror+file:/etc/apt/mirrors/debian.list", tmp_path) == "https://near.example/debian"
    assert resolve_uri("mirror+file:/etc/apt/mirrors/none.list", tmp_path) == ""
    assert resolve_uri("file:/srv/packages", tmp_path) == ""


def test_read_sources_reads_both_notations(tmp_path: Path) -> None:
    write(tmp_path, "etc/apt/sources.list", "deb http://a.example/debian bookworm main\n")
    write(tmp_path, "etc/apt/sources.list.d/b.sources", DEB822)
    write(tmp_path, "etc/apt/sources.list.d/c.list.disabled", "deb http://c.example/debian bookworm main\n")
    assert [source.uris[0] for source in read_sources(tmp_path)] == [
        "http://a.example/debian",
        "http://mirror.example/debian",
        "http://vendor.example/node",
    ]


def test_apt_options_keep_proxies_and_drop_what_a_node_cannot_reach() -> None:
    dump = (
        'APT::Architecture "amd64";\nAcquire "";\nAcquire::Check-Valid-Until "false";\n'
        'Acquire::http::Proxy "http://proxy.example:3128";\nAcquire::http::Proxy::m.example "DIRECT";\n'
        'Acquire::http::Proxy-Auto-Detect "/usr/bin/detect";\n'
    )
    assert apt_options(dump, {"https_proxy": "http://127.0.0.1:3128"}) == (
        'Acquire::Check-Valid-Until "false";',
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::http::Proxy::m.example "DIRECT";',
    )
    assert apt_options("", {"HTTP_PROXY": "http://p.example:1"}) == (
        'Acquire::http::Proxy "http://p.example:1";',
    )


def test_host_release(tmp_path: Path) -> None:
    write(tmp_path, "etc/os-release", 'ID=ubuntu\nVERSION_CODENAME="noble"\n')
    assert host_release(tmp_path) == ("ubuntu", "noble")
    assert host_release(tmp_path / "none") == ("", "")
