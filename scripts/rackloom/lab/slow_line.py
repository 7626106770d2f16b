"""A line of a known speed: an HTTP proxy on this machine that lets only so many bytes a second through.

Two programs that are compared through it meet the same network, and one that is no faster than today's.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from urllib.parse import urlsplit

_BLOCK = 1 << 16
_HEAD = 1 << 16


class SlowLine:
    """Serves until the program ends; `url` is what goes into http_proxy and https_proxy."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = 0.0
        self._ready = threading.Event()
        self.url = ""
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self._ready.wait()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._client, "127.0.0.1", 0, limit=_HEAD)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        async with server:
            await server.serve_forever()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: a tunnel, or plain requests one after the other, to whatever hosts they name."""
        ways: dict[str, asyncio.StreamWriter] = {}
        pumps: set[asyncio.Task[None]] = set()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target, rest = head.split(b" ", 2)
                if method == b"CONNECT":
                    host, _, port = target.decode().rpartition(":")
                    there, back = await asyncio.open_connection(host, int(port))
                    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                    await asyncio.gather(self._pump(there, writer), self._pump(reader, back, slow=False))
                    break
                parts = urlsplit(target.decode())
                if parts.netloc not in ways:
                    there, ways[parts.netloc] = await asyncio.open_connection(
                        parts.hostname, parts.port or 80
                    )
                    pumps.add(asyncio.create_task(self._pump(there, writer)))
                path = parts.path + (f"?{parts.query}" if parts.query else "")
                ways[parts.netloc].write(b" ".join([method, path.encode(), rest]))
                await ways[parts.netloc].drain()
        for way in ways.values():
            way.close()
        writer.close()

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, slow: bool = True
    ) -> None:
        with contextlib.suppress(OSError):
            while block := await source.read(_BLOCK):
                if slow:
                    now = asyncio.get_running_loop().time()
                    self._free_at = max(now, self._free_at) + len(block) / self._rate
                    await asyncio.sleep(self._free_at - now)
                target.write(block)
                await target.drain()
            target.close()
