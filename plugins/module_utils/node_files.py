"""Files, directories and links of a node, brought to their state."""

from __future__ import annotations

import base64
import errno
import grp
import hashlib
import os
import pwd
import re
import shutil
import stat
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule


class Refused(Exception):
    """A sentence for the user: what is wrong with which path."""


def owner_id(name: str | None) -> int | None:
    """Return the uid of a name or number, None when no owner is asked for or the account is not there yet."""
    if name is None:
        return None
    try:
        return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def group_id(name: str | None) -> int | None:
    """Return the gid of a name or number, None when no group is asked for or it is not there yet."""
    if name is None:
        return None
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def read(path: str) -> bytes | None:
    """Return a file's bytes, None when there is no such file."""
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        raise Refused(f"{path} is a directory, and a file is wanted there") from None


def content(entry: dict[str, Any], current: bytes | None) -> bytes:
    """Return the bytes that a file is to have; with a line asked for, the present ones and it where it lacks."""
    if "line" not in entry:
        return base64.b64decode(entry["content"])
    text = (current or b"").decode(errors="surrogateescape")
    if re.search(entry["match"], text, re.MULTILINE):
        return current or b""
    return f"{entry['line']}\n{text}".encode(errors="surrogateescape")


def recorded(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry as it may be kept on the node: with the digest of its content instead of the content."""
    kept = {key: value for key, value in entry.items() if key not in ("content", "validate", "secret")}
    if "content" in entry:
        kept["sha256"] = hashlib.sha256(base64.b64decode(entry["content"])).hexdigest()
    return kept


def unchanged(entry: dict[str, Any]) -> bool:
    """Tell whether a recorded entry still holds, attributes included; Refused where a directory is in its place."""
    path, state = entry["path"], entry["state"]
    if state == "absent":
        return not os.path.lexists(path)
    if state == "link":
        return os.path.islink(path) and os.readlink(path) == entry["target"]
    if state == "directory":
        if not os.path.isdir(path):
            return False
    else:
        current = read(path)
        if current is None:
            return False
        if "match" in entry:
            if not re.search(entry["match"], current.decode(errors="surrogateescape"), re.MULTILINE):
                return False
        elif entry["force"] and hashlib.sha256(current).hexdigest() != entry["sha256"]:
            return False
    now = os.stat(path)
    return (
        (entry.get("owner") is None or owner_id(entry["owner"]) == now.st_uid)
        and (entry.get("group") is None or group_id(entry["group"]) == now.st_gid)
        and ("mode" not in entry or stat.S_IMODE(now.st_mode) == int(entry["mode"], 8))
    )


class Files:
    """Applies entries and remembers what changed."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.check = bool(module.check_mode)
        self.changed: list[str] = []
        self.diffs: list[dict[str, Any]] = []

    def note(self, path: str, before: str = "", after: str = "") -> None:
        """Record a change of a path, once."""
        if path not in self.changed:
            self.changed.append(path)
        # AnsibleModule has no public name for "was a diff asked for"
        if self.module._diff and (before or after):  # noqa: SLF001
            self.diffs.append({"before_header": path, "after_header": path, "before": before, "after": after})

    def validate(self, entry: dict[str, Any]) -> None:
        """Run the entry's check on a temporary copy of the new content; Refused when it fails."""
        command = entry.get("validate")
        if not command or entry["state"] != "file":
            return
        current = read(entry["path"])
        data = content(entry, current)
        if current == data:
            return
        program = command.split()[0]
        if shutil.which(program) is None:
            if self.check:
                return  # the package that brings the checker would be installed by a real run
            raise Refused(f"{entry['path']}: cannot be checked, {program} is not installed")
        with tempfile.TemporaryDirectory(prefix=".rackloom-") as folder:
            copy = os.path.join(folder, os.path.basename(entry["path"]))
            descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(data)
            rc, out, err = self.module.run_command(command.replace("%s", copy))
        if rc != 0:
            said = "(not shown)" if entry["secret"] else (err or out).strip()[-2000:]
            raise Refused(f"{entry['path']}: the new content was refused by '{command}': {said}")

    def parents(self, path: str) -> None:
        """Make the missing parent directories."""
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            os.makedirs(parent, mode=0o755, exist_ok=True)

    def file(self, entry: dict[str, Any]) -> None:
        """Bring one file to its content and attributes."""
        path = entry["path"]
        current = read(path)
        data = content(entry, current)
        if current != data and (current is None or entry["force"]):
            hidden = entry["secret"]
            self.note(
                path,
                "" if hidden else (current or b"").decode(errors="replace"),
                "(secret)" if hidden else data.decode(errors="replace"),
            )
            if not self.check:
                self.write(path, data, entry, existed=current is not None)
        self.attributes(entry, missing=current is None)

    def write(self, path: str, data: bytes, entry: dict[str, Any], existed: bool) -> None:
        """Replace a file atomically, or in place where a rename is refused."""
        self.parents(path)
        path = os.path.realpath(path) if os.path.islink(path) else path
        old = os.stat(path) if existed else None
        mode = int(entry["mode"], 8) if "mode" in entry else (stat.S_IMODE(old.st_mode) if old else 0o644)
        descriptor, temporary = tempfile.mkstemp(prefix=".rackloom-", dir=os.path.dirname(path))
        try:
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            # Owner and mode before the rename: at no moment is a secret readable by others.
            uid, gid = owner_id(entry.get("owner")), group_id(entry.get("group"))
            os.chown(
                temporary,
                uid if uid is not None else (old.st_uid if old else 0),
                gid if gid is not None else (old.st_gid if old else 0),
            )
            os.chmod(temporary, mode)
            if self.module.selinux_enabled():
                self.module.set_context_if_different(
                    temporary, self.module.selinux_default_context(path), False
                )
            try:
                os.rename(temporary, path)
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.EXDEV):
                    raise
                with open(path, "wb") as handle:
                    handle.write(data)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)

    def directory(self, entry: dict[str, Any]) -> None:
        """Bring one directory to its attributes."""
        path = entry["path"]
        if os.path.exists(path) and not os.path.isdir(path):
            raise Refused(f"{path} is a file, and a directory is wanted there")
        missing = not os.path.isdir(path)
        if missing:
            self.note(path, after="directory\n")
            if not self.check:
                self.parents(path)
                os.mkdir(path, int(entry.get("mode", "0755"), 8))
        self.attributes(entry, missing=missing)

    def link(self, entry: dict[str, Any]) -> None:
        """Bring one symbolic link to its target; an existing file in its place is replaced, a directory is not."""
        path, target = entry["path"], entry["target"]
        if os.path.islink(path) and os.readlink(path) == target:
            return
        if os.path.isdir(path) and not os.path.islink(path):
            raise Refused(f"{path} is a directory, and a link to {target} is wanted there")
        self.note(path, after=f"link to {target}\n")
        if not self.check:
            self.parents(path)
            temporary = f"{path}.rackloom-{os.getpid()}"
            os.symlink(target, temporary)
            os.rename(temporary, path)

    def absent(self, entry: dict[str, Any]) -> None:
        """Remove a file, link or empty directory; Refused for a directory that holds something."""
        path = entry["path"]
        if not os.path.lexists(path):
            return
        if os.path.isdir(path) and not os.path.islink(path):
            if os.listdir(path):
                raise Refused(f"{path} is a directory with content; it is not removed")
            self.note(path, before="directory\n")
            if not self.check:
                os.rmdir(path)
            return
        self.note(path, before="present\n")
        if not self.check:
            os.unlink(path)

    def attributes(self, entry: dict[str, Any], missing: bool) -> None:
        """Set owner, group and mode where they differ."""
        path = entry["path"]
        if self.check and missing:
            return
        now = os.stat(path)
        for key, lookup in (("owner", owner_id), ("group", group_id)):
            if entry.get(key) is not None and lookup(entry[key]) is None and not self.check:
                raise Refused(f"{path}: there is no {key} named {entry[key]!r} on this node")
        uid, gid = owner_id(entry.get("owner")), group_id(entry.get("group"))
        want_uid = now.st_uid if uid is None else uid
        want_gid = now.st_gid if gid is None else gid
        if (want_uid, want_gid) != (now.st_uid, now.st_gid):
            self.note(path)
            if not self.check:
                os.chown(path, want_uid, want_gid)
        if "mode" in entry and stat.S_IMODE(now.st_mode) != int(entry["mode"], 8):
            self.note(path)
            if not self.check:
                os.chmod(path, int(entry["mode"], 8))

    def apply(self, entries: list[dict[str, Any]]) -> None:
        """Bring all entries to their state, none when one is refused; ends the module with a sentence then."""
        steps = {"file": self.file, "directory": self.directory, "link": self.link, "absent": self.absent}
        try:
            for entry in entries:
                self.validate(entry)
            for entry in entries:
                steps[entry["state"]](entry)
        except Refused as error:
            self.fail(str(error))
        except OSError as error:
            self.fail(f"{error.filename}: {error.strerror}")

    def fail(self, message: str) -> None:
        """End the module with a sentence, and what had been changed by then."""
        self.module.fail_json(msg=message, changed=bool(self.changed), changed_paths=self.changed)
