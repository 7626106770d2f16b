"""The door's configuration is read by nginx, and an nginx with it lets in who the sign-on service knows."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.daemons import free_port
from tests.render.doors import ask, authority, certify, front_door
from tests.render.doors import served as nginx
from tests.tools import tool

PAGE = {"name": "prometheus", "title": "Metrics", "user": "rackloom"}
PASSWORD = 'a "quoted" {{ password }} $remote_user; with \\ signs'
Render = Callable[..., Path]


@pytest.fixture
def render(tmp_path: Path) -> Render:
    """Writes nginx.conf with everything that it names beside it."""
    certify(tmp_path, authority(), "door", "door")
    (tmp_path / "users").write_text("admin:x\n")
    (tmp_path / "www").mkdir()

    def run(template: str = "nginx.conf.j2", **inputs: Any) -> Path:
        return front_door(tmp_path, template, **inputs)

    return run


def backend(address: str = "127.0.0.1:1") -> dict[str, str]:
    return {"address": address, "name": "mgmt01"}


CASES: dict[str, dict[str, Any]] = {
    "nothing behind it": {},
    "one page": {"front_door_pages": [{**PAGE, "backends": [backend()]}]},
    "three servers": {"front_door_pages": [{**PAGE, "backends": [backend(), backend(), backend()]}]},
    "an IPv6 server over plain HTTP": {
        "front_door_pages": [{**PAGE, "scheme": "http", "backends": [backend("[2001:db8::1]:3000")]}]
    },
    "no plain port": {"front_door_http_port": 0},
    "sign-on": {"front_door_sso": {"url": "https://127.0.0.1:1/auth", "login": "https://sso.example/?a=b"}},
    "sign-on without a login page": {"front_door_sso": {"url": "http://127.0.0.1:1/auth"}},
    "a name with signs": {"front_door_cluster": {"name": 'a "b" c'}},
}


@pytest.mark.parametrize("case", CASES)
def test_nginx_reads_it(render: Render, case: str) -> None:
    inputs = {"front_door_passwords": {"prometheus": PASSWORD}, **CASES[case]}
    path = render(**inputs)
    argv = [str(tool("nginx", "nginx")), "-e", "stderr", "-t", "-q", "-c", str(path)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Told(BaseHTTPRequestHandler):
    """Both the sign-on service, which knows who has the cookie, and the page, which tells how it was asked."""

    def do_GET(self) -> None:
        if self.path == "/auth":
            known = self.headers.get("Cookie") == "who=alice"
            self.send_response(200 if known else 401)
            if known:
                self.send_header("X-Auth-Request-User", "alice")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = json.dumps(dict(self.headers)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def served() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Told)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def served_with_tls(render: Render, tmp_path: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Told)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def door(path: Path, port: int) -> AbstractContextManager[None]:
    return nginx(path, port, "/healthy")


def test_the_sign_on_service_decides_who_comes_in(render: Render, served: str, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "www" / "index.html").write_text("the first page")
    path = render(
        front_door_port=port,
        front_door_http_port=0,
        front_door_sso={"url": f"http://{served}/auth", "login": "https://sso.example/start"},
        front_door_pages=[{**PAGE, "scheme": "http", "backends": [backend(served)]}],
    )
    with door(path, port):
        stranger = ask(port, "/prometheus/graph")
        assert stranger.status == 302
        assert stranger.headers["Location"].startswith("https://sso.example/start?rd=https://127.0.0.1:")
        assert stranger.headers["Location"].endswith("/prometheus/graph")
        assert ask(port, "/").status == 302
        assert ask(port, "/", Cookie="who=alice").read() == b"the first page"
        # A visitor cannot say by himself who he is.
        asked = json.loads(ask(port, "/prometheus/", Cookie="who=alice", **{"X-WEBAUTH-USER": "root"}).read())
        assert asked["X-WEBAUTH-USER"] == "alice"


def test_passwords_certificates_and_the_second_server(
    render: Render, served_with_tls: str, tmp_path: Path
) -> None:
    port = free_port()
    made = subprocess.run(["openssl", "passwd", "-6", "right"], check=True, capture_output=True, text=True)
    (tmp_path / "users").write_text(f"admin:{made.stdout}")
    good = {"address": served_with_tls}
    path = render(
        front_door_port=port,
        front_door_http_port=0,
        front_door_passwords={"prometheus": PASSWORD},
        front_door_pages=[
            {**PAGE, "backends": [backend(), backend(), {**good, "name": "door"}]},
            {**PAGE, "name": "stranger", "backends": [{**good, "name": "somebody"}]},
            {**PAGE, "name": "logs", "backends": [{**good, "name": "door"}]},
        ],
    )
    with door(path, port):
        assert ask(port, "/prometheus/").status == 401
        assert ask(port, "/prometheus/", Authorization=basic("admin:wrong")).status == 401
        right = basic("admin:right")
        # Two servers are down; the third is asked with the door's own password.
        asked = json.loads(ask(port, "/prometheus/a?b=c", Authorization=right).read())
        assert asked["Authorization"] == basic(f"rackloom:{PASSWORD}")
        assert asked["X-WEBAUTH-USER"] == "admin"
        assert "Authorization" not in json.loads(ask(port, "/logs/", Authorization=right).read())
        assert ask(port, "/stranger/", Authorization=right).status == 502


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_the_first_page_shows_what_it_is_given_and_runs_none_of_it(render: Render) -> None:
    page = render(
        "index.html.j2",
        front_door_cluster={
            "name": "<script>x</script>",
            "facts": [{"title": "Nodes", "value": "3 & more"}],
            "services": [{"title": "Login", "hosts": ["login[01-02]"]}],
        },
        front_door_pages=[{**PAGE, "description": "a <b>", "backends": [backend()]}],
    ).read_text()
    assert "<script>" not in page
    for said in ("3 &amp; more", "<code>login[01-02]</code>", 'href="/prometheus/"', "a &lt;b&gt;"):
        assert said in page
