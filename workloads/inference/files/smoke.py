"""What `helm test` asks: does the server answer, are its models ready, and does one of them answer a request."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from typing import Any


def ask(url: str, body: Any = None) -> tuple[int, Any]:
    """Status and what came with it; 0 where nobody answered."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=30) as got:  # noqa: S310 - http only
            return got.status, parsed(got.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, parsed(error.read())
    except OSError as error:
        return 0, str(error)


def parsed(text: bytes) -> Any:
    """JSON, or the text where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text.decode(errors="replace")


def trouble(server: str, client: str, model: str, request: dict[str, Any]) -> str:
    """What is wrong; '' where nothing is."""
    for path in ("/v2/health/live", "/v2/health/ready"):
        status, said = ask(server + path)
        if status != 200:
            return f"{path} says {status} {said}"
    status, said = ask(f"{server}/v2/repository/index", {})
    if status != 200 or not isinstance(said, list):
        return f"the list of models: {status} {said}"
    states = {str(each.get("name")): str(each.get("state", "")) for each in said if isinstance(each, dict)}
    unwell = {name: state for name, state in states.items() if state not in ("READY", "")}
    if unwell:
        return f"models that are not ready: {unwell}"
    if model:
        status, said = ask(f"{server}/v2/models/{model}/ready")
        if status != 200:
            return f"model {model} is not ready: {status} {said}"
    if model and request:
        status, said = ask(f"{server}/v2/models/{model}/infer", request)
        if status != 200 or not isinstance(said, dict) or not said.get("outputs"):
            return f"model {model} answers {status} {said}"
    if client:
        status, said = ask(f"{client}/api/models")
        if status != 200:
            return f"the client does not reach the server: {status} {said}"
    return ""


def main() -> int:
    """Ask until it is well, or time is over."""
    server, client = os.environ["SERVER"], os.environ.get("CLIENT", "")
    model, request = os.environ.get("MODEL", ""), json.loads(os.environ.get("REQUEST") or "{}")
    end = time.monotonic() + float(os.environ.get("TIMEOUT", "120"))
    while wrong := trouble(server, client, model, request):
        if time.monotonic() >= end:
            print(wrong, file=sys.stderr)
            return 1
        time.sleep(1)
    print(f"{server} serves" + (f" {model}" if model else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
