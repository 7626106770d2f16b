"""site.yml is a list of stages, and each stage is known where users look for it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rackloom.docs_gen.tree import ROOT, load, roles, stages


def test_there_are_stages() -> None:
    assert {"preflight", "base", "slurm"} <= set(stages())


def test_site_holds_nothing_but_stages() -> None:
    plays = load(ROOT / "playbooks" / "site.yml")
    assert not [play for play in plays if "ansible.builtin.import_playbook" not in play]


@pytest.mark.parametrize("stage", stages())
def test_stage_is_tagged_by_its_name(stage: str) -> None:
    entry = next(
        play
        for play in load(ROOT / "playbooks" / "site.yml")
        if play["ansible.builtin.import_playbook"].endswith(f"/{stage}.yml")
    )
    plays = load(ROOT / "playbooks" / "stages" / f"{stage}.yml")
    assert plays
    tags = entry.get("tags", [])
    for play in plays:
        both = [*([tags] if isinstance(tags, str) else tags), *_as_list(play.get("tags", []))]
        assert {stage, "always"} & set(both), f"{play.get('name')}: no tag {stage}"


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


@pytest.mark.parametrize("stage", stages())
def test_stage_is_documented(stage: str) -> None:
    text = (ROOT / "docs" / "guide" / "deploy.md").read_text()
    assert f"`{stage}`" in text, f"docs/guide/deploy.md does not tell what the stage {stage} does"


def plays() -> list[dict[str, Any]]:
    """Every play of every playbook."""
    return [
        play
        for path in sorted((ROOT / "playbooks").rglob("*.yml"))
        for play in load(path) or []
        if "hosts" in play
    ]


def test_every_role_is_used_and_every_used_role_exists() -> None:
    named = {entry["role"] for play in plays() for entry in play.get("roles", [])}
    for path in [*ROOT.glob("playbooks/**/*.yml"), *ROOT.glob("roles/*/tasks/*.yml")]:
        named |= set(re.findall(r"(?:import|include)_role:\s*\n?\s*\{?\s*name: (\w+)", path.read_text()))
    # The one door to the outside: roles that install programs of other projects go through it.
    assert named | {"artifact"} == set(roles())


def test_plays_address_groups_that_exist() -> None:
    known = {*load(ROOT / "inventory" / "groups.yml")["groups"], "all", "localhost"}
    named = {
        name
        for play in plays()
        if "{{" not in str(play["hosts"])
        for name in re.findall(r"[a-z][a-z_]*", str(play["hosts"]))
    }
    assert named <= known


def test_plays_gather_facts_once() -> None:
    """Facts cost time on every host: the preflight stage gathers them for all."""
    assert not [play["name"] for play in plays() if play.get("gather_facts", False)]
