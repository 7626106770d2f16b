"""Action side of mirror_content: compares, signs, and sends what the host lacks."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

try:
    from rackloom.site.openpgp import clear_signed
except ImportError:
    # Plain ansible-playbook out of a checkout, where the package is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
    from rackloom.site.openpgp import clear_signed

_LOCK = "bundle.lock"
_BLOB = 256 << 20
"""Bytes that are sent at a time: they lie twice on the host for a moment."""
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_OPTIONS = ("path", "record", "source", "signing_key", "signing_certificate", "keep", "prune")
_MIB = 1 << 20

Entry = tuple[str, str, int]
Part = tuple[str, str, int, int, int]


class ActionModule(ActionBase):  # type: ignore[misc]
    """One look at the host, and, only where something is missing, as many sendings as it takes."""

    _requires_connection = True
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result; raises AnsibleActionFail with a sentence for people."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = dict(self._task.args)
        if unknown := sorted(set(given) - set(_OPTIONS)):
            raise AnsibleActionFail(f"mirror_content: unknown options: {', '.join(unknown)}")
        record = Path(str(given["record"]))
        try:
            text = (record / _LOCK).read_bytes()
            lock = json.loads(text)
        except (OSError, ValueError) as error:
            raise AnsibleActionFail(f"The record of the bundle in {record} cannot be read: {error}") from None
        rows = lock["entries"] if isinstance(lock, dict) else lock
        entries: list[Entry] = [(row["path"], row["sha256"], row["size"]) for row in rows]
        self._call = {"path": str(given["path"]), "bundle": hashlib.sha256(text).hexdigest()[:16]}
        self._variables = task_vars or {}
        request = {
            "entries": entries,
            "files": self._files(record, rows, given),
            "keep": [str(name) for name in given.get("keep") or []],
            "prune": bool(given.get("prune", False)),
        }
        looked = self._step("look", request)
        if looked.get("failed"):
            return {**result, **looked}
        missing = [entries[number] for number in looked["missing"]]
        size = sum(entry[2] for entry in missing)
        told = {
            "bundle": self._call["bundle"],
            "copied": len(missing),
            "copied_bytes": size,
            "reused": looked["reused"],
            "removed": looked["removable"],
        }
        if not looked["unfinished"] and not looked["removable"]:
            return {**result, **told, "changed": bool(looked["changed"])}
        if missing:
            _refuse_other_machines(rows, looked["machine"])
        if self._task.check_mode:
            return {**result, **told, "changed": True}
        if missing:
            source = self._source(given, missing)
            _refuse_without_room(str(given["path"]), size, looked["free"])
            for parts in packed(missing):
                sent = self._send(source, parts)
                if sent.get("failed"):
                    return {**result, **sent}
        finished = self._step("finish", request)
        if finished.get("failed"):
            return {**result, **finished}
        return {**result, **told, "removed": finished["removed"], "changed": True}

    def _step(self, step: str, request: dict[str, Any], **more: str) -> dict[str, Any]:
        packed_request = base64.b64encode(json.dumps(request).encode()).decode()
        done: dict[str, Any] = self._execute_module(
            module_name="rackloom.cluster.mirror_content",
            module_args={**self._call, "step": step, "payload": packed_request, **more},
            task_vars=self._variables,
        )
        return done

    def _files(self, record: Path, rows: list[dict[str, Any]], given: dict[str, Any]) -> dict[str, str]:
        """The small files that are not in the lock: the lock itself, and the signed package lists."""
        files = {
            name: (record / name).read_text(encoding="utf-8")
            for name in (_LOCK, f"{_LOCK}.sig")
            if (record / name).is_file()
        }
        for row in rows:
            path = str(row["path"])
            if not path.startswith("apt/") or not path.endswith("/Release") or "/binary-" in path:
                continue
            release = (record / path).read_text(encoding="utf-8")
            if hashlib.sha256(release.encode()).hexdigest() != row["sha256"]:
                raise AnsibleActionFail(
                    f"{record / path} is not what bundle.lock says; install the bundle again"
                )
            try:
                signed = clear_signed(
                    release,
                    str(given["signing_key"]),
                    str(given["signing_certificate"]),
                    _date_of(release),
                )
            except ValueError as error:
                raise AnsibleActionFail(f"The package lists cannot be signed: {error}") from None
            files[f"{path.removesuffix('Release')}InRelease"] = signed
        return files

    def _source(self, given: dict[str, Any], missing: list[Entry]) -> Path:
        source = Path(str(given.get("source") or ""))
        if given.get("source") and (source / missing[0][0]).is_file():
            return source
        raise AnsibleActionFail(
            f"The host lacks {len(missing)} files of bundle {self._call['bundle']}, and the bundle is not in "
            f"{source} any more. Put the disk back, then run `rackloom bundle install` on it again."
        )

    def _send(self, source: Path, parts: list[Part]) -> dict[str, Any]:
        folder = self._make_tmp_path()
        try:
            with tempfile.NamedTemporaryFile(prefix="rackloom-", suffix=".blob") as blob:
                for name, _, _, offset, length in parts:
                    _append(source / name, offset, length, blob)
                blob.flush()
                remote = self._connection._shell.join_path(folder, "blob")  # noqa: SLF001 - as the copy action
                self._transfer_file(blob.name, remote)
            self._fixup_perms2((folder, remote))
            return self._step("take", {"parts": parts}, blob=remote)
        finally:
            self._remove_tmp_path(folder)


def packed(entries: list[Entry], limit: int = _BLOB) -> Iterator[list[Part]]:
    """Cut files into parts and parts into sendings of at most `limit` bytes; a file's parts stay in order."""
    parts: list[Part] = []
    room = limit
    for name, sha256, size in entries:
        offset = 0
        while True:
            length = min(size - offset, room)
            parts.append((name, sha256, size, offset, length))
            offset, room = offset + length, room - length
            if not room:
                yield parts
                parts, room = [], limit
            if offset == size:
                break
    if parts:
        yield parts


def _append(path: Path, offset: int, length: int, out: Any) -> None:
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            left = length
            while left:
                data = stream.read(min(_MIB, left))
                if not data:
                    raise AnsibleActionFail(
                        f"{path} is shorter than bundle.lock says; run `rackloom bundle verify`."
                    )
                out.write(data)
                left -= len(data)
    except OSError as error:
        raise AnsibleActionFail(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from None


def _date_of(release: str) -> int:
    """When the package lists were made; 0 where they do not say."""
    for line in release.splitlines():
        if line.startswith("Date:"):
            try:
                return int(email.utils.parsedate_to_datetime(line.removeprefix("Date:").strip()).timestamp())
            except ValueError:
                return 0
    return 0


def _refuse_other_machines(rows: list[dict[str, Any]], machine: str) -> None:
    wanted = _MACHINES.get(machine, machine)
    held = sorted({str(row["arch"]) for row in rows if row.get("arch") in _MACHINES.values()})
    if held and wanted not in held:
        raise AnsibleActionFail(
            f"The bundle is for {', '.join(held)}, and this host is {wanted}; nothing was copied. "
            f"Make one with `rackloom bundle create --arch {wanted}`."
        )


def _refuse_without_room(path: str, size: int, free: int) -> None:
    if size + _MIB > free:
        raise AnsibleActionFail(
            f"The bundle needs {size // _MIB} MiB more in {path}, where {free // _MIB} MiB are free; "
            "nothing was copied. Make room, or set mirror_path to another disk."
        )
