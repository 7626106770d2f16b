"""Metrics that a timer writes: what is there, what lacks, and what is left when a daemon falls silent."""

from __future__ import annotations

import http.server
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.loading import loaded

SOURCE = Path(__file__).parents[3] / "roles" / "node_exporter" / "files" / "node_metrics.py"
LINE = re.compile(r'[a-z_]+(\{([a-z]+="(\\.|[^"\\])*",?)*\})? [0-9.e+-]+')
ETCD = """# HELP etcd_server_has_leader Whether
# TYPE etcd_server_has_leader gauge
etcd_server_has_leader 1
# HELP go_goroutines Number
# TYPE go_goroutines gauge
go_goroutines 90
etcd_mvcc_db_total_size_in_bytes 4096
"""
Look = Callable[..., dict[str, str]]


@pytest.fixture
def program() -> ModuleType:
    return loaded(SOURCE, "node_metrics")


@pytest.fixture
def look(program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Run it once; returns each metric with its labels as one key, and its value."""
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(program, "failed_units", lambda: "")

    def look(**wanted: Any) -> dict[str, str]:
        given = {"folder": str(folder), "backups": {}, "volumes": {}, "local": {}, **wanted}
        (tmp_path / "config.json").write_text(json.dumps(given))
        monkeypatch.setattr(sys, "argv", ["it", str(tmp_path / "config.json")])
        program.main()
        found: dict[str, str] = {}
        for file in folder.iterdir():
            assert file.suffix == ".prom"
            assert file.stat().st_mode & 0o444 == 0o444
            for line in file.read_text().splitlines():
                if not line.startswith("#"):
                    assert LINE.fullmatch(line), line
                    name, _, value = line.rpartition(" ")
                    found[name] = value
        return found

    return look


@pytest.fixture
def etcd() -> Iterator[http.server.ThreadingHTTPServer]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(ETCD.encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_the_newest_file_of_a_backup_counts(look: Look, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    for name, when in (("a.db", 1000), ("b.db", 2000), (".hidden", 5000), ("c.db.part", 6000)):
        (backup / name).write_text(name)
        os.utime(backup / name, (when, when))
    found = look(backups={"etcd": str(backup), "none": str(tmp_path / "not-there")})
    assert found['rackloom_backup_newest_timestamp_seconds{backup="etcd"}'] == "2000"
    assert found['rackloom_backup_files{backup="etcd"}'] == "2"
    assert found['rackloom_backup_newest_timestamp_seconds{backup="none"}'] == "0"


def test_room_on_a_volume(look: Look, tmp_path: Path) -> None:
    found = look(volumes={"mirror": str(tmp_path), "none": str(tmp_path / "not-there")})
    at = os.statvfs(tmp_path)
    assert found['rackloom_volume_size_bytes{volume="mirror"}'] == str(at.f_blocks * at.f_frsize)
    assert not [name for name in found if "none" in name], "nothing is made up"


def test_a_daemon_of_this_host_is_handed_on(look: Look, etcd: http.server.ThreadingHTTPServer) -> None:
    place = f"127.0.0.1:{etcd.server_address[1]}"
    found = look(local={"etcd": place})
    assert found["etcd_server_has_leader"] == "1"
    assert found["etcd_mvcc_db_total_size_in_bytes"] == "4096"
    assert "go_goroutines" not in found, "the node exporter has one of its own"
    assert found['rackloom_local_up{local="etcd"}'] == "1"
    etcd.shutdown()
    etcd.server_close()
    after = look(local={"etcd": place})
    assert after['rackloom_local_up{local="etcd"}'] == "0"
    assert "etcd_server_has_leader" not in after, "old values look like living ones"


def test_failed_units(program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "systemctl"
    fake.write_text(
        "#!/bin/sh\necho 'munge.service loaded failed failed MUNGE'\necho 'a\\\\x2db.mount loaded failed failed x'\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    lines = [line for line in program.failed_units().splitlines() if not line.startswith("#")]
    assert 'rackloom_failed_unit{unit="munge.service"} 1' in lines
    assert len(lines) == 2
    assert all(LINE.fullmatch(line) for line in lines)


def test_labels_cannot_break_out(program: ModuleType) -> None:
    text = program.family("x", "gauge", "About.", [({"unit": 'a"} 1\nb{c="'}, 1)])
    [line] = [line for line in text.splitlines() if not line.startswith("#")]
    assert LINE.fullmatch(line)
