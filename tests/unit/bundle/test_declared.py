"""What the roles take from outside is read from where they declare it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rackloom.bundle import declared
from rackloom.bundle.declared import DeclarationError, Declared
from rackloom.docs_gen import tree

every_role = pytest.mark.parametrize("role", declared.roles())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of its own, with one role and one stage."""
    monkeypatch.setenv("RACKLOOM_HOME", str(tmp_path))
    write(tmp_path / "roles/tool/tasks/main.yml", "[]")
    write(tmp_path / "playbooks/site.yml", "[{ansible.builtin.import_playbook: stages/one.yml, tags: [one]}]")
    write(tmp_path / "playbooks/stages/one.yml", "[{hosts: all, roles: [{role: tool}]}]")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_every_role_of_the_repository_is_seen() -> None:
    assert declared.roles() == tree.roles()


# Roles that install nothing unless a site has chosen it, which needs package sources of the site's own.
CHOSEN: dict[str, dict[str, object]] = {
    "gpu_driver": {"gpu_driver_source": "vendor", "gpu_driver_branch": "580"},
    "gpu_toolkit": {"gpu_toolkit_enabled": True},
    "gpu_slices": {"gpu_slices_enabled": True},
    "dcgm": {"dcgm_enabled": True},
}


@pytest.mark.parametrize("role", CHOSEN)
def test_what_nobody_has_chosen_takes_nothing(role: str) -> None:
    assert declared.packages(role, "debian-12") == []


@every_role
@pytest.mark.parametrize("os", declared.SYSTEMS)
def test_every_role_tells_its_packages_for_every_system(role: str, os: str) -> None:
    found = declared.packages(role, os, CHOSEN.get(role))
    assert found == sorted(set(found))
    assert all(re.fullmatch(r"[a-z0-9][A-Za-z0-9.+_-]*(=.+)?", name) for name in found)
    installs = any(
        "packages:" in path.read_text() for path in Path(tree.ROOT, "roles", role, "tasks").glob("*.yml")
    )
    assert bool(found) == installs


@every_role
def test_every_role_tells_its_artifacts(role: str) -> None:
    versions = tree.load(tree.ROOT / "inventory" / "versions.yml")
    found = declared.artifacts(role)
    for kind in declared.KINDS:
        assert set(getattr(found, kind)) <= set(versions[kind]), kind


@pytest.mark.parametrize("stage", tree.stages())
def test_every_role_that_a_stage_names_belongs_to_it(stage: str) -> None:
    text = (tree.ROOT / "playbooks" / "stages" / f"{stage}.yml").read_text()
    named = set(re.findall(r"^ +- role: (\w+)$|_role:\n +name: (\w+)$", text, flags=re.MULTILINE))
    found = declared.roles_of_stage(stage)
    assert {first or second for first, second in named} <= set(found) <= set(declared.roles())


def test_stages_are_those_of_the_site() -> None:
    assert [stage for stage in declared.stages() if stage != declared.PROVISION] == tree.stages()


def test_a_stage_has_the_roles_of_its_plays_tasks_and_blocks(home: Path) -> None:
    for name in ("b", "c", "d", "e", "f"):
        write(home / f"roles/{name}/tasks/main.yml", "[]")
    write(
        home / "roles/tool/tasks/main.yml",
        "[{block: [{ansible.builtin.import_role: {name: c, tasks_from: x}}]}]",
    )
    write(home / "roles/c/meta/main.yml", "{dependencies: [{role: rackloom.cluster.d}]}")
    write(home / "roles/d/tasks/more.yml", "[{ansible.builtin.include_role: {name: tool}}]")
    write(
        home / "playbooks/stages/one.yml",
        """
        - hosts: all
          roles: [b]
          pre_tasks: [{rescue: [{ansible.builtin.include_role: {name: e}}]}]
          handlers: [{ansible.builtin.import_role: {name: f}}]
        - hosts: all
          roles: [{role: tool}]
        """,
    )
    assert declared.roles_of_stage("one") == ["b", "c", "d", "e", "f", "tool"]


def test_provision_comes_first_where_there_is_one(home: Path) -> None:
    assert declared.stages() == ["one"]
    write(home / "playbooks/provision.yml", "[{hosts: all, roles: [{role: tool}]}]")
    assert declared.stages() == ["provision", "one"]
    assert declared.roles_of_stage("provision") == ["tool"]


def test_an_unknown_stage_is_named_with_those_there_are(home: Path) -> None:
    with pytest.raises(DeclarationError, match="no stage two") as caught:
        declared.roles_of_stage("two")
    assert "one" in caught.value.cure


def test_packages_follow_the_system(home: Path) -> None:
    write(
        home / "roles/tool/vars/main.yml",
        """
        __tool_os: "{{ __tool_systems[ansible_facts['distribution']] | default(__tool_systems['Debian']) }}"
        __tool_systems:
          Ubuntu:
            packages: ["linux-image-{{ ansible_facts['distribution_version'] }}", tool]
            server_packages: "{{ ['tool-server'] if ansible_facts['distribution_release'] == 'noble' else [] }}"
            unit: "{{ tool_name }}.service"
          Debian:
            packages: [tool]
        """,
    )
    assert declared.packages("tool", "debian-12") == ["tool"]
    assert declared.packages("tool", "ubuntu-22.04") == ["linux-image-22.04", "tool"]
    assert declared.packages("tool", "ubuntu-24.04") == ["linux-image-24.04", "tool", "tool-server"]


def test_packages_that_a_site_adds_count(home: Path) -> None:
    write(home / "roles/tool/defaults/main.yml", "{tool_extra_packages: [], tool_name: x}")
    assert declared.packages("tool", "debian-12") == []
    inputs = {"tool_extra_packages": ["vim"], "other_extra_packages": ["tmux"], "tool_name": "y"}
    assert declared.packages("tool", "debian-12", inputs) == ["vim"]


def test_a_system_that_a_role_does_not_know_is_named(home: Path) -> None:
    write(
        home / "roles/tool/vars/main.yml",
        "{__tool_os: \"{{ __tool_systems[ansible_facts['os_family']] }}\", __tool_systems: {Debian: {packages: [a]}}}",
    )
    with pytest.raises(DeclarationError, match="role tool on rocky-9"):
        declared.packages("tool", "rocky-9")


@pytest.mark.parametrize("value", ["text", "[1]", "{a: b}", "null"])
def test_packages_that_are_no_list_of_names_are_refused(home: Path, value: str) -> None:
    write(home / "roles/tool/vars/main.yml", f"__tool_os: {{packages: {value}}}")
    with pytest.raises(DeclarationError, match="no list of package names"):
        declared.packages("tool", "debian-12")


@pytest.mark.parametrize(
    "ask", [lambda: declared.packages("tool", "dos-6"), lambda: declared.node_packages("dos-6")]
)
@pytest.mark.usefixtures("home")
def test_an_unknown_system_is_named_with_those_there_are(ask: object) -> None:
    assert callable(ask)
    with pytest.raises(DeclarationError, match="no operating system dos-6") as caught:
        ask()
    assert "debian-12" in caught.value.cure


@pytest.mark.usefixtures("home")
def test_an_unknown_role_is_named() -> None:
    with pytest.raises(DeclarationError, match="no role nothing"):
        declared.packages("nothing", "debian-12")
    with pytest.raises(DeclarationError, match="no role nothing"):
        declared.artifacts("nothing")


def test_artifacts_are_read_and_joined(home: Path) -> None:
    assert declared.artifacts("tool") == Declared()
    write(home / "roles/tool/meta/artifacts.yml", "{files: [b, a, a], images: [x.example/i]}")
    found = declared.artifacts("tool")
    assert found == Declared(files=("a", "b"), images=("x.example/i",))
    joined = found | Declared(files=("c", "a"), charts=("d",))
    assert joined == Declared(files=("a", "b", "c"), images=("x.example/i",), charts=("d",))


def test_what_is_a_choice_comes_along_where_it_was_made(home: Path) -> None:
    write(
        home / "roles/tool/meta/artifacts.yml",
        "{files: [a], choices: {calico: {charts: [c]}, crio: {files: [b], images: [x.example/i]}}}",
    )
    assert declared.choices() == {"calico": ["tool"], "crio": ["tool"]}
    assert declared.artifacts("tool", ()) == Declared(files=("a",))
    assert declared.artifacts("tool", {"calico", "other"}) == Declared(files=("a",), charts=("c",))
    every = Declared(files=("a", "b"), images=("x.example/i",), charts=("c",))
    assert declared.artifacts("tool") == declared.artifacts("tool", ("all",)) == every


@pytest.mark.parametrize(
    "text",
    [
        *("[a]", "{packages: [a]}", "{files: a}", "{files: [1]}", "{files: ['']}", "{files"),
        *("{choices: [a]}", "{choices: {a: [b]}}", "{choices: {a: {packages: [b]}}}", "{choices: {all: {}}}"),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_file(home: Path, text: str) -> None:
    write(home / "roles/tool/meta/artifacts.yml", text)
    with pytest.raises(DeclarationError, match=r"roles/tool/meta/artifacts\.yml"):
        declared.artifacts("tool")


@pytest.mark.parametrize("os", declared.SYSTEMS)
def test_a_node_can_be_reached_before_the_first_role(os: str) -> None:
    found = declared.node_packages(os)
    assert {"openssh-server", "ca-certificates", "python3"} <= set(found)


def test_the_controller_has_what_the_set_up_asks_for() -> None:
    """Set-up's own list, where it asks for neither --lab nor --dev."""
    script = (tree.ROOT / "scripts" / "setup.sh").read_text()
    body = re.search(r"list_needed\(\) \{\n(.*?)if \[ \$lab", script, flags=re.DOTALL)
    assert body is not None
    wanted = set(re.findall(r"^ +need \S+ (\S+)$", body[1], flags=re.MULTILINE))
    assert wanted
    for os in ("debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04"):
        found = declared.controller_packages(os)
        assert wanted <= set(found)
        assert any(name.endswith("-venv") for name in found)
    assert declared.controller_packages("rocky-9")


def test_roles_follow_from_the_groups_that_have_hosts(home: Path) -> None:
    plays = "[{hosts: 'web:!old', roles: [tool]}, {hosts: 'store[0]', roles: [other]}, {hosts: old, roles: [gone]}]"
    write(home / "playbooks/stages/one.yml", plays)
    for role in ("other", "gone"):
        write(home / f"roles/{role}/tasks/main.yml", "[]")
    write(home / "roles/tool/meta/main.yml", "{dependencies: [below]}")
    write(home / "roles/below/tasks/main.yml", "[]")
    assert declared.roles_for(["web"]) == ["below", "tool"]
    assert declared.roles_for(["store"]) == ["other"]
    assert declared.roles_for(["elsewhere"]) == []
