"""Archives as Elasticsearch and Kibana are published, with a program in their places: `make_archives.py DIR`.

The archives go below DIR/files, and their records to DIR/elastic.yml.
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
PLAYS = (Path(__file__).parent / "play.py").read_text()


def make(folder: Path) -> None:
    """Write archives and records."""
    told = {}
    for name in ("elasticsearch", "kibana"):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for inner, text in {f"bin/{name}": PLAYS, "VERSION": VERSION}.items():
                item = tarfile.TarInfo(f"{name}-{VERSION}/{inner}")
                item.size, item.mode = len(text.encode()), 0o755
                tar.addfile(item, io.BytesIO(text.encode()))
        packed = gzip.compress(out.getvalue(), mtime=0)
        path = folder / "files" / name / VERSION / "amd64" / f"{name}-{VERSION}-linux-x86_64.tar.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed)
        digest = hashlib.sha256(packed).hexdigest()
        told[name] = {"version": VERSION, "url": f"file:{path}", "sha256": {"amd64": digest}}
    (folder / "elastic.yml").write_text(json.dumps({"files": told, "images": {}, "charts": {}}))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
