"""What exporters are given is taken by the real ones, and they tell what is asked of them."""

from __future__ import annotations

import base64
import http.server
import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.daemons import free_port, running
from tests.tools import tool

from rackloom.dashboards import DASHBOARDS
from rackloom.site.authority import issue, make_authority, make_key
from rackloom.site.monitoring_vars import JOBS

from .test_alerts import ALERTS
from .test_monitoring import await_that, render

ROOT = Path(__file__).parents[2]
RULES = ROOT / "roles" / "prometheus" / "files" / "rules"
GIVEN = {"node_exporter_address": "192.0.2.1", "node_exporter_name": "cn001"}
PASSWORD = "made-up-word"
WORD = re.compile(r"[A-Za-z_:][\w:]*")


@contextmanager
def called(name: str, folder: Path) -> Iterator[int]:
    """A program of this name, which does nothing; its process."""
    path = folder / name
    shutil.copy(shutil.which("sleep") or "/bin/sleep", path)
    with subprocess.Popen([str(path), "600"]) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def answers(ask: Callable[[], str]) -> bool:
    """Whether an exporter is there to be asked."""
    try:
        return bool(ask())
    except OSError:
        return False


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Any]:
    """The real one, with the role's configuration and the web configuration of all exporters; asks it."""
    bcrypt = pytest.importorskip("bcrypt", reason="bcrypt is not in this environment")
    program = tool("prometheus-process-exporter", "prometheus-process-exporter")
    key = make_key()
    authority = make_authority(key)
    made = issue(key, authority, "exporter cn001", ["127.0.0.1"])
    for name, text in {"exporter.crt": made.certificate, "exporter.key": made.key}.items():
        (tmp_path / name).write_text(text)
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    web = render("node_exporter", "exporter.yml.j2", {**GIVEN, "node_exporter_password_hash": hashed})
    (tmp_path / "exporter.yml").write_text(web.replace("/etc/rackloom", str(tmp_path)))
    (tmp_path / "processes.yml").write_text(render("node_exporter", "processes.yml.j2", GIVEN))
    port = free_port()
    context = ssl.create_default_context(cadata=authority)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )

    def ask(password: str = PASSWORD) -> str:
        request = urllib.request.Request(f"https://127.0.0.1:{port}/metrics")
        word = base64.b64encode(f"prometheus:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {word}")
        with opener.open(request, timeout=20) as answer:
            return str(answer.read().decode())

    argv = [str(program), f"-web.listen-address=127.0.0.1:{port}", "-threads=false", "-gather-smaps=false"]
    argv += [f"-config.path={tmp_path}/processes.yml", f"-web.config.file={tmp_path}/exporter.yml"]
    with running(argv, tmp_path / "log", lambda: answers(ask)):
        yield ask


def values(text: str, name: str) -> dict[str, float]:
    """Group -> value of a metric."""
    found = re.findall(rf'^{name}{{groupname="([^"]+)"}} (\S+)$', text, re.MULTILINE)
    return {group: float(value) for group, value in found}


def test_programs_are_told_apart(exporter: Any, tmp_path: Path) -> None:
    """Also those whose name is longer than the kernel keeps."""
    wanted = {"slurmctld": "slurmctld", "kube-controller-manager": "kube-controller-manager"}
    wanted |= {"prometheus-alertmanager": "alertmanager"}
    groups = {*yaml.safe_load(defaults())["node_exporter_processes"], "users", "system"}

    def one_more_of_each() -> bool:
        before = values(exporter(), "namedprocess_namegroup_num_procs")
        with ExitStack() as stack:
            for name in wanted:
                stack.enter_context(called(name, tmp_path))
            text = exporter()
        after = values(text, "namedprocess_namegroup_num_procs")
        assert set(after) <= groups
        assert values(text, "namedprocess_namegroup_worst_fd_ratio").keys() >= set(wanted.values())
        return all(after[group] == before.get(group, 0) + 1 for group in wanted.values())

    # Tests beside this one start and end programs of these names too, and all of the machine are counted.
    await_that("one more of each", one_more_of_each)


# ------------------------------------------------------------ Elasticsearch


@pytest.fixture
def elasticsearch(tmp_path: Path) -> Iterator[str]:
    """Something at Elasticsearch's door that tells how it is, over TLS, to the user for it; yields its URL."""
    told = json.loads((ROOT / "tests" / "data" / "elastic" / "state.json").read_text())
    key = make_key()
    authority = make_authority(key)
    made = issue(key, authority, "elasticsearch mgmt01", ["127.0.0.1"])
    (tmp_path / "ca.crt").write_text(authority)
    (tmp_path / "server.crt").write_text(made.certificate)
    (tmp_path / "server.key").write_text(made.key)
    right = base64.b64encode(f"rackloom-monitor:{PASSWORD}".encode()).decode()

    class Door(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("Authorization") == f"Basic {right}"
            body = json.dumps(told.get(self.path.partition("?")[0], {})).encode()
            self.send_response(200 if known else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def told_of_elasticsearch(folder: Path, server: str, password: str) -> str:
    """What the exporter tells, started as its unit says."""
    port = free_port()
    given = {
        "elasticsearch_exporter_server": server,
        "elasticsearch_exporter_password": password,
        "elasticsearch_exporter_ca_file": f"{folder}/ca.crt",
        "elasticsearch_exporter_port": port,
    }
    unit = render("elasticsearch_exporter", "exporter.conf.j2", given).replace("\\\n", " ")
    [command] = re.findall(r"^ExecStart=(\S.*)$", unit, re.MULTILINE)
    environment = render("elasticsearch_exporter", "environment.j2", given)
    # systemd takes these files as a shell would, for what stands in quotes.
    words = dict(word.split("=", 1) for word in shlex.split(environment, comments=True))
    program = tool("prometheus-elasticsearch-exporter", "prometheus-elasticsearch-exporter")
    argv = ["env", *(f"{name}={value}" for name, value in words.items()), str(program)]
    argv += shlex.split(command)[1:]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask() -> str:
        with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            return str(answer.read().decode())

    with running(argv, folder / "log", lambda: answers(ask)):
        return ask()


def test_how_elasticsearch_is_is_told(elasticsearch: str, tmp_path: Path) -> None:
    text = told_of_elasticsearch(tmp_path, elasticsearch, PASSWORD)
    assert 'elasticsearch_cluster_health_status{cluster="demo",color="yellow"} 1' in text
    assert 'elasticsearch_cluster_health_unassigned_shards{cluster="demo"} 4' in text
    told = set(re.findall(r"^(elasticsearch_\w+)", text, re.MULTILINE))
    asked = {word for rule in ALERTS.values() for word in WORD.findall(str(rule["expr"]))}
    assert {word for word in asked if word.startswith("elasticsearch_")} <= told
    rows = re.findall(r'^elasticsearch_jvm_memory_(?:used|max)_bytes\{area="heap".*', text, re.MULTILINE)
    assert len(rows) == 2


def test_an_elasticsearch_that_lets_nobody_in_is_told(elasticsearch: str, tmp_path: Path) -> None:
    text = told_of_elasticsearch(tmp_path, elasticsearch, 'wrong "word" \\ #')
    assert re.search(r"^elasticsearch_cluster_health_up 0$", text, re.MULTILINE)


def defaults() -> str:
    return (ROOT / "roles" / "node_exporter" / "defaults" / "main.yml").read_text()


def test_who_has_no_password_is_told_nothing(exporter: Any) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        exporter("another word")


def test_a_group_of_the_sites_own(tmp_path: Path) -> None:
    own = {"node_exporter_processes": {'it\'s "ours"': ["a-name-that-is-too-long", "b"]}}
    told = yaml.safe_load(render("node_exporter", "processes.yml.j2", {**GIVEN, **own}))
    assert told["process_names"][0] == {"name": 'it\'s "ours"', "comm": ["a-name-that-is-", "b"]}
    assert len(told["process_names"]) == 2


def test_nothing_that_somebody_asks_for_is_dropped() -> None:
    panels = [panel for board in DASHBOARDS for panel in board.panels()]
    texts = [query.expr for panel in panels for query in panel.queries]
    texts += [path.read_text() for path in RULES.glob("*.yml")]
    asked = {word for text in texts for word in WORD.findall(text)}
    dropped = [job.drop for job in JOBS if job.drop]
    assert dropped
    for pattern in dropped:
        assert not [word for word in asked if re.fullmatch(pattern, word)]


def test_the_unit_sees_what_it_reads_and_no_more() -> None:
    """Each file that is named on the command line is among those that it gets to see."""
    unit = render("node_exporter", "process-exporter.conf.j2", GIVEN)
    [seen] = re.findall(r"^BindReadOnlyPaths=(.*)$", unit, re.MULTILINE)
    read = re.findall(r"=(/etc/\S+)", unit)
    assert read
    assert set(read) <= set(seen.split())
    assert not [path for path in seen.split() if os.path.normpath(path) in ("/", "/etc", "/etc/rackloom")]
