"""Do what the kernel's command line says, and never leave a node half made: it works, or it says why and goes off."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import traceback

from . import memory, order, server
from .trouble import TroubleError

_SECONDS_TO_READ = 20


def say(text: str) -> None:
    """A line on the node's console."""
    print(f"rackloom: {text}", flush=True)  # noqa: T201 - the console is where people look


def main(words: list[str]) -> int:
    """Run one boot's order; returns the exit status."""
    try:
        wanted = order.read()
    except TroubleError as error:
        say(f"{error}; {error.cure}")
        return 1
    contact = server.Server(wanted)
    try:
        return act(wanted, contact, words)
    except TroubleError as error:
        message, cure = str(error), error.cure
    except Exception as error:  # noqa: BLE001 - whatever it is, the sysadmin must hear of it
        traceback.print_exc()
        message, cure = (
            f"{type(error).__name__}: {error}",
            "this is a bug of Rackloom's; the console shows where",
        )
    say(f"FAILED: {message}")
    say(f"→ {cure}")
    with contextlib.suppress(TroubleError):
        contact.report("failed", message=message, cure=cure)
    finish("poweroff", wanted)
    return 1


def act(wanted: order.Order, contact: server.Server, words: list[str]) -> int:
    """One mode's work."""
    if words == ["booted"]:
        memory.booted(contact, wanted)
    elif wanted.mode == order.MEMORY:
        memory.become(contact)
        memory.set_clock(contact.time)
    elif wanted.mode == order.INSTALL:
        from .install import install  # noqa: PLC0415 - a node in memory starts faster without

        install(contact, wanted, say)
        finish("reboot", wanted)
    else:
        from .discover import discover  # noqa: PLC0415

        discover(contact, wanted, say)
        finish("poweroff", wanted)
    return 0


def finish(how: str, wanted: order.Order) -> None:
    """Reboot, switch off or stay, as was asked; time to read the console where it matters."""
    how = wanted.after or how
    if how == "wait":
        return
    if how == "poweroff":
        say(f"switching off in {_SECONDS_TO_READ} s")
        time.sleep(_SECONDS_TO_READ)
    subprocess.run(["systemctl", how, "--force"], check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
