"""A site's secrets for scenarios: `make_secrets.py FILE`. Made once; a second run leaves them as they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rackloom.site.secrets import SECRETS


def make(path: Path) -> None:
    """Write all secrets that a site has, as one JSON object."""
    if path.exists():
        return
    made: dict[str, str] = {}
    for secret in SECRETS:
        made[secret.name] = secret.make(made)
    path.write_text(json.dumps(made))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
