"""The programs inside the inference chart: client, test and training, against a server that plays Triton."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.daemons import free_port
from tests.loading import loaded

ROOT = Path(__file__).parents[3]
FILES = ROOT / "workloads" / "inference" / "files"
STAND_IN = ROOT / "tests" / "stand_ins" / "triton.py"
REQUEST = {"inputs": [{"name": "INPUT__0", "shape": [1, 1], "datatype": "FP32", "data": [3]}]}
Start = Callable[..., "subprocess.Popen[bytes]"]


def part(name: str) -> ModuleType:
    return loaded(FILES / f"{name}.py", f"inference_{name}")


def ask(url: str, body: Any = None, raw: bytes | None = None) -> tuple[int, Any]:
    data = raw if raw is not None else (None if body is None else json.dumps(body).encode())
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=30) as got:  # noqa: S310 - ours
            status, text = got.status, got.read()
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, error.read()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text.decode()


def await_that(what: str, done: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def await_more(results: list[int], what: str) -> None:
    """Wait until twenty more have come in."""
    wanted = len(results) + 20
    await_that(what, lambda: len(results) >= wanted)


def answers(url: str, wanted: int = 200) -> bool:
    try:
        return ask(url)[0] == wanted
    except OSError:
        return False


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a program of Python; it is ended with the test."""
    with ExitStack() as stack:

        def run(path: Path, *argv: str, **env: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [sys.executable, str(path), *argv], env={**os.environ, **env}, stderr=subprocess.DEVNULL
            )
            stack.callback(ended, process)
            return process

        yield run


def ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one model."""
    (tmp_path / "models" / "line" / "1").mkdir(parents=True)
    return tmp_path / "models"


@pytest.fixture
def triton(start: Start, repository: Path) -> Callable[..., tuple[str, subprocess.Popen[bytes]]]:
    """Start a server; returns its address, once it lives, and its process."""

    def run(port: int = 0, **env: str) -> tuple[str, subprocess.Popen[bytes]]:
        port = port or free_port()
        argv = [f"--model-repository={repository}", f"--http-port={port}", f"--metrics-port={free_port()}"]
        # as the chart starts it, with what the stand-in has no use for
        argv += ["--exit-timeout-secs=20", "--strict-readiness=true", "--grpc-port=8001"]
        process = start(STAND_IN, *argv, **env)
        url = f"http://127.0.0.1:{port}"
        await_that("the server lives", lambda: answers(f"{url}/v2/health/live"))
        return url, process

    return run


@pytest.fixture
def client(start: Start) -> Callable[..., str]:
    """Start a client of a server; returns its address."""

    def run(server: str, patience: float = 20) -> str:
        port = free_port()
        start(FILES / "client.py", SERVER=server, PORT=str(port), PATIENCE=str(patience))
        url = f"http://127.0.0.1:{port}"
        await_that("the client lives", lambda: answers(f"{url}/healthz"))
        return url

    return run


def test_a_user_sees_the_models_and_gets_an_answer(triton: Any, client: Any) -> None:
    url = client(triton()[0])
    status, page = ask(f"{url}/")
    assert status == 200
    assert "<title>" in page
    assert [each["name"] for each in ask(f"{url}/api/models")[1]] == ["line"]
    model = ask(f"{url}/api/models/line")[1]
    request = {"inputs": [{**each, "shape": [1, 1], "data": [7]} for each in model["inputs"]]}
    status, told = ask(f"{url}/api/models/line/infer", request)
    assert status == 200
    assert told["outputs"][0]["data"] == [7]


@pytest.mark.parametrize(
    ("path", "raw", "status"),
    [
        ("/api/models/nobody/infer", b"{}", 400),
        ("/api/models/line/infer", b"{", 400),
        ("/api/models/line/infer", b'{"inputs": 3}', 400),
        ("/api/models/line", b"{}", 404),
        ("/api/models/../../v2/repository/index", b"{}", 404),
        ("/api/models/a%2Fb/infer", b"{}", 404),
        ("/other", None, 404),
    ],
)
def test_what_makes_no_sense_is_answered_and_not_passed_on(
    triton: Any, client: Any, path: str, raw: bytes | None, status: int
) -> None:
    url = client(triton()[0], patience=0.2)
    got, told = ask(f"{url}{path}", raw=raw)
    assert got == status
    assert told["error"]


def test_a_request_that_is_too_long_is_refused_without_being_read(triton: Any, client: Any) -> None:
    port = int(client(triton()[0]).rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(
            b"POST /api/models/line/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
        )
        assert b" 413 " in line.recv(100)


def test_a_client_without_a_server_lives_and_says_so(client: Any) -> None:
    url = client(f"http://127.0.0.1:{free_port()}", patience=0.2)
    assert ask(f"{url}/healthz")[0] == 200
    status, told = ask(f"{url}/api/models")
    assert status == 502
    assert "does not answer" in told["error"]


def test_no_request_is_lost_while_the_server_is_replaced(triton: Any, client: Any) -> None:
    """Users ask all the time; the server goes and another comes at its place, twice."""
    port = free_port()
    server, process = triton(port, TRITON_WORK="0.05")
    url = client(server)
    stop = threading.Event()
    results: list[int] = []

    def user() -> None:
        while not stop.is_set():
            results.append(ask(f"{url}/api/models/line/infer", REQUEST)[0])

    users = [threading.Thread(target=user) for _ in range(4)]
    for each in users:
        each.start()
    try:
        for number in (1, 2):
            await_more(results, f"users are served before change {number}")
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
            _, process = triton(port, TRITON_WORK="0.05")
        await_more(results, "users are served by the last one")
    finally:
        stop.set()
        for each in users:
            each.join()
    assert set(results) == {200}


def test_the_server_that_goes_finishes_what_it_has(triton: Any) -> None:
    # Long enough for all that is asked meanwhile, on a busy machine too.
    server, process = triton(TRITON_WORK="4")
    results: list[int] = []
    asking = threading.Thread(
        target=lambda: results.append(ask(f"{server}/v2/models/line/infer", REQUEST)[0])
    )
    asking.start()
    metric = "nv_inference_pending_request_count 1"
    await_that("the request is there", lambda: metric in ask(f"{server}/metrics")[1])
    process.send_signal(signal.SIGTERM)
    await_that("it is no longer ready", lambda: answers(f"{server}/v2/health/ready", 400))
    assert ask(f"{server}/v2/models/line/infer", REQUEST)[0] == 503
    asking.join()
    assert results == [200]
    assert process.wait(timeout=30) == 0


def test_patience_ends() -> None:
    module = part("client")
    now = [0.0]

    def pause(seconds: float) -> None:
        now[0] += seconds

    server = module.Server(f"http://127.0.0.1:{free_port()}", 5, pause, lambda: now[0])
    assert server.ask("GET", "/v2").status == 502
    assert 5 <= now[0] < 7


@contextmanager
def smoke(**env: str) -> Iterator[subprocess.CompletedProcess[str]]:
    yield subprocess.run(
        [sys.executable, str(FILES / "smoke.py")],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_helm_test_is_content_with_a_server_that_serves(triton: Any, client: Any) -> None:
    server, _ = triton(TRITON_START="1")
    given = {"SERVER": server, "CLIENT": client(server), "MODEL": "line", "REQUEST": json.dumps(REQUEST)}
    with smoke(TIMEOUT="20", **given) as done:
        assert done.returncode == 0, done.stderr
        assert "line" in done.stdout


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"SERVER": "http://127.0.0.1:1"}, "/v2/health/live says 0"),
        ({"MODEL": "other"}, "model other is not ready"),
        ({"MODEL": "line", "REQUEST": '{"inputs": 3}'}, "model line answers 400"),
        ({"CLIENT": "http://127.0.0.1:1"}, "the client does not reach"),
    ],
)
def test_helm_test_says_what_is_wrong(triton: Any, env: dict[str, str], said: str) -> None:
    with smoke(**{"SERVER": triton()[0], "TIMEOUT": "0", **env}) as done:
        assert done.returncode == 1
        assert said in done.stderr


def test_a_trained_model_is_published_whole_and_as_a_new_version(repository: Path, triton: Any) -> None:
    train = part("train")
    server, _ = triton()
    for wanted in ("2", "3"):
        path = train.publish(repository, "line", b"weights")
        assert path == repository / "line" / wanted
        assert (path / "model.pt").read_bytes() == b"weights"
        assert ask(f"{server}/v2/models/line")[1]["versions"] == [wanted]
    fresh = train.publish(repository, "fresh", b"w")
    assert fresh.name == "1"
    assert 'name: "fresh"' in (repository / "fresh" / "config.pbtxt").read_text()
    assert not list(repository.glob(".*"))
