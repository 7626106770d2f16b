"""Where nodes take things from, as inputs of the roles base, artifact, mirror and registry, and for all who ask."""

from __future__ import annotations

from typing import Any

from . import bundles, versions
from .resolved import Site

GROUP = "mirror"
MIRROR_PORT = 8443
REGISTRY_PORT = 5000
CA_FILE = "/etc/rackloom/ca.crt"
"""Where nodes have the authorities that they trust for these services."""

Vars = dict[str, Any]


def closed(site: Site) -> bool:
    """Whether nothing may be asked of the outside."""
    outside = site.cluster.mirror.outside
    return bool(site.groups[GROUP]) if outside is None else not outside


def places(site: Site) -> Vars:
    """`rackloom_mirror`: for each kind the mirror that has it, '' where there is none."""
    mirror = site.cluster.mirror
    hosts = site.group(GROUP)
    address = mirror.address or (hosts[0].address if hosts else "")
    host = f"[{address}]" if ":" in address else address
    own = f"https://{host}:{MIRROR_PORT}" if hosts else ""

    def folder(named: str, name: str) -> str:
        return named.rstrip("/") if named else f"{own}/{name}" if own else ""

    return {
        "outside": not closed(site),
        "packages": folder(mirror.packages, "apt"),
        "files": folder(mirror.files, "files"),
        "charts": folder(mirror.charts, "charts"),
        "wheels": folder(mirror.wheels, "wheels"),
        "images": mirror.images or (f"{host}:{REGISTRY_PORT}" if hosts else ""),
        "ca": _text(site, mirror.ca),
        "key": _text(site, mirror.key),
    }


def mirror_vars(site: Site) -> Vars:
    """For every node."""
    found = places(site)
    result: Vars = {
        "rackloom_mirror": found,
        "base_package_mirror": found["packages"],
        "artifact_mirror": found["files"],
        "artifact_charts": found["charts"],
        "artifact_outside": found["outside"],
    }
    if laid_over := versions.overlays(site.config_dir):
        result["artifact_versions"] = [str(path) for path in laid_over]
    if found["packages"] and found["outside"] and not site.cluster.packages.sources:
        # The mirror first, and what it lacks from where the node took its packages before.
        result["base_package_sources_only"] = False
    if closed(site):
        servers = [node.address for node in site.group("name_server")] or list(site.cluster.dns.upstream)
        # Nobody else is asked, also not those whom a node asked before it came to us.
        result["base_fallback_name_servers"] = servers
        if "upstream" not in site.cluster.time.model_fields_set:
            result["chrony_upstream"] = []
    return result


def mirror_host_vars(site: Site) -> Vars:
    """For the host that serves the mirror. It takes its own packages from its disk."""
    mirror = site.cluster.mirror
    bundle = bundles.current(site.config_dir)
    hosts = site.group(GROUP)
    if not hosts or bundle is None:
        return {}
    node = hosts[0]
    address = mirror.address or node.address
    names = [node.address, node.name, f"{node.name}.{site.cluster.domain}"]
    path = mirror.path.rstrip("/")
    result: Vars = {
        "mirror_address": address,
        "mirror_names": [name for name in names if name != address],
        "mirror_port": MIRROR_PORT,
        "mirror_path": f"{path}/mirror",
        "mirror_record": str(bundle.record),
        "mirror_source": bundle.source,
        "mirror_keep": [other.id for other in bundles.installed(site.config_dir)],
        "registry_address": address,
        "registry_names": [name for name in names if name != address],
        "registry_port": REGISTRY_PORT,
        "registry_path": f"{path}/registry",
        "registry_layout": f"{path}/mirror/current/images",
        "registry_keep": f"{path}/mirror/bundles/*/images",
    }
    if not mirror.packages:
        result["base_package_mirror"] = f"file:{path}/mirror/current/apt"
    return result


def name_server_settings(site: Site) -> Vars:
    """On a closed site that names no resolver outside, what nobody here knows does not exist."""
    return {"name_server_settings": ["no-resolv"]} if closed(site) and not site.cluster.dns.upstream else {}


def _text(site: Site, name: str) -> str:
    return (site.config_dir / name).read_text(encoding="utf-8") if name else ""
