"""What Elasticsearch holds beside its data: written once, again when it differs, and never a password too many."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from plugins.modules import elasticsearch_content

from rackloom.site.authority import issue, make_authority, make_key

RunModule = Callable[..., dict[str, Any]]
SETUP = "rackloom-setup"


class Cluster:
    """Elasticsearch's door: documents by path, users with passwords, as much of its answers as is looked at."""

    def __init__(self, folder: Path) -> None:
        self.held: dict[str, Any] = {}
        self.users = {SETUP: "setup-password", "elastic": "made-at-random"}
        self.writes: list[str] = []
        self.refuse: dict[str, int] = {}
        self.status = "green"
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(*cluster.get(self.path, self.user()))

            def do_PUT(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.reply(*cluster.put(self.path, body, self.user()))

            def user(self) -> str:
                word = self.headers["Authorization"].removeprefix("Basic ")
                name, _, password = base64.b64decode(word).decode().partition(":")
                return name if cluster.users.get(name) == password else ""

            def reply(self, status: int, answer: Any) -> None:
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        key = make_key()
        self.ca = folder / "ca.crt"
        self.ca.write_text(make_authority(key))
        made = issue(key, self.ca.read_text(), "elasticsearch one", ["127.0.0.1"], "both")
        (folder / "server.pem").write_text(made.certificate + made.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def get(self, path: str, user: str) -> tuple[int, Any]:
        if not user:
            return 401, {"error": {"reason": "unable to authenticate user"}}
        if path in self.refuse:
            return self.refuse[path], {"error": {"reason": "no such index"}}
        if path.startswith("/_cluster/health"):
            good = self.status == "green" or "wait_for_status=yellow" in path
            return (200 if good else 408), {"status": self.status, "timed_out": not good}
        if path == "/_security/_authenticate":
            return 200, {"username": user}
        if path not in self.held:
            return 404, {}
        name = path.rpartition("/")[2]
        inner = self.held[path]
        if path.startswith("/_index_template/"):
            return 200, {"index_templates": [{"name": name, "index_template": inner}]}
        return 200, {name: inner}

    def put(self, path: str, body: Any, user: str) -> tuple[int, Any]:
        if user not in (SETUP, "elastic"):
            return 401, {"error": {"reason": "unable to authenticate user"}}
        self.writes.append(path)
        if path.endswith("/_password"):
            self.users[path.split("/")[3]] = body["password"]
        elif path.startswith("/_security/user/"):
            password = body.pop("password", None)
            if password is None and path not in self.held:
                return 400, {
                    "error": {"reason": "password must be specified unless you are updating an existing user"}
                }
            if password is not None:
                self.users[path.rpartition("/")[2]] = password
            self.held[path] = {"username": path.rpartition("/")[2], **body}
        elif path.startswith("/_snapshot/"):
            # It gives truth values and numbers back as text.
            texts = {
                key: str(value).lower() for key, value in body["settings"].items() if isinstance(value, bool)
            }
            self.held[path] = {**body, "settings": {**body["settings"], **texts}, "uuid": "x"}
        else:
            self.held[path] = {"version": 1, **body}
        return 200, {"acknowledged": True}


DOCUMENTS: list[dict[str, Any]] = [
    {"path": "/_ilm/policy/logs", "body": {"policy": {"phases": {"delete": {"min_age": "30d"}}}}},
    {"path": "/_index_template/logs", "body": {"index_patterns": ["logs-*"], "data_stream": {}}},
    {"path": "/_security/role/writer", "body": {"cluster": ["monitor"]}},
    {"path": "/_security/user/rackloom", "body": {"roles": ["viewer"]}},
    {"path": "/_snapshot/rackloom", "body": {"type": "fs", "settings": {"location": "/s", "compress": True}}},
    {"path": "/_slm/policy/nightly", "body": {"schedule": "x", "config": {"indices": ["logs-*"]}}},
]
PASSWORDS = {"elastic": "elastic-password", "rackloom": "reader-password"}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.server.shutdown()


@pytest.fixture
def bring(cluster: Cluster, run_module: RunModule) -> RunModule:
    def run(**more: Any) -> dict[str, Any]:
        given = {
            "servers": [cluster.url],
            "user": SETUP,
            "password": cluster.users.get(SETUP, "gone"),
            "ca_file": str(cluster.ca),
            "seconds": 2,
            "documents": DOCUMENTS,
            "passwords": PASSWORDS,
        }
        return run_module("elasticsearch_content", **{**given, **more})

    return run


def test_all_is_written_once(cluster: Cluster, bring: RunModule) -> None:
    first = bring()
    assert first["written"] == [each["path"] for each in DOCUMENTS]
    assert first["passwords_set"] == ["elastic"], "a new user has its password already"
    assert {name: cluster.users[name] for name in PASSWORDS} == PASSWORDS
    cluster.writes.clear()
    second = bring()
    assert (second["changed"], second["written"], second["passwords_set"]) == (False, [], [])
    assert not cluster.writes


@pytest.mark.parametrize("number", range(len(DOCUMENTS)))
def test_what_differs_is_written_again_and_nothing_else(
    cluster: Cluster, bring: RunModule, number: int
) -> None:
    bring()
    other: list[dict[str, Any]] = json.loads(json.dumps(DOCUMENTS))
    changes: list[dict[str, Any]] = [
        {"policy": {"phases": {"delete": {"min_age": "7d"}}}},
        {"index_patterns": ["logs-a-*"], "data_stream": {}},
        {"cluster": ["monitor", "manage"]},
        {"roles": ["viewer", "editor"]},
        {"type": "fs", "settings": {"location": "/other", "compress": True}},
        {"schedule": "y", "config": {"indices": ["logs-*"]}},
    ]
    other[number]["body"] = changes[number]
    again = bring(documents=other)
    assert again["written"] == [DOCUMENTS[number]["path"]]
    assert not again["passwords_set"]
    assert not bring(documents=other)["changed"]


def test_what_is_gone_comes_back(cluster: Cluster, bring: RunModule) -> None:
    bring()
    del cluster.held["/_ilm/policy/logs"]
    assert bring()["written"] == ["/_ilm/policy/logs"]


def test_a_password_that_was_changed_by_hand_is_set_back(cluster: Cluster, bring: RunModule) -> None:
    bring()
    cluster.users["rackloom"] = "changed by hand"
    assert bring()["passwords_set"] == ["rackloom"]
    assert cluster.users["rackloom"] == PASSWORDS["rackloom"]


def test_looking_changes_nothing(cluster: Cluster, bring: RunModule) -> None:
    told = bring(check=True)
    assert told["changed"]
    assert told["written"] == [each["path"] for each in DOCUMENTS]
    assert not cluster.writes


def test_looking_before_there_is_anything_is_no_failure(bring: RunModule) -> None:
    told = bring(check=True, servers=["https://127.0.0.1:1"])
    assert told["changed"]
    assert not told.get("failed")


def test_it_waits_for_the_health_that_is_wanted(cluster: Cluster, bring: RunModule) -> None:
    cluster.status = "yellow"
    assert not bring(status="yellow").get("failed")
    told = bring(status="green")
    assert told["failed"]
    assert "answers 408" in told["msg"] or "is yellow" in told["msg"]


def test_a_wrong_password_is_said_at_once(bring: RunModule) -> None:
    told = bring(password="wrong", seconds=60)
    assert told["failed"]
    assert f"does not let the user {SETUP} in" in told["msg"]


def test_who_does_not_answer_is_named(bring: RunModule) -> None:
    told = bring(servers=["https://127.0.0.1:1"], seconds=0)
    assert told["failed"]
    assert "https://127.0.0.1:1 does not answer" in told["msg"]


def test_the_next_server_is_asked(cluster: Cluster, bring: RunModule) -> None:
    assert not bring(servers=["https://127.0.0.1:1", cluster.url]).get("failed")


def test_what_elasticsearch_says_is_passed_on(cluster: Cluster, bring: RunModule) -> None:
    cluster.refuse["/_ilm/policy/logs"] = 500
    told = bring()
    assert told["failed"]
    assert "answers 500 to GET /_ilm/policy/logs: no such index" in told["msg"]


def test_no_password_is_in_an_answer(bring: RunModule) -> None:
    assert "elastic-password" not in json.dumps(
        {key: value for key, value in bring().items() if key != "invocation"}
    )


def test_notes_are_where_there_is_room_for_them() -> None:
    for each in DOCUMENTS:
        noted = elasticsearch_content.noted(each["path"], each["body"])
        there = elasticsearch_content.find(noted, elasticsearch_content.NOTE)
        assert (there is None) == each["path"].startswith("/_snapshot/")
        assert elasticsearch_content.NOTE not in json.dumps(each["body"]), "the caller's own stays as it was"
