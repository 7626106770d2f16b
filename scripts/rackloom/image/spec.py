"""What an image is made of, as a site says it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rackloom.image.errors import ImageError
from rackloom.lab.sources import RELEASES

GENERIC, CLOUD = "generic", "cloud"
KERNELS: Mapping[str, Mapping[str, str]] = {
    "debian": {GENERIC: "linux-image-{arch}", CLOUD: "linux-image-cloud-{arch}"},
    "ubuntu": {GENERIC: "linux-image-generic", CLOUD: "linux-image-virtual"},
}
"""Kernel packages by distribution. `cloud` is small and knows virtual machines only."""

GENERAL, SMALL = "general", "small"
INITRDS = (GENERAL, SMALL)
"""`general` carries every driver that may be needed to boot; `small` those of common servers and virtual machines."""

ARCHES = ("amd64", "arm64")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class ImageSpec:
    """One image of a site. Equal specs and equal packages give equal images."""

    name: str
    os: str
    arch: str = "amd64"
    mode: str = "disk"
    """disk or memory: how nodes use it. The files are the same for both."""
    roles: tuple[str, ...] = ()
    """Roles whose packages are inside."""
    packages: tuple[str, ...] = ()
    """Further packages."""
    kernel: str = GENERIC
    initrd: str = GENERAL
    filesystems: tuple[str, ...] = ("ext4",)
    """What the site's disk layouts ask for."""
    kernel_options: str = ""

    def __post_init__(self) -> None:
        """Refuse what no image can be built of. Raises ImageError."""
        if not _NAME.fullmatch(self.name):
            raise ImageError(f"'{self.name}' is no name for an image", "use letters, digits, - . and _")
        if self.os not in RELEASES:
            raise ImageError(
                f"image {self.name}: no image can be built of '{self.os}'",
                f"choose one of {', '.join(RELEASES)}, or kind: installer",
            )
        for value, known, what in (
            (self.kernel, (GENERIC, CLOUD), "kernel"),
            (self.initrd, INITRDS, "initrd"),
            (self.arch, ARCHES, "architecture"),
        ):
            if value not in known:
                raise ImageError(
                    f"image {self.name}: there is no {what} '{value}'", f"choose {' or '.join(known)}"
                )

    @property
    def distribution(self) -> str:
        """`debian` or `ubuntu`."""
        return RELEASES[self.os][0]

    @property
    def suite(self) -> str:
        """The release's codename."""
        return RELEASES[self.os][1]

    @property
    def kernel_package(self) -> str:
        """The package that brings the kernel."""
        return KERNELS[self.distribution][self.kernel].format(arch=self.arch)
