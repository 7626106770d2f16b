"""A made-up toolkit and site: real ansible-runner, tiny playbooks, hosts that are this machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from rackloom.site import secrets

REPO = Path(__file__).resolve().parents[3]

CFG = """\
[defaults]
gathering = explicit
inject_facts_as_vars = False
interpreter_python = {python}
retry_files_enabled = False
display_skipped_hosts = False
timeout = 2
[inventory]
enable_plugins = ansible.builtin.ini
any_unparsed_is_failed = True
ignore_patterns = \\.yml$, ^vault\\.key$, ^\\.
"""

CLUSTER = """\
---
name: demo
domain: demo.example
networks:
  cluster: {cidr: 10.10.0.0/16, gateway: 10.10.0.1}
"""

NODES = """\
---
profiles:
  cpu: {sockets: 1, cores: 2, threads: 1, memory: 4000M}
management:
  - {name: mgmt01, address: 10.10.0.11, profile: cpu}
login:
  - {name: login01, address: 10.10.0.21, profile: cpu}
compute:
  - {name: "cpu[01-02]", address: 10.10.1.1, profile: cpu}
"""

HOSTS = """\
[management]
mgmt01
[login]
login01
[compute]
cpu01
cpu02
[all:vars]
ansible_connection=local
"""


@dataclass(frozen=True)
class World:
    """A toolkit's folder (home) and a site's (config)."""

    home: Path
    config: Path

    def playbook(self, text: str, name: str = "site.yml") -> None:
        """Write playbooks/<name>."""
        (self.home / "playbooks" / name).write_text(text, encoding="utf-8")

    def hosts(self, more: str) -> None:
        """Add lines to the inventory."""
        with (self.config / "hosts.ini").open("a", encoding="utf-8") as file:
            file.write(more)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A fresh one for each test; secrets are there and empty, the key opens them."""
    made = World(tmp_path / "home", tmp_path / "demo")
    (made.home / "playbooks").mkdir(parents=True)
    (made.home / "ansible.cfg").write_text(CFG.format(python=sys.executable), encoding="utf-8")
    (made.home / "inventory").symlink_to(REPO / "inventory")
    made.config.mkdir()
    for name, text in (
        ("cluster.yml", CLUSTER),
        ("nodes.yml", NODES),
        ("hosts.ini", HOSTS),
        ("vault.key", "key\n"),
    ):
        (made.config / name).write_text(text, encoding="utf-8")
    secrets.init(made.config)
    key_client = made.home / "key-client"
    key_client.write_text('#!/bin/sh\nexec cat "$RACKLOOM_VAULT_KEY_FILE"\n', encoding="utf-8")
    key_client.chmod(0o755)
    monkeypatch.setenv("RACKLOOM_HOME", str(made.home))
    monkeypatch.setenv("ANSIBLE_VAULT_IDENTITY_LIST", f"rackloom@{key_client}")
    monkeypatch.delenv("RACKLOOM_CONFIG", raising=False)
    monkeypatch.delenv("RACKLOOM_VAULT_KEY_FILE", raising=False)
    return made
