"""Kubernetes in a lab: what its site says of it, and where its programs come from."""

from __future__ import annotations

import http.client
import ipaddress
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rackloom.lab.errors import LabError
from rackloom.lab.machine import Machine
from rackloom.lab.nodes import NodeSpec

ENGINE = "kubeadm"
_ENDPOINT = 10
_POOL = (31, 40)
"""Addresses for the API and for services of type LoadBalancer: no node of a lab ever has one of them."""
_SLURM = ("slurm_database", "slurm_accounting", "slurm_controller", "slurm_login", "slurm_node")
_PATIENCE = 10.0


def sections(nodes: Sequence[NodeSpec], subnet: ipaddress.IPv4Network, machine: Machine) -> dict[str, Any]:
    """Return `services` and `kubernetes` of cluster.yml: management nodes control, the first compute node serves.

    Where that is the only one there is no Slurm.
    """
    control = [node.name for node in nodes if node.role == "management"]
    compute = [node.name for node in nodes if node.role == "compute"]
    services: dict[str, Any] = {"kube_control_plane": control, "kube_node": compute[:1]}
    if len(compute) == 1:
        services.update({service: [] for service in _SLURM})
    lacking = {"cgroup_v1": machine.cgroup == 1, "swap": machine.swap}
    kubernetes: dict[str, Any] = {
        "tolerate": [what for what, is_so in lacking.items() if is_so],
        # Nodes share the machine: what each sets aside comes off the same memory and disk, and how full that disk is
        # says nothing about the pods.
        "kubelet": {
            "reserved": {"cpu": "100m", "memory": "256Mi", "storage": "1Gi"},
            "settings": {"imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99},
        },
        "users": [{"name": "alice"}],
        "load_balancer": {"pool": [f"{subnet[_POOL[0]]}-{subnet[_POOL[1]]}"]},
    }
    if len(control) > 1:
        kubernetes["endpoint"] = {"address": str(subnet[_ENDPOINT])}
    return {"services": services, "kubernetes": kubernetes}


def answers(url: str) -> bool:
    """Tell whether the file's place answers at all, whatever it says."""
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - from the versions file
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE):  # noqa: S310
            return True
    except urllib.error.HTTPError as error:
        return error.code < http.client.INTERNAL_SERVER_ERROR and error.code != http.client.FORBIDDEN
    except OSError:
        return False


def must_have_programs(config_dir: Path, name: str, reached: Callable[[str], bool] = answers) -> None:
    """Raise LabError where the site has no bundle and nobody publishes Kubernetes' programs within reach.

    A lab whose nodes may not reach anybody does not get here: it has a bundle, or `check` says that it wants one.
    """
    from rackloom.site import bundles  # noqa: PLC0415 - slow to load
    from rackloom.site.paths import home  # noqa: PLC0415

    if bundles.current(config_dir) is not None:
        return
    url = first_url(home() / "inventory/versions.yml", config_dir / "versions.yml")
    if reached(url):
        return
    raise LabError(
        f"the nodes are up, but there is nowhere to have Kubernetes from: the site has no bundle, and "
        f"{url.split('/')[2] if '://' in url else url} does not answer",
        "bring one with `rackloom bundle install DIR --config "
        f"{config_dir}` and run `rackloom lab up --name {name}` again; where only Go modules can be had, "
        "`tests/upstream/build.py build` makes the programs and `rackloom bundle create --versions` a bundle of them",
    )


def first_url(*files: Path) -> str:
    """Return where the versions files say that Kubernetes' installer comes from; the last that says so wins."""
    import platform  # noqa: PLC0415

    import yaml  # noqa: PLC0415

    found: dict[str, Any] = {}
    for path in files:
        if path.is_file():
            data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            found = (data.get("files") or {}).get(ENGINE) or found
    arch = "arm64" if platform.machine() == "aarch64" else "amd64"
    return str(found.get("url", "")).format(version=found.get("version", ""), arch=arch)
