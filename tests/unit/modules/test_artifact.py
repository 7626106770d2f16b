"""What a node takes straight from outside: also from a registry, which wants a token before it gives what is public."""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import quote

import pytest
from plugins.action.artifact import sources
from plugins.modules.artifact import opened, token_place

CONTENT = b"the archive of a chart"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
REPOSITORY = "/v2/charts/web"
SCOPE = "repository:charts/web:pull"


class Registry(BaseHTTPRequestHandler):
    """One that sends on to another place for the content, as the large ones do."""

    asked: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self) -> None:
        asked, port = self.headers.get("Authorization", ""), self.server.server_port  # type: ignore[attr-defined]
        self.asked.append((self.path.partition("?")[0], asked))
        if self.path.startswith("/token"):
            self.answer(200, json.dumps({"token": f"for {self.path.partition('?')[2]}"}).encode())
        elif self.path.startswith("/store"):
            self.answer(400 if asked else 200, CONTENT)
        elif asked.startswith("Bearer for service=here&scope=repository"):
            self.answer(307, b"", Location=f"http://127.0.0.1:{port}/store")
        else:
            realm = f'Bearer realm="http://127.0.0.1:{port}/token",service="here",scope="{SCOPE}"'
            self.answer(401, b"{}", **{"WWW-Authenticate": realm})

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[str]:
    Registry.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_registry_gives_a_token_and_then_the_content(registry: str) -> None:
    with opened(f"{registry}{REPOSITORY}/blobs/sha256:{SHA256}", ssl.create_default_context()) as answer:
        assert answer.read() == CONTENT
    # The place that the registry sends on to must not see the token: it refuses what has one.
    assert Registry.asked[-1] == ("/store", "")
    assert [path for path, _ in Registry.asked].count("/token") == 1


def test_a_chart_of_a_registry_is_asked_for_by_its_digest() -> None:
    record = {"version": "1.0", "url": "oci://registry.example/charts/web", "sha256": SHA256}
    found = sources("chart", "web", record, "https://mirror.example/charts")["all"]
    assert found == {
        "sha256": SHA256,
        "mirror": "https://mirror.example/charts/web-1.0.tgz",
        "outside": f"https://registry.example{REPOSITORY}/blobs/sha256:{SHA256}",
    }


@pytest.mark.parametrize(
    ("challenge", "place"),
    [
        ("", ""),
        ('Basic realm="https://registry.example/"', ""),
        ("Bearer", ""),
        ('Bearer service="x"', ""),
        ('Bearer realm="http://registry.example/token"', ""),  # less safe than where it comes from
        ('Bearer realm="file:///etc/passwd"', ""),
        ('bearer realm="https://t.example/a",service="s",error="e"', "https://t.example/a?service=s"),
        (f'Bearer realm="https://t.example/a",scope="{SCOPE}"', f"https://t.example/a?scope={SCOPE}"),
    ],
)
def test_where_tokens_are_had(challenge: str, place: str) -> None:
    wanted = place.replace(SCOPE, quote(SCOPE, safe=""))
    assert token_place("https://registry.example/v2/x", challenge) == wanted
