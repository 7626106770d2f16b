"""The report asks the site's Prometheus, over TLS and with its password, and draws what it is told."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rackloom.cli.main import run as main
from rackloom.report.metrics import Line, NoMetricsError, Plot, Source, collect
from rackloom.report.plots import amount, curves, heights
from rackloom.result import ExitCode
from rackloom.site.authority import issue, make_authority, make_key

PASSWORD = "made up"
NOW = 1_800_000_000.0


class Told(BaseHTTPRequestHandler):
    """Answers as Prometheus does: one line for each question, five for the longest wait."""

    asked: list[dict[str, str]] = []  # noqa: RUF012 - of the test that runs

    def do_POST(self) -> None:
        words = self.rfile.read(int(self.headers["Content-Length"])).decode()
        known = (
            self.headers["Authorization"]
            == "Basic " + base64.b64encode(f"rackloom:{PASSWORD}".encode()).decode()
        )
        told = {name: values[0] for name, values in urllib.parse.parse_qs(words).items()}
        Told.asked.append({"path": self.path, **told})
        count = 12 if "partition" in told["query"] else 1
        values = [[float(told["start"]), "1"], [float(told["start"]) + 60, "NaN"], [float(told["end"]), "3"]]
        rows = [
            {"metric": {"partition": f"p{number}"}, "values": [[when, value] for when, value in values[:-1]]
             + [[values[-1][0], str(number)]]} for number in range(count)
        ]  # fmt: skip
        body = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": rows}}).encode()
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path, key: str, authority: str) -> Iterator[str]:
    made = issue(key, authority, "prometheus", ["127.0.0.1"])
    (folder / "pem").write_text(made.key + made.certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Told)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}/prometheus"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Source]:
    key = make_key()
    authority = make_authority(key)
    Told.asked = []
    with served(tmp_path, key, authority) as url:
        yield Source(url, "rackloom", PASSWORD, authority)


def test_the_second_is_asked_where_the_first_is_silent(place: Source) -> None:
    plots = collect([Source("https://127.0.0.1:1"), place], 6, NOW)
    assert {plot.title for plot in plots} >= {"CPU", "Memory", "GPUs", "Network", "Jobs"}
    for asked in Told.asked:
        assert asked["path"] == "/prometheus/api/v1/query_range"
        assert float(asked["end"]) - float(asked["start"]) == 6 * 3600
        assert "$" not in asked["query"]


def test_lines_have_the_names_of_what_they_show_and_there_are_not_too_many(place: Source) -> None:
    [wait] = [plot for plot in collect([place], 6, NOW) if plot.title == "Longest wait"]
    assert [line.name for line in wait.lines] == [f"p{number}" for number in range(11, 3, -1)]
    assert len(wait.lines[0].points) == 2, "what is no number is left out"


def test_nobody_is_asked_who_cannot_be_trusted(place: Source) -> None:
    with pytest.raises(NoMetricsError, match="CERTIFICATE_VERIFY_FAILED"):
        collect([Source(place.url, "rackloom", PASSWORD, make_authority(make_key()))])
    assert Told.asked == []
    with pytest.raises(NoMetricsError, match="Unauthorized"):
        collect([Source(place.url, "rackloom", "wrong", place.authority)])
    assert PASSWORD not in repr(place)


def test_a_site_without_a_prometheus_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / ".runs" / "20260101-000000-deploy"
    run.mkdir(parents=True)
    (run / "summary.json").write_text("{}")
    (tmp_path / "cluster.yml").write_text(
        "name: d\ndomain: d.example\nnetworks: {cluster: {cidr: 10.0.0.0/16}}\n"
    )
    (tmp_path / "nodes.yml").write_text(
        "management: [{name: m1, address: 10.0.0.1}]\nlogin: [{name: l1, address: 10.0.0.2}]\n"
        "profiles: {p: {cores: 1, memory: 1000}}\ncompute: [{name: c1, address: 10.0.0.3, profile: p}]\n"
    )
    assert main(["report", "--metrics", "--config", str(tmp_path), "--json"]) == ExitCode.MISTAKES
    assert "no Prometheus" in capsys.readouterr().out
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [(35.25, "percent", "35.2 %"), (1.2e9, "Bps", "1.2 GB/s"), (300, "s", "5 min"), (9000, "s", "2.5 h"),
     (1500, "watt", "1.5 kW"), (0, "short", "0"), (12, "short", "12")],
)  # fmt: skip
def test_amounts_are_short(value: float, unit: str, said: str) -> None:
    assert amount(value, unit) == said


@pytest.mark.parametrize("most", [0, 1e-3, 0.9, 1, 3.3, 41, 99, 1e4, 7.7e11])
def test_the_scale_holds_everything_in_round_steps(most: float) -> None:
    levels = heights(most, "short")
    assert levels[0] == 0
    assert levels[-1] >= most * 0.999
    assert len(levels) == 5
    assert f"{levels[1]:e}"[:3] in ("1.0", "2.0", "2.5", "5.0")


def test_names_out_of_metrics_are_escaped() -> None:
    line = Line("<b>", ((NOW, 1.0), (NOW + 60, 2.0)))
    assert "<b>" not in curves(Plot("a & b", "short", NOW, NOW + 60, 30, (line,)))
