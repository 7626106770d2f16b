"""Ansible driven from Python: start it, follow it, stop it, and remember what took the time."""

from __future__ import annotations
