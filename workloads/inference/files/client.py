"""A small client of a server that speaks the inference protocol v2: a page to ask models by hand, and an API behind it.

Requests that meet a server on its way out are asked again, so an upgrade of the server costs users time and no answer.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = Path(__file__).with_name("page.html")
NAME = re.compile(r"^/api/models/([A-Za-z0-9._-]+)(/infer)?$")
LARGEST = 64 * 1024 * 1024
AGAIN = {502, 503, 504}
JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    body: bytes
    kind: str = JSON


def told(status: int, message: str) -> Answer:
    """A message of our own."""
    return Answer(status, json.dumps({"error": message}).encode())


class Server:
    """The server behind a service, of which single pods may come and go."""

    def __init__(
        self,
        url: str,
        patience: float,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url, self.patience, self.pause, self.clock = url.rstrip("/"), patience, pause, clock

    def once(self, method: str, path: str, body: bytes | None) -> Answer:
        """One try. Raises OSError and HTTPException."""
        request = urllib.request.Request(f"{self.url}{path}", data=body, method=method)  # noqa: S310 - http by the schema
        if body is not None:
            request.add_header("Content-Type", JSON)
        try:
            with urllib.request.urlopen(request, timeout=self.patience + 30) as got:  # noqa: S310
                return Answer(got.status, got.read(), got.headers.get("Content-Type", JSON))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read(), error.headers.get("Content-Type", JSON))

    def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """As often as it takes, until patience ends."""
        end = self.clock() + self.patience
        wait = 0.05
        while True:
            try:
                answer = self.once(method, path, body)
            except (OSError, http.client.HTTPException) as error:
                answer = told(502, f"the server does not answer: {error}")
            if answer.status not in AGAIN or self.clock() >= end:
                return answer
            self.pause(wait)
            wait = min(wait * 2, 1.0)


class Handler(BaseHTTPRequestHandler):
    """The page and its API."""

    server: Listener
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The page, health, the models, one model."""
        path = self.path.partition("?")[0]
        found = NAME.match(path)
        if path == "/":
            self.send(Answer(200, PAGE.read_bytes(), "text/html; charset=utf-8"))
        elif path == "/healthz":
            self.send(Answer(200, b"ok\n", "text/plain"))
        elif path == "/api/server":
            self.send(self.server.behind.ask("GET", "/v2"))
        elif path == "/api/models":
            self.send(self.server.behind.ask("POST", "/v2/repository/index", b"{}"))
        elif found and not found[2]:
            self.send(self.server.behind.ask("GET", f"/v2/models/{found[1]}"))
        else:
            self.send(told(404, "there is no such page"))

    def do_POST(self) -> None:
        """A question for a model."""
        found = NAME.match(self.path.partition("?")[0])
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > LARGEST:
            self.close_connection = True
            self.send(told(413 if length.isdigit() else 411, f"a request has a length, of at most {LARGEST}"))
            return
        body = self.rfile.read(int(length))
        if not found or not found[2]:
            self.send(told(404, "there is no such page"))
            return
        try:
            json.loads(body)
        except ValueError as error:
            self.send(told(400, f"this is no JSON: {error}"))
            return
        self.send(self.server.behind.ask("POST", f"/v2/models/{found[1]}/infer", body))

    def send(self, answer: Answer) -> None:
        """Answer."""
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header(
            "Content-Security-Policy", "default-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
        )
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """One line a request, but not for those who only ask whether we live."""
        if self.path != "/healthz":
            sys.stderr.write(f"{self.address_string()} {format % args}\n")


class Listener(ThreadingHTTPServer):
    """Takes requests; on its way out it finishes what it has."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, port: int, behind: Server) -> None:
        self.behind = behind
        super().__init__(("", port), Handler)


def main() -> None:
    """Serve until told to go."""
    behind = Server(os.environ["SERVER"], float(os.environ.get("PATIENCE", "20")))
    listener = Listener(int(os.environ.get("PORT", "8080")), behind)

    def go(*_: object) -> None:
        threading.Thread(target=listener.shutdown).start()

    signal.signal(signal.SIGTERM, go)
    signal.signal(signal.SIGINT, go)
    listener.serve_forever(poll_interval=0.2)
    os._exit(0)


if __name__ == "__main__":
    main()
