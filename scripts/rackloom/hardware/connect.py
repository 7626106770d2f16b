"""Start a conversation with a BMC."""

# ruff: noqa: PLC0415 - what a site does not speak need not be loaded, and Redfish loads slowly
from __future__ import annotations

from .bmc import Bmc, BmcError, BmcTarget


def connect(target: BmcTarget) -> Bmc:
    """The BMC of one node. Raises BmcError if it cannot be spoken to."""
    if target.protocol == "none":
        cure = "Press its button, or set provision.bmc.protocol in cluster.yml."
        raise BmcError(target.node, "This site speaks to no BMC.", cure)
    if not target.address and not target.url:
        cure = "Press its button, or add `bmc:` to the node in nodes.yml."
        raise BmcError(target.node, "The node has no BMC.", cure)
    if target.protocol == "ipmi":
        from .ipmi import Ipmi

        return Ipmi(target)
    from .redfish import Redfish

    return Redfish(target)
