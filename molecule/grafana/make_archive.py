"""An archive as Grafana publishes it, with a program in its place that tells how it was set up: `make_archive.py DIR`.

The archive goes below DIR/files, and its record to DIR/grafana.yml.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

VERSION = "0.0.1"
# It reads the settings as Grafana does, files that they name included, and answers with all of them.
PLAYS_GRAFANA = """#!/usr/bin/python3
import configparser, http.server, json, pathlib, re, ssl, sys
told = dict(word[2:].split("=", 1) for word in sys.argv[2:])
settings = configparser.ConfigParser(interpolation=None)
settings.read_string(pathlib.Path(told["config"]).read_text())
def value(text):
    return re.sub(r"\\$__file\\{([^}]*)\\}", lambda found: pathlib.Path(found[1]).read_text().rstrip("\\n"), text)
read = {name: {key: value(text) for key, text in settings[name].items()} for name in settings.sections()}
folder = pathlib.Path(read["paths"]["provisioning"])
for path in folder.rglob("*.yml"):
    read[path.parent.name] = value(path.read_text())
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(read).encode())
server = http.server.ThreadingHTTPServer((read["server"]["http_addr"], int(read["server"]["http_port"])), Page)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(read["server"]["cert_file"], read["server"]["cert_key"])
server.socket = context.wrap_socket(server.socket, server_side=True)
pathlib.Path(read["paths"]["data"], "grafana.db").touch()
server.serve_forever()
"""


def make(folder: Path) -> None:
    """Write archive and record."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in {"bin/grafana": PLAYS_GRAFANA, "VERSION": VERSION}.items():
            item = tarfile.TarInfo(f"grafana-{VERSION}/{name}")
            item.size, item.mode = len(text), 0o755
            tar.addfile(item, io.BytesIO(text.encode()))
    packed = gzip.compress(out.getvalue(), mtime=0)
    path = folder / "files" / "grafana" / VERSION / "amd64" / f"grafana-{VERSION}.linux-amd64.tar.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed)
    digest = hashlib.sha256(packed).hexdigest()
    told = {"grafana": {"version": VERSION, "url": f"file:{path}", "sha256": {"amd64": digest}}}
    (folder / "grafana.yml").write_text(json.dumps({"files": told, "images": {}, "charts": {}}))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
