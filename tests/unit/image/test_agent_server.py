"""The agent and a boot server: what is asked, what is put, and what happens when either fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rackloom.image.agent import digests, install
from rackloom.image.agent.order import Order
from rackloom.image.agent.server import RefusedError, Server
from rackloom.image.agent.trouble import TroubleError

MAC = "52-54-00-00-00-01"


class Played:
    """A boot server: its files, what was put, and the errors it gives before it works."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.put: dict[str, dict[str, object]] = {}
        self.errors: list[int] = []
        self.refuse = False
        self.url = ""


@pytest.fixture
def played() -> Iterator[Played]:
    state = Played()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if state.errors:
                self._answer(state.errors.pop(0), b"")
            else:
                body = state.files.get(self.path)
                self._answer(404 if body is None else 200, body or b"")

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if state.refuse:
                self._answer(403, b"")
                return
            state.put[self.path] = json.loads(body)
            self._answer(201, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield state
        server.shutdown()
        thread.join()


def contact(played: Played) -> Server:
    return Server(order(played), sleep=lambda _: None)


def order(played: Played) -> Order:
    return Order("install", played.url, MAC.replace("-", ":"), "compute", "0123456789abcdef", "", "")


def test_a_stage_is_reported_under_the_token(played: Played) -> None:
    played.files[f"/nodes/{MAC}/armed"] = b'{"token": "t1"}'
    contact(played).report("writing", size=7)
    (path, body), *_ = played.put.items()
    assert path == f"/reports/{MAC}/t1/writing.json"
    assert (body["stage"], body["size"]) == ("writing", 7)


def test_a_node_that_is_not_armed_reports_nothing(played: Played) -> None:
    contact(played).report("booted")
    assert played.put == {}


def test_a_busy_server_is_asked_again(played: Played) -> None:
    played.files[f"/nodes/{MAC}/node.json"] = b'{"name": "n1"}'
    played.errors = [503, 502]
    server = contact(played)
    assert server.node()["name"] == "n1"
    assert server.time > 0


def test_a_node_has_the_mac_that_it_booted_from(played: Played) -> None:
    """A board was replaced: the boot server knew the node by its serial number."""
    played.files[f"/nodes/{MAC}/node.json"] = b'{"name": "n1", "mac": "52:54:00:00:00:01"}'
    replaced = order(played)._replace(interface="52:54:00:00:00:99")
    assert Server(replaced).node()["mac"] == "52:54:00:00:00:99"


def test_a_refusal_is_not_tried_again(played: Played) -> None:
    played.files[f"/nodes/{MAC}/armed"] = b'{"token": "old"}'
    played.refuse = True
    with pytest.raises(RefusedError, match="403"):
        contact(played).report("writing")


def test_an_unknown_mac_names_itself(played: Played) -> None:
    with pytest.raises(TroubleError, match="52:54:00:00:00:01") as caught:
        contact(played).node()
    assert "nodes.yml" in caught.value.cure


def test_a_server_that_is_away_is_named() -> None:
    nowhere = Order("install", "http://127.0.0.1:9", "52:54:00:00:00:01", "c", "0" * 16, "", "")
    with pytest.raises(TroubleError, match=r"127\.0\.0\.1:9"):
        Server(nowhere, sleep=lambda _: None).node()


def test_a_download_is_digested_on_the_way(played: Played, tmp_path: Path) -> None:
    played.files["/images/compute/0123456789abcdef/initrd"] = b"abc"
    found = contact(played).download("initrd", tmp_path / "initrd")
    assert (tmp_path / "initrd").read_bytes() == b"abc"
    assert found.startswith("ba7816bf")


@pytest.mark.parametrize(
    ("armed", "word"), [(b"{}", "not armed"), (b'{"token": "t", "image_id": "ffff"}', "armed for image ffff")]
)
def test_nothing_is_written_without_arming(
    played: Played, monkeypatch: pytest.MonkeyPatch, armed: bytes, word: str
) -> None:
    played.files[f"/nodes/{MAC}/node.json"] = json.dumps(
        {"name": "n", "address": "10.0.0.1", "prefix": 8, "mac": "m", "ssh_keys": ["k"]}
    ).encode()
    played.files[f"/nodes/{MAC}/armed"] = armed
    touched: list[object] = []
    monkeypatch.setattr(install, "partition", touched.append)
    with pytest.raises(TroubleError, match=word):
        install.install(contact(played), order(played), lambda _: None)
    assert not touched


def test_a_wrong_image_stops_before_the_disk(
    played: Played, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    squashfs = tmp_path / "root.squashfs"
    squashfs.write_bytes(b"cut sho")
    monkeypatch.setattr(digests, "root_file", lambda: squashfs)
    record = {
        "files": {name: {"sha256": "0" * 64, "size": 1} for name in ("initrd", "root.squashfs", "vmlinuz")}
    }
    from rackloom.image.store import identify  # noqa: PLC0415

    image_id = identify(record["files"])
    wanted = order(played)._replace(image_id=image_id)
    played.files[f"/images/compute/{image_id}/image.json"] = json.dumps(record).encode()
    with pytest.raises(TroubleError, match="digest mismatch"):
        install.fetch(Server(wanted, sleep=lambda _: None), wanted, tmp_path)
