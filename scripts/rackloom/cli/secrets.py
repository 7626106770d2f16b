"""`rackloom secrets`: the site's generated passwords and keys."""

from __future__ import annotations

import sys
from getpass import getpass
from typing import Annotated

import typer

from rackloom.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from rackloom.result import Result, refused

secrets_app = typer.Typer(
    help="The site's generated passwords and keys.", no_args_is_help=True, rich_markup_mode=None
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(secrets_app, name="secrets")


@secrets_app.callback()
def group() -> None:
    """Make the site's generated passwords and keys; they are encrypted at rest."""


@secrets_app.command("init")
def init(config: ConfigOption = DEFAULT_CONFIG, _json: JsonOption = False) -> Result:
    """Generate what the site does not have yet. What is there stays as it is."""
    from rackloom.site import secrets  # noqa: PLC0415 - slow to load

    made = secrets.init(config)
    data = {
        "created": made.created,
        "kept": made.kept,
        "key_created": made.key_created,
        "secrets_file": str(made.secrets_file),
        "key_file": str(made.key_file),
    }
    what = f"Made: {', '.join(made.created)}." if made.created else "Nothing to make, all is there."
    view = [f"{what} Encrypted in {made.secrets_file}."]
    if made.key_created:
        view.append(f"The key is {made.key_file}. Keep a copy elsewhere: without it the secrets are lost.")
    return Result("secrets init", data=data, view=view)


@secrets_app.command("set")
def set_(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="bmc_user, bmc_password, or alert_NAME for monitoring.")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    _json: JsonOption = False,
) -> Result:
    """Keep a secret that you were given. It is asked for, or read from standard input; never from the command line."""
    from rackloom.site import secrets  # noqa: PLC0415 - slow to load

    command = "secrets set"
    purpose = secrets.typed(name)
    if not purpose:
        message = f"{name} is none of the secrets that are typed"
        cure = f"one of: {', '.join(secrets.TYPED)}, alert_NAME"
        return refused(command, "unknown_secret", message, cure)
    if sys.stdin.isatty():
        value = getpass(f"{name} ({purpose}): ")
        if value and getpass(f"{name} again: ") != value:
            return refused(
                command, "differs", "the two were not the same; nothing was changed", "type it again"
            )
    else:
        value = sys.stdin.read(secrets.LONGEST_VALUE + 2).removesuffix("\n")
    changed = secrets.store(config, {name: value})
    file = secrets.secrets_file(config)
    what = f"{name} is kept" if changed else f"{name} was the same already"
    return Result(
        command, data={"changed": changed, "secrets_file": str(file)}, view=[f"{what}, encrypted in {file}."]
    )
