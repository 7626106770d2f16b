"""Views and searches are brought into Kibana when they differ or are gone."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from plugins.modules import kibana_objects

from rackloom.site.authority import issue, make_authority, make_key

RunModule = Callable[..., dict[str, Any]]
FILE = Path(__file__).parents[3] / "roles/kibana/files/objects.ndjson"


class Kibana:
    """Kibana's door."""

    def __init__(self, folder: Path) -> None:
        self.objects: dict[str, Any] = {}
        self.level = "available"
        self.imports = 0
        kibana = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/kibana/api/status":
                    return self.reply(200, {"status": {"overall": {"level": kibana.level}}})
                name = self.path.rpartition("/")[2]
                return self.reply(200 if name in kibana.objects else 404, {"data_view": {"id": name}})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if (
                    self.path != "/kibana/api/saved_objects/_import?overwrite=true"
                    or not self.headers["kbn-xsrf"]
                ):
                    return self.reply(400, {"message": "Request must contain a kbn-xsrf header."})
                head = f"Content-Type: {self.headers['Content-Type']}\n\n".encode()
                part = next(message_from_bytes(head + body, policy=policy.default).iter_parts())
                name, text = part.get_filename(), part.get_payload(decode=True)
                if not str(name).endswith(".ndjson") or not isinstance(text, bytes):
                    return self.reply(400, {"message": "Invalid file extension"})
                kibana.imports += 1
                rows = [json.loads(row) for row in text.splitlines()]
                kibana.objects |= {row["id"]: row for row in rows}
                good = all({"id", "type", "attributes", "references"} <= set(row) for row in rows)
                return self.reply(200, {"success": good, "successCount": len(rows)})

            def reply(self, status: int, answer: Any) -> None:
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        key = make_key()
        self.ca = folder / "ca.crt"
        self.ca.write_text(make_authority(key))
        made = issue(key, self.ca.read_text(), "kibana one", ["127.0.0.1"])
        (folder / "server.pem").write_text(made.certificate + made.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}/kibana"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def kibana(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kibana]:
    monkeypatch.setattr(kibana_objects, "RECORD", tmp_path / "state" / "kibana-objects")
    made = Kibana(tmp_path)
    yield made
    made.server.shutdown()


@pytest.fixture
def load(kibana: Kibana, run_module: RunModule) -> RunModule:
    def run(**more: Any) -> dict[str, Any]:
        given: dict[str, Any] = {
            "url": kibana.url,
            "user": "elastic",
            "password": "word",
            "ca_file": str(kibana.ca),
        }
        given |= {"path": str(FILE), "view": "rackloom-logs", "seconds": 1}
        return run_module("kibana_objects", **{**given, **more})

    return run


def test_ours_are_brought_in_once(kibana: Kibana, load: RunModule) -> None:
    assert load()["objects"] == len(FILE.read_text().splitlines())
    assert "rackloom-errors" in kibana.objects
    assert not load()["changed"]
    assert kibana.imports == 1


def test_they_come_again_when_they_differ(kibana: Kibana, load: RunModule, tmp_path: Path) -> None:
    load()
    other = tmp_path / "other.ndjson"
    other.write_text(FILE.read_text().replace("All lines", "Everything"))
    assert load(path=str(other))["changed"]
    assert not load(path=str(other))["changed"]


def test_they_come_again_when_the_view_is_gone(kibana: Kibana, load: RunModule) -> None:
    load()
    kibana.objects.clear()
    assert load()["changed"]


def test_looking_changes_nothing(kibana: Kibana, load: RunModule) -> None:
    assert load(check=True)["changed"]
    assert not kibana.imports
    assert load(check=True, url="https://127.0.0.1:1/kibana")["changed"]


def test_a_kibana_that_is_not_ready_is_waited_for(kibana: Kibana, load: RunModule) -> None:
    kibana.level = "degraded"
    told = load(seconds=0)
    assert told["failed"]
    assert "is degraded" in told["msg"]


def test_an_import_that_fails_is_told(load: RunModule, tmp_path: Path) -> None:
    broken = tmp_path / "broken.ndjson"
    broken.write_text('{"id": "x", "type": "search"}\n')
    told = load(path=str(broken))
    assert told["failed"]
    assert "to the import" in told["msg"]
    assert load(path=str(broken))["failed"], "it is not taken for done"
