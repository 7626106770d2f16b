"""Which packages go into an image: what a node is, what installs it, and what its roles need."""

from __future__ import annotations

from rackloom.bundle import declared
from rackloom.image.errors import ImageError
from rackloom.image.node import NODE
from rackloom.image.spec import ImageSpec

# What makes the root file system come up from the network, out of memory or from a disk.
_BOOT = ("busybox", "initramfs-tools", "live-boot", "live-boot-initramfs-tools", "udev", "zstd")
# What the agent in the image calls.
_AGENT = (
    "dosfstools",
    "gdisk",
    "grub2-common",
    "ipmitool",
    "lldpd",
    "mdadm",
    "squashfs-tools",
    "util-linux",
)
_FILESYSTEMS = {"ext4": "e2fsprogs", "swap": "util-linux", "xfs": "xfsprogs"}
# What the release would otherwise choose an alternative for that drags in far more.
_CHOSEN = {"debian-12": ("usr-is-merged",)}
_LOADERS = {
    "amd64": ("efibootmgr", "grub-efi-amd64-bin", "grub-pc-bin"),
    "arm64": ("efibootmgr", "grub-efi-arm64-bin"),
}


def of_image(spec: ImageSpec) -> tuple[str, ...]:
    """Every package asked for, sorted. Raises ImageError for a role that is none or does not know the system."""
    wanted = {*NODE, *_BOOT, *_AGENT, *_LOADERS[spec.arch], spec.kernel_package, *spec.packages}
    wanted.update(_FILESYSTEMS[name] for name in spec.filesystems)
    wanted.update(_CHOSEN.get(spec.os, ()))
    wanted.update(declared.node_packages(spec.os))
    for role in spec.roles:
        try:
            wanted.update(declared.packages(role, spec.os))
        except declared.DeclarationError as error:
            raise ImageError(f"image {spec.name}: {error}", error.cure) from error
    return tuple(sorted(wanted))
