"""Checks of the section `mirror:` of cluster.yml, and which host serves the mirror."""

from __future__ import annotations

import ipaddress

from . import bundles
from .context import Context

GROUP = "mirror"


def place_mirror(ctx: Context, lists: dict[str, list[str]]) -> None:
    """With a bundle the site has a mirror by itself, on its first management node."""
    if GROUP not in ctx.cluster_file.services and bundles.current(ctx.config_dir):
        ctx.groups[GROUP] = lists["management"][:1]


def check_mirror(ctx: Context) -> None:
    """Everything about mirrors; the groups are known."""
    mirror = ctx.cluster_file.mirror
    _file(ctx, "ca", mirror.ca, "BEGIN CERTIFICATE", "certificate in PEM")
    _file(ctx, "key", mirror.key, "BEGIN PGP PUBLIC KEY BLOCK", "armoured OpenPGP key")
    hosts = ctx.groups[GROUP]
    if hosts and bundles.current(ctx.config_dir) is None:
        where = ("services", GROUP)
        message = "mirror has a host, but no bundle was installed that it could serve."
        cure = "Run `rackloom bundle install` with the bundle's folder, or remove this."
        ctx.cluster(where, ctx.cluster_file.services.get(GROUP, hosts), message, cure, "no-bundle")
    closed = bool(hosts) if mirror.outside is None else not mirror.outside
    if not closed:
        return
    if not hosts and not mirror.packages and not ctx.cluster_file.packages.sources:
        message = "The site is closed, and nobody in it has packages."
        cure = "Run `rackloom bundle install`, or name mirror.packages or packages.sources."
        ctx.cluster(("mirror", "outside"), mirror.outside, message, cure, "no-mirror")
    _time_servers(ctx)


def _time_servers(ctx: Context) -> None:
    """A closed site that asks no resolver outside knows the names of its own domain alone."""
    cluster = ctx.cluster_file
    if cluster.dns.upstream or "upstream" not in cluster.time.model_fields_set:
        return
    for name in cluster.time.upstream:
        if _is_address(name) or name.endswith(f".{cluster.domain}"):
            continue
        message = f"{name} is outside, and this site is closed: nobody here could tell its address."
        cure = "Write `upstream: []` (the management nodes keep time), or the addresses of servers inside."
        ctx.cluster(("time", "upstream"), name, message, cure, "outside-name")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _file(ctx: Context, key: str, named: str, mark: str, what: str) -> None:
    if not named:
        return
    where = ("mirror", key)
    try:
        text = (ctx.config_dir / named).read_text(encoding="utf-8")
    except OSError:
        message = f"There is no file {named} in this folder."
        ctx.cluster(
            where, named, message, "Put it there, or write its path from this folder on.", "missing-file"
        )
        return
    except UnicodeDecodeError:
        text = ""
    if mark not in text:
        message = f"{named} holds no {what}."
        ctx.cluster(where, named, message, f"Name a file with a line `-----{mark}-----`.", "bad-file")
