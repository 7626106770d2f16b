"""What Slurm's accounting database holds, what it should hold, and the sacctmgr commands between the two.

Nothing here runs a command: the state comes in as parsed rows and the commands go out as argument lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, str]
ROOT = "root"
UNITS = {"k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0**2, "p": 1024.0**3}
# TRES that are counted in MB when they carry a unit
SIZED = ("mem", "vmem", "fs/", "bb/")
TIMES = ("wall", "gracetime", "exempttime")
SETS = frozenset({"flags", "preempt", "qos"})
# Kept by Slurm as text that people read
TEXTS = frozenset({"description", "organization"})

QOS_FIELDS = ("Name", "Priority", "Preempt", "PreemptMode", "Flags", "Description")
ACCOUNT_FIELDS = ("Account", "Description", "Organization")
USER_FIELDS = ("User", "DefaultAccount", "AdminLevel")
ASSOCIATION_FIELDS = ("Account", "ParentName", "User", "Partition", "Fairshare", "QOS", "DefaultQOS")


class WrongValueError(ValueError):
    """A value that Slurm could not mean; the text names it."""


@dataclass
class State:
    """What the database holds: the rows that sacctmgr shows, by the names they are found with."""

    clusters: set[str] = field(default_factory=set)
    qos: dict[str, Row] = field(default_factory=dict)
    accounts: dict[str, Row] = field(default_factory=dict)
    users: dict[str, Row] = field(default_factory=dict)
    associations: dict[tuple[str, str], Row] = field(default_factory=dict)  # (account, user or "")


@dataclass(frozen=True)
class Command:
    """One change: the arguments of sacctmgr, and what it does in words."""

    arguments: tuple[str, ...]
    what: str


def _seconds(text: str) -> float:
    """Return the seconds of one of Slurm's time forms; a bare number is minutes."""
    if text.lower() in ("infinite", "unlimited", "-1", "none"):
        return -1
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in (rest if dash else text).split(":")]
    if dash:
        hours, minutes, seconds = (*parts, 0, 0, 0)[:3]
        return int(days) * 86400 + hours * 3600 + minutes * 60 + seconds
    if len(parts) == 1:
        return parts[0] * 60
    hours, minutes, seconds = (0, *parts) if len(parts) == 2 else (parts[0], parts[1], parts[2])
    return hours * 3600 + minutes * 60 + seconds


def _tres(text: str) -> dict[str, float]:
    """Return a TRES list as numbers by name; what is set to -1 is not limited and so not in it."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, amount = part.strip().lower().partition("=")
        unit = amount[-1:] if amount[-1:] in UNITS else ""
        number = float(amount.removesuffix(unit))
        sized = name.startswith(SIZED)
        found[name] = number * (
            UNITS[unit or "m"] if sized else 1024 ** (" kmgtp".index(unit) if unit else 0)
        )
    return {name: number for name, number in found.items() if number >= 0}


def canonical(key: str, value: Any) -> Any:
    """Return a value in a form that is equal for all spellings of the same; None is "not set"."""
    name = key.lower()
    if isinstance(value, list):
        value = ",".join(str(part) for part in value)
    text = str(value).strip()
    if name in TEXTS:
        return text.lower() or None  # Slurm keeps these in small letters
    if name in SETS:
        return frozenset(part.strip().lower() for part in text.split(",") if part.strip()) or None
    if text in ("", "-1"):
        return None
    try:
        if "=" in text:
            return tuple(sorted(_tres(text).items())) or None
        if any(word in name for word in TIMES):
            # the one time that sacctmgr takes in seconds
            seconds = int(text) if name == "gracetime" and text.isdigit() else _seconds(text)
            return seconds if seconds > 0 else None
    except ValueError:
        raise WrongValueError(f"{key}: {text!r} is no value that Slurm knows") from None
    try:
        return float(text)
    except ValueError:
        return text.lower()


def words(value: Any) -> str:
    """Return a value as sacctmgr takes it on its command line."""
    return ",".join(str(part) for part in value) if isinstance(value, list) else str(value)


def differing(row: Row, wanted: Mapping[str, Any]) -> list[str]:
    """Return the keys of which the row says something else than wanted."""
    return [key for key, value in wanted.items() if canonical(key, row.get(key, "")) != canonical(key, value)]


def rows(output: str, fields: Iterable[str]) -> list[Row]:
    """Return what sacctmgr -nP printed for a format as one dictionary a line."""
    names = list(fields)
    return [dict(zip(names, line.split("|"), strict=False)) for line in output.splitlines() if line.strip()]


def _settings(wanted: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    return [f"{key}={words(wanted[key])}" for key in keys]


def _said(wanted: Mapping[str, Any], row: Row, keys: Iterable[str]) -> str:
    return ", ".join(f"{key} {row.get(key) or '-'} -> {words(wanted[key]) or '-'}" for key in keys)


def wanted_qos(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a QOS that are managed: what its entry names."""
    out = {
        key: item[name]
        for key, name in (("Priority", "priority"), ("Preempt", "preempt"), ("Flags", "flags"))
        if item.get(name) is not None
    }
    for key, name in (("PreemptMode", "preempt_mode"), ("Description", "description")):
        if item.get(name):
            out[key] = item[name]
    return {**out, **(item.get("limits") or {})}


def wanted_association(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an account's or a user's association that are managed."""
    out: dict[str, Any] = {}
    if item.get("fairshare") is not None:
        out["Fairshare"] = item["fairshare"]
    if item.get("qos"):
        out["QOS"] = item["qos"]
    if item.get("default_qos"):
        out["DefaultQOS"] = item["default_qos"]
    return {**out, **(item.get("limits") or {})}


def wanted_account(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an account itself that are managed."""
    keys = (("Description", "description"), ("Organization", "organization"))
    return {key: item[name] for key, name in keys if item.get(name)}


def _present(items: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [item for item in items if item.get("state", "present") == "present"]


def _absent(items: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(item["name"]).lower() for item in items if item.get("state", "present") == "absent"]


def plan_qos(state: State, items: list[dict[str, Any]]) -> list[Command]:
    """Return the commands for the QOS. They may preempt each other, so all are added before any is set."""
    commands: list[Command] = []
    wanted = {str(item["name"]).lower(): wanted_qos(item) for item in _present(items)}
    new = [name for name in wanted if name not in state.qos]
    if new:
        commands.append(Command(("add", "qos", ",".join(new)), f"qos {', '.join(new)}: added"))
    for name, settings in wanted.items():
        row = state.qos.get(name, {})
        keys = differing(row, settings)
        if keys:
            arguments = ("modify", "qos", f"name={name}", "set", *_settings(settings, keys))
            commands.append(Command(arguments, f"qos {name}: {_said(settings, row, keys)}"))
    return commands


def plan_accounts(state: State, cluster: str, items: list[dict[str, Any]]) -> list[Command]:
    """Return the commands for the accounts, parents first, as the list has them."""
    commands: list[Command] = []
    for item in _present(items):
        name = str(item["name"]).lower()
        settings, own = wanted_association(item), wanted_account(item)
        parent = str(item.get("parent") or ROOT).lower()
        row = state.associations.get((name, ""))
        where = (f"name={name}", f"cluster={cluster}")
        if row is None:
            set_to = _settings({**own, **settings}, [*own, *settings])
            arguments = ("add", "account", *where, f"parent={parent}", *set_to)
            commands.append(Command(arguments, f"account {name}: added below {parent}"))
            continue
        if name != ROOT and row.get("ParentName", "").lower() != parent:
            arguments = ("modify", "account", "where", *where, "set", f"parent={parent}")
            commands.append(Command(arguments, f"account {name}: parent {row.get('ParentName')} -> {parent}"))
        keys = differing(row, settings)
        if keys:
            arguments = ("modify", "account", "where", *where, "set", *_settings(settings, keys))
            commands.append(Command(arguments, f"account {name}: {_said(settings, row, keys)}"))
        described = state.accounts.get(name, {})
        keys = differing(described, own)
        if keys:
            arguments = ("modify", "account", "where", f"name={name}", "set", *_settings(own, keys))
            commands.append(Command(arguments, f"account {name}: {_said(own, described, keys)}"))
    return commands


def _accounts_of(item: Mapping[str, Any]) -> list[str]:
    first = str(item.get("account") or "")
    listed = [str(name) for name in item.get("accounts") or []]
    return list(dict.fromkeys(name.lower() for name in ([first] if first else []) + listed))


def plan_users(state: State, cluster: str, items: list[dict[str, Any]]) -> list[Command]:
    """Return the commands for the users; new users that are set alike are added together."""
    alike: dict[tuple[str, ...], list[str]] = {}
    commands: list[Command] = []
    for item in _present(items):
        name = str(item["name"]).lower()
        accounts = _accounts_of(item)
        if not accounts:
            raise WrongValueError(f"user {name} has no account")
        settings = wanted_association(item)
        missing = [account for account in accounts if (account, name) not in state.associations]
        row = state.users.get(name)
        if missing:
            arguments = [f"cluster={cluster}", f"account={','.join(missing)}"]
            if row is None:
                arguments.append(f"defaultaccount={accounts[0]}")
                if str(item.get("admin", "none")).lower() != "none":
                    arguments.append(f"adminlevel={item['admin']}")
            alike.setdefault((*arguments, *_settings(settings, settings)), []).append(name)
        where = ("where", f"name={name}", f"cluster={cluster}")
        for account in accounts:
            held = state.associations.get((account, name))
            keys = differing(held, settings) if held is not None else []
            if held is not None and keys:
                arguments_set = (
                    "modify",
                    "user",
                    *where,
                    f"account={account}",
                    "set",
                    *_settings(settings, keys),
                )
                commands.append(
                    Command(arguments_set, f"user {name} in {account}: {_said(settings, held, keys)}")
                )
        if row is not None:
            commands += _plan_user_itself(name, row, accounts[0], str(item.get("admin", "none")), where)
    added = [
        Command(
            ("add", "user", f"name={','.join(names)}", *arguments),
            f"user {', '.join(names)}: {arguments[1]} added",
        )
        for arguments, names in alike.items()
    ]
    return [*added, *commands]


def _plan_user_itself(name: str, row: Row, default: str, admin: str, where: tuple[str, ...]) -> list[Command]:
    commands: list[Command] = []
    if row.get("DefaultAccount", "").lower() != default:
        what = f"user {name}: default account {row.get('DefaultAccount') or '-'} -> {default}"
        commands.append(Command(("modify", "user", *where, "set", f"defaultaccount={default}"), what))
    # sacctmgr shows "Administrator" and takes "admin" as well, so the first letters tell
    held = row.get("AdminLevel", "None").lower()
    if held[:5] != admin.lower()[:5]:
        what = f"user {name}: admin level {held} -> {admin}"
        commands.append(
            Command(("modify", "user", "where", f"name={name}", "set", f"adminlevel={admin}"), what)
        )
    return commands


def plan_absent(
    state: State,
    cluster: str,
    qos: list[dict[str, Any]],
    accounts: list[dict[str, Any]],
    users: list[dict[str, Any]],
) -> list[Command]:
    """Return the commands that delete what is listed as absent, and nothing else: users, accounts, QOS."""
    held = {user for _, user in state.associations if user}
    gone_users = [name for name in _absent(users) if name in held]
    gone_accounts = [name for name in reversed(_absent(accounts)) if (name, "") in state.associations]
    gone_qos = [name for name in _absent(qos) if name in state.qos]
    return [
        *(
            Command(
                ("delete", "user", "where", f"name={name}", f"cluster={cluster}"), f"user {name}: deleted"
            )
            for name in gone_users
        ),
        *(
            Command(
                ("delete", "account", "where", f"name={name}", f"cluster={cluster}"),
                f"account {name}: deleted",
            )
            for name in gone_accounts
        ),
        *(Command(("delete", "qos", "where", f"name={name}"), f"qos {name}: deleted") for name in gone_qos),
    ]


def limit_fields(items: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of all limits that entries set, for sacctmgr's format."""
    return sorted({str(key) for item in items for key in item.get("limits") or {}})
