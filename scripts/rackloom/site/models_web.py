"""The section `web:` of cluster.yml: the one door to the cluster's pages."""

from __future__ import annotations

from pydantic import Field

from . import fields as f
from .fields_monitoring import WebAddress
from .part import Part


class SignOn(Part):
    """A service of the site that knows who somebody is, asked by nginx with each request (auth_request)."""

    url: WebAddress = Field("", description="Address that each request is shown to; it answers 200 or 401")
    login: WebAddress = Field("", description="Where those go who are not known")
    user_header: f.Word = Field("X-Auth-Request-User", description="Header of its answer that names the user")
    ca: f.AbsolutePath = Field(
        "", description="File on the node with its authority; left out: the site's own"
    )


class Web(Part):
    """One address for all pages. It alone opens the door on the first management node, or where `services:` says."""

    description: f.Text = Field("", description="A sentence on the cluster for its first page")
    certificate: f.AbsolutePath = Field(
        "", description="File on the node with a certificate; left out: one of the site's own authority"
    )
    key: f.AbsolutePath = Field("", description="File on the node with the certificate's key")
    sign_on: SignOn = Field(default_factory=SignOn)
