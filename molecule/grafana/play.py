#!/usr/bin/python3
"""Plays Grafana: reads the settings as it does, files that they name included, and answers with all of them.

It takes the place of the program in an archive, so it knows nothing of this repository and needs nothing but Python.
"""

from __future__ import annotations

import configparser
import http.server
import json
import pathlib
import re
import ssl
import sys


def value(text: str) -> str:
    """A setting, with what is in a file that it names."""
    return re.sub(r"\$__file\{([^}]*)\}", lambda found: pathlib.Path(found[1]).read_text().rstrip("\n"), text)


def settings() -> dict[str, dict[str, str] | str]:
    """All that it was told, sections by name and provisioned files by their folder."""
    told = dict(word[2:].split("=", 1) for word in sys.argv[2:])
    file = configparser.ConfigParser(interpolation=None)
    file.read_string(pathlib.Path(told["config"]).read_text())
    read: dict[str, dict[str, str] | str] = {
        name: {key: value(text) for key, text in file[name].items()} for name in file.sections()
    }
    for path in pathlib.Path(value(file["paths"]["provisioning"])).rglob("*.yml"):
        read[path.parent.name] = value(path.read_text())
    pathlib.Path(value(file["paths"]["data"]), "grafana.db").touch()
    return read


READ = settings()


class Page(http.server.BaseHTTPRequestHandler):
    """Tells."""

    def do_GET(self) -> None:
        """Every path is the same."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(READ).encode())


def main() -> None:
    """Serve until somebody ends it."""
    own = READ["server"]
    assert isinstance(own, dict)
    server = http.server.ThreadingHTTPServer((own["http_addr"], int(own["http_port"])), Page)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own["cert_file"], own["cert_key"])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
