"""The section `mirror:` of cluster.yml: where nodes take from what comes from outside."""

from __future__ import annotations

from pydantic import Field

from . import fields as f
from .part import Part


class Mirror(Part):
    """Packages, files, images, charts and wheels. All of it follows from an installed bundle by itself."""

    outside: bool | None = Field(
        None,
        description="Whether what the mirror lacks may come from outside; left out: no once a bundle is installed",
    )
    address: f.HostOrAddress = Field(
        "", description="Where nodes reach the mirror; left out: the address of the host in group mirror"
    )
    path: f.AbsolutePath = Field("/srv/rackloom", description="Folder on that host for bundles and images")
    packages: f.MirrorFolder = Field(
        "",
        description="A mirror of yours with one folder an operating system, laid out as in a bundle's apt/",
    )
    key: f.Text = Field("", description="File with the key its package lists are signed with, armoured")
    files: f.MirrorFolder = Field(
        "", description="A mirror of yours of files, laid out as in a bundle's files/"
    )
    images: f.RegistryPlace = Field(
        "", description="A registry of yours that has the images under their whole names"
    )
    charts: f.MirrorFolder = Field("", description="A mirror of yours of charts, as in a bundle's charts/")
    wheels: f.MirrorFolder = Field("", description="A mirror of yours of Python wheels: a folder or an index")
    ca: f.Text = Field("", description="File with the certificate authorities of your mirrors, PEM")
