"""A site: its two files, read, checked and turned into an inventory.

`check_site` finds all mistakes; `load_site` gives the checked `Site` or raises `SiteError`;
`rackloom.site.inventory.build` makes the inventory; `secrets` and `scaffold` have an `init` each.
"""

from __future__ import annotations

from .check import CheckResult, SiteError, check_site, load_site
from .mistakes import Mistake
from .resolved import Node, Site

__all__ = ["CheckResult", "Mistake", "Node", "Site", "SiteError", "check_site", "load_site"]
