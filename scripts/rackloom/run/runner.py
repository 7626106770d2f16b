"""The façade over ansible-runner: one playbook, one call, events out, and a stop that really stops.

What it takes care of: a fresh private directory for each run (a reused one replays the old arguments), host key
checking as ansible.cfg says, no fact cache on disk, no secrets in arguments, no file per event,
a consumer that may fail without leaving Ansible alone, and no process left behind.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from rackloom.run import processes

RawEvent = dict[str, Any]

_HERE = Path(__file__).resolve().parent
_POLL = 0.1
_PREFIX = "rackloom-run-"
_GRACE = 15.0
"""Seconds that Ansible gets to stop by itself before it is killed."""


@dataclass(frozen=True, slots=True)
class PlayRequest:
    """What to run. `project` is the working directory (ansible.cfg, roles); `playbook` is relative to it."""

    project: Path
    playbook: str
    inventory: tuple[Path, ...]
    limit: str | None = None
    tags: tuple[str, ...] = ()
    check: bool = False
    extra_vars: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    lock: Path | None = None
    """Held by Ansible itself while it lives."""


@dataclass(frozen=True, slots=True)
class PlayEnd:
    """How the process ended: Ansible's own status, and whether we stopped it."""

    rc: int
    interrupted: bool
    killed: bool
    fault: str = ""
    """Why it could not be run at all, or what the consumer of events raised; usually empty."""


class Stop:
    """Requests to stop, counted: the first asks, the second insists."""

    def __init__(self) -> None:
        self.asked = 0

    def ask(self, *_: object) -> None:
        """One more request (also usable as a signal handler)."""
        self.asked += 1

    @contextmanager
    def on_signals(self) -> Iterator[Stop]:
        """Let Ctrl-C, SIGTERM and SIGHUP ask while the block runs. Only in the main thread; else nothing."""
        before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                before[number] = signal.signal(number, self.ask)
        try:
            yield self
        finally:
            for caught, handler in before.items():
                signal.signal(caught, handler)


def play(
    request: PlayRequest,
    on_event: Callable[[RawEvent], None],
    *,
    stop: Stop | None = None,
    on_tick: Callable[[], None] = lambda: None,
) -> PlayEnd:
    """Run one playbook to its end. `on_event` and `on_tick` are called in the caller's thread.

    Never raises for what Ansible or the callbacks do: see `PlayEnd`.
    """
    stop = stop or Stop()
    base = Path(_memory_dir() or tempfile.gettempdir())
    _sweep(base)
    private = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base))
    try:
        return _Running(request, private, on_event, on_tick, stop).wait()
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _memory_dir() -> str | None:
    """Where short-lived files cost nothing: the user's runtime directory, shared memory, or the default."""
    for name in (os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm"):  # noqa: S108 - a fresh 0700 directory is made in it
        if name and Path(name).is_dir() and os.access(name, os.W_OK | os.X_OK):
            return name
    return None


def _sweep(base: Path) -> None:
    """Remove what runs that were killed outright left behind: their results and environment are in it."""
    for path in base.glob(f"{_PREFIX}*-*"):
        pid = path.name.removeprefix(_PREFIX).partition("-")[0]
        with suppress(OSError):
            if pid.isdigit() and path.stat().st_uid == os.getuid():
                try:
                    os.kill(int(pid), 0)
                except ProcessLookupError:
                    shutil.rmtree(path, ignore_errors=True)


class _Running:
    """One ansible-playbook: a thread that reads it, and the loop that watches both."""

    def __init__(
        self,
        request: PlayRequest,
        private: Path,
        on_event: Callable[[RawEvent], None],
        on_tick: Callable[[], None],
        stop: Stop,
    ) -> None:
        self.request, self.private, self.stop = request, private, stop
        self.on_event, self.on_tick = on_event, on_tick
        self.pidfile = private / "pid"
        self.events: queue.SimpleQueue[RawEvent | None] = queue.SimpleQueue()
        self.kill = threading.Event()
        self.rc = 1
        self.fault = ""
        self.family: processes.Known = {}

    def wait(self) -> PlayEnd:
        thread = threading.Thread(target=self._run, name="ansible-runner", daemon=True)
        thread.start()
        asked_at: float | None = None
        while True:
            try:
                raw = self.events.get(timeout=_POLL)
            except queue.Empty:
                self._guarded(self.on_tick)
            else:
                if raw is None:
                    break
                self._guarded(self.on_event, raw)
            if self.stop.asked:
                asked_at = self._stopping(asked_at)
        thread.join()
        if asked_at is not None:
            processes.end(self.family)
        return PlayEnd(self.rc, asked_at is not None, self.kill.is_set(), self.fault)

    def _guarded(self, call: Callable[..., None], *arguments: object) -> None:
        """A consumer's fault must not leave Ansible running unwatched: note it and stop asking that one."""
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it was, the run goes on
            self.fault = self.fault or f"{type(error).__name__}: {error}"

    def _stopping(self, asked_at: float | None) -> float | None:
        """Ask Ansible to stop; later, or when asked again, insist. Gives the time of the first asking."""
        if asked_at is None:
            pid = self._pid()
            if pid is None:
                # Nothing to ask yet: Ansible is still loading. Kill it as soon as it can be.
                self.kill.set()
                return time.monotonic()
            self.family = processes.descendants(pid)
            with suppress(OSError):
                os.kill(pid, signal.SIGINT)
            return time.monotonic()
        if not self.kill.is_set() and (self.stop.asked > 1 or time.monotonic() - asked_at > _GRACE):
            if pid := self._pid():
                self.family |= processes.descendants(pid)
            self.kill.set()
        return asked_at

    def _pid(self) -> int | None:
        try:
            return int(self.pidfile.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def _run(self) -> None:
        """In the thread: let ansible-runner drive the process and copy its events out."""
        try:
            from ansible_runner import Runner  # noqa: PLC0415 - slow to load

            config = self._config()
            runner = Runner(config, event_handler=self._take, cancel_callback=self.kill.is_set)
            _, rc = runner.run()
            self.rc = int(rc)
        except Exception as error:  # noqa: BLE001 - reported, and the loop must hear of the end
            self.fault = f"{type(error).__name__}: {error}"
        finally:
            self.events.put(None)

    def _take(self, event: RawEvent) -> bool:
        self.events.put(event)
        return False  # so that ansible-runner keeps no file of it

    def _config(self) -> Any:
        from ansible_runner import RunnerConfig  # noqa: PLC0415

        config = RunnerConfig(
            private_data_dir=str(self.private),
            project_dir=str(self.request.project),
            playbook=self.request.playbook,
            inventory=[str(path) for path in self.request.inventory],
            envvars=self._env(),
            fact_cache_type="memory",
            quiet=True,
            ident="run",
        )
        config.prepare()
        config.command = self._command()
        config.suppress_output_file = True
        config.pexpect_timeout = 0.5  # how soon a kill is noticed
        ours, theirs = str(_HERE / "callbacks"), config.env["ANSIBLE_CALLBACK_PLUGINS"]
        config.env["ANSIBLE_CALLBACK_PLUGINS"] = f"{ours}:{theirs}"
        config.env["ANSIBLE_STDOUT_CALLBACK"] = "rackloom_events"
        return config

    def _env(self) -> dict[str, str]:
        env = {
            "ANSIBLE_CONFIG": str(self.request.project / "ansible.cfg"),
            "ANSIBLE_HOST_KEY_CHECKING": "True",  # ansible-runner would switch it off
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
            "PYTHONUNBUFFERED": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        }
        if "UTF-8" not in _locale().upper().replace("UTF8", "UTF-8"):
            env["LC_ALL"] = "C.UTF-8"  # Ansible refuses to start in any other encoding
        return env | dict(self.request.env)

    def _command(self) -> list[str]:
        request = self.request
        lock = str(request.lock) if request.lock else ""
        child = [sys.executable, "-P", str(_HERE / "child.py"), str(self.pidfile), lock, str(os.getpid())]
        options: list[str] = []
        for path in request.inventory:
            options += ["--inventory", str(path)]
        if request.limit:
            options += ["--limit", request.limit]
        if request.tags:
            options += ["--tags", ",".join(request.tags)]
        if request.check:
            options += ["--check"]
        if request.extra_vars:
            variables = self.private / "vars.json"
            variables.touch(0o600)
            variables.write_text(json.dumps(dict(request.extra_vars)), encoding="utf-8")
            options += ["--extra-vars", f"@{variables}"]
        return [*child, *options, request.playbook]


def _locale() -> str:
    return os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or ""
