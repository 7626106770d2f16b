"""A node without a disk: who it is, before its services start; and a word to the boot server when they run."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from . import digests, identity

if TYPE_CHECKING:
    from .order import Order
    from .server import Server


def become(server: Server, root: Path = Path("/")) -> None:
    """Take on the identity that the boot server holds for this MAC."""
    node = server.node()
    identity.check(node)
    identity.write(root, node, stable_id=False)
    identity.host_keys(root)
    if root == Path("/"):
        socket.sethostname(str(node["name"]))


def set_clock(seconds: float) -> None:
    """Take the boot server's time where ours is off by more than a minute: certificates and munge need it."""
    if seconds and abs(time.time() - seconds) > 60:
        time.clock_settime(time.CLOCK_REALTIME, seconds)


def booted(server: Server, order: Order, root: Path = Path("/")) -> None:
    """Check what this node runs from, then tell that it is up and by which keys it is known."""
    record = server.image()
    digests.check_record(record, order.image_id)
    digests.check_file(digests.root_file(), record, digests.ROOT)
    server.report("booted", host_keys=identity.public_keys(root), image_id=order.image_id)
