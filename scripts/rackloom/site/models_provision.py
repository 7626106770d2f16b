"""The section `provision:` of cluster.yml: how bare machines become nodes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from . import fields as f
from .part import Count, Part

DEFAULT_LAYOUT = "default"
Port = Annotated[int, f.NoBool, Field(ge=1, le=65535)]


class Dhcp(Part):
    """Who tells booting nodes their address."""

    mode: f.DhcpMode = Field(
        "authoritative",
        description="authoritative: the boot server gives addresses; proxy: it adds only what booting takes to a "
        "DHCP server of yours; off: yours does all of it",
    )
    pool: f.Addresses = Field(
        [], description="First and last address for nodes that nodes.yml does not know; [] = none for them"
    )
    lease: f.Lease = Field("12h", description="How long an address is given for")
    router: f.Address = Field("", description="Router of the booting nodes; left out: the network's gateway")


class Image(Part):
    """One operating system that nodes get."""

    os: f.ImageSystem = Field(description="Distribution and release")
    kind: f.ImageKind = Field(
        "image",
        description="image: built by `rackloom image build`; installer: the distribution's own installer",
    )
    source: f.Uri = Field(
        "", description="Where a distribution's installer takes its packages from; Ubuntu knows it by itself"
    )
    mode: f.BootMode = Field(
        "disk", description="disk: written to the node's disk; memory: the node runs from RAM, without a disk"
    )
    roles: f.Words = Field([], description="Roles whose packages are put into the image")
    packages: f.Packages = Field([], description="Further packages")
    kernel: f.ImageKernel = Field(
        "generic", description="generic: for any machine; cloud: small, for virtual machines alone"
    )
    initrd: f.ImageInitrd = Field(
        "general", description="general: every driver; small: those of common servers and virtual machines"
    )
    layout: f.Text = Field(DEFAULT_LAYOUT, description="One of `layouts`; a profile's own wins")
    kernel_options: f.Text = Field("", description="Further words of the kernel's command line")


class DiskPartition(Part):
    """One partition. What the firmware needs to boot is added by itself."""

    mount: f.MountPoint = Field("", description="Where it is mounted; swap has no place")
    size: f.PartSize = Field(f.REST, description="Like 20G; rest: all that is left")
    filesystem: f.FileSystem = Field("ext4", description="What is made on it")


class Layout(Part):
    """How a node's disks are cut up."""

    disks: f.Disks = Field(
        ["auto"],
        description="auto = the smallest fixed disk that is large enough; or devices by path. RAID 1 takes two",
    )
    raid: f.DiskRaid = Field("none", description="1: the disks mirror each other")
    partitions: list[DiskPartition] = Field(
        [DiskPartition(mount="/")], description="In their order on the disk; left out: one, /"
    )


class BmcAccess(Part):
    """How the nodes' BMCs are spoken to. User and password: `rackloom secrets set bmc_user` and `bmc_password`."""

    protocol: f.BmcProtocol = Field("redfish", description="none: somebody presses the buttons")
    port: Annotated[int, f.NoBool, Field(ge=0, le=65535)] = Field(
        0, description="0 = the protocol's own, 443 or 623"
    )
    verify: bool = Field(True, description="Refuse a BMC whose TLS certificate cannot be verified")
    ca_file: f.Text = Field(
        "", description="Certificates to verify with, a file relative to this folder; left out: the system's"
    )


class Wave(Part):
    """How many nodes at once."""

    power: Count = Field(10, description="Nodes that are switched on at the same time")
    boot: Count = Field(32, description="Nodes that load from the boot server at the same time")


class Provision(Part):
    """From bare machines to nodes. It is on where `images` are named and the group provisioner has a host."""

    address: f.Address = Field(
        "",
        description="Where booting nodes reach the boot server; left out: the address of the first provisioner",
    )
    http_port: Port = Field(8080, description="TCP port of its HTTP server")
    interface: f.Interface = Field(
        "", description="Its network interface for DHCP; left out: the one that holds the address"
    )
    dhcp: Dhcp = Field(default_factory=Dhcp)
    unknown: f.UnknownNodes = Field(
        "ignore",
        description="What a machine that nodes.yml does not know gets: nothing, or a boot that reports its hardware",
    )
    images: dict[f.Word, Image] = Field({}, description="Operating systems, by name")
    assign: dict[f.Text, f.Text] = Field(
        {}, description="List (management, login, compute): image; a node's own `image:` wins"
    )
    discovery_image: f.Text = Field(
        "", description="Image that unknown machines boot to report themselves; left out: the first"
    )
    layouts: dict[f.Word, Layout] = Field(
        {}, description="Ways to cut up disks, by name; default, one /, is always there"
    )
    bmc: BmcAccess = Field(default_factory=BmcAccess)
    wave: Wave = Field(default_factory=Wave)

    @property
    def on(self) -> bool:
        """Whether this site installs its nodes itself."""
        return bool(self.images)

    def layout(self, name: str) -> Layout:
        """A layout by name; default is known without being declared."""
        return self.layouts.get(name) or Layout()
