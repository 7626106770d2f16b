"""inventory/support.yml as typed data: which versions of components go together."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from .paths import home
from .versions import numbers


class Support(BaseModel):
    """
    kubernetes: minor → component → the oldest version of it that works.

    network_operator: minor → the newest minor release of Kubernetes that it is for.

    gang_scheduling: minor → part of the control plane → arguments that switch it on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kubernetes: Mapping[str, Mapping[str, str]]
    network_operator: Mapping[str, str] = {}
    gang_scheduling: Mapping[str, Mapping[str, Mapping[str, str]]] = {}


@cache
def _load(path: Path) -> Support:
    return Support.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def support(path: Path | None = None) -> Support:
    """The toolkit's data."""
    return _load(path or home() / "inventory" / "support.yml")


def minor(version: str) -> str:
    """1.35.1 and v1.35.1 are of 1.35."""
    return ".".join(str(number) for number in numbers(version)[:2])


def too_old(release: str, component: str, version: str, known: Support | None = None) -> str:
    """The oldest version of a component that works with a release of Kubernetes, where `version` is older; else ''."""
    oldest = (known or support()).kubernetes.get(minor(release), {}).get(component, "")
    return oldest if oldest and numbers(version) < numbers(oldest) else ""


def network_operator_misfit(version: str, kubernetes: str, known: Support | None = None) -> str:
    """Why a release of the network operator does not go with one of Kubernetes; '' where it does."""
    newest = (known or support()).network_operator.get(minor(version), "")
    if not newest:
        return f"No release {minor(version)} of the network operator is known."
    if numbers(minor(kubernetes)) <= numbers(newest):
        return ""
    return f"Network operator {version} is for Kubernetes up to {newest}, and the site has {kubernetes}."
