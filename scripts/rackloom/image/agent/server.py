"""Talk to the boot server: fetch files, put reports. HTTP alone, with patience."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .trouble import TroubleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from .order import Order

_CHUNK = 1 << 20
_TRIES = 6
_PATIENCE = 30.0
_TELL = "see that the boot server runs and that the node reaches it"


class NotThereError(TroubleError):
    """The server answers, but has no such file."""


class RefusedError(TroubleError):
    """The server does not take what was put."""


class Server:
    """The boot server, as one node sees it."""

    def __init__(self, order: Order, sleep: Callable[[float], None] = time.sleep) -> None:
        self._order = order
        self._sleep = sleep
        self._address = urlsplit(order.url)
        self._token: str | None = None
        self.time = 0.0
        """The server's clock at its last answer, in seconds; 0 = never heard."""

    def node(self) -> dict[str, Any]:
        """Who this node is: node.json, with the MAC that this machine really has."""
        data = self._json(f"/nodes/{self._order.mac_path}/node.json")
        if not data:
            raise TroubleError(
                f"the boot server knows no node with MAC {self._order.mac}",
                "write this MAC into nodes.yml and deploy the boot server",
            )
        return {**data, "mac": self._order.interface or self._order.mac}

    def armed(self) -> dict[str, Any]:
        """The node's arming: token, image and image_id; empty when it is not armed."""
        return self._json(f"/nodes/{self._order.mac_path}/armed")

    def image(self) -> dict[str, Any]:
        """image.json of the image that is booted."""
        data = self._json(f"{self._image_path}/image.json")
        if not data:
            raise TroubleError(
                f"the boot server has no image.json of {self._order.image} {self._order.image_id}",
                "publish the image again: deploy the boot server",
            )
        return data

    def download(self, name: str, target: Path) -> str:
        """Fetch a file of the image to `target` and return its sha256."""
        path = f"{self._image_path}/{name}"

        def keep(answer: http.client.HTTPResponse) -> str:
            digest = hashlib.sha256()
            with target.open("wb") as out:
                for piece in iter(lambda: answer.read(_CHUNK), b""):
                    digest.update(piece)
                    out.write(piece)
            return digest.hexdigest()

        return str(self._ask("GET", path, b"", keep))

    def report(self, stage: str, **facts: Any) -> None:
        """Tell how far this node is. Nobody listens to a node that is not armed: nothing is sent then.

        Raises TroubleError when the server cannot be reached for long, RefusedError when it takes no report.
        """
        token = self._find_token()
        if token:
            body = {"stage": stage, "uptime": uptime(), **facts}
            self.put(f"/reports/{self._order.mac_path}/{token}/{stage}.json", body)

    def put(self, path: str, body: Mapping[str, Any]) -> None:
        """Put one JSON file."""
        self._ask("PUT", path, json.dumps(body, sort_keys=True).encode(), lambda answer: answer.read())

    def _find_token(self) -> str:
        if self._token is None:
            self._token = str(self.armed().get("token", ""))
        return self._token

    @property
    def _image_path(self) -> str:
        return f"/images/{self._order.image}/{self._order.image_id}"

    def _json(self, path: str) -> dict[str, Any]:
        """A JSON file of the server's; empty when it has none."""
        try:
            text = self._ask("GET", path, b"", lambda answer: answer.read())
        except NotThereError:
            return {}
        try:
            data = json.loads(text)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise TroubleError(f"{self._order.url}{path} is no JSON object", "deploy the boot server again")
        return data

    def _ask(
        self, method: str, path: str, body: bytes, take: Callable[[http.client.HTTPResponse], Any]
    ) -> Any:
        """One request, tried again while the server is away or overloaded."""
        last = ""
        for attempt in range(_TRIES):
            if attempt:
                self._sleep(min(2.0**attempt, 15.0))
            try:
                return self._once(method, path, body, take)
            except (OSError, http.client.HTTPException) as error:
                last = str(error) or type(error).__name__
        raise TroubleError(f"{method} {self._order.url}{path}: {last}", _TELL)

    def _once(
        self, method: str, path: str, body: bytes, take: Callable[[http.client.HTTPResponse], Any]
    ) -> Any:
        kind = http.client.HTTPSConnection if self._address.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._address.hostname or "", self._address.port, timeout=_PATIENCE)
        try:
            connection.request(method, self._address.path + path, body or None)
            answer = connection.getresponse()
            if date := answer.getheader("Date"):
                self.time = parsedate_to_datetime(date).timestamp()
            if answer.status in (404, 410):
                raise NotThereError(f"the boot server has no {path}", "deploy the boot server again")
            if answer.status in (403, 405, 409, 413):
                raise RefusedError(
                    f"the boot server refuses {method} {path}: {answer.status} {answer.reason}",
                    "the node may have been armed anew meanwhile: start it again",
                )
            if answer.status >= 300:
                raise http.client.HTTPException(f"{answer.status} {answer.reason}")
            return take(answer)
        finally:
            connection.close()


def uptime() -> float:
    """Seconds since the kernel started."""
    with open("/proc/uptime", encoding="ascii") as stream:  # noqa: PTH123 - the kernel's file
        return float(stream.read().split()[0])
