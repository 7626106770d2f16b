#!/usr/bin/python3
"""Plays Elasticsearch or Kibana at its door: reads the settings, shows the certificate, keeps what is written.

It takes the place of the program in an archive, so it knows nothing of this repository and needs nothing but Python.
"""

from __future__ import annotations

import base64
import http.server
import json
import os
import re
import ssl
import sys
from pathlib import Path
from typing import Any


def settings(path: Path) -> dict[str, Any]:
    """What Rackloom writes of YAML: a value a line, or a list of them."""
    found: dict[str, Any] = {}
    key = ""
    for row in path.read_text().splitlines():
        if item := re.fullmatch(r"- (.*)", row):
            found[key] = [*(found[key] or []), item[1].strip("'\"")]
        elif pair := re.fullmatch(r"([a-zA-Z_.]+):(?: (.*))?", row):
            key = pair[1]
            found[key] = (pair[2] or "").strip("'\"")
    return found


class Elasticsearch(http.server.BaseHTTPRequestHandler):
    """Documents by path, and users with their passwords."""

    told: dict[str, Any]
    store: Path

    def held(self) -> dict[str, Any]:
        """All of it."""
        return (
            dict(json.loads(self.store.read_text()))
            if self.store.exists()
            else {"users": {}, "documents": {}}
        )

    def user(self) -> str:
        """Who asks; that of the file is let in by its role, as no hash is looked at here."""
        word = base64.b64decode(self.headers.get("Authorization", "Basic ").removeprefix("Basic ")).decode()
        name, _, password = word.partition(":")
        known = self.held()["users"].get(name)
        inside = (Path(os.environ["ES_PATH_CONF"]) / "users_roles").read_text().strip() == f"superuser:{name}"
        return name if password and (inside or known == password) else ""

    def do_GET(self) -> None:
        """Answer as it does."""
        documents = self.held()["documents"]
        if self.path == "/_played":
            self.reply(200, {"settings": self.told, "argv": sys.argv[1:], "held": documents})
        elif not self.user():
            self.reply(401, {"error": {"reason": "unable to authenticate user"}})
        elif self.path.startswith("/_cluster/health"):
            self.reply(
                200, {"cluster_name": "demo", "status": "green", "timed_out": False, "number_of_nodes": 1}
            )
        elif self.path == "/":
            self.reply(200, {"cluster_name": "demo", "cluster_uuid": "a", "version": {"number": "9.1.5"}})
        elif self.path.startswith("/_nodes/"):
            self.reply(200, {"cluster_name": "demo", "nodes": {}})
        elif self.path == "/_security/_authenticate":
            self.reply(200, {"username": self.user()})
        elif self.path in documents:
            self.reply(200, {self.path.rpartition("/")[2]: documents[self.path]})
        else:
            self.reply(404, {})

    def do_PUT(self) -> None:
        """Keep it."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        held = self.held()
        if self.path.endswith("/_password"):
            held["users"][self.path.split("/")[3]] = body["password"]
        else:
            if self.path.startswith("/_security/user/") and "password" in body:
                held["users"][self.path.rpartition("/")[2]] = body.pop("password")
            held["documents"][self.path] = body
        self.store.write_text(json.dumps(held))
        self.reply(200, {})

    def reply(self, status: int, answer: Any) -> None:
        """One answer."""
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Kibana(Elasticsearch):
    """Saved objects by id."""

    def do_GET(self) -> None:
        """Answer as it does."""
        documents = self.held()["documents"]
        if self.path == "/_played":
            self.reply(200, {"settings": self.told, "held": documents})
        elif self.path == "/kibana/api/status":
            self.reply(200, {"status": {"overall": {"level": "available"}}})
        else:
            self.reply(200 if self.path.rpartition("/")[2] in documents else 404, {})

    def do_POST(self) -> None:
        """Keep the lines of the file that the form holds."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        rows = [json.loads(row) for row in body.splitlines() if row.startswith("{")]
        held = self.held()
        held["documents"].update({row["id"]: row for row in rows})
        self.store.write_text(json.dumps(held))
        self.reply(200, {"success": True, "successCount": len(rows)})


def main() -> None:
    """Serve."""
    kibana = Path(sys.argv[0]).name == "kibana"
    handler = Kibana if kibana else Elasticsearch
    folder = Path(os.environ["KBN_PATH_CONF" if kibana else "ES_PATH_CONF"])
    told = settings(folder / ("kibana.yml" if kibana else "elasticsearch.yml"))
    handler.told = told
    handler.store = Path(told["path.data"]) / "held.json"
    names = ("network.host", "http.port", "xpack.security.http.ssl")
    if kibana:
        names = ("server.host", "server.port", "server.ssl")
    if not kibana:
        (Path(told["path.data"]) / "_state").mkdir(exist_ok=True)
        (folder / "elasticsearch.keystore").touch()  # it makes one at its first start
    server = http.server.ThreadingHTTPServer((told[names[0]], int(told[names[1]])), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(told[f"{names[2]}.certificate"], told[f"{names[2]}.key"])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
