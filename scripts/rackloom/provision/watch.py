"""The boot server's events, brought here over one SSH connection that is made again when it breaks."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PATH = "/srv/rackloom/boot"
LOG = "/var/log/rackloom/boot-http.log"
UNIT = "rackloom-dhcp.service"
_SCRIPT = Path(__file__).with_name("watcher.py")
_AGAIN = 3.0
Event = dict[str, Any]


class Watch:
    """A thread that reads events into a queue, from `ago` seconds before now on.

    `at` of an event is by this machine's clock (monotonic).
    """

    def __init__(
        self, argv: Sequence[str], ago: float, path: str = PATH, log: str = LOG, unit: str = UNIT
    ) -> None:
        self.argv, self.since = list(argv), time.monotonic() - ago
        self.wanted = {"path": path, "log": log, "unit": unit}
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.connected = False
        self.caught_up = False
        """Whether all that lay there when we came has been told."""
        self.trouble = ""
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="boot-server-watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the connection and the thread."""
        self._stop.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(timeout=10)

    def drain(self, take: Callable[[Event, float], None], patience: float) -> None:
        """Give the waiting events to `take`, after waiting up to `patience` seconds for the first."""
        try:
            event = self.events.get(timeout=patience)
        except queue.Empty:
            return
        while True:
            take(event, float(event["at"]))
            try:
                event = self.events.get_nowait()
            except queue.Empty:
                return

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._once()
            except OSError as error:
                self.trouble = str(error)
            self.connected = False
            self._stop.wait(_AGAIN)

    def _once(self) -> None:
        wanted = json.dumps({**self.wanted, "ago": round(time.monotonic() - self.since, 1)})
        script = _SCRIPT.read_text(encoding="utf-8").replace('WANTED = "{}"', f"WANTED = {wanted!r}")
        with subprocess.Popen(
            [*self.argv, "python3", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is ours to hear
        ) as process:
            self._process = process
            if self._stop.is_set():
                process.terminate()
            if process.stdin is None or process.stdout is None or process.stderr is None:
                return
            with suppress(BrokenPipeError):  # it ended already; its last words tell why
                process.stdin.write(script.encode())
                process.stdin.close()
            offset = 0.0
            for line in process.stdout:
                try:
                    event: Event = json.loads(line)
                    t = float(event["t"])
                except (ValueError, KeyError, TypeError):
                    continue
                if event.get("kind") == "hello":
                    # The boot server's clock may differ: its times are told as time gone by.
                    offset = time.monotonic() - t
                    self.connected, self.trouble = True, ""
                elif event.get("kind") == "tick":
                    self.caught_up = True
                event["at"] = min(t + offset, time.monotonic())
                self.events.put(event)
            said = process.stderr.read().decode(errors="replace").strip().splitlines()
            self.trouble = said[-1] if said else "the connection ended"
