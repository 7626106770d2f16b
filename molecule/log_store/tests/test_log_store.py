"""Who may write, who may read, and what is left after a stop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host
from waits import until

INSERT = "/insert/jsonline?_stream_fields=node,unit&_time_field=_time&_msg_field=_msg"


@pytest.fixture(scope="module")
def given(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = host.ansible.get_variables()
    return found


@pytest.fixture(scope="module")
def curl(host: Host, given: dict[str, Any]) -> Callable[..., tuple[int, str]]:
    """Asks the store, at the address that nodes use."""

    def ask(path: str, *more: str, user: str = "") -> tuple[int, str]:
        words = ["curl", "-sS", "-m", "60", "--cacert", "/srv/ca.crt", "-w", "\\n%{http_code}", *more]
        words += ["-u", user] if user else []
        words.append(f"https://{given['rackloom_address']}:9428/logs{path}")
        done = host.run(" ".join(["%s"] * len(words)), *words)
        text, _, code = done.stdout.rpartition("\n")
        return int(code or 0), text

    return ask


@pytest.fixture(scope="module")
def reader(host: Host, given: dict[str, Any]) -> str:
    """Name and password; the inventory has the latter, and never the unit."""
    secret = host.file("/etc/rackloom/log_store/password").content_string.strip()
    return f"rackloom:{secret}"


def written(curl: Callable[..., tuple[int, str]], pem: str, line: dict[str, Any]) -> int:
    kind = "Content-Type: application/stream+json"
    code, _ = curl(INSERT, "--cert", pem, "-H", kind, "--data-binary", json.dumps(line))
    return code


def found(curl: Callable[..., tuple[int, str]], reader: str, query: str) -> list[dict[str, Any]]:
    code, text = curl("/select/logsql/query", "--data-urlencode", f"query={query}", user=reader)
    assert code == 200, text
    return [json.loads(row) for row in text.splitlines() if row]


def awaited(curl: Callable[..., tuple[int, str]], reader: str, query: str) -> list[dict[str, Any]]:
    return until(lambda: found(curl, reader, query), what=query)


def test_a_node_writes_in_its_own_name(curl: Callable[..., tuple[int, str]], reader: str) -> None:
    mark = f"mark{time.time_ns()}"
    line = {"_time": time.time_ns(), "_msg": mark, "node": "another", "unit": "x.service"}
    assert written(curl, "/srv/node.pem", line) == 200
    [row] = awaited(curl, reader, mark)
    assert row["node"] == "one"
    assert '{node="one",unit="x.service"}' in row["_stream"]


def test_nobody_else_writes(curl: Callable[..., tuple[int, str]], reader: str) -> None:
    line = {"_time": time.time_ns(), "_msg": "forged", "node": "one", "unit": "x.service"}
    assert written(curl, "/srv/other.pem", line) == 403
    assert curl(INSERT, "--data-binary", json.dumps(line))[0] == 403
    assert curl(INSERT, "--data-binary", json.dumps(line), user=reader)[0] == 403


def test_only_who_knows_the_password_reads(curl: Callable[..., tuple[int, str]], reader: str) -> None:
    query = ("--data-urlencode", "query=*")
    assert curl("/select/logsql/query", *query)[0] == 401
    assert curl("/select/logsql/query", *query, user="rackloom:wrong")[0] == 401
    assert curl("/select/logsql/query", "--cert", "/srv/node.pem", *query)[0] == 401
    assert curl("/select/logsql/query", *query, user=reader)[0] == 200
    assert curl("/internal/force_flush", user=reader)[0] == 404


def test_metrics_are_for_those_who_scrape(
    host: Host, curl: Callable[..., tuple[int, str]], reader: str
) -> None:
    config = host.file("/etc/rackloom/log_store/nginx.conf").content_string
    word = next(line for line in config.splitlines() if "\\Q" in line).split("\\Q")[1].split("\\E")[0]
    code, text = curl("/metrics", "-H", f"Authorization: Basic {word}")
    assert code == 200
    assert "vl_rows_ingested_total" in text
    assert curl("/metrics", "-H", f"Authorization: Basic {word.swapcase()}")[0] == 401
    assert curl("/metrics")[0] == 401


def test_the_page_is_there(curl: Callable[..., tuple[int, str]], reader: str) -> None:
    code, text = curl("/select/vmui/", user=reader)
    assert code == 200
    assert "<html" in text


def test_the_store_itself_is_out_of_reach(host: Host, given: dict[str, Any]) -> None:
    assert host.socket("tcp://127.0.0.1:9429").is_listening
    assert host.run(f"curl -s -m 3 http://{given['rackloom_address']}:9429/logs/health").rc != 0
    assert (
        host.run(
            "curl -s -m 60 -o /dev/null -w '%{http_code}' http://127.0.0.1:9429/logs/select/vmui/"
        ).stdout
        == "401"
    )


def test_no_password_is_on_a_command_line(host: Host, reader: str) -> None:
    assert reader.partition(":")[2] not in host.check_output("ps -eo args")
    for path in ("nginx.conf", "server.key", "password"):
        assert host.file(f"/etc/rackloom/log_store/{path}").mode & 0o007 == 0


def test_a_restart_keeps_everything(host: Host, curl: Callable[..., tuple[int, str]], reader: str) -> None:
    mark = f"kept{time.time_ns()}"
    line = {"_time": time.time_ns(), "_msg": mark, "node": "one", "unit": "y.service"}
    assert written(curl, "/srv/node.pem", line) == 200
    host.check_output("systemctl restart rackloom-log-store.service")
    until(lambda: curl("/health")[0] == 200)
    assert len(awaited(curl, reader, mark)) == 1
