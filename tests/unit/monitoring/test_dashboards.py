"""Every query of every panel is asked of a real Prometheus that scrapes what real exporters said, and has an answer."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from tests.daemons import free_port
from tests.tools import tool

from rackloom.dashboards import DASHBOARDS, Dashboard, Panel, Query, Row, Variable, render
from rackloom.dashboards.__main__ import FOLDER, stale
from rackloom.dashboards.ask import questions
from rackloom.dashboards.grafana import SOURCE
from rackloom.docs_gen.tree import ROOT
from rackloom.report.metrics import Source, collect

from .replay import later, replay
from .slurm_metrics import collected

DATA = ROOT / "tests" / "data" / "metrics"
RECORDED = ROOT / "roles" / "prometheus" / "files" / "rules" / "recorded.yml"
# Node -> job -> files; as the site's targets have it. Slurm's labels win over the target's.
TARGETS = {
    "mgmt01": {
        "node": ["node", "composed", "hardware", "etcd", "haproxy", "elasticsearch"],
        "process": ["process"],
        "blackbox": ["blackbox"],
        "ping": ["blackbox"],
        "slurm": ["slurm"],
        "mysqld": ["mysqld"],
        "apiserver": ["apiserver"],
        "kubelet": ["kubelet"],
        "cadvisor": ["cadvisor"],
        "kube_state": ["kube_state"],
        "alertmanager": ["alertmanager"],
    },
    "gpu01": {"node": ["node", "composed"], "process": ["process"], "dcgm": ["dcgm"], "ping": ["blackbox"]},
    "cpu01": {"node": ["node"], "ping": ["blackbox"]},
}
every_query = pytest.mark.parametrize(
    ("dashboard", "panel", "query"),
    [
        pytest.param(dashboard, panel, query, id=f"{dashboard.uid}: {panel.title} {number}")
        for dashboard in DASHBOARDS
        for panel in dashboard.panels()
        for number, query in enumerate(panel.queries, 1)
    ],
)


@dataclass(frozen=True)
class Prometheus:
    address: str
    moment: float = 0
    """What is asked is how things were then: all targets had answered, however busy this machine is by now."""

    def ask(self, path: str, **told: str) -> Any:
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(told)}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)["data"]

    def rows(self, expr: str) -> list[Any]:
        when = {"time": str(self.moment)} if self.moment else {}
        found: list[Any] = self.ask("query", query=expr, **when)["result"]
        return found

    def values(self, variable: Variable) -> list[str]:
        metric = re.sub(r"\$\w+", ".*", variable.metric)  # another variable, with everything chosen
        rows = self.rows(f"group by ({variable.label}) ({metric})")
        return sorted(row["metric"].get(variable.label, "") for row in rows)


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    program = tool("prometheus", "prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    port = free_port()
    pages = {path.stem: path.read_text() for path in DATA.glob("*.prom")} | {"slurm": collected()}
    jobs: dict[str, list[tuple[str, str]]] = {}
    served: dict[str, str] = {}
    for node, has in TARGETS.items():
        for job, files in has.items():
            served[f"{node}/{job}"] = "".join(pages[name] for name in files)
            jobs.setdefault(job, []).append((node, f"{node}/{job}"))
    with replay(served) as exporter:
        config: dict[str, Any] = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml", str(RECORDED)],
            "scrape_configs": [
                {
                    "job_name": job,
                    "honor_labels": job in ("slurm", "kube_state"),
                    "static_configs": [
                        {
                            "targets": [exporter],
                            "labels": {
                                "__metrics_path__": f"/{path}",
                                "node": node,
                                "role": "management" if node == "mgmt01" else "compute",
                                **({"service": "boot-http"} if job == "blackbox" else {}),
                                "instance": path,
                            },
                        }
                        for node, path in targets
                    ],
                }
                for job, targets in jobs.items()
            ],
        }
        own = {"targets": [f"127.0.0.1:{port}"], "labels": {"node": "mgmt01", "role": "management"}}
        config["scrape_configs"].append({"job_name": "prometheus", "static_configs": [own]})
        rule = {"alert": "Always", "expr": "vector(1)", "labels": {"severity": "warning"}}
        (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "test", "rules": [rule]}]}))
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        argv = [str(program), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [*argv, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
            )
            try:
                count = sum(len(targets) for targets in jobs.values()) + 1
                yield settled(f"127.0.0.1:{port}", count, folder / "log")
            finally:
                process.terminate()
                process.wait(20)


def settled(address: str, targets: int, log: Path) -> Prometheus:
    """A moment at which each target had been asked often enough for rates, and answered."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        then = Prometheus(address, round(time.time(), 3))
        try:
            good = then.rows("count_over_time(up[30s]) >= 5 and min_over_time(up[5s]) == 1")
            if len(good) == targets and then.rows("ALERTS") and then.rows("node_mode:cpu:ratio_rate5m"):
                return then
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"not all targets were asked:\n{log.read_text()[-3000:]}")


def filled(expr: str, dashboard: Dashboard, prometheus: Prometheus) -> list[str]:
    """The query as Grafana sends it: once for many values, or once for each of the values to choose from."""
    expr = expr.replace("$__rate_interval", "30s").replace("$__range", "1m")
    found = [expr]
    for variable in dashboard.variables:
        values = [".*"] if variable.many else prometheus.values(variable)
        found = [re.sub(rf"\${variable.name}\b", value, text) for text in found for value in values]
    return list(dict.fromkeys(found))


@every_query
def test_query_shows_something_and_the_legend_says_what(
    prometheus: Prometheus, dashboard: Dashboard, panel: Panel, query: Query
) -> None:
    asked = filled(query.expr, dashboard, prometheus)
    rows = [row for expr in asked for row in prometheus.rows(expr)]
    assert rows, asked[0]
    wanted = set(re.findall(r"{{(\w+)}}", query.legend))
    assert not [name for name in sorted(wanted) if not any(name in row["metric"] for row in rows)]


@pytest.mark.parametrize(
    ("dashboard", "variable"),
    [
        pytest.param(dashboard, variable, id=f"{dashboard.uid}: {variable.name}")
        for dashboard in DASHBOARDS
        for variable in dashboard.variables
    ],
)
def test_there_is_something_to_choose_from(
    prometheus: Prometheus, dashboard: Dashboard, variable: Variable
) -> None:
    assert any(prometheus.values(variable))


def test_what_a_living_cluster_is_asked_has_an_answer(prometheus: Prometheus) -> None:
    jobs = {row["metric"]["job"] for row in prometheus.rows("group by (job) (up)")}
    asked = list(questions(jobs | {"etcd", "haproxy", "volume", "mirror", "backup", "gpus"}))
    assert asked
    silent = [question for question in asked if not prometheus.rows(question.expr) and not question.quiet]
    assert not silent


def test_a_query_that_prometheus_refuses_is_noticed(prometheus: Prometheus) -> None:
    with pytest.raises(urllib.error.HTTPError):
        prometheus.rows("rate(up)")
    assert prometheus.rows("no_such_metric") == []


def test_no_metric_of_a_dashboard_is_made_up(slurm_program: ModuleType) -> None:
    """Slurm's are in the collector's own list, ours in our programs; others are recorded, or said to be composed."""
    asked = " ".join(
        query.expr for dashboard in DASHBOARDS for panel in dashboard.panels() for query in panel.queries
    )
    assert set(re.findall(r"\bslurm_\w+", asked)) <= set(slurm_program.METRICS)
    programs = " ".join(path.read_text() for path in (ROOT / "roles").glob("*/files/*.py"))
    ours = set(re.findall(r"\brackloom_\w+", programs))
    # The health check puts these together from their last word.
    ours |= {f"rackloom_gpu_{word}" for word in re.findall(r'"(\w+)"', programs)}
    assert set(re.findall(r"\brackloom_\w+", asked)) <= ours


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_dashboard_has_no_mistakes(dashboard: Dashboard) -> None:
    assert dashboard.mistakes() == []


def test_the_committed_files_are_fresh() -> None:
    assert stale(FOLDER) == []


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_grafana_gets_what_it_needs(dashboard: Dashboard) -> None:
    made = json.loads(render(dashboard))
    assert (made["uid"], made["title"]) == (dashboard.uid, dashboard.title)
    ids = [panel["id"] for panel in made["panels"]]
    assert len(set(ids)) == len(ids)
    panels = [panel for panel in made["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in panels] == [panel.title for panel in dashboard.panels()]
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {SOURCE["uid"]}
    spots = [
        (panel["gridPos"]["x"] + across, panel["gridPos"]["y"] + down)
        for panel in made["panels"]
        for across in range(panel["gridPos"]["w"])
        for down in range(panel["gridPos"]["h"])
    ]
    assert len(set(spots)) == len(spots), "panels lie on each other"


def test_uids_and_titles_are_each_used_once() -> None:
    for names in ([board.uid for board in DASHBOARDS], [board.title for board in DASHBOARDS]):
        assert len(set(names)) == len(names)


def test_mistakes_are_told() -> None:
    wrong = Dashboard(
        "x", "X", (Row("r", (Panel("p", (Query("up{node=~'$node'}"),), width=30), Panel("p", ()))),)
    )
    text = "\n".join(wrong.mistakes())
    for said in ("two panels are called p", "$node is no variable", "30 columns", "no query"):
        assert said in text


def test_files_that_are_not_fresh_are_named(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "boards")
    name = f"{DASHBOARDS[0].uid}.json"
    (tmp_path / "boards" / name).write_text("{}")
    (tmp_path / "boards" / "old.json").write_text("{}")
    assert stale(tmp_path / "boards") == ["old.json", name]


def test_replayed_counters_go_on_and_gauges_stay() -> None:
    text = '# TYPE a counter\na 100\n# TYPE g gauge\ng 5\n# TYPE h histogram\nh_bucket{le="1"} 10\nh_sum 2\n'
    assert later(text, 10).splitlines()[1::2] == ["a 110", "g 5", 'h_bucket{le="1"} 11']


def test_the_reports_plots_are_had_from_it(prometheus: Prometheus) -> None:
    place = Source(f"http://{prometheus.address}")
    plots = {plot.title: plot for plot in collect([place], hours=30 / 3600, now=prometheus.moment)}
    assert {"CPU", "Memory", "GPUs", "Network", "Jobs", "Longest wait"} <= set(plots)
    assert [line.name for line in plots["CPU"].lines] != []
    assert all(line.points for plot in plots.values() for line in plot.lines)
