"""An archive as CRI-O's project publishes it, with containerd in the part of CRI-O: `make_archive.py UPSTREAM RECORD`.

UPSTREAM is what tests/upstream/build.py laid out; the archive goes to its files/, and its record to RECORD.
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
# It answers at CRI-O's place, tells systemd when it does, and is as deaf to what makes CRI-O read its registries anew.
PLAYS_CRIO = """#!/bin/sh
cat > /run/plays-crio.toml <<'EOF'
version = 4
[plugins."io.containerd.server.v1.grpc"]
  address = "/run/crio/crio.sock"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  SystemdCgroup = true
EOF
exec env --ignore-signal=HUP "$(dirname "$(readlink -f "$0")")/containerd" --config /run/plays-crio.toml
"""


def make(upstream: Path, record: Path) -> None:
    """Write archive and record."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        programs = {
            "crio": PLAYS_CRIO.encode(),
            "containerd": (upstream / "bin/containerd/containerd").read_bytes(),
        }
        for name, data in programs.items():
            item = tarfile.TarInfo(f"cri-o/bin/{name}")
            item.size, item.mode = len(data), 0o755
            tar.addfile(item, io.BytesIO(data))
    packed = gzip.compress(out.getvalue(), compresslevel=1, mtime=0)
    path = upstream / "files/crio" / VERSION / "amd64" / f"cri-o.amd64.v{VERSION}.tar.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed)
    digest = hashlib.sha256(packed).hexdigest()
    told = {"crio": {"version": VERSION, "url": f"file:{path}", "sha256": {"amd64": digest}}}
    record.write_text(json.dumps({"files": told, "images": {}, "charts": {}}))


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
