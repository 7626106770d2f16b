"""What every node needs to be reached and deployed to: in images and in the lab's containers."""

from __future__ import annotations

NODE = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "libpam-systemd",
    "netbase",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
    "tzdata",
)
"""Packages of Debian and Ubuntu."""
