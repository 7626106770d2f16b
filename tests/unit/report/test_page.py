"""The report's page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rackloom.report.data import MOST_HOSTS, load
from rackloom.report.page import find_run, render_page, write_page

HOSTS = ["mgmt01", "login01", "gpu001", "gpu002"]


def write(path: Path, **files: Any) -> Path:
    path.mkdir(parents=True)
    for name, data in files.items():
        (path / f"{name}.json").write_text(json.dumps(data), encoding="utf-8")
    return path


def run_files(hosts: list[str] = HOSTS) -> dict[str, Any]:
    task = {"role": "chrony", "action": "x", "path": "a.yml:1", "stage": "base", "play": "P"}
    rows = [[0, host, 1.0, 5.0 + number, "changed"] for number, host in enumerate(hosts)]
    rows += [[1, host, 9.0, 9.5, "skipped"] for host in hosts]
    rows += [[2, hosts[-1], 10.0, 12.0, "failed"]]
    return {
        "timeline": {
            "seconds": 20.0,
            "stages": [
                {"name": "base", "start": 1.0, "end": 9.0, "status": "ok", "hosts": 4},
                {"name": "slurm", "start": 9.0, "end": 12.0, "status": "failed", "hosts": 4},
            ],
            "tasks": [
                {**task, "name": "Install | Packages"},
                {**task, "name": "Never"},
                {**task, "name": "Break <it>", "stage": "slurm"},
            ],
            "rows": rows,
        },
        "site": {
            "name": "demo",
            "domain": "demo.example",
            "nodes": {
                host: {
                    "role": "compute" if host[0] == "g" else host[:-2],
                    "address": "10.0.0.1",
                    "profile": "a100",
                }
                for host in hosts
            },
            "groups": {"management": ["mgmt01"], "slurm_controller": ["mgmt01"], "profile_a100": hosts},
            "services": ["slurm_controller"],
        },
        "summary": {
            "kind": "deploy",
            "config": "demo",
            "started": "2026-01-01 00:00:00+0000",
            "command": "rackloom deploy",
            "exit_code": 1,
            "hosts": {
                host: {"changed": 1, "failed": int(host == hosts[-1]), "unreachable": 0} for host in hosts
            },
            "counts": {"tasks": 3, "evaluations": 9, "skipped_share": 0.44, "shell_share": 0.0, "changed": 4},
            "errors": [{"code": "disk_full", "message": "<full>", "cure": "make room", "host": "gpu002"}],
            "resume": "rackloom deploy slurm --limit gpu002",
            "facts": {"mgmt01": {"distribution": "Debian", "distribution_version": "12"}},
            "versions": {"slurm": "22.05.8"},
        },
    }


VERDICT = {
    "ok": False,
    "checks": [{"service": "slurm", "name": "two_nodes", "ok": False, "detail": "no", "seconds": 2}],
}


class Links(HTMLParser):
    """Collects everything that would load something, and checks that tags are closed."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            f"{tag} {name}={value}" for name, value in attrs if name in ("src", "href", "action", "data")
        ]
        self.found += [tag] if tag in ("script", "link", "iframe", "img") else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def page(tmp_path: Path) -> str:
    run = write(tmp_path / "demo" / ".runs" / "20260101-000000-deploy", **run_files(), validation=VERDICT)
    return write_page(run, tmp_path / "out" / "page.html").read_text(encoding="utf-8")


def test_it_says_what_happened(page: str) -> None:
    for words in (
        "demo", "Failed", "make room", "rackloom deploy slurm --limit gpu002", "two_nodes",
        "chrony : Install | Packages", "gpu002", "slurm_controller", "22.05.8", "Debian 12", "44 %",
    ):  # fmt: skip
        assert words in page
    assert page.count("<svg") == 3


def test_it_needs_nothing_but_itself(page: str) -> None:
    links = Links()
    links.feed(page)
    assert links.found == []
    assert links.open == []
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page)


def test_what_came_from_outside_is_escaped(page: str) -> None:
    assert "&lt;full&gt;" in page
    assert "Break &lt;it&gt;" in page
    assert "<it>" not in page


def test_light_and_dark(page: str) -> None:
    assert "prefers-color-scheme: dark" in page


def test_verdicts_come_from_the_last_validation(tmp_path: Path) -> None:
    runs = tmp_path / "demo" / ".runs"
    run = write(runs / "20260101-000000-deploy", **run_files())
    write(runs / "20260101-000100-validate", summary={}, validation=VERDICT)
    text = render_page(load(run))
    assert "from run 20260101-000100-validate" in text


def test_many_hosts_are_cut_but_not_the_interesting_ones(tmp_path: Path) -> None:
    hosts = ["mgmt01", "login01", *(f"gpu{number:04d}" for number in range(1, 2001))]
    data = load(write(tmp_path / "run", **run_files(hosts)))
    spans = data.spans()
    assert len(spans) == MOST_HOSTS
    assert {"mgmt01", "login01", "gpu2000"} <= set(spans)
    text = render_page(data)
    assert "gpu[0001-1999] (1999 hosts)" in text
    assert len(text) < 300_000


def test_a_run_without_files_is_still_a_page(tmp_path: Path) -> None:
    assert "<h1>" in render_page(load(write(tmp_path / "run")))


def test_find_run(tmp_path: Path) -> None:
    config = tmp_path / "demo"
    assert find_run(config) is None
    first = write(config / ".runs" / "20260101-000000-deploy", summary={})
    write(config / ".runs" / "20260101-000100-validate", summary={})
    write(config / ".runs" / "20260101-000200-deploy")
    assert find_run(config) == first
    found = find_run(config, "000100")
    assert found is not None
    assert found.name.endswith("validate")
    assert find_run(config, str(first)) == first
    assert find_run(config, "nope") is None
