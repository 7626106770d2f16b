"""Checks of the section `gpu:` of cluster.yml and of the GPUs in nodes.yml, and which nodes have any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .context import Context
from .gpus import MOST_SLICES, Gpus, gpus
from .hardware import SLICE
from .mistakes import Path as Where
from .mistakes import suggest
from .models import Gpu
from .models_gpu import GpuStack

TOP = ("gpu",)
GPU_NODE = "gpu_node"
GPU_HOST = "gpu_host"


def place_gpu_nodes(ctx: Context) -> None:
    """The nodes that run jobs or pods and whose profile has GPUs, unless the site names them."""
    if GPU_NODE not in ctx.cluster_file.services:
        having = {name for name, profile in ctx.nodes_file.profiles.items() if profile.gpus}
        ctx.groups[GPU_NODE] = [node.name for node in ctx.hosts.values() if node.profile in having]
    if GPU_HOST not in ctx.cluster_file.services:
        ctx.groups[GPU_HOST] = [] if ctx.cluster_file.gpu.simulated else list(ctx.groups[GPU_NODE])


def readable(layout: Mapping[str, int]) -> bool:
    """Whether these are slices at all, and no more than a GPU has; the check of nodes.yml says so where not."""
    shares = [(SLICE.fullmatch(name), each) for name, each in layout.items()]
    return (
        bool(shares)
        and all(match for match, _ in shares)
        and sum(int(match.group(1)) * each for match, each in shares if match) <= MOST_SLICES
    )


class GpuCheck:
    """Everything about GPUs that needs both files, or the toolkit's data."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.stack: GpuStack = ctx.cluster_file.gpu
        self.data: Gpus = gpus()
        # profile, entry, its place, the products it may be of
        self.entries = list(self._entries())

    def run(self) -> None:
        """All of it."""
        self._layouts()
        self._driver()
        self._others()

    def _entries(self) -> Iterator[tuple[Gpu, list[str]]]:
        for profile in self.ctx.nodes_file.profiles.values():
            for gpu in profile.gpus:
                if not gpu.product:
                    yield gpu, self.data.of_type(gpu.type)
                elif gpu.product in self.data.products:
                    yield gpu, [gpu.product]
                else:
                    message = f"No GPU is known as {gpu.product}."
                    cure = (
                        suggest(gpu.product, self.data.products) or "inventory/gpus.yml has those that are."
                    )
                    self.ctx.nodes((*gpu.where, "product"), gpu.product, message, cure, "unknown-gpu")

    def _layouts(self) -> None:
        """A layout is possible on one of the products that the GPU may be."""
        for gpu, products in self.entries:
            if not products or not readable(gpu.mig):
                continue
            troubles = [self.data.misfit(product, gpu.mig) for product in products]
            if all(troubles):
                able = [
                    text
                    for text, name in zip(troubles, products, strict=True)
                    if self.data.products[name].mig
                ]
                cure = "Write other slices."
                if len(products) > 1:
                    cure += f" `product:` says which of the GPUs it is: {', '.join(products)}."
                strange = [
                    name
                    for name in gpu.mig
                    if all(name not in self.data.products[one].mig for one in products)
                ]
                where: Where = (*gpu.where, "mig", *strange[:1])
                self.ctx.nodes(where, gpu.mig, (able or troubles)[0], cure, "mig-layout", key=bool(strange))

    # ------------------------------------------------------------ driver

    def _driver(self) -> None:
        driver, where = self.stack.driver, (*TOP, "driver")
        known = ", ".join(self.data.branches)
        if driver.branch and driver.branch not in self.data.branches:
            message = f"No branch {driver.branch} of the driver is known."
            self.ctx.cluster((*where, "branch"), driver.branch, message, f"Known: {known}.", "unknown-branch")
            return
        if driver.source == "none":
            return
        if self.stack.simulated:
            message = "A driver is to be installed, and the GPUs are no more than device files."
            cure = "Remove `simulated`, or the driver's source."
            self.ctx.cluster((*where, "source"), driver.source, message, cure, "simulated-driver")
        if driver.source == "vendor" and not driver.branch:
            message = "A driver of the vendor's needs a branch."
            self.ctx.cluster(
                (*where, "source"), driver.source, message, f"Write one of: {known}.", "no-branch"
            )
        for gpu, products in self.entries:
            if not products and not gpu.product:
                message = f"No GPU is known as {gpu.type}, so nobody can tell which driver serves it."
                cure = suggest(gpu.type, {one.type for one in self.data.products.values()})
                cure = cure or "Write `product:` beside it, one of inventory/gpus.yml."
                self.ctx.nodes((*gpu.where, "type"), gpu.type, message, cure, "unknown-gpu")
        if driver.branch:
            self._serves((*where, "branch"), (*where, "kind"))

    def _serves(self, branch_at: Where, kind_at: Where) -> None:
        driver = self.stack.driver
        kinds = {
            product: self.data.kinds(driver.branch, product) for _, some in self.entries for product in some
        }
        for gpu, products in self.entries:
            if products and not any(kinds[product] for product in products):
                one = self.data.products[products[0]]
                fitting = [branch for branch in self.data.branches if self.data.kinds(branch, products[0])]
                message = f"Branch {driver.branch} of the driver does not serve {one.name} (profile GPU {gpu.type})."
                cure = f"Write one of: {', '.join(fitting)}."
                self.ctx.cluster(branch_at, driver.branch, message, cure, "driver-too-old")
                return
            if (
                driver.kind != "auto"
                and products
                and not any(driver.kind in kinds[product] for product in products)
            ):
                one = self.data.products[products[0]]
                message = f"There are no {driver.kind} modules for {one.name} in branch {driver.branch}."
                cure = "Write `kind: auto`, or the other one."
                self.ctx.cluster(kind_at, driver.kind, message, cure, "driver-kind")
                return

    def _rdma(self) -> None:
        rdma, where = self.stack.rdma, (*TOP, "rdma")
        if rdma.peer_memory and rdma.source == "none":
            message = (
                "nvidia-peermem is to be loaded, and nothing installs the network cards' software it is for."
            )
            cure = "Write `source: vendor` beside it; or remove it, open kernel modules do without."
            self.ctx.cluster((*where, "peer_memory"), True, message, cure, "peer-memory")
        if rdma.gds and self.stack.driver.source != "vendor":
            message = "nvidia-fs comes with the vendor's driver, and the driver is not to be the vendor's."
            cure = "Write `driver: {source: vendor}`, or remove `gds`."
            self.ctx.cluster((*where, "gds"), True, message, cure, "gds-without-driver")

    def _others(self) -> None:
        self._rdma()
        if self.stack.cut and not any(gpu.mig for gpu, _ in self.entries):
            message = "GPUs are to be cut, and no profile has slices."
            cure = "Write `mig:` beside a GPU in nodes.yml, or remove this."
            self.ctx.cluster((*TOP, "cut"), True, message, cure, "nothing-to-cut")
        if self.stack.dcgm.level and not self.stack.dcgm.enabled:
            message = "A level of diagnosis is asked for, and DCGM is off."
            where = (*TOP, "dcgm", "level")
            self.ctx.cluster(
                where, self.stack.dcgm.level, message, "Write `enabled: true` beside it.", "no-dcgm"
            )


def check_gpu(ctx: Context) -> None:
    """All mistakes about GPUs."""
    GpuCheck(ctx).run()
