"""Plugins that run inside ansible-playbook; Ansible loads them by path."""

from __future__ import annotations
