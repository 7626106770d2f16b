"""Asks web servers for bytes: proxies, certificates and passwords as on the rest of this machine."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

_CONNECT = 15.0
_SILENCE = 60.0
Answer = urllib3.response.BaseHTTPResponse


def plain_url(url: str) -> str:
    """A URL without the name and password that it may carry: as it may be shown and written down."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else url


def read_netrc(text: str) -> dict[str, tuple[str, str]]:
    """Logins of a file in netrc's form (apt's auth.conf), by host and path as they are named there."""
    found: dict[str, tuple[str, str]] = {}
    host, login = "", ""
    words = re.sub(r"#.*", "", text).split()
    for key, value in pairwise(words):
        if key == "machine":
            host, login = value, ""
        elif key == "login":
            login = value
        elif key == "password" and host:
            found[re.sub(r"^https?://", "", host)] = (login, value)
    return found


def apt_logins(root: Path = Path("/")) -> dict[str, tuple[str, str]]:
    """The logins that apt uses on this machine."""
    apt = root / "etc/apt"
    found: dict[str, tuple[str, str]] = {}
    for path in [apt / "auth.conf", *sorted((apt / "auth.conf.d").glob("*"))]:
        try:
            found.update(read_netrc(path.read_text(encoding="utf-8", errors="replace")))
        except OSError:
            continue
    return found


class Web:
    """Kept-open connections to web servers; several threads may share one."""

    def __init__(
        self,
        connections: int = 8,
        proxies: Mapping[str, str] | None = None,
        logins: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        self._connections = connections
        self._proxies = {**(proxies or {}), **getproxies()}
        self._logins = dict(logins or {})
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def ask(self, url: str, *, offset: int = 0, method: str = "GET") -> Answer:
        """The answer to a request, its body not read yet. Raises urllib3's errors."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "rackloom"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        if login := self._login(url):
            headers.update(urllib3.make_headers(basic_auth=":".join(login)))
        again = urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=8)
        return self._pool(url).request(
            method, plain_url(url), headers=headers, preload_content=False, retries=again
        )

    def size(self, url: str) -> int:
        """How many bytes a URL holds; -1 where the server does not say."""
        try:
            answer = self.ask(url, method="HEAD")
        except urllib3.exceptions.HTTPError:
            return -1
        answer.release_conn()
        length = answer.headers.get("Content-Length", "")
        return int(length) if answer.status == 200 and length.isdigit() else -1

    def _login(self, url: str) -> tuple[str, str] | None:
        parts = urlsplit(url)
        if parts.username is not None:
            return unquote(parts.username), unquote(parts.password or "")
        where = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
        for name, login in self._logins.items():
            if where == name or where.startswith(name.rstrip("/") + "/"):
                return login
        return None

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        host = parts.hostname or ""
        proxy = "" if proxy_bypass(host) else self._proxies.get(parts.scheme, "")
        if proxy and "://" not in proxy:
            proxy = f"http://{proxy}"
        with self._lock:
            if proxy not in self._pools:
                timeout = urllib3.Timeout(connect=_CONNECT, read=_SILENCE)
                # The machine's own certificates, as for every other program here.
                context = ssl.create_default_context()
                login = urlsplit(proxy)
                headers = (
                    urllib3.make_headers(
                        proxy_basic_auth=f"{unquote(login.username)}:{unquote(login.password or '')}"
                    )
                    if login.username
                    else None
                )
                self._pools[proxy] = (
                    urllib3.ProxyManager(
                        plain_url(proxy),
                        proxy_headers=headers,
                        maxsize=self._connections,
                        timeout=timeout,
                        ssl_context=context,
                    )
                    if proxy
                    else urllib3.PoolManager(maxsize=self._connections, timeout=timeout, ssl_context=context)
                )
            return self._pools[proxy]
