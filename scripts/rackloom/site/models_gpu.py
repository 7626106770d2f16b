"""The section `gpu:` of cluster.yml: what nodes with GPUs get beside the GPUs themselves, which nodes.yml has."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from . import fields as f
from .models_kube_gpu import KubeGpu
from .part import Part

Xid = Annotated[int, f.NoBool, Field(ge=1, le=999)]
MOST_INTERVAL = 120


class GpuDriver(Part):
    """NVIDIA's driver on the nodes themselves, for Slurm and Kubernetes alike."""

    source: f.DriverSource = Field(
        "none",
        description="Where its packages come from: distribution, vendor (a repository of NVIDIA's under "
        "packages.sources), or none = it is there already, or comes in a container",
    )
    branch: f.DriverBranch = Field(
        "", description='Branch, like "580"; the packages of a distribution have one'
    )
    kind: f.DriverKind = Field(
        "auto", description="Kernel modules; auto = what the branch has for the GPUs, open first"
    )
    packages: f.Packages = Field([], description="Packages instead of those that the branch is known to have")
    hold: bool = Field(
        True, description="Keep driver and kernel where they are; unattended upgrades split them"
    )


class GpuRdma(Part):
    """Network cards, and storage, that read and write the GPUs' memory without a detour; for jobs on several nodes."""

    source: f.DriverSource = Field(
        "none",
        description="Where the cards' software comes from: distribution, vendor (DOCA-OFED, from packages.sources), "
        "or none = it is there already, or not wanted",
    )
    packages: f.Packages = Field([], description="Packages instead of those that the source is known to have")
    peer_memory: bool = Field(
        False,
        description="Load nvidia-peermem; open kernel modules do without it on a kernel that has DMA-BUF",
    )
    gds: bool = Field(False, description="Storage too: the vendor's nvidia-fs")


class GpuDcgm(Part):
    """NVIDIA's data centre GPU manager on the nodes; its packages come from the vendor."""

    enabled: bool = Field(False, description="Run it; the health check asks it then")
    exporter: bool = Field(True, description="Run its exporter for Prometheus too")
    level: Annotated[int, f.NoBool, Field(ge=0, le=3)] = Field(
        0, description="Level of the diagnosis in `rackloom validate gpu`; 0 = none"
    )


class GpuHealth(Part):
    """A node whose GPUs are not well leaves Slurm and Kubernetes with the reason, and comes back when they are."""

    enabled: bool = Field(True, description="Look at them")
    interval: Annotated[int, f.NoBool, Field(ge=10, le=MOST_INTERVAL)] = Field(
        30, description="Seconds between two looks"
    )
    max_temperature: Annotated[int, f.NoBool, Field(ge=0, le=120)] = Field(
        0, description="Degrees Celsius; 0 = the GPU's own limit"
    )
    ignore: f.GpuChecks = Field([], description="Checks whose failure is a warning only")
    ignore_xids: list[Xid] = Field([], description="Errors of the kernel log that count for nothing")
    evict: bool = Field(
        True, description="Kubernetes: pods whose own GPU is not well go to other nodes; budgets are kept"
    )


class GpuStack(Part):
    """GPUs: driver, container toolkit, health; and the GPU operator under `kubernetes`."""

    simulated: bool = Field(
        False, description="The GPUs are device files and no more, as in the lab: hosts are left alone"
    )
    driver: GpuDriver = Field(default_factory=GpuDriver)
    toolkit: bool | None = Field(
        None,
        description="Container toolkit on the nodes; left out: on nodes of Kubernetes whose driver is ours",
    )
    rdma: GpuRdma = Field(default_factory=GpuRdma)
    cut: bool = Field(
        False,
        description="Cut GPUs into the slices of nodes.yml at each start of a node, with mig-parted; where the GPU "
        "operator does, it goes on to. If not, slices are made by hand",
    )
    cut_packages: f.Packages = Field(
        [], description="Packages that bring mig-parted, instead of nvidia-mig-manager"
    )
    dcgm: GpuDcgm = Field(default_factory=GpuDcgm)
    health: GpuHealth = Field(default_factory=GpuHealth)
    kubernetes: KubeGpu = Field(default_factory=KubeGpu)
