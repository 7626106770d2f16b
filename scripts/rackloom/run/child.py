"""What ansible-runner starts instead of `ansible-playbook`: the same program, on a leash.

Run as a script: `python -P child.py PIDFILE LOCKFILE PARENT ARGUMENTS…`. It ends with its parent (also when
that is killed outright), can always be interrupted, and holds a lock for as long as Ansible lives, so
that a new run never meets the remains of an old one. Then it becomes ansible-playbook, in this process.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_STILL_RUNNING = 75  # EX_TEMPFAIL


def leash(parent: int) -> None:
    """Have the kernel interrupt this process when `parent` is gone. Linux only; elsewhere a no-op."""
    # A shell's `&` and nohup hand down an ignored SIGINT, and then asking nicely would not work.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(_STILL_RUNNING)


def main(argv: list[str]) -> None:
    """Hold the lock, say who we are, and run ansible-playbook. Ends the process."""
    pidfile, lockfile, parent, *arguments = argv
    leash(int(parent))
    if lockfile:
        # Workers share the descriptor by forking; programs they start do not (close-on-exec).
        lock = os.open(lockfile, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write("another ansible-playbook of this site still runs\n")
            raise SystemExit(_STILL_RUNNING) from None
    Path(pidfile).write_text(str(os.getpid()), encoding="ascii")
    sys.argv = ["ansible-playbook", *arguments]
    from ansible.cli.playbook import main as playbook  # noqa: PLC0415 - slow to load

    playbook()


if __name__ == "__main__":
    main(sys.argv[1:])
