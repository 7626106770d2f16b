"""Every role has the same shape, and says what it takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from rackloom.docs_gen.tree import ROOT, load, role_commented, role_defaults, role_spec, roles

SECRET = re.compile(r"(password|passphrase|secret|token|private_key|ssh_key|munge_key)$")
SHAPE = (
    "README.md",
    "defaults/main.yml",
    "meta/argument_specs.yml",
    "meta/main.yml",
    "tasks/main.yml",
    "tasks/validate.yml",
)

# Roles that need a whole cluster share the scenario of another that has one.
COVERED_BY = {
    "dcgm": "gpu_driver",
    "elasticsearch_exporter": "elasticsearch",
    "gpu_slices": "gpu_driver",
    "kibana": "elasticsearch",
    "kube_network": "kube_addons",
    "kube_gpu": "kube_addons",
    "kube_check": "kube_addons",
    "kube_vip": "kube_control_plane",
    "node_exporter": "monitoring_check",
    "prometheus": "monitoring_check",
    "alertmanager": "monitoring_check",
    "blackbox_exporter": "monitoring_check",
}

every_role = pytest.mark.parametrize("role", roles())


def options(spec: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every option of a specification, nested ones too, by its dotted name."""
    for name, option in spec.get("options", {}).items():
        yield f"{prefix}{name}", option
        yield from options(option, f"{prefix}{name}.")


def test_there_are_roles() -> None:
    assert roles()


@every_role
def test_has_every_file(role: str) -> None:
    missing = [name for name in SHAPE if not (ROOT / "roles" / role / name).is_file()]
    assert not missing


@every_role
def test_has_a_scenario_that_checks_behaviour(role: str) -> None:
    scenario = ROOT / "molecule" / COVERED_BY.get(role, role)
    if role in COVERED_BY:
        assert re.search(rf"\b{role}\b", (scenario / "converge.yml").read_text()), (
            "the scenario does not apply it"
        )
    assert (scenario / "molecule.yml").is_file(), f"molecule/{role}/molecule.yml is missing"
    assert list(scenario.rglob("test_*.py")) or (scenario / "verify.yml").is_file(), "no behaviour is checked"


@every_role
def test_spec_and_defaults_name_the_same_inputs(role: str) -> None:
    spec = set(role_spec(role).get("options", {}))
    defaults = set(role_defaults(role))
    without = role_commented(role)
    assert not defaults & without, "both set and commented out"
    assert spec == defaults | without


@every_role
def test_inputs_without_default_are_required_and_the_others_are_not(role: str) -> None:
    spec = role_spec(role).get("options", {})
    required = {name for name, option in spec.items() if option.get("required")}
    assert required == role_commented(role) & set(spec)
    assert not [name for name in required if "default" in spec[name]]


@every_role
def test_spec_and_defaults_hold_the_same_values(role: str) -> None:
    spec = role_spec(role).get("options", {})
    absent = object()
    wrong = {
        name: (value, spec[name].get("default"))
        for name, value in role_defaults(role).items()
        if name in spec and spec[name].get("default", absent) != value
    }
    assert not wrong, "defaults/main.yml against default: in argument_specs.yml"


@every_role
def test_every_input_is_typed_and_described(role: str) -> None:
    bare = [
        name
        for name, option in options(role_spec(role))
        if not option.get("description") or "type" not in option
    ]
    assert not bare


@every_role
def test_names_are_prefixed(role: str) -> None:
    public = [name for name in role_spec(role).get("options", {}) if not name.startswith(f"{role}_")]
    private = [
        name
        for path in (ROOT / "roles" / role / "vars").glob("*.yml")
        for name in load(path) or {}
        if not name.startswith(f"__{role}_")
    ]
    assert not public
    assert not private


@every_role
def test_secrets_have_no_default_and_stay_out_of_logs(role: str) -> None:
    for name, option in options(role_spec(role)):
        if option.get("no_log") or SECRET.search(name):
            assert option.get("no_log"), f"{name} needs no_log: true"
            assert not option.get("default"), f"{name} has a default"


@every_role
def test_says_who_wrote_it_and_where_it_runs(role: str) -> None:
    info = (load(ROOT / "roles" / role / "meta" / "main.yml") or {}).get("galaxy_info", {})
    wanted = ("author", "description", "license", "min_ansible_version", "platforms")
    assert not [key for key in wanted if not info.get(key)]
    assert info["license"] == "Apache-2.0"


@every_role
def test_knows_nothing_of_groups_and_other_hosts(role: str) -> None:
    """Inventory reaches a role through its inputs only."""
    word = re.compile(r"\b(hostvars|group_names|groups)\b(?=\s*[\[.(|]|\s*}})")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("tasks", "templates", "defaults", "vars", "handlers")
        for path in (ROOT / "roles" / role / folder).rglob("*")
        if path.is_file()
        for line in path.read_text().splitlines()
        if "{{" in line and word.search(line)
    ]
    assert not found
