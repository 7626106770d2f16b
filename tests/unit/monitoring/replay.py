"""An exporter that says again what real ones once said; its counters go on counting."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)$")
_TYPE = re.compile(r"^# TYPE (\S+) (\S+)$")
_COUNTING = ("counter", "histogram", "summary")


def later(text: str, seconds: float) -> str:
    """What an exporter would say so much later, had all that it counts gone on by one percent a second."""
    kinds: dict[str, str] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if told := _TYPE.match(line):
            kinds[told[1]] = told[2]
        elif sample := _SAMPLE.match(line):
            name = sample[1]
            family = name if name in kinds else re.sub(r"_(bucket|sum|count|total)$", "", name)
            quantile = kinds.get(family) == "summary" and name == family
            if kinds.get(family) in _COUNTING and not quantile:
                line = f"{name}{sample[2] or ''} {float(sample[3]) * (1 + seconds / 100):.15g}"  # noqa: PLW2901
        lines.append(line)
    return "\n".join(lines) + "\n"


@contextmanager
def replay(pages: Mapping[str, str]) -> Iterator[str]:
    """Serve pages by their path without the slash; yields host:port."""
    started = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path.strip("/"))
            body = later(page or "", time.monotonic() - started).encode()
            self.send_response(200 if page is not None else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
