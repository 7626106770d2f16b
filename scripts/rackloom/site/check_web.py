"""What `rackloom check` says of the section `web:`, and where the door stands."""

from __future__ import annotations

from .context import Context
from .web_vars import DOOR

TOP = "web"


def place_web(ctx: Context, lists: dict[str, list[str]]) -> None:
    """The section alone opens the door on the first management node."""
    data = ctx.cluster.source.data
    if DOOR not in ctx.cluster_file.services and isinstance(data, dict) and TOP in data:
        ctx.groups[DOOR] = lists["management"][:1]


def check_web(ctx: Context) -> None:
    """A certificate has its key, and a sign-on service an address."""
    told = ctx.cluster_file.web
    written = ctx.raw(ctx.cluster, TOP)
    given = [name for name in ("certificate", "key") if isinstance(written, dict) and written.get(name)]
    if len(given) == 1:
        has, lacks = ("certificate", "key") if given == ["certificate"] else ("key", "certificate")
        message = f"There is a {has} and no {lacks}."
        cure = f"Name the file under web.{lacks}, or leave both out for a certificate of the site's own authority."
        ctx.cluster((TOP, has), told.certificate or told.key, message, cure, "half-certificate")
    login = told.sign_on.login
    if login and not told.sign_on.url:
        message = "There is a page to log in, and no service that says who is logged in."
        ctx.cluster(
            (TOP, "sign_on", "login"), login, message, "Name it under web.sign_on.url.", "missing-value"
        )
