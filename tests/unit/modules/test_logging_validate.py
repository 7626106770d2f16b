"""A line of each node is looked for where the logs are, and the verdict names the node."""

from __future__ import annotations

import base64
import json
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from plugins.modules import log_mark, logging_validate

PASSWORD = "secret"
RunModule = Callable[..., dict[str, Any]]


class Store:
    """Has lines: word → node. Answers as the real one does."""

    def __init__(self) -> None:
        self.lines: dict[str, str] = {}
        self.queries: list[str] = []
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                word = base64.b64encode(f"rackloom:{PASSWORD}".encode()).decode()
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                if self.headers["Authorization"] != f"Basic {word}":
                    self.send_error(401)
                    return
                elastic = self.path == "/logs/logs-rackloom-*/_search"
                query = body if elastic else urllib.parse.parse_qs(body)["query"][0]
                store.queries.append(query)
                said = {mark: f"a line to look for: {mark}" for mark in store.lines if mark in query}
                self.send_response(200)
                self.end_headers()
                if elastic:
                    wanted = json.loads(query)
                    rows = [{"message": text, "node": store.lines[mark]} for mark, text in said.items()]
                    hits = [{"_source": row} for row in rows][: wanted["size"]]
                    self.wfile.write(json.dumps({"hits": {"hits": hits}}).encode())
                    return
                for mark, text in said.items():
                    row = {"_msg": text, "node": store.lines[mark]}
                    self.wfile.write(json.dumps(row).encode() + b"\n")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/logs"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()
    yield made
    made.server.shutdown()


@pytest.fixture(params=["victorialogs", "elasticsearch"])
def ask(store: Store, run_module: RunModule, request: pytest.FixtureRequest) -> RunModule:
    def run(**given: Any) -> dict[str, Any]:
        wanted = {"server": store.url, "store": request.param, "password": PASSWORD, "seconds": 1, **given}
        return run_module("logging_validate", **wanted)

    return run


def test_each_node_gets_a_verdict(store: Store, ask: RunModule) -> None:
    store.lines = {"m1": "one", "m2": "another"}
    result = ask(marks={"one": "m1", "two": "m2", "three": "m3", "four": ""})
    said = {each["name"]: (each["ok"], each["detail"]) for each in result["rackloom_checks"]}
    assert said["logs of one"][0]
    assert said["logs of two"] == (False, "a line of two is at the log store under the name another")
    assert said["logs of three"] == (False, "a line of three is not at the log store after 1 s")
    assert said["logs of four"] == (False, "four was not reached, so it wrote no line")


def test_it_waits_for_what_is_on_its_way(store: Store, ask: RunModule) -> None:
    threading.Timer(0.7, store.lines.update, [{"m1": "one"}]).start()
    result = ask(marks={"one": "m1"}, seconds=20)
    assert [each["ok"] for each in result["rackloom_checks"]] == [True]


def test_a_thousand_nodes_are_asked_for_in_few_queries(store: Store, ask: RunModule) -> None:
    store.lines = {f"mark{number:04}": f"node{number}" for number in range(1000)}
    marks = {node: mark for mark, node in store.lines.items()}
    result = ask(marks=marks)
    assert all(each["ok"] for each in result["rackloom_checks"])
    assert len(store.queries) == 1000 // logging_validate.AT_ONCE


def test_what_keeps_the_store_from_answering_is_told(ask: RunModule) -> None:
    wrong = ask(marks={"one": "m1"}, password="other")
    assert "answers 401" in wrong["rackloom_checks"][0]["detail"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        away = ask(marks={"one": "m1"}, server=f"http://127.0.0.1:{free.getsockname()[1]}/logs")
    assert "does not answer" in away["rackloom_checks"][0]["detail"]


def test_strictness_is_about_lines_that_were_written(ask: RunModule) -> None:
    assert not ask(marks={"one": ""}, strict=True).get("failed")
    failed = ask(marks={"one": "m1"}, strict=True)
    assert failed["failed"]
    assert "a line of one is not at the log store" in failed["msg"]


def test_a_mark_is_written_as_the_journal_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_module: RunModule
) -> None:
    path = str(tmp_path / "socket")
    monkeypatch.setattr(log_mark, "write", lambda mark, write=log_mark.write: write(mark, path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        first = run_module("log_mark")
        said = journal.recv(4096).decode()
    assert f"MESSAGE=a line to look for: {first['mark']}\n" in said
    assert "SYSLOG_IDENTIFIER=rackloom-check\n" in said
    assert first["mark"] != run_module("log_mark", check=True)["mark"]


def test_a_journal_that_takes_nothing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_module: RunModule
) -> None:
    monkeypatch.setattr(
        log_mark, "write", lambda mark, write=log_mark.write: write(mark, str(tmp_path / "no"))
    )
    result = run_module("log_mark")
    assert result["failed"]
    assert "takes no line" in result["msg"]
