"""Accounts of people on a node: users, groups and public keys."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}\$?")
USER_IS_BUSY = 8  # userdel's exit code when the user still has processes


class Refused(Exception):
    """A sentence for the user: what cannot be done, and why."""


@dataclasses.dataclass(frozen=True)
class User:
    """One line of passwd with what shadow and group say of it."""

    uid: int
    gid: int
    comment: str
    home: str
    shell: str
    groups: frozenset[str]
    has_password: bool


@dataclasses.dataclass
class Accounts:
    """What the node's account files say now."""

    users: dict[str, User]
    groups: dict[str, int]

    @classmethod
    def parse(cls, passwd: str, group: str, shadow: str) -> Accounts:
        """Build from the text of the three files; lines of other forms (NIS) are left out."""
        hashes = {f[0]: f[1] for f in (line.split(":") for line in shadow.splitlines()) if len(f) > 1}
        groups: dict[str, int] = {}
        member_of: dict[str, set[str]] = {}
        for fields in (line.split(":") for line in group.splitlines()):
            if len(fields) == 4 and fields[2].isdigit():
                groups[fields[0]] = int(fields[2])
                for member in filter(None, fields[3].split(",")):
                    member_of.setdefault(member, set()).add(fields[0])
        users: dict[str, User] = {}
        for fields in (line.split(":") for line in passwd.splitlines()):
            if len(fields) == 7 and fields[2].isdigit():
                name = fields[0]
                users[name] = User(
                    uid=int(fields[2]),
                    gid=int(fields[3]),
                    comment=fields[4],
                    home=fields[5],
                    shell=fields[6],
                    groups=frozenset(member_of.get(name, ())),
                    has_password=not hashes.get(name, fields[1]).startswith(("!", "*", "x")),
                )
        return cls(users, groups)


def group_commands(wanted: list[dict[str, Any]], now: Accounts) -> list[list[str]]:
    """Return the commands that make the missing groups, and note them as made; Refused on a clash of numbers."""
    commands: list[list[str]] = []
    for entry in wanted:
        name, gid = entry["name"], entry.get("gid")
        if not NAME.fullmatch(name):
            raise Refused(f"{name!r} is no name for a group")
        if name in now.groups:
            if gid is not None and now.groups[name] != gid:
                raise Refused(
                    f"group {name} has number {now.groups[name]} on this node and is wanted with {gid}; "
                    f"renumber it by hand (groupmod -g {gid} {name}) and give its files to it"
                )
            continue
        holder = next((other for other, number in now.groups.items() if number == gid), None)
        if holder is not None:
            raise Refused(f"group {name} is wanted with number {gid}, which group {holder} has on this node")
        commands.append(["groupadd", *(["-g", str(gid)] if gid is not None else ["-r"]), name])
        now.groups[name] = gid if gid is not None else -1
    return commands


def user_commands(
    entry: dict[str, Any], now: Accounts, *, create_home: bool, lenient: bool = False
) -> list[list[str]]:
    """
    Return the commands that bring one user to its state.

    lenient: a further group that does not exist is taken as made by somebody else before the real run.
    Refused on a clash of numbers, a missing group, or a name that must not be managed.
    """
    name, uid = entry["name"], entry["uid"]
    gid = uid if entry.get("gid") is None else entry["gid"]
    home = entry.get("home") or f"/home/{name}"
    if not NAME.fullmatch(name) or uid == 0:
        raise Refused(f"{name!r} with uid {uid} is no account for a person")
    current = now.users.get(name)
    if current is not None and current.uid != uid:
        raise Refused(
            f"user {name} has uid {current.uid} on this node and is wanted with {uid}; "
            f"renumber it by hand (usermod -u {uid} {name}) and give its files to it"
        )
    holder = next((other for other, user in now.users.items() if user.uid == uid and other != name), None)
    if current is None and holder is not None:
        raise Refused(f"user {name} is wanted with uid {uid}, which {holder} has on this node")
    commands: list[list[str]] = []
    if gid not in now.groups.values():
        commands += group_commands([{"name": name, "gid": gid}], now)
    groups = frozenset(entry.get("groups") or ())
    unknown = sorted(groups - set(now.groups))
    if unknown and not lenient:
        raise Refused(
            f"user {name} is to be in group {unknown[0]}, which is not on this node; add it to the groups"
        )
    wanted = User(
        uid, gid, entry.get("comment") or "", home, entry.get("shell") or "/bin/bash", groups, False
    )
    if current is None:
        command = ["useradd", "-u", str(uid), "-g", str(gid), "-d", home, "-s", wanted.shell, "-p", "*"]
        command += ["-c", wanted.comment] if wanted.comment else []
        command += ["-G", ",".join(sorted(groups))] if groups else []
        commands.append([*command, "-m" if create_home else "-M", name])
    else:
        options = usermod_options(current, wanted)
        if options:
            commands.append(["usermod", *options, name])
    now.users[name] = wanted
    return commands


def usermod_options(current: User, wanted: User) -> list[str]:
    """Return usermod's options for what differs; an empty list when nothing does."""
    options: list[str] = []
    for flag, have, want in (
        ("-g", str(current.gid), str(wanted.gid)),
        ("-d", current.home, wanted.home),
        ("-s", current.shell, wanted.shell),
        ("-c", current.comment, wanted.comment),
        ("-G", ",".join(sorted(current.groups)), ",".join(sorted(wanted.groups))),
    ):
        if have != want:
            options += [flag, want]
    return [*options, "-p", "*"] if current.has_password else options


def read(path: str) -> str:
    """Return a file's text, '' when there is none."""
    with (
        contextlib.suppress(FileNotFoundError),
        open(path, encoding="utf-8", errors="surrogateescape") as handle,
    ):
        return handle.read()
    return ""


def key_file(folder: str, name: str, keys: list[str], *, check: bool) -> dict[str, str] | None:
    """Bring one user's file of public keys to its content; return the difference, None when there is none."""
    path = os.path.join(folder, name)
    before, after = read(path), "".join(f"{key.strip()}\n" for key in keys)
    current = os.stat(path) if os.path.exists(path) else None
    good = current is None or (current.st_uid == 0 and current.st_mode & 0o777 == 0o644)
    if before == after and good and (current is not None) == bool(keys):
        return None
    if not check and not keys:
        os.unlink(path)
    elif not check:
        os.makedirs(folder, mode=0o755, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".rackloom-", dir=folder)
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(after)
        os.chmod(temporary, 0o644)
        os.rename(temporary, path)
    return {"before_header": path, "after_header": path, "before": before, "after": after}


def apply(module: AnsibleModule) -> tuple[list[str], list[dict[str, str]]]:
    """Do what is needed; return the commands as text and the differences of key files; Refused before the first."""
    wanted = module.params
    now = Accounts.parse(*(read(f"/etc/{name}") for name in ("passwd", "group", "shadow")))
    commands = group_commands(wanted["groups"], now)
    users = [entry for entry in wanted["users"] if entry["state"] == "present"]
    leavers = [*wanted["absent"], *(entry["name"] for entry in wanted["users"] if entry["state"] == "absent")]
    both = sorted({entry["name"] for entry in users} & set(leavers))
    if both:
        raise Refused(f"user {both[0]} is both wanted and to be absent")
    for name in leavers:
        if name in now.users:
            if now.users[name].uid == 0:
                raise Refused(f"{name} has uid 0 and is not removed")
            commands.append(["userdel", name])
            del now.users[name]
    for entry in users:
        commands += user_commands(
            entry, now, create_home=wanted["create_home"], lenient=bool(module.check_mode)
        )
    # Keys first: whoever leaves cannot come back in while the account is still being removed.
    keys = {**{entry["name"]: entry["keys"] or [] for entry in users}, **{name: [] for name in leavers}}
    folder = wanted["keys_dir"]
    differences = (
        [key_file(folder, n, keys[n], check=bool(module.check_mode)) for n in keys] if folder else []
    )
    for command in commands if not module.check_mode else ():
        rc, out, err = module.run_command(command)
        if command[0] == "userdel" and rc == USER_IS_BUSY:
            # The account expires at once; the next run removes what is left of it.
            module.run_command(["usermod", "-e", "1", command[-1]])
            module.warn(
                f"{command[-1]} still has processes on this node; locked now, removed by the next run"
            )
        elif rc != 0:
            raise Refused(f"{shlex.join(command)}: {(err or out).strip()}")
    return [shlex.join(command) for command in commands], [item for item in differences if item]
