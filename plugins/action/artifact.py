"""Action side of artifact: reads the record of what is wanted, and says who wanted it when it cannot be had."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

try:
    from rackloom.site.versions import Kind, Versions, VersionsError, laid_over
except ImportError:
    # Plain ansible-playbook out of a checkout, where the package is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
    from rackloom.site.versions import Kind, Versions, VersionsError, laid_over

_OPTIONS = ("files", "mirror", "charts", "outside", "ca_file", "versions")
_FILE = ("name", "kind", "version", "dest", "mode", "owner", "group", "member", "unpack", "strip")
_DOOR = "artifact"
"""The role through which roles fetch."""
_KINDS: tuple[Kind, ...] = ("file", "chart")


def filename(url: str) -> str:
    """The last part of a URL, under which the mirror keeps the file."""
    return url.split("?", maxsplit=1)[0].rstrip("/").rpartition("/")[2]


def in_registry(url: str, sha256: str) -> str:
    """Where a registry has the archive of a chart; other addresses are what they are."""
    if not url.startswith("oci://"):
        return url
    host, _, repository = url.removeprefix("oci://").partition("/")
    return f"https://{host}/v2/{repository}/blobs/sha256:{sha256}"


def sources(kind: str, name: str, record: Mapping[str, Any], mirror: str) -> dict[str, dict[str, str]]:
    """By architecture: digest, place on the mirror ('' without one) and place outside."""
    base = mirror.rstrip("/")
    version = str(record["version"])
    if kind == "chart":
        inside = f"{base}/{name}-{version}.tgz" if base else ""
        url = str(record["url"]).replace("{version}", version)
        sha256 = str(record["sha256"])
        return {"all": {"sha256": sha256, "mirror": inside, "outside": in_registry(url, sha256)}}
    found = {}
    for arch, sha256 in record["sha256"].items():
        url = str(record["url"]).replace("{version}", version).replace("{arch}", arch)
        inside = f"{base}/{name}/{version}/{arch}/{filename(url)}" if base else ""
        found[arch] = {"sha256": str(sha256), "mirror": inside, "outside": url}
    return found


class ActionModule(ActionBase):  # type: ignore[misc]
    """Turn names into records, and make one module call for all of them."""

    _requires_connection = True
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result; raises AnsibleActionFail for what is no record."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = dict(self._task.args)
        if unknown := sorted(set(given) - set(_OPTIONS)):
            raise AnsibleActionFail(f"artifact: unknown options: {', '.join(unknown)}")
        who = self._who()
        try:
            versions = laid_over(given.get("versions"))
        except VersionsError as error:
            raise AnsibleActionFail(f"{who}: {error}") from None
        wanted = [self._wanted(item, given, versions, who) for item in given.get("files") or []]
        result.update(
            self._execute_module(
                module_name="rackloom.cluster.artifact",
                module_args={
                    "wanted": wanted,
                    "outside": given.get("outside", True),
                    "ca_file": given.get("ca_file") or "",
                    "who": who,
                },
                task_vars=task_vars or {},
            )
        )
        return result

    def _who(self) -> str:
        """The role and the task that asked, also where they asked through the role artifact."""
        own = _role_of(self._task)
        asker = self._task
        while own == _DOOR and asker is not None and _role_of(asker) == own:
            asker = getattr(asker, "_parent", None)
        if asker is None or not getattr(asker, "name", ""):
            asker = self._task
        role = _role_of(asker)
        name = str(asker.name).rpartition(" : ")[2]
        return f"role {role}, task '{name}'" if role else f"task '{name}'"

    def _wanted(
        self, item: Mapping[str, Any], given: Mapping[str, Any], versions: Versions, who: str
    ) -> dict[str, Any]:
        entry = {str(key): value for key, value in item.items() if value is not None}
        if unknown := sorted(set(entry) - set(_FILE)):
            raise AnsibleActionFail(f"{who}: artifact: a file has unknown keys: {', '.join(unknown)}")
        kind: Kind = entry.get("kind", "file")
        if kind not in _KINDS:
            raise AnsibleActionFail(f"{who}: artifact: kind is file or chart, not {kind!r}")
        name = str(entry.get("name", ""))
        if not str(entry.get("dest", "")).startswith("/"):
            raise AnsibleActionFail(f"{who}: artifact {name}: 'dest' must be an absolute path")
        if "mode" in entry and not isinstance(entry["mode"], str):
            raise AnsibleActionFail(
                f"{who}: artifact {name}: write 'mode' as a quoted octal string, as \"0755\""
            )
        record = self._record(versions, kind, name, str(entry.get("version", "")), who)
        digests = record.get("sha256")
        if not digests or (isinstance(digests, Mapping) and not any(digests.values())):
            raise AnsibleActionFail(
                f"{who} takes the {kind} {name}, whose record has no digest; run `rackloom bundle pin`"
            )
        base = str(given.get("charts" if kind == "chart" else "mirror") or "")
        return {
            "name": name,
            "version": str(record["version"]),
            "sources": sources(kind, name, record, base),
            "dest": str(entry["dest"]),
            "mode": str(entry.get("mode", "0755" if kind == "file" and not entry.get("unpack") else "0644")),
            "owner": str(entry.get("owner", "root")),
            "group": str(entry.get("group", "root")),
            "member": str(entry.get("member", "")),
            "unpack": bool(entry.get("unpack", False)),
            "strip": int(entry.get("strip", 0)),
        }

    def _record(self, versions: Versions, kind: Kind, name: str, version: str, who: str) -> Mapping[str, Any]:
        """What the versions file says of a name; raises AnsibleActionFail where it says nothing."""
        try:
            return versions.get(kind, name, version).data
        except VersionsError as error:
            if versions.find(kind, name) is None and not version:
                raise AnsibleActionFail(
                    f"{who} takes the {kind} {name}, which has no record in inventory/versions.yml; add one there"
                ) from None
            raise AnsibleActionFail(
                f"{who} takes the {kind} {name} {version}: {error}; {error.cure}"
            ) from None


def _role_of(task: Any) -> str:
    """Name of the role that a task, a block or an import stands in; '' in a playbook."""
    role = getattr(task, "_role", None)
    return str(role.get_name()).rpartition(".")[2] if role else ""
