"""Every piece of config that the guide shows is accepted by `rackloom check`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackloom.docs_gen.tree import ROOT
from rackloom.site import check_site
from rackloom.site.models import FILES

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIJDrFn+Dz9mCHvwL8yA9TXfAIulRoSpxuiORIiKjWMP0"
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
# A site in which the pieces make sense.
BASE = """
cluster.yml:
  name: demo
  domain: demo.example
  networks: {cluster: {cidr: 10.10.0.0/16}, bmc: {cidr: 10.11.0.0/16}}
  users:
    - {name: alice, uid: 2001, admin: true, keys: ["ssh-ed25519 AAAA… alice"]}
    - {name: bob, uid: 2002, keys: ["ssh-ed25519 AAAA… bob"]}
  slurm:
    qos: [{name: high}]
    accounts: [{name: research}]
  services: {provisioner: [mgmt01]}
  provision: {images: {compute: {os: debian-12}}}
nodes.yml:
  profiles:
    cpu: {cores: 16, memory: 64G}
    a100: {sockets: 2, cores: 64, threads: 2, memory: 1000G, gpus: [{type: a100, count: 8}]}
  management:
    - {name: "mgmt[01-03]", address: 10.10.0.11, profile: cpu}
    - {name: "store[01-03]", address: 10.10.0.31, profile: cpu}
  login: [{name: login01, address: 10.10.0.21, profile: cpu, mac: "52:54:00:00:00:21", bmc: 10.11.0.21}]
  compute: [{name: "gpu[001-032]", address: 10.10.1.1, profile: a100, bmc: 10.11.1.1}]
"""
MACS = [f"52:54:00:00:01:{number:02x}" for number in range(32)]


def pieces() -> list[Any]:
    """The guide's YAML blocks that are part of one of the two files, with page and line."""
    found = []
    for page in sorted((ROOT / "docs" / "guide").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            data = yaml.safe_load(match.group(1).replace("AAAA…", KEY))
            files = [name for name, model in FILES.items() if set(data) <= set(model.model_fields)]
            if files:
                line = text.count("\n", 0, match.start()) + 1
                found.append(pytest.param(files[0], data, id=f"{page.name}:{line}"))
    return found


def test_there_are_pieces() -> None:
    assert len(pieces()) > len(FILES)


@pytest.mark.parametrize(("file", "piece"), pieces())
def test_piece_is_accepted(file: str, piece: dict[str, Any], tmp_path: Path) -> None:
    site = yaml.safe_load(BASE.replace("AAAA…", KEY))
    site["nodes.yml"]["compute"][0]["mac"] = MACS
    for key, value in piece.items():
        old = site[file].get(key)
        merge = isinstance(old, dict) and isinstance(value, dict)
        site[file][key] = {**old, **value} if merge else value
    for name, content in site.items():
        (tmp_path / name).write_text(yaml.safe_dump(content, allow_unicode=True))
    # What `rackloom bundle pin` looks up is not known here; the page says to run it.
    mistakes = [mistake for mistake in check_site(tmp_path).mistakes if mistake.code != "no-digest"]
    assert [str(mistake) for mistake in mistakes] == []
