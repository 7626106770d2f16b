"""Filebeat's archive, as its project publishes it, of the program that was built: `make_archive.py DIR`.

The archive goes below DIR/files, and its record to DIR/filebeat.yml.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import sys
import tarfile
from pathlib import Path

PINNED = Path(__file__).parents[2] / "tests/upstream/filebeat/go.mod"


def make(folder: Path) -> None:
    """Write archive and record."""
    found = re.search(r"elastic/beats/v7 v([0-9.]+)", PINNED.read_text())
    assert found is not None
    version = found[1]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        content = (folder / "bin/filebeat/filebeat").read_bytes()
        item = tarfile.TarInfo(f"filebeat-{version}-linux-x86_64/filebeat")
        item.size, item.mode = len(content), 0o755
        tar.addfile(item, io.BytesIO(content))
    packed = gzip.compress(out.getvalue(), compresslevel=1, mtime=0)
    path = folder / "files/filebeat" / version / "amd64" / f"filebeat-{version}-linux-x86_64.tar.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed)
    digest = hashlib.sha256(packed).hexdigest()
    told = {"filebeat": {"version": version, "url": f"file:{path}", "sha256": {"amd64": digest}}}
    (folder / "filebeat.yml").write_text(json.dumps({"files": told, "images": {}, "charts": {}}))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
