"""Plays a Triton server for tests: its health, model, inference and metrics addresses, without a model or a GPU.

It takes Triton's own command line. A model is a folder of the repository with a version in it; its answer is its input,
after TRITON_WORK seconds. Told to go, it finishes what it has, as Triton does, and takes nothing new.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

VERSION = "2.71.0"


class State:
    """What all requests share."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.repository = Path(given.model_repository)
        self.work = float(os.environ.get("TRITON_WORK", "0"))
        self.begins = time.monotonic() + float(os.environ.get("TRITON_START", "0"))
        self.name = os.environ.get("HOSTNAME", "stand-in")
        self.going = threading.Event()
        self.lock = threading.Lock()
        self.busy = 0
        self.counts: dict[tuple[str, str], int] = {}

    def ready(self) -> bool:
        """Whether models are loaded and it is not on its way out."""
        return time.monotonic() >= self.begins and not self.going.is_set()

    def models(self) -> list[dict[str, str]]:
        """Name and newest version of what is in the repository."""
        found = []
        for folder in sorted(self.repository.glob("[!.]*")):
            versions = [each.name for each in folder.glob("*") if each.name.isdigit()]
            if versions:
                found.append({"name": folder.name, "version": max(versions, key=int), "state": "READY"})
        return found


class Handler(BaseHTTPRequestHandler):
    """Triton's HTTP."""

    server: Listener
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Health, and what there is."""
        state = self.server.state
        names = {each["name"]: each for each in state.models()}
        words = self.path.strip("/").split("/")
        if words == ["metrics"]:
            self.send(200, metrics(state), "text/plain")
        elif words == ["v2", "health", "live"]:
            self.send(200, "")
        elif words == ["v2", "health", "ready"]:
            self.send(200 if state.ready() else 400, "")
        elif words == ["v2"]:
            self.send(200, {"name": "triton", "version": VERSION, "extensions": []})
        elif words[:2] == ["v2", "models"] and len(words) in (3, 4):
            if words[2] not in names:
                self.send(400, {"error": f"Request for unknown model: '{words[2]}' is not found"})
            elif words[3:] == ["ready"]:
                self.send(200 if state.ready() else 400, "")
            else:
                self.send(200, about(names[words[2]]))
        else:
            self.send(404, {"error": "Not Found"})

    def do_POST(self) -> None:
        """The index, and questions."""
        state = self.server.state
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        words = self.path.strip("/").split("/")
        if words == ["v2", "repository", "index"]:
            self.send(200, state.models())
            return
        if words[:2] != ["v2", "models"] or words[3:] != ["infer"]:
            self.send(404, {"error": "Not Found"})
            return
        if not state.ready():
            self.send(
                503, {"error": "Server is stopping, scheduler for model has stopped accepting new requests"}
            )
            return
        with state.lock:
            state.busy += 1
        try:
            status, said = answer(state, words[2], body)
            result = "success" if status == 200 else "failure"
            with state.lock:
                state.counts[words[2], result] = state.counts.get((words[2], result), 0) + 1
            self.send(status, said)
        finally:
            with state.lock:
                state.busy -= 1

    def send(self, status: int, said: Any, kind: str = "application/json") -> None:
        """Answer."""
        text = said if isinstance(said, str) else json.dumps(said)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        if self.server.state.going.is_set():
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Nothing: tests ask often."""


class Listener(ThreadingHTTPServer):
    """One of its ports."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, state: State) -> None:
        self.state = state
        super().__init__(("", port), Handler)


def about(model: dict[str, str]) -> dict[str, Any]:
    """What a model takes and gives."""
    return {
        "name": model["name"],
        "versions": [model["version"]],
        "platform": "stand_in",
        "inputs": [{"name": "INPUT__0", "datatype": "FP32", "shape": [-1, 1]}],
        "outputs": [{"name": "OUTPUT__0", "datatype": "FP32", "shape": [-1, 1]}],
    }


def answer(state: State, name: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """The inputs, as outputs."""
    model = next((each for each in state.models() if each["name"] == name), None)
    if model is None:
        return 400, {"error": f"Request for unknown model: '{name}' is not found"}
    try:
        inputs = json.loads(body)["inputs"]
        outputs = [{**each, "name": each["name"].replace("INPUT", "OUTPUT")} for each in inputs]
    except (ValueError, KeyError, TypeError, AttributeError):
        return 400, {"error": "failed to parse the request JSON buffer"}
    time.sleep(state.work)
    return 200, {"model_name": name, "model_version": model["version"], "id": state.name, "outputs": outputs}


def metrics(state: State) -> str:
    """Counters under Triton's names."""
    lines = []
    for (model, result), count in sorted(state.counts.items()):
        lines.append(f'nv_inference_request_{result}{{model="{model}",version="1"}} {count}')
    lines.append(f"nv_inference_pending_request_count {state.busy}")
    return "\n".join([*lines, ""])


def main() -> int:
    """Serve until told to go, then finish."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-repository", required=True)
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--metrics-port", type=int, default=8002)
    parser.add_argument("--exit-timeout-secs", type=float, default=30)
    given, _ = parser.parse_known_args()
    state = State(given)
    listeners = [Listener(given.http_port, state), Listener(given.metrics_port, state)]
    for each in listeners:
        threading.Thread(target=each.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: state.going.set())
    signal.signal(signal.SIGINT, lambda *_: state.going.set())
    while not state.going.wait(0.5):
        pass
    end = time.monotonic() + given.exit_timeout_secs
    while state.busy and time.monotonic() < end:
        time.sleep(0.05)
    return 0 if not state.busy else 1


if __name__ == "__main__":
    sys.exit(main())
