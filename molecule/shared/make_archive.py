"""An archive as a project publishes it: `make_archive.py RECORDS DIR NAME VERSION FILE MEMBER=SOURCE...`.

Writes DIR/NAME/VERSION/amd64/FILE with these programs in it, and adds its record to RECORDS, a versions file of JSON.
{version} in FILE and MEMBER is the version, and so is the content of a member without a source.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path


def make(records: Path, folder: Path, name: str, version: str, file: str, *members: str) -> None:
    """Write archive and record."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member, _, source in (each.partition("=") for each in members):
            content = Path(source).read_bytes() if source else version.encode()
            item = tarfile.TarInfo(member.format(version=version))
            item.size, item.mode = len(content), 0o755
            tar.addfile(item, io.BytesIO(content))
    packed = gzip.compress(out.getvalue(), compresslevel=1, mtime=0)
    path = folder / name / version / "amd64" / file.format(version=version)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed)
    known = json.loads(records.read_text()) if records.exists() else {"files": {}, "images": {}, "charts": {}}
    digest = hashlib.sha256(packed).hexdigest()
    known["files"][name] = {"version": version, "url": f"file:{path}", "sha256": {"amd64": digest}}
    records.write_text(json.dumps(known))


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
