"""Stages are read from the playbook."""

from __future__ import annotations

from pathlib import Path

import pytest

from rackloom.run.stages import UnknownStageError, choose, stages_of

BOOK = """\
---
- name: A
  ansible.builtin.import_playbook: a.yml
  tags: [preflight, always]
- name: B
  ansible.builtin.import_playbook: b.yml
  tags: base
- name: C
  hosts: all
  vars: {x: !vault "abc"}
  tags: [slurm]
"""


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "site.yml"
    path.write_text(BOOK, encoding="utf-8")
    return path


def test_in_order_without_special_tags(book: Path) -> None:
    assert stages_of(book) == ["preflight", "base", "slurm"]
    assert stages_of(book.with_name("none.yml")) == []


def test_choose(book: Path) -> None:
    assert choose(book, ["slurm", "base"]) == ["base", "slurm"]
    with pytest.raises(UnknownStageError, match="unknown stage: slum") as caught:
        choose(book, ["slum"])
    assert "did you mean slurm?" in caught.value.cure
