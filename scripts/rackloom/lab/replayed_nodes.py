"""The exporters of many nodes in one process, for benchmarks: each says what a real one said, and its values go on.

    python -m rackloom.lab.replayed_nodes PLAN.json

A page is text with gaps; what stands in a gap moves with each answer as it moved at the real exporter. Each node has an
address of its own (of 127.0.0.0/8), so whoever asks has as many connections as with real ones.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import resource
import ssl
import sys
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)$")
_TYPE = re.compile(r"^# TYPE (\S+) (\S+)$")
_CPU = re.compile(r'(?<=[{,]cpu=")(\d+)(?=")')
_COUNTING = ("counter", "histogram", "summary")
_SWING = 0.2
"""How far a gauge swings around what it was, as a share of it."""


@dataclass(frozen=True)
class Gap:
    """A value that moves. rate: of a counter, a second; of a gauge nothing, it swings. digits: after the point."""

    start: float
    rate: float
    digits: int


@dataclass(frozen=True)
class Moving:
    """A page: text, gap, text, gap … text."""

    text: tuple[str, ...]
    gaps: tuple[Gap, ...]

    @property
    def series(self) -> int:
        """How many values it has."""
        lines = "0".join(self.text).splitlines()
        return sum(1 for line in lines if line and not line.startswith("#"))

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        return {"text": self.text, "gaps": [(gap.start, gap.rate, gap.digits) for gap in self.gaps]}

    @staticmethod
    def load(told: dict[str, Any]) -> Moving:
        """Out of JSON."""
        return Moving(tuple(told["text"]), tuple(Gap(*gap) for gap in told["gaps"]))


def moving(first: str, second: str, seconds: float, cores: int, also: Iterable[str] = ()) -> Moving:
    """What an exporter said twice, as a page whose values go on as they did, for a machine with so many cores.

    also: names whose values swing whether or not they differed, since these pages were not taken from a busy machine.
    """
    later = {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in second.splitlines()}
    names = set(also)
    rows = [line for line in first.splitlines() if line]
    own = 1 + max((int(found[1]) for row in rows if (found := _CPU.search(row))), default=0)
    kinds = {told[1]: told[2] for row in rows if (told := _TYPE.match(row))}
    text, gaps, part = [], [], ""
    for row in rows:
        sample = _SAMPLE.match(row)
        if not sample:
            part += row + "\n"
            continue
        name, labels, value = sample[1], sample[2] or "", sample[3]
        family = name if name in kinds else re.sub(r"_(bucket|sum|count|total)$", "", name)
        counts = kinds.get(family) in _COUNTING
        then = float(later.get(f"{name}{labels}", value))
        moves = name in names or then != float(value)
        cpu = _CPU.search(labels)
        copies = range(int(cpu[1]), cores, own) if cpu else (None,)
        for number in copies:
            part += name + (labels if number is None else _CPU.sub(str(number), labels, count=1)) + " "
            if moves:
                rate = abs(then - float(value)) / seconds if counts else 0.0
                digits = 0 if float(value).is_integer() and then.is_integer() else min(6, _digits(value))
                gaps.append(Gap(float(value), rate, digits))
                text.append(part)
                part = "\n"
            else:
                part += value + "\n"
    return Moving((*text, part), tuple(gaps))


def _digits(value: str) -> int:
    return len(f"{float(value):.6f}".rstrip("0").partition(".")[2])


class Teller:
    """One exporter of one node. speed: how many seconds pass for it in one of ours."""

    def __init__(self, page: Moving, speed: float) -> None:
        self.page = page
        self.speed = speed
        self.asked = time.monotonic()
        # No two nodes say the same.
        self.values = [gap.start * random.uniform(0.5, 1.5) for gap in page.gaps]  # noqa: S311

    def say(self) -> str:
        """All of it, as it is now."""
        now = time.monotonic()
        passed, self.asked = (now - self.asked) * self.speed, now
        parts: list[str] = []
        for number, gap in enumerate(self.page.gaps):
            if gap.rate:
                value = self.values[number] + gap.rate * passed * (0.5 + random.random())  # noqa: S311
                self.values[number] = value
            else:
                value = self.values[number] * (1 + _SWING * (random.random() - 0.5))  # noqa: S311
            parts += (
                self.page.text[number],
                str(int(value)) if not gap.digits else f"{value:.{gap.digits}f}",
            )
        return "".join((*parts, self.page.text[-1]))


class Exporter(asyncio.Protocol):
    """One connection of whoever asks."""

    def __init__(self, tellers: dict[tuple[str, int], Teller], alone: Teller | None = None) -> None:
        self.tellers = tellers
        self.alone = alone
        self.rest = b""
        self.transport: asyncio.Transport | None = None
        self.teller: Teller | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out who is asked."""
        self.transport = cast("asyncio.Transport", transport)
        self.teller = self.alone or self.tellers[transport.get_extra_info("sockname")[:2]]

    def data_received(self, data: bytes) -> None:
        """Answer each question; they have no bodies."""
        *asked, self.rest = (self.rest + data).split(b"\r\n\r\n")
        for question in asked:
            if self.transport is not None and self.teller is not None:
                body = self.teller.say().encode()
                more = b""
                if b"gzip" in question:
                    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
                    body, more = packer.compress(body) + packer.flush(), b"Content-Encoding: gzip\r\n"
                head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                self.transport.write(head + more + b"Content-Length: %d\r\n\r\n" % len(body) + body)


async def serve(plan: dict[str, Any], ready: Path) -> None:
    """Answer for all nodes of a plan until the process is told to end."""
    loop = asyncio.get_running_loop()
    pages = {name: Moving.load(told) for name, told in plan["pages"].items()}
    tellers: dict[tuple[str, int], Teller] = {}
    for group in plan["groups"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(group["certificate"], group["key"])
        for port, page in group["ports"].items():
            tellers.update(
                {(node, int(port)): Teller(pages[page], plan["speed"]) for node in group["addresses"]}
            )
            begin = partial(Exporter, tellers)
            await loop.create_server(begin, group["addresses"], int(port), ssl=context, backlog=16)
    prober = Teller(pages["probe"], plan["speed"])
    await loop.create_server(partial(Exporter, tellers, prober), "127.0.0.1", plan["probe_port"])
    loop.call_soon(ready.touch)
    await asyncio.Event().wait()


def main(argv: Sequence[str]) -> int:
    """Read the plan and answer."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    plan = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    asyncio.run(serve(plan, Path(plan["ready"])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
