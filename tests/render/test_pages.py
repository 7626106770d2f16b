"""What people see: the first page, the logs and a run's report in a real browser, and that nothing outside is asked.

Pictures of all of them are left in .cache/test/screenshots.
"""

from __future__ import annotations

import base64
import copy
import json
import math
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.browser import Browser, BrowserError, Page, browsing
from tests.daemons import free_port, program, running
from tests.render.doors import authority, certify, front_door, rendered, served

from rackloom.report.data import MOST_HOSTS
from rackloom.report.metrics import Line, Plot
from rackloom.report.page import write_page
from rackloom.site import load_site
from rackloom.site.inventory import build

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "data" / "report"
PASSWORD = "made up for people"
STORE = "made up for the store"
CLUSTER = """
name: aurora
domain: aurora.example
networks: {cluster: {cidr: 10.10.0.0/16}}
web: {description: The GPU cluster of the institute}
monitoring: {}
logging: {}
services:
  prometheus: [mgmt01, mgmt02]
  grafana: [mgmt03]
  kube_control_plane: management
  kube_node: ["pod[01-04]"]
kubernetes: {endpoint: {address: 10.10.0.100}}
slurm:
  partitions:
    - {name: batch, nodes: ["cn[001-120]"], default: true}
    - {name: gpu, nodes: ["profile:a100", "profile:h100"]}
"""
NODES = """
profiles:
  cpu: {cores: 64, memory: 512000}
  a100: {cores: 64, memory: 1024000, gpus: [{type: a100, count: 4}]}
  h100: {cores: 96, memory: 2048000, gpus: [{type: h100, count: 8}]}
management: [{name: "mgmt[01-03]", address: 10.10.0.1}]
login: [{name: "login[01-02]", address: 10.10.0.11}]
compute:
  - {name: "cn[001-120]", address: 10.10.1.1, profile: cpu}
  - {name: "gpu[001-032]", address: 10.10.2.1, profile: a100}
  - {name: "hgx[01-08]", address: 10.10.3.1, profile: h100}
  - {name: "pod[01-04]", address: 10.10.4.1, profile: cpu}
"""
CURVES = """
[...document.querySelectorAll('figure')].map(figure => [...figure.querySelectorAll('path.curve')].map(path => {
  const box = path.getBBox(), frame = path.ownerSVGElement.viewBox.baseVal;
  return { name: path.textContent, left: box.x, right: box.x + box.width, top: box.y, foot: box.y + box.height,
    frame: [frame.width, frame.height], pieces: path.getAttribute('d').split('M').length - 1 };
}))
"""


@dataclass
class Door:
    """Where the pages are, and what the role was told of the site."""

    url: str
    given: dict[str, Any]
    store: str
    """The log store behind it, where lines are put."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser")) as it:
        yield it


@pytest.fixture
def page(browser: Browser) -> Page:
    return browser.page()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the site makes of the role's inputs."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "tests" / "unit" / "site" / "good" / "versions.yml", folder)
    (folder / "cluster.yml").write_text(CLUSTER)
    (folder / "nodes.yml").write_text(NODES)
    found: dict[str, Any] = build(load_site(folder)).vars["web_proxy"]
    return {name: value for name, value in found.items() if name.startswith("front_door_")}


@pytest.fixture(scope="module")
def door(given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The door of the site; the real log store is behind it, with its own door, and nothing else answers."""
    store = program("victoria-logs", "victoria-logs")
    if not store:
        pytest.skip("victoria-logs was not built on this machine")
    key = authority()
    home, room, inside = (tmp_path_factory.mktemp(name) for name in ("door", "logs", "store"))
    outer, middle, inner = free_port(), free_port(), free_port()
    certify(home, key, "front door")
    certify(room, key, "log store", "mgmt01")
    told = {
        "log_store_address": "127.0.0.1",
        "log_store_port": middle,
        "log_store_local_port": inner,
        "log_store_path": str(inside / "data"),
        "log_store_min_free_mb": 1,
        "log_store_password": STORE,
        "log_store_scrape_password": "another",
        "__log_store_os": {"http_user": "root"},
        "__log_store_account": "root",
        "__log_store_upstream": "log_store",
    }
    (room / "password").write_text(STORE)
    unit = rendered(room, "log_store", "log-store.service.j2", told).read_text().replace("\\\n", " ")
    [start] = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    argv = [store, *shlex.split(start)[1:]]
    pages = copy.deepcopy(given["front_door_pages"])
    for each in pages:
        place = f"127.0.0.1:{middle}" if each["name"] == "logs" else "127.0.0.1:1"
        each["backends"] = [{"address": place, "name": "mgmt01"}]
    inputs = {
        **given,
        "front_door_port": outer,
        "front_door_http_port": 0,
        "front_door_pages": pages,
        "front_door_passwords": {"logs": STORE},
        "__front_door_runbooks": ["one"],
    }
    hashed = subprocess.run(["openssl", "passwd", "-6", PASSWORD], check=True, capture_output=True, text=True)
    (home / "users").write_text(f"admin:{hashed.stdout}")
    shutil.copytree(ROOT / "docs" / "runbooks", home / "www" / "runbooks")
    shutil.copy(front_door(home, "index.html.j2", **inputs), home / "www" / "index.html")
    local = f"http://127.0.0.1:{inner}/logs"

    def well() -> bool:
        try:
            with urllib.request.urlopen(f"{local}/health", timeout=5) as answer:  # noqa: S310 - our own
                return bool(answer.read() == b"OK")
        except OSError:
            return False

    with (
        running(argv, inside / "log", well),
        served(rendered(room, "log_store", "nginx.conf.j2", told), middle, "/logs/health"),
        served(front_door(home, **inputs), outer, "/healthy"),
    ):
        yield Door(f"https://127.0.0.1:{outer}", given, local)


def enter(page: Page, door: Door, path: str = "/") -> None:
    page.open(door.url + path, "admin", PASSWORD)


# ------------------------------------------------------------ the first page


def test_nobody_sees_the_first_page_without_a_name(page: Page, door: Door) -> None:
    page.open(door.url + "/")
    assert door.given["front_door_cluster"]["name"] not in page.text
    assert page.answered[door.url + "/"] == 401


def test_the_first_page_names_everything_and_leads_there(page: Page, door: Door) -> None:
    enter(page, door)
    cluster = door.given["front_door_cluster"]
    words = page.text
    for said in (cluster["name"], cluster["description"], *(fact["value"] for fact in cluster["facts"])):
        assert said in words
    rows = page.run(
        "[...document.querySelectorAll('tr')].map(row => [...row.children].map(cell => cell.innerText))"
    )
    assert rows == [[service["title"], " ".join(service["hosts"])] for service in cluster["services"]]
    assert len(rows) > 10
    links = dict(
        page.run("[...document.links].map(link => [link.querySelector('strong').innerText, link.pathname])")
    )
    assert links == {
        "Dashboards": "/grafana/",
        "Metrics": "/prometheus/graph",
        "Alerts": "/alertmanager/",
        "Logs": "/logs/select/vmui/",
        "Runbooks": "/runbooks/",
    }
    assert page.complaints == []
    assert set(page.asked) == {door.url + "/"} | {url for url in page.asked if url.startswith("data:")}


@pytest.mark.parametrize(
    ("name", "width", "dark"), [("", 1280, False), ("-dark", 1280, True), ("-phone", 390, False)]
)
def test_the_first_page_can_be_read(page: Page, door: Door, name: str, width: int, dark: bool) -> None:
    enter(page, door)
    assert page.trouble(f"first-page{name}", width, dark=dark) == []


def test_a_runbook_is_a_click_away(page: Page, door: Door) -> None:
    enter(page, door)
    page.run("[...document.links].find(link => link.pathname === '/runbooks/').click()")
    page.until("document.body.innerText.includes('node-down.md')")
    page.run("[...document.links].find(link => link.innerText === 'node-down.md').click()")
    page.until("document.body.innerText.includes('What to do')")
    assert "NodeDown" in page.text
    assert page.outside == page.complaints == []


# ------------------------------------------------------------ the logs


def tell(door: Door, path: str, body: bytes, kind: str) -> str:
    login = base64.b64encode(f"rackloom:{STORE}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": kind}
    request = urllib.request.Request(door.store + path, body, headers)  # noqa: S310 - our own
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return str(answer.read().decode())


def put(door: Door, rows: list[dict[str, Any]]) -> None:
    """Lines into the store; they can be found a moment later."""
    tell(
        door,
        "/insert/jsonline?_stream_fields=node,unit",
        "\n".join(map(json.dumps, rows)).encode(),
        "application/json",
    )
    end = time.monotonic() + 90
    form = "application/x-www-form-urlencoded"
    while f'"{len(rows)}"' not in tell(door, "/select/logsql/query", b"query=* | count() n", form):
        assert time.monotonic() < end
        time.sleep(0.1)


def found(page: Page, ask: Callable[[], object], *shown: str) -> None:
    """Ask as somebody does who looks and asks again: the page does so once, and may be busy with itself just then."""
    end = time.monotonic() + 90
    while True:
        try:
            ask()
            for text in shown:
                page.until(
                    f"document.querySelector('canvas') && document.body.innerText.includes('{text}')", 10
                )
        except BrowserError:
            if time.monotonic() > end:
                raise
        else:
            return


def search(page: Page, words: str, *shown: str) -> None:
    """Write them where the query stands, and wait for what is found."""

    def ask() -> None:
        page.run("document.querySelector('textarea').focus(); document.querySelector('textarea').select()")
        page.type(words)
        page.press_enter()

    found(page, ask, *shown)


def test_lines_are_found_in_the_logs_page(page: Page, door: Door) -> None:
    now = time.time_ns()
    units = {
        "slurmd.service": "launched job",
        "sshd.service": "session opened for user",
        "kernel": "link is up after",
    }
    put(
        door,
        [
            {
                "_time": now - number * 10**9,
                "_msg": f"{units[unit]} {4700 + number}",
                "node": f"gpu{number % 4 + 1:03}",
                "unit": unit,
                "level": "info",
            }
            for number in range(60)
            for unit in units
        ]
        + [
            {
                "_time": now,
                "_msg": "Xid 79: the GPU has fallen off the bus",
                "node": "gpu003",
                "unit": "kernel",
            }
        ],
    )
    page.size(1280, 900)
    enter(page, door)
    page.run("[...document.links].find(link => link.pathname === '/logs/select/vmui/').click()")
    page.until("location.pathname === '/logs/select/vmui/' && document.querySelector('textarea')")
    # What everybody said, before anything is asked for.
    found(page, lambda: page.run("location.reload()"), "Total hits: 181")
    search(page, "node:gpu003 unit:kernel Xid", "fallen off the bus", "Total hits: 1\\n")
    page.screenshot("logs-one-line")
    assert "session opened" not in page.text
    search(page, "unit:slurmd.service", "launched job 4700", "Total hits: 60")
    page.screenshot("logs-unit")
    assert "fallen off" not in page.text
    assert page.run("document.querySelectorAll('canvas').length") > 0
    assert page.outside == []
    # Browsers ask for this one without the password that they have, and do without it.
    assert [text for text in page.complaints if "manifest.json" not in text] == []


# ------------------------------------------------------------ the report


def laid_out(folder: Path, **changed: Any) -> Path:
    """A run's folder: the recorded one, with some of its files in another form."""
    run = folder / "aurora" / ".runs" / "20260102-030405-deploy"
    run.mkdir(parents=True)
    for path in RECORDED.glob("*.json"):
        data = changed.get(path.stem, json.loads(path.read_text()))
        (run / path.name).write_text(json.dumps(data))
    return run


def reported(run: Path) -> str:
    """Where the page is that `rackloom report` makes of it."""
    file = run.parent / "page.html"
    argv = [sys.executable, "-m", "rackloom.cli.main", "report", str(run), "--output", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return file.as_uri()


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return found


def test_the_plots_of_a_report_show_what_was_recorded(page: Page, tmp_path: Path) -> None:
    page.open(reported(laid_out(tmp_path)))
    timeline, site = recorded("timeline"), recorded("site")
    assert page.run("[...document.querySelectorAll('svg')].map(svg => svg.getAttribute('aria-label'))") == [
        "Stages over time",
        "Longest tasks",
        "Each host's time",
    ]
    # Every stage has a mark that begins where it began and is as long as it took.
    marks = page.run(
        "[...document.querySelectorAll('svg[aria-label^=Stages] rect.stage')].map(rect => "
        "{ const box = rect.getBoundingClientRect(); return [box.left, box.width]; })"
    )
    assert len(marks) == len(timeline["stages"])
    first, last = timeline["stages"][0], timeline["stages"][-1]
    scale = (marks[-1][0] - marks[0][0]) / (last["start"] - first["start"])
    for (_, width), stage in zip(marks, timeline["stages"], strict=True):
        assert width == pytest.approx(scale * (stage["end"] - stage["start"]), abs=4)
    # Every host has a line, with marks in it that tell their task.
    hosts = page.run(
        "[...document.querySelectorAll('svg[aria-label^=Each] text.label')].map(text => text.textContent)"
    )
    assert hosts == list(site["nodes"])
    titles = page.run(
        "[...document.querySelectorAll('svg[aria-label^=Each] rect title')].map(t => t.textContent)"
    )
    for host in hosts:
        assert any(title.startswith(f"{host}: ") for title in titles)
    # Bars of tasks: the first is the longest.
    bars = page.run(
        "[...document.querySelectorAll('svg[aria-label^=Longest] rect')].map(r => r.getBoundingClientRect().width)"
    )
    assert bars == sorted(bars, reverse=True)
    assert bars[0] > 100
    assert page.asked == [page.run("location.href")]
    assert page.complaints == []


@pytest.mark.parametrize(("name", "dark"), [("", False), ("-dark", True)])
def test_a_report_can_be_read(page: Page, tmp_path: Path, name: str, dark: bool) -> None:
    page.open(reported(laid_out(tmp_path)))
    assert page.trouble(f"report{name}", dark=dark) == []


def measured(hours: float = 6) -> list[Plot]:
    """Six pictures as a cluster has them: smooth and jagged, one with a gap, one with as many lines as there may be."""
    end = 1_795_300_000.0
    start, step = end - hours * 3600, hours * 15
    when = [start + step * number for number in range(241)]

    def line(name: str, height: float, swing: float, without: range = range(0)) -> Line:
        points = [
            (at, height + swing * math.sin(number / 19))
            for number, at in enumerate(when)
            if number not in without
        ]
        return Line(name, tuple(points))

    def plot(title: str, unit: str, *lines: Line) -> Plot:
        return Plot(title, unit, start, end, step, lines)

    return [
        plot("CPU", "percent", line("all", 55, 20), line("busiest node", 90, 9)),
        plot("Memory", "percent", line("all", 35, 2), line("fullest node", 71, 4)),
        plot("GPUs", "percent", line("use", 60, 30), line("allocated", 93, 5, range(100, 140))),
        plot("Network", "Bps", line("in", 3.1e9, 2.9e9), line("out", 2.2e9, 1e9)),
        plot("Longest wait", "s", line("batch", 5000, 2500), line("gpu", 16000, 900)),
        plot(
            "GPUs by account", "short", *(line(f"account{number}", 12 + 9 * number, 4) for number in range(8))
        ),
    ]


def test_the_clusters_plots_show_what_was_measured(page: Page, tmp_path: Path) -> None:
    plots = measured()
    page.open(write_page(laid_out(tmp_path), tmp_path / "page.html", plots).as_uri())
    titles = page.run(
        "[...document.querySelectorAll('figure')].map(f => f.querySelector('figcaption').innerText)"
    )
    assert titles == [plot.title for plot in plots]
    drawn = page.run(CURVES)
    for plot, lines in zip(plots, drawn, strict=True):
        assert [one["name"] for one in lines] == [f"{plot.title}: {line.name}" for line in plot.lines]
        for one in lines:
            wide, high = one["frame"]
            assert 0 < one["left"] < one["right"] <= wide
            assert 0 < one["top"] < one["foot"] < high
    # What is higher is drawn higher, and where nothing was measured there is no line.
    cpu, gpus = drawn[0], drawn[2]
    assert cpu[1]["foot"] < cpu[0]["foot"]
    assert [one["pieces"] for one in gpus] == [1, 2]
    assert page.trouble("report-cluster") == []
    assert page.outside == page.complaints == []


def many(timeline: dict[str, Any], site: dict[str, Any], summary: dict[str, Any], more: int) -> None:
    """The recorded run, had it had so many more compute nodes; one of them failed."""
    nodes = [f"cn{number:04}" for number in range(1, more + 1)]
    rows = [row for row in timeline["rows"] if row[1] == "gpu01"]
    for number, node in enumerate(nodes):
        later = number % 40 * 0.02
        timeline["rows"] += [
            [task, node, start + later, end + later, how] for task, _, start, end, how in rows
        ]
        site["nodes"][node] = {
            "role": "compute",
            "address": f"10.1.{number // 250}.{number % 250 + 1}",
            "profile": "cpu",
        }
        summary["hosts"][node] = dict(summary["hosts"]["gpu01"])
    site["groups"]["compute"] += nodes
    timeline["rows"][-1][4] = "failed"
    summary["hosts"][nodes[-1]]["failed"] = 1
    summary["exit_code"] = 1
    message = "the package munge could not be installed: no space left on device"
    cure = "make room in /var, then run the same again"
    summary["errors"] = [{"code": "task_failed", "host": nodes[-1], "message": message, "cure": cure}]
    summary["resume"] = f"rackloom deploy slurm --limit {nodes[-1]}"


def test_a_report_of_many_nodes_can_be_read(page: Page, tmp_path: Path) -> None:
    timeline, site, summary = (recorded(name) for name in ("timeline", "site", "summary"))
    many(timeline, site, summary, 500)
    page.open(reported(laid_out(tmp_path, timeline=timeline, site=site, summary=summary)))
    assert page.trouble("report-many") == []
    hosts = page.run(
        "[...document.querySelectorAll('svg[aria-label^=Each] text.tight')].map(text => text.textContent)"
    )
    assert len(hosts) == MOST_HOSTS
    assert "cn0500" in hosts
    assert page.run("document.querySelectorAll('svg[aria-label^=Each] rect.failed').length") == 1
    assert "make room in /var" in page.text


# ------------------------------------------------------------ the other way round


def test_what_cannot_be_read_is_noticed(page: Page, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text(
        "<!doctype html><body style='background:#fff'><p style='color:#bbb'>pale words</p>"
        "<p style='font-size:7px'>tiny</p>"
        "<p style='position:absolute;top:200px;left:9px;margin:0'>first</p>"
        "<p style='position:absolute;top:204px;left:9px;margin:0'>second</p>"
        "<svg viewBox='0 0 100 20' width='100' height='20' style='position:absolute;top:300px;overflow:visible'>"
        "<text x='80' y='15'>runs out</text></svg>"
    )
    page.open((tmp_path / "bad.html").as_uri())
    found = " / ".join(page.trouble("what-is-noticed"))
    for said in ("pale: pale words", "small: tiny", "on each other: first (second)", "cut off: runs out"):
        assert said in found


def test_what_asks_others_or_fails_is_noticed(page: Page, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text(
        "<!doctype html><img src='https://cdn.example/x.png'><script>console.error('ouch'); nothing.at.all</script>"
    )
    page.open((tmp_path / "bad.html").as_uri())
    page.until("document.images[0].complete")
    assert page.outside == ["https://cdn.example/x.png"]
    assert any("ouch" in text for text in page.complaints)
    assert any("nothing is not defined" in text for text in page.complaints)
    with pytest.raises(BrowserError, match="not within"):
        page.until("false", 0.1)
