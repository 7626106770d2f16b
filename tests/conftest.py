"""What all tests share: Ansible finds our collection, whichever test is the first to render something."""

from __future__ import annotations

from pathlib import Path

from ansible.plugins.loader import init_plugin_loader

init_plugin_loader([str(Path(__file__).parents[1] / ".venv" / "collections")])
