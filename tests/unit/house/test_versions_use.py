"""One door to the outside: what is fetched is declared, what is declared has a record, what has a record is used."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rackloom.bundle import declared
from rackloom.bundle.declared import DeclarationError
from rackloom.docs_gen.tree import ROOT, load, roles

if TYPE_CHECKING:
    from tests.unit.house.conftest import Task

VERSIONS: dict[str, dict[str, Any]] = load(ROOT / "inventory" / "versions.yml")
UPSTREAM = ROOT / "tests" / "upstream"
READ = tomllib.loads((UPSTREAM / "programs.toml").read_text())
PROJECTS = {name: {**READ.get(table.get("like", ""), {}), **table} for name, table in READ.items()}
PINS = [
    (name, record)
    for name, table in PROJECTS.items()
    if "like" not in table  # those are earlier releases, whose records have other names
    and "version" not in table  # released under another number than the module's: tests/upstream compares
    for record in table.get("files", {})
]
ROOMS = ("roles", "playbooks", "plugins", "inventory", "scripts", "config.example", "molecule")

# Each of these brings something in from outside past the role `artifact`, or packages past the module `component`.
FETCHING = {
    *(f"ansible.builtin.{name}" for name in ("get_url", "git", "subversion", "unarchive", "pip")),
    *(
        f"ansible.builtin.{name}"
        for name in ("apt", "dnf", "dnf5", "package", "deb822_repository", "apt_key")
    ),
    *(f"ansible.builtin.{name}" for name in ("apt_repository", "rpm_key", "yum_repository")),
    *(
        f"community.general.{name}"
        for name in ("npm", "gem", "cpanm", "snap", "flatpak", "homebrew", "zypper")
    ),
    *(
        "containers.podman.podman_image",
        "containers.podman.podman_container",
        "containers.podman.podman_play",
    ),
    *(
        "community.docker.docker_image",
        "community.docker.docker_image_pull",
        "community.docker.docker_container",
    ),
    *("kubernetes.core.helm_repository", "kubernetes.core.helm_pull", "kubernetes.core.helm_plugin"),
}
SHELLS = {f"ansible.builtin.{name}" for name in ("shell", "command", "raw", "script", "expect")}
FETCHING_WORDS = re.compile(
    r"\b(curl|wget|git clone|pip3? (install|download)|(apt|apt-get|dnf|yum|rpm) (-\S+ )*(install|update|download)"
    r"|helm (pull|repo|install|upgrade)|(podman|docker|nerdctl|crictl) pull|ctr( \S+)* pull|kubectl apply -f http"
    r"|skopeo copy|oras pull|go install|npm (install|ci))\b"
)
IMAGE = re.compile(
    r"(?<![\w./-])((?:registry\.k8s\.io|docker\.io|quay\.io|ghcr\.io|nvcr\.io|gcr\.io)/[\w./-]*\w)"
)
# Names that stand for nothing outside (RFC 2606), this machine itself, and names of formats that nobody fetches.
HARMLESS = re.compile(
    r"(^|\.)(example|example\.(com|org|net)|test|invalid|localhost)$|^localhost$|^\d+\.\d+\.\d+\.\d+$"
    r"|^(json-schema\.org|spdx\.org|www\.w3\.org|www\.apache\.org|schemas\.dmtf\.org)$"
)
HOST = re.compile(
    r"\b(?:https?|ftp|oci|docker|git|ssh)://(?:[^\s@/\"']+@)?((?:[A-Za-z0-9-]+\.)+[A-Za-z0-9-]+)"
)


def role_of(task: Task) -> str:
    """The role that a task belongs to; "" for a playbook's."""
    parts = task.path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "roles" else ""


def strings(value: Any) -> Iterator[str]:
    """Every string inside a value, keys left out."""
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(part)
    if isinstance(value, str):
        yield value


def everywhere(texts: dict[Path, str], *rooms: str) -> Iterator[tuple[str, str]]:
    """Place and text of every line of these rooms, the versions file left out."""
    for path, text in texts.items():
        if path.relative_to(ROOT).parts[0] in rooms and path != ROOT / "inventory" / "versions.yml":
            for number, line in enumerate(text.splitlines(), 1):
                yield f"{path.relative_to(ROOT)}:{number}", line


def names_wanted(task: Task, role: str) -> list[str] | None:
    """The records that a task asks of the role `artifact`; None when the task does not."""
    called = task.raw.get("ansible.builtin.import_role") or task.raw.get("ansible.builtin.include_role") or {}
    if called.get("name") == "artifact":
        asked = task.raw.get("vars", {}).get("artifact_files", [])
    elif task.module == "rackloom.cluster.artifact":
        asked = task.raw[task.module].get("files", [])
    else:
        return None
    if isinstance(asked, str):
        return rendered(f"({inner(asked)}) | map(attribute='name') | list", role)
    found: list[str] = []
    for each in asked:
        found += rendered(f"[{inner(each['name'])}]", role) if "{{" in each["name"] else [each["name"]]
    return found


def inner(template: str) -> str:
    """The expression of a value that is one template and nothing else."""
    return template.strip().removeprefix("{{").removesuffix("}}")


def rendered(expression: str, role: str) -> list[str]:
    """A list of names out of a role's defaults and vars, for all systems together."""
    found: set[str] = set()
    for system in declared.SYSTEMS.values():
        variables = {**declared._variables(role), "ansible_facts": dict(system.facts)}
        found.update(map(str, declared._render(f"{{{{ {expression} }}}}", variables, f"role {role}")))
    return sorted(found)


def test_names_that_a_role_keeps_in_a_table_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: list[Task]
) -> None:
    for name, text in {
        "tasks/main.yml": "[]",
        "defaults/main.yml": "{}",
        "vars/main.yml": "__tool_files: [{name: a, dest: '{{ tool_dest }}'}]\n__tool_more: b",
    }.items():
        (tmp_path / "roles/tool" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "roles/tool" / name).write_text(text)
    monkeypatch.setenv("RACKLOOM_HOME", str(tmp_path))

    def wanted(value: Any) -> list[str] | None:
        raw = {"ansible.builtin.import_role": {"name": "artifact"}, "vars": {"artifact_files": value}}
        return names_wanted(replace(tasks[0], module="ansible.builtin.import_role", raw=raw), "tool")

    assert wanted("{{ __tool_files }}") == ["a"]
    assert wanted([{"name": "c", "dest": "/x"}, {"name": "{{ __tool_more }}"}]) == ["c", "b"]
    with pytest.raises(DeclarationError, match="cannot be told without a node"):
        wanted("{{ tool_registered.files }}")


# --- Tasks ---


def test_nothing_is_fetched_past_the_artifact_role(tasks: list[Task]) -> None:
    found = [
        f"{task.where}: {task.module}"
        for task in tasks
        if task.module in FETCHING and role_of(task) != "artifact"
    ]
    assert not found, "fetch with the role artifact, install packages with rackloom.cluster.component"


def test_a_question_to_a_service_saves_no_file(tasks: list[Task]) -> None:
    """`uri` asks services; with `dest` it would be a download."""
    asking = [task for task in tasks if task.module == "ansible.builtin.uri"]
    assert not [task.where for task in asking if "dest" in task.raw[task.module]]


def test_helm_takes_charts_from_the_disk(tasks: list[Task]) -> None:
    found = [
        task.where
        for task in tasks
        if task.module == "kubernetes.core.helm"
        and {"chart_repo_url", "repo_url"} & set(task.raw[task.module])
    ]
    assert not found


def test_no_command_fetches(tasks: list[Task]) -> None:
    found = [
        f"{task.where}: {match[0]}"
        for task in tasks
        if task.module in SHELLS
        for text in strings({"module": task.raw[task.module], "args": task.raw.get("args")})
        if (match := FETCHING_WORDS.search(text))
    ]
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "curl -o x y",
        "apt-get -y install vim",
        "pip install x",
        "podman pull x",
        "helm pull x",
        "ctr -n k images pull x",
    ],
)
def test_commands_that_fetch_are_known(line: str) -> None:
    assert FETCHING_WORDS.search(line)


@pytest.mark.parametrize(
    "line", ["dnf --version", "curling", "helm list", "/usr/bin/kubeadm init", "ctr images ls"]
)
def test_other_commands_are_not(line: str) -> None:
    assert not FETCHING_WORDS.search(line)


def test_what_a_task_fetches_is_declared_by_its_role(tasks: list[Task]) -> None:
    wrong = []
    for task in tasks:
        role = role_of(task)
        if role == "artifact" or (wanted := names_wanted(task, role)) is None:
            continue
        assert role, f"{task.where}: a playbook fetches nothing; a role does"
        has = declared.artifacts(role)
        wrong += [f"{task.where}: {name}" for name in wanted if name not in {*has.files, *has.charts}]
    assert not wrong, "add them to meta/artifacts.yml of the role"


def test_images_that_a_role_names_are_declared(texts: dict[Path, str]) -> None:
    wrong = []
    for place, line in everywhere(texts, "roles"):
        role = place.split("/")[1]
        if "/meta/artifacts.yml" in place or line.lstrip().startswith("#"):
            continue
        wrong += [
            f"{place}: {name}" for name in IMAGE.findall(line) if name not in declared.artifacts(role).images
        ]
    assert not wrong


def test_packages_come_from_the_tables_and_the_inputs(tasks: list[Task]) -> None:
    """What a task installs stands in __<role>_os or in an input, so the bundle knows it without a node."""
    wrong = []
    for task in tasks:
        if task.module != "rackloom.cluster.component" or "packages" not in task.raw[task.module]:
            continue
        value, role = task.raw[task.module]["packages"], role_of(task)
        told = rf"__{role}_os\.(?:\w+_)?packages|\b{role}_(?:\w+_)?packages\b"
        rest = re.sub(told, "", value) if isinstance(value, str) else "a list in the task"
        if isinstance(value, str):
            # Names in conditions are fine; what is left of a sum, or a literal name, is not.
            rest = re.sub(r"\bif\b.*?(?=\belse\b|\)|}})", "", rest)
            rest = re.sub(r"\b(else|unique|sort|list)\b|[{}\s+|()\[\]]", "", rest)
        if rest:
            wrong.append(f"{task.where}: {rest}")
    assert not wrong


# --- Records ---


@pytest.mark.parametrize("role", roles())
def test_what_a_role_declares_has_a_record(role: str) -> None:
    found = declared.artifacts(role)
    missing = {kind: set(getattr(found, kind)) - set(VERSIONS[kind]) for kind in declared.KINDS}
    assert not any(missing.values()), missing


@pytest.mark.parametrize("role", roles())
def test_a_role_uses_what_it_declares(role: str) -> None:
    found = declared.artifacts(role)
    text = "\n".join(
        path.read_text()
        for folder in ("tasks", "vars", "defaults", "templates", "files")
        for path in (ROOT / "roles" / role / folder).rglob("*")
        if path.is_file()
    )
    # A program that names its images itself is told of their repository alone.
    told = tuple(re.findall(r"repository: ([\w./-]+)", text))
    images = [name for name in found.images if not name.startswith(tuple(f"{place}/" for place in told))]
    names = (*found.files, *images, *found.charts)
    assert not [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)]


@pytest.mark.parametrize("kind", declared.KINDS)
def test_every_record_has_a_user(kind: str) -> None:
    used = {name for role in roles() for name in getattr(declared.artifacts(role), kind)}
    used |= {record for table in PROJECTS.values() for record in table.get(kind, {})}
    assert not set(VERSIONS[kind]) - used, "no role declares these, and tests/upstream does not build them"


@pytest.mark.parametrize(("project", "record"), PINS)
def test_tests_build_the_versions_that_sites_get(project: str, record: str) -> None:
    """`tests/upstream/build.py pin` writes a go.mod anew."""
    if record not in VERSIONS["files"]:
        pytest.fail(f"{record} is built by tests/upstream and has no record in inventory/versions.yml")
    pinned = re.search(
        rf"^\s*(?:require )?{re.escape(PROJECTS[project]['modules'][0])} v(\S+)",
        (UPSTREAM / project / "go.mod").read_text(),
        flags=re.MULTILINE,
    )
    assert pinned is not None
    assert pinned[1] == VERSIONS["files"][record]["version"]


@pytest.mark.parametrize("project", [name for name, table in PROJECTS.items() if "modules" in table])
def test_every_project_is_pinned_by_sums(project: str) -> None:
    module = PROJECTS[project]["modules"][0]
    sums = (UPSTREAM / project / "go.sum").read_text()
    version = re.search(rf"{re.escape(module)} (v\S+)", (UPSTREAM / project / "go.mod").read_text())
    assert version is not None
    assert f"{module} {version[1]} h1:" in sums


def test_a_version_stands_nowhere_else(texts: dict[Path, str]) -> None:
    wanted = {
        record["version"]: f"{kind}: {name}"
        for kind in ("files", "charts")
        for name, record in VERSIONS[kind].items()
        if record["version"].count(".") >= 2
    }
    wanted |= {
        record["tag"]: f"images: {name}"
        for name, record in VERSIONS["images"].items()
        if "." in record["tag"]
    }
    assert wanted
    pattern = re.compile(rf"(?<![\d.])v?({'|'.join(map(re.escape, wanted))})(?![\d.]*\d)")
    found = [
        f"{place}: {match[0]} ({wanted[match[1]]})"
        for place, line in everywhere(texts, *ROOMS, "docs")
        if not place.startswith("docs/reference/") and (match := pattern.search(line))
    ]
    assert not found


def test_no_place_outside_is_named(texts: dict[Path, str]) -> None:
    """The versions file alone knows where vendors live; a site's own places come from its config."""
    found = [
        f"{place}: {host}"
        for place, line in everywhere(texts, *ROOMS)
        for host in HOST.findall(line)
        if not HARMLESS.search(host)
    ]
    assert not found
