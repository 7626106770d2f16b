"""The section `gpu.kubernetes:` of cluster.yml: GPUs for pods, by the GPU operator."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from . import fields as f
from .part import Part

Share = Annotated[int, f.NoBool, Field(ge=0, le=48)]
"""Pods that a GPU is shared by; MPS serves 48 clients at most, and nobody wants more slices of time."""


class GpuSharing(Part):
    """How the GPUs of one profile are shared by pods; one of the two, where both are 0 not at all."""

    time_slicing: Share = Field(0, description="Pods that take turns on a GPU, with nothing between them")
    mps: Share = Field(
        0, description="Pods that compute on a GPU at the same time, each with its part of the memory"
    )


class KubeDriver(Part):
    """The driver, where it is not on the nodes themselves."""

    place: f.GpuDriverPlace = Field(
        "host",
        description="host: on the nodes (`gpu.driver`, or it is there already); container: the operator brings it",
    )
    precompiled: bool = Field(
        False, description="Take the image that is made for exactly the nodes' kernel; nothing is compiled"
    )
    sources: list[f.Text] = Field(
        [],
        description="Lines of package sources that the container takes kernel headers from, where it cannot "
        "reach the distribution's own",
    )


class KubeGpu(Part):
    """GPUs in Kubernetes, by the GPU operator."""

    enabled: bool = Field(False, description="Whether the operator runs")
    operator: f.Release = Field(
        "", description="A release that the versions file holds; left out: its plain record"
    )
    driver: KubeDriver = Field(default_factory=KubeDriver)
    toolkit: f.GpuToolkitPlace = Field(
        "auto", description="Who teaches the container runtime GPUs; auto: the host where it has the toolkit"
    )
    resources: f.GpuResources = Field(
        "device_plugin",
        description="How pods ask for GPUs: device_plugin (nvidia.com/gpu), or dra (claims), which is young",
    )
    compute_domains: bool = Field(
        False, description="dra: also NVLink from node to node, on machines that have it"
    )
    mig: f.MigStrategy = Field(
        "auto",
        description="How slices are named: single (all of a node alike, as nvidia.com/gpu), mixed (by their "
        "size); auto: mixed where a profile has slices, else none",
    )
    cut: bool = Field(True, description="Whether the operator cuts GPUs into the slices of nodes.yml")
    sharing: dict[f.Text, GpuSharing] = Field({}, description="By profile: how its GPUs are shared")
    dcgm: bool = Field(False, description="DCGM as a service of its own, which diagnosis needs")
    exporter: bool | None = Field(
        None, description="Metrics of GPUs with their pods; left out: unless the hosts' exporter runs"
    )
    rdma: f.GpuRdma = Field(
        "off",
        description="Network cards read the GPUs' memory by themselves, with the driver in a container; "
        "the cards' driver is in a container too (container), or on the host",
    )
    gds: bool = Field(False, description="Storage reads into the GPUs' memory by itself")
    gdrcopy: bool = Field(False, description="Small copies to and from the GPUs' memory without a detour")
    network_operator: bool = Field(
        False, description="The operator for network cards beside it: RDMA devices for pods"
    )
    pull_secrets: f.Words = Field(
        [], description="Secrets of the namespace gpu-operator with which images are fetched"
    )
    values: f.Values = Field({}, description="Further values of the operator's chart")

    @property
    def choices(self) -> set[str]:
        """What of the role's artifacts the site has chosen."""
        if not self.enabled:
            return set()
        wanted = {
            "gpu_operator": True,
            "gpu_device_plugin": self.resources == "device_plugin",
            "gpu_dra": self.resources == "dra",
            "gpu_driver_container": self.driver.place == "container",
            "gpu_toolkit": self.toolkit != "host",
            "gpu_dcgm": self.dcgm,
            "gpu_exporter": self.exporter is not False,
            "gpu_gds": self.gds,
            "gpu_gdrcopy": self.gdrcopy,
            "network_operator": self.network_operator,
        }
        return {name for name, chosen in wanted.items() if chosen}
