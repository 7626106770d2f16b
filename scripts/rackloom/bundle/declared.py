"""
What the roles take from outside, read from where they declare it.

Packages stand in a role's `vars/main.yml`, in `__<role>_os`, under every key that is `packages` or ends in
`_packages`. Files, images and charts stand in `meta/artifacts.yml`, by their names in inventory/versions.yml:

    files: [kubeadm, kubelet]
    images: [registry.k8s.io/pause]
    charts: []
    choices:
      calico: {charts: [calico]}

What stands under a choice comes along where a site has made it, or where somebody asks for it. A role without that file
takes none. Which roles a stage has follows from its playbook.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackloom.site import paths

KINDS = ("files", "images", "charts")
"""What a role may declare in meta/artifacts.yml; the sections of inventory/versions.yml."""
CHOICES = "choices"
"""Further sections of it, each with a name: what is taken only where a site has chosen that."""
EVERY = "all"
"""Every choice at once."""

PROVISION = "provision"
"""The stage before all others: it has a playbook of its own, because it starts where no node answers yet."""


@dataclass(frozen=True)
class System:
    """One operating system, as Ansible's facts name it."""

    family: str
    distribution: str
    version: str
    release: str = ""

    @property
    def facts(self) -> dict[str, str]:
        """The facts from which roles pick their names of things: those that the preflight stage gathers."""
        return {
            "os_family": self.family,
            "distribution": self.distribution,
            "distribution_version": self.version,
            "distribution_major_version": self.version.split(".")[0],
            "distribution_release": self.release,
        }


SYSTEMS: Mapping[str, System] = {
    "debian-12": System("Debian", "Debian", "12", "bookworm"),
    "debian-13": System("Debian", "Debian", "13", "trixie"),
    "ubuntu-22.04": System("Debian", "Ubuntu", "22.04", "jammy"),
    "ubuntu-24.04": System("Debian", "Ubuntu", "24.04", "noble"),
    "rocky-9": System("RedHat", "Rocky", "9"),
    "almalinux-9": System("RedHat", "AlmaLinux", "9"),
    "rhel-9": System("RedHat", "RedHat", "9"),
}
"""The operating systems of nodes, by the names that site configs and the command line use."""

# What must be there before the first role runs: a node is reached by SSH, and modules are Python.
_NODE = {
    "Debian": (
        "ca-certificates",
        "dbus",
        "libpam-systemd",
        "openssh-server",
        "python3",
        "sudo",
        "systemd-sysv",
    ),
    "RedHat": ("ca-certificates", "dbus", "openssh-server", "python3", "python3-dnf", "sudo", "systemd"),
}
# What scripts/setup.sh asks of the machine that the commands run on.
_CONTROLLER = {
    "Debian": ("git", "openssh-client", "python3", "python3-venv"),
    "RedHat": ("git-core", "openssh-clients", "python3.11"),
}
_CONTROLLER_BY_OS = {"ubuntu-22.04": ("git", "openssh-client", "python3.11", "python3.11-venv")}


class DeclarationError(ValueError):
    """A declaration that cannot be read, or a name that nothing has. `str()` is the sentence, `cure` the way out."""

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.cure = cure


@dataclass(frozen=True)
class Declared:
    """What one role, or several, take from outside beside packages; sorted names of records."""

    files: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    charts: tuple[str, ...] = ()

    def __or__(self, other: Declared) -> Declared:
        """What either of the two takes."""
        return Declared(*(tuple(sorted({*getattr(self, k), *getattr(other, k)})) for k in KINDS))


def roles() -> list[str]:
    """Every role of the repository, sorted."""
    return sorted(path.parent.name for path in (paths.home() / "roles").glob("*/tasks"))


def stages() -> list[str]:
    """Every stage, in the order in which they run."""
    imported = [
        Path(target).stem
        for play in _plays(paths.home() / "playbooks" / "site.yml")
        if (target := str(play.get("ansible.builtin.import_playbook", "")))
    ]
    first = [PROVISION] if (paths.home() / "playbooks" / f"{PROVISION}.yml").is_file() else []
    return [*first, *imported]


def roles_of_stage(stage: str) -> list[str]:
    """The roles of a stage, and those that these call, sorted. Raises DeclarationError for a stage that is none."""
    if stage not in stages():
        raise DeclarationError(f"there is no stage {stage}", f"the stages are: {', '.join(stages())}")
    name = f"{stage}.yml" if stage == PROVISION else f"stages/{stage}.yml"
    found: set[str] = set()
    todo = list(_roles_in_playbook(paths.home() / "playbooks" / name))
    while todo:
        role = todo.pop()
        if role not in found:
            found.add(role)
            todo += _roles_called_by(role)
    return sorted(found)


def roles_for(groups: Collection[str]) -> list[str]:
    """The roles that are applied where these groups have hosts, sorted."""
    found: set[str] = set()
    for stage in stages():
        if stage == PROVISION:
            continue
        for play in _plays(paths.home() / "playbooks" / "stages" / f"{stage}.yml"):
            wanted = re.split(r"[:,]", str(play.get("hosts", "")))
            if {re.sub(r"\[.*", "", word) for word in wanted if word[:1] not in "!&"} & {*groups, "all"}:
                found |= set(_roles_in_play(play))
    todo = list(found)
    while todo:
        called = set(_roles_called_by(todo.pop())) - found
        found |= called
        todo += called
    return sorted(found)


def artifacts(role: str, chosen: Collection[str] = (EVERY,)) -> Declared:
    """Files, images and charts of one role, with those of some choices. Raises DeclarationError."""
    found, options = _declaration(role)
    for name, part in options.items():
        if EVERY in chosen or name in chosen:
            found |= part
    return found


def choices() -> dict[str, list[str]]:
    """Every choice that there is, with the roles that know it."""
    found: dict[str, list[str]] = {}
    for role in roles():
        for name in _declaration(role)[1]:
            found.setdefault(name, []).append(role)
    return dict(sorted(found.items()))


def _declaration(role: str) -> tuple[Declared, dict[str, Declared]]:
    """What a role always takes, and what each choice adds."""
    _known(role)
    path = _role(role) / "meta" / "artifacts.yml"
    data = _load(path)
    if data is None:
        return Declared(), {}
    where = f"roles/{role}/meta/artifacts.yml"
    if not isinstance(data, dict) or not set(data) <= {*KINDS, CHOICES}:
        raise DeclarationError(f"{where} holds something else than {', '.join(KINDS)} and {CHOICES}")
    options = data.get(CHOICES) or {}
    if not isinstance(options, dict) or EVERY in options:
        raise DeclarationError(f"{where}: {CHOICES} must be a mapping, in which nothing is called {EVERY}")
    plain = _lists({kind: names for kind, names in data.items() if kind != CHOICES}, where)
    return plain, {str(name): _lists(part, f"{where}: {name}") for name, part in options.items()}


def _lists(data: Any, where: str) -> Declared:
    if not isinstance(data, dict) or not set(data) <= set(KINDS):
        raise DeclarationError(f"{where} holds something else than {', '.join(KINDS)}")
    for kind, names in data.items():
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise DeclarationError(f"{where}: {kind} must be a list of names")
    return Declared(*(tuple(sorted(set(data.get(kind, [])))) for kind in KINDS))


def packages(role: str, os: str, inputs: Mapping[str, Any] | None = None) -> list[str]:
    """
    Names of the packages that a role installs on an operating system, sorted.

    `inputs` are values that a site gives to roles; those named `<role>_…packages` count, whichever role they are for.
    Raises DeclarationError when the role does not know the system.
    """
    _known(role)
    system = _system(os)
    variables = _variables(role)
    variables.update({name: value for name, value in (inputs or {}).items() if name.startswith(f"{role}_")})
    variables["ansible_facts"] = dict(system.facts)
    lists = [name for name in variables if re.fullmatch(rf"{role}_(\w+_)?packages", name)]
    expressions = [f"{{{{ {name} }}}}" for name in lists]
    if f"__{role}_os" in variables:
        keys = _render(f"{{{{ __{role}_os | list }}}}", variables, f"role {role} on {os}")
        names = [str(key) for key in keys if re.fullmatch(r"(\w+_)?packages", str(key))]
        expressions += [f"{{{{ __{role}_os['{name}'] }}}}" for name in names]
    found: set[str] = set()
    for expression in expressions:
        values = _render(expression, variables, f"role {role} on {os}")
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise DeclarationError(f"role {role} on {os}: {expression} is no list of package names")
        found.update(str(value) for value in values)
    return sorted(found)


def node_packages(os: str) -> list[str]:
    """Packages that a node must have before the first role can reach it, sorted."""
    return sorted(_NODE[_system(os).family])


def controller_packages(os: str) -> list[str]:
    """Packages that the machine needs on which the commands run, sorted."""
    return sorted(_CONTROLLER_BY_OS.get(os) or _CONTROLLER[_system(os).family])


def _role(role: str) -> Path:
    return paths.home() / "roles" / role


def _known(role: str) -> None:
    if not (_role(role) / "tasks").is_dir():
        raise DeclarationError(f"there is no role {role}")


def _system(os: str) -> System:
    if os not in SYSTEMS:
        raise DeclarationError(f"there is no operating system {os}", f"known are: {', '.join(SYSTEMS)}")
    return SYSTEMS[os]


def _load(path: Path) -> Any:
    """Content of a YAML file whose templates Ansible may render; None for a missing or empty one."""
    from ansible.errors import AnsibleError  # noqa: PLC0415 - slow to load
    from ansible.parsing.dataloader import DataLoader  # noqa: PLC0415

    if not path.is_file():
        return None
    try:
        return DataLoader().load_from_file(str(path), cache="none", trusted_as_template=True)
    except AnsibleError as error:
        raise DeclarationError(f"{path.relative_to(paths.home())}: {error}") from None


def _variables(role: str) -> dict[str, Any]:
    """A role's defaults and variables, as Ansible would lay them over each other."""
    found: dict[str, Any] = {}
    for name in ("defaults", "vars"):
        data = _load(_role(role) / name / "main.yml")
        found.update(data if isinstance(data, dict) else {})
    return found


def _render(expression: str, variables: dict[str, Any], where: str) -> Any:
    from ansible.errors import AnsibleError  # noqa: PLC0415 - slow to load
    from ansible.parsing.dataloader import DataLoader  # noqa: PLC0415
    from ansible.template import Templar, trust_as_template  # noqa: PLC0415

    templar = Templar(loader=DataLoader(), variables=variables)
    try:
        value = templar.template(trust_as_template(expression))
        return list(value) if isinstance(value, (list, tuple)) else value
    except AnsibleError as error:
        raise DeclarationError(
            f"{where}: {expression} cannot be told without a node: {error}",
            f"let vars/main.yml know it from {', '.join(sorted(SYSTEMS['debian-12'].facts))} alone",
        ) from None


def _plays(path: Path) -> list[dict[str, Any]]:
    """The plays of a playbook, or the tasks of a task file."""
    data = _load(path)
    return [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []


def _roles_in_playbook(path: Path) -> Iterator[str]:
    for play in _plays(path):
        yield from _roles_in_play(play)
        if target := play.get("ansible.builtin.import_playbook"):
            yield from _roles_in_playbook(path.parent / str(target))


def _roles_in_play(play: Mapping[str, Any]) -> Iterator[str]:
    for entry in play.get("roles", []):
        yield _plain(entry if isinstance(entry, str) else entry.get("role", entry.get("name", "")))
    for section in ("pre_tasks", "tasks", "post_tasks", "handlers"):
        yield from _roles_in_tasks(play.get(section, []))


def _roles_in_tasks(tasks: Any) -> Iterator[str]:
    for task in tasks if isinstance(tasks, list) else []:
        for section in ("block", "rescue", "always"):
            yield from _roles_in_tasks(task.get(section, []))
        for module in ("import_role", "include_role"):
            arguments = task.get(f"ansible.builtin.{module}") or task.get(module)
            if isinstance(arguments, dict):
                yield _plain(arguments.get("name", ""))


def _roles_called_by(role: str) -> list[str]:
    """The roles that a role's tasks and dependencies name."""
    _known(role)
    found = [
        name
        for path in sorted((_role(role) / "tasks").rglob("*.yml"))
        for name in _roles_in_tasks(_plays(path))
    ]
    meta = _load(_role(role) / "meta" / "main.yml")
    entries = (meta.get("dependencies") if isinstance(meta, dict) else None) or []
    return found + [_plain(entry if isinstance(entry, str) else entry.get("role", "")) for entry in entries]


def _plain(name: object) -> str:
    """The role's own name: `rackloom.cluster.base` and `base` are the same."""
    return str(name).rpartition(".")[2]
