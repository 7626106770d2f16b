"""Filters of the container runtimes: where each registry's images are looked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def containerd_hosts(
    registries: Iterable[str], mirror: str, outside: bool, ca_file: str
) -> list[dict[str, Any]]:
    """
    Return the files below /etc/containerd/certs.d, as the module component takes them.

    The mirror has an image under its whole name, so each registry has a folder there. On a closed site the mirror
    stands in the registry's own place, so that nobody else is asked.
    """
    files: list[dict[str, Any]] = []
    for registry in registries:
        path = f"/etc/containerd/certs.d/{registry}/hosts.toml"
        if not mirror:
            files.append({"path": path, "state": "absent"})
            continue
        options = ['capabilities = ["pull", "resolve"]', "override_path = true", f'ca = "{ca_file}"']
        place = f"https://{mirror}/v2/{registry}"
        if outside:
            lines = [f'[host."{place}"]', *(f"  {option}" for option in options)]
        else:
            lines = [f'server = "{place}"', *options]
        text = "\n".join(["# Managed by Rackloom.", *lines, ""])
        files.append({"path": path, "content": text, "mode": "0644"})
    return files


def crio_registries(registries: Iterable[str], mirror: str, outside: bool) -> str:
    """
    Return a file for /etc/containers/registries.conf.d, which CRI-O reads.

    On a closed site a registry's place is the mirror's folder for it, so that nobody else is asked.
    """
    lines = ["# Managed by Rackloom."]
    for registry in registries:
        lines += ["", "[[registry]]", f'prefix = "{registry}"']
        if outside:
            lines += [f'location = "{registry}"', "[[registry.mirror]]"]
        lines.append(f'location = "{mirror}/{registry}"')
    return "\n".join([*lines, ""])


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"containerd_hosts": containerd_hosts, "crio_registries": crio_registries}
