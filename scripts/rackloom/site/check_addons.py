"""Checks of `kubernetes.addons:` of cluster.yml that look into the values of an add-on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .context import Context
from .mistakes import Path as Where
from .mistakes import suggest
from .models_kubernetes import ADDONS

TOP = ("kubernetes", "addons")
SCHEDULERS = ("default", "kai-scheduler", "scheduler-plugins", "volcano", "yunikorn")
"""What Ray's operator can have its pods started by."""
ANYBODY = ("", "dummy", "jupyterhub.auth.DummyAuthenticator")
"""JupyterHub's ways to log in that ask for no password, or for one that is the same for all."""


def check_addons(ctx: Context) -> None:
    """All mistakes in the values of add-ons that are on."""
    enabled = ctx.cluster_file.kubernetes.enabled_addons(measured=bool(ctx.groups["prometheus"]))
    for name, values in enabled.items():
        own = ADDONS[name].options
        for option in values if own is not None else ():
            if option not in (own or ()):
                where = (*TOP, name, "values", option)
                cure = suggest(option, own) or f"It has {', '.join(own or ()) or 'none'}."
                ctx.cluster(
                    where, option, f"{name} has no option {option}.", cure, "unknown-option", key=True
                )
    if "kuberay" in enabled:
        _ray(ctx, enabled)
    if "jupyterhub" in enabled:
        _notebooks(ctx, enabled["jupyterhub"])


def _ray(ctx: Context, enabled: Mapping[str, Mapping[str, Any]]) -> None:
    where = (*TOP, "kuberay", "values", "batchScheduler")
    wanted = _part(enabled["kuberay"], "batchScheduler")
    name = str(wanted.get("name") or "")
    if wanted.get("enabled"):
        message = "KubeRay no longer has its scheduler switched on this way."
        ctx.cluster(
            (*where, "enabled"), True, message, "Remove it, and write `name: volcano`.", "bad-value", key=True
        )
    if name and name not in SCHEDULERS:
        cure = suggest(name, SCHEDULERS)
        ctx.cluster((*where, "name"), name, f"KubeRay knows no scheduler {name}.", cure, "unknown-scheduler")
    if name == "volcano" and "volcano" not in enabled:
        message = "Ray's pods are to be started by Volcano, which is not there."
        ctx.cluster(
            (*where, "name"), name, message, "Remove it, or add `volcano: {}` beside it.", "needs-volcano"
        )


def _notebooks(ctx: Context, values: Mapping[str, Any]) -> None:
    """Who may log in is for the site to say: JupyterHub's own default lets in whoever comes."""
    hub = _part(values, "hub")
    if any(hub.get(key) for key in ("extraConfig", "extraFiles", "existingSecret")):
        return  # it may be said there
    steps = ("values", "hub", "config", "JupyterHub", "authenticator_class")
    found = _part(hub, "config", "JupyterHub").get("authenticator_class") or ""
    if found not in ANYBODY:
        return
    where: Where = (*TOP, "jupyterhub", *steps)
    while ctx.raw_at(where) is None and len(where) > 2:
        where = where[:-1]
    message = "Nothing says how people prove to JupyterHub who they are."
    cure = "Write `values: {hub: {config: {JupyterHub: {authenticator_class: ldap}}}}`, or another, with its settings."
    ctx.cluster(where, found, message, cure, "needs-authenticator", key=True)


def _part(values: Mapping[str, Any], *steps: str) -> Mapping[str, Any]:
    """A mapping inside values; an empty one where there is none."""
    part: Any = values
    for step in steps:
        part = part.get(step) if isinstance(part, Mapping) else None
    return part if isinstance(part, Mapping) else {}
