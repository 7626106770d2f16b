"""What a Prometheus needs for so many nodes, and how long people wait for their dashboards.

    python -m rackloom.lab.bench_monitoring [--nodes N] [--cores C] [--gpus G] [--seconds S] [--json]

The distribution's Prometheus, with the configuration, targets and rules that a site of that size gets, asks a process
that plays all its nodes: each says, over TLS and from an address of its own, what a real node exporter said on this
machine, with values that go on as they did; GPUs and Slurm are composed. Not a test: it judges nothing.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import resource
import signal
import ssl
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rackloom.lab.programs import BenchError, Watched, free_port, laid_out, load, role_template, said
from rackloom.lab.replayed_nodes import Moving, moving

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "tests" / "data" / "metrics"
ROLE = ROOT / "roles" / "prometheus"
_HOME = "/etc/prometheus/rackloom"
_SHIFT = 20000
"""Played nodes have other ports than real ones, which this machine may be."""
_PLAYED = ("node", "dcgm", "slurm", "ping", "blackbox")
_POINTS = 720
"""Of a plot over six hours, asked twice a minute."""
_BLOCK = 240
"""Values of a series in two hours."""
_DAY = 24 * 3600
_CLUSTER = "rackloom-cluster"
_OTHERS = 15
"""How many queries of other dashboards are told of, the slowest first."""
_CONTAINERS = re.compile(r'="(veth|podman|cni|br-|ifb|lxc)|mountpoint="/[^"]')
"""What a machine has that runs tests: a compute node has neither so many networks nor so many mounts."""
_BUSY = ("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_GPU_TEMP",
         "DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_SM_CLOCK", "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL",
         "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "DCGM_FI_PROF_DRAM_ACTIVE", "DCGM_FI_PROF_PCIE_RX_BYTES",
         "DCGM_FI_PROF_PCIE_TX_BYTES", "probe_duration_seconds", "slurm_node_load")  # fmt: skip
CLUSTER = """
name: bench
domain: bench.example
networks: {cluster: {cidr: 127.20.0.0/16}}
monitoring: {}
gpu: {dcgm: {enabled: true}}
slurm: {partitions: [{name: batch, nodes: all, default: true}]}
"""
_WITHOUT_RECORDING = {
    "CPU": '100 * avg(1 - avg by (node) (rate(node_cpu_seconds_total{mode="idle"}[5m])))',
    "GPUs": "avg(DCGM_FI_DEV_GPU_UTIL)",
    "Network": 'sum(rate(node_network_receive_bytes_total{device!~"lo|veth.*"}[5m]))',
}
"""What three panels would ask if nothing were kept for them."""


@dataclass(frozen=True)
class Asked:
    """One query. seconds: the median; without: the same without what is recorded for it, None where nothing is.

    rows: series of the answer; some alerts and hardware have none here.
    """

    board: str
    panel: str
    kind: str
    expr: str
    seconds: float
    rows: int
    without: float | None = None


@dataclass(frozen=True)
class Figures:
    """What was measured."""

    nodes: int
    cores: int
    gpus: int
    interval: float
    targets: int
    series: int
    samples_a_second: float
    scrape_mean: float
    """Seconds of a node's scrape, from asking to having written it down."""
    scrape_slowest: float
    scrapes_failed: float
    """Share of all scrapes; more than none means that this machine was too busy for the rest to be believed."""
    fetch: float
    """The same page with a bare HTTP client over a connection that is kept, in seconds."""
    processors: float
    """Of this machine's, that Prometheus kept busy."""
    player: float
    """The same for the process that plays the nodes."""
    memory: int
    """Bytes of RAM at the end; peak: the most there were."""
    peak: int
    rules_seconds: float
    """Seconds that one evaluation of all rules takes, and how many were left out."""
    rules_missed: int
    rules: dict[str, float]
    log_bytes: float
    """Bytes of the write-ahead log a value."""
    value_bytes: float
    """Bytes of a value in a block, and of a series in a block's index."""
    index_bytes: float
    asked: tuple[Asked, ...]
    machine: str

    @property
    def samples_a_day(self) -> float:
        """Values in a day at the interval of a site."""
        return self.samples_a_second * _DAY

    @property
    def disk_a_day(self) -> float:
        """Bytes in blocks, which are merged until one holds a day or more."""
        return self.samples_a_day * self.value_bytes + self.series * self.index_bytes

    @property
    def log_size(self) -> float:
        """Bytes of the write-ahead log before it is cut, which is after three hours."""
        return self.samples_a_second * 3 * 3600 * self.log_bytes


# ------------------------------------------------------------ what is played


def node_page(folder: Path, cores: int, seconds: float) -> Moving:
    """What a real node exporter says on this machine, taken twice, for a machine with so many cores."""
    port = free_port()
    program = laid_out("prometheus-node-exporter", "prometheus-node-exporter")
    argv = [program, f"--web.listen-address=127.0.0.1:{port}", f"--collector.textfile.directory={folder}"]
    url = f"http://127.0.0.1:{port}/metrics"
    with Watched(argv, folder / "node-exporter.log", lambda: bool(said(url))):
        first = said(url)
        time.sleep(seconds)
        second = said(url)
    first, second = (
        "".join(line for line in text.splitlines(keepends=True) if not _CONTAINERS.search(line))
        for text in (first, second)
    )
    more = (DATA / "composed.prom").read_text(encoding="utf-8")
    return moving(first + more, second + more, seconds, cores)


def gpu_page(gpus: int) -> Moving:
    """NVIDIA's exporter with so many GPUs."""
    rows = []
    for line in (DATA / "dcgm.prom").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            rows.append(line)
        elif 'gpu="0"' in line:
            rows += [line.replace('gpu="0"', f'gpu="{number}"').replace("nvidia0", f"nvidia{number}")
                     .replace("000000000000", f"{number:012}", 1) for number in range(gpus)]  # fmt: skip
    text = "\n".join(rows) + "\n"
    return moving(text, text, 1, 1, _BUSY)


def slurm_page(names: Sequence[str], cores: int, gpus: int) -> Moving:
    """The collector's metrics of a full cluster: each job has two nodes."""
    rows: dict[str, list[str]] = {}

    def add(metric: str, value: float, **labels: object) -> None:
        told = ",".join(f'{key}="{text}"' for key, text in labels.items())
        rows.setdefault(metric, []).append(f"{metric}{{{told}}} {value}")

    for number, node in enumerate(names):
        job = number // 2 + 1
        who = {"account": f"account{job % 20}", "partition": "batch", "user": f"user{job % 100}"}
        add("slurm_node_state", 1, node=node, state="allocated")
        add("slurm_node_responding", 1, node=node)
        add("slurm_node_cpus", cores, node=node)
        add("slurm_node_cpus_allocated", cores, node=node)
        add("slurm_node_load", cores * 0.9, node=node)
        add("slurm_node_memory_bytes", 5e11, node=node)
        add("slurm_node_memory_allocated_bytes", 4e11, node=node)
        add("slurm_job_node", 1, jobid=job, node=node)
        if gpus:
            add("slurm_node_gpus", gpus, node=node, type="a100")
            add("slurm_node_gpus_allocated", gpus, node=node, type="a100")
        for gpu in range(gpus):
            add("slurm_job_gpu", 1, jobid=job, node=node, gpu=gpu, **who)
        if number % 2 == 0:
            add("slurm_job_info", 1, jobid=job, **who, name="train")
            add("slurm_job_start_timestamp_seconds", 1.795e9 + number, jobid=job)
            add("slurm_job_cpus", 2 * cores, jobid=job)
            add("slurm_job_gpus", 2 * gpus, jobid=job)
    for number in range(100):
        labels = {"account": f"account{number % 20}", "partition": "batch", "user": f"user{number}"}
        add("slurm_job_gpus_allocated", len(names) * gpus // 100, **labels)
        add("slurm_job_cpus_allocated", len(names) * cores // 100, **labels)
    for state in ("pending", "running"):
        add("slurm_partition_jobs", len(names) // 2, partition="batch", state=state)
    add("slurm_up", 1)
    for quantile in ("0.5", "0.9", "1"):
        add("slurm_pending_wait_seconds", 600, partition="batch", quantile=quantile)
    text = "".join(f"# TYPE {name} gauge\n" + "\n".join(mine) + "\n" for name, mine in rows.items())
    return moving(text, text, 1, 1, _BUSY)


def probe_page() -> Moving:
    """The prober's answer."""
    text = (DATA / "blackbox.prom").read_text(encoding="utf-8")
    return moving(text, text, 1, 1, _BUSY)


# ------------------------------------------------------------ what Prometheus gets


def site_vars(folder: Path, nodes: int, cores: int, gpus: int) -> dict[str, Any]:
    """The role's inputs, as a site of that size has them."""
    from rackloom.site import load_site  # noqa: PLC0415 - slow to load
    from rackloom.site.inventory import build  # noqa: PLC0415

    place = folder / "site"
    place.mkdir()
    (place / "cluster.yml").write_text(CLUSTER, encoding="utf-8")
    wanted = f", gpus: [{{type: a100, count: {gpus}}}]" if gpus else ""
    (place / "nodes.yml").write_text(
        f"profiles: {{gpu: {{cores: {cores}, memory: 500000{wanted}}}}}\n"
        "management: [{name: m1, address: 127.20.0.1}]\nlogin: [{name: l1, address: 127.20.0.2}]\n"
        f'compute: [{{name: "c[0001-{nodes:04}]", address: 127.20.1.1, profile: gpu}}]\n',
        encoding="utf-8",
    )
    inventory = build(load_site(place))
    told: dict[str, Any] = dict(inventory.vars["all"])
    for group in inventory.hostvars["m1"]["rackloom_roles"]:
        told |= inventory.vars.get(group, {})
    return told | inventory.hostvars["m1"]


def rendered(folder: Path, told: dict[str, Any], prober: int) -> None:
    """Write the configuration, the targets and the rules of the role into a folder."""
    own = {
        "prometheus_address": "127.20.0.1",
        "prometheus_name": "m1",
        "prometheus_alertmanagers": [],
        "prometheus_probe_address": f"127.0.0.1:{prober}",
        "prometheus_jobs": [job for job in told["prometheus_jobs"] if job["name"] in _PLAYED],
    }
    text = role_template("prometheus", "prometheus.yml.j2", {**told, **own})
    (folder / "prometheus.yml").write_text(text.replace(_HOME, str(folder)), encoding="utf-8")
    for name in ("targets", "rules"):
        (folder / name).mkdir()
    for job, rows in told["prometheus_targets"].items():
        if job in _PLAYED:
            shifted = [
                {**row, "targets": [_shifted(job, target) for target in row["targets"]]} for row in rows
            ]
            (folder / "targets" / f"{job}.json").write_text(json.dumps(shifted), encoding="utf-8")
    for path in (ROLE / "files" / "rules").glob("*.yml"):
        text = path.read_text(encoding="utf-8").replace("@runbooks@", "https://bench.example/runbooks")
        (folder / "rules" / path.name).write_text(text, encoding="utf-8")


def _shifted(job: str, target: str) -> str:
    if job in ("ping", "blackbox"):  # only the prober sees these
        return target
    host, _, port = target.rpartition(":")
    return f"{host}:{int(port) + _SHIFT}"


def plan(folder: Path, told: dict[str, Any], pages: dict[str, Moving], prober: int, speed: float) -> Path:
    """What the player is to play, with certificates that Prometheus trusts."""
    from rackloom.site.authority import issue, make_authority, make_key  # noqa: PLC0415 - slow to load

    key = make_key()
    authority = make_authority(key)
    (folder / "ca.crt").write_text(authority, encoding="utf-8")
    (folder / "scrape.password").write_text("made up", encoding="utf-8")
    ports: dict[str, dict[str, str]] = {}
    for job in ("node", "dcgm", "slurm"):
        for row in told["prometheus_targets"].get(job, []):
            for target in row["targets"]:
                host, _, port = _shifted(job, target).rpartition(":")
                ports.setdefault(host, {})[port] = job
    groups = []
    for alike in {json.dumps(each, sort_keys=True) for each in ports.values()}:
        hosts = [host for host, each in ports.items() if json.dumps(each, sort_keys=True) == alike]
        for begin in range(0, len(hosts), 100):
            # A certificate for a hundred addresses: signing a thousand would take as long as the rest.
            some = hosts[begin : begin + 100]
            made = issue(key, authority, f"exporters {some[0]}", some)
            paths = {"certificate": folder / f"{some[0]}.crt", "key": folder / f"{some[0]}.key"}
            paths["certificate"].write_text(made.certificate, encoding="utf-8")
            paths["key"].write_text(made.key, encoding="utf-8")
            mine = {name: str(path) for name, path in paths.items()}
            groups.append({"addresses": some, "ports": json.loads(alike), **mine})
    (folder / "plan.json").write_text(
        json.dumps(
            {
                "speed": speed,
                "probe_port": prober,
                "ready": str(folder / "ready"),
                "pages": {name: page.dump() for name, page in pages.items()},
                "groups": groups,
            }
        ),
        encoding="utf-8",
    )
    return folder / "plan.json"


@dataclass
class Server:
    """A Prometheus that runs."""

    url: str
    folder: Path
    process: Watched
    player: Watched

    def ask(self, path: str, **told: object) -> Any:
        """One question to its API; raises BenchError where it has no answer within its own two minutes."""
        words = urllib.parse.urlencode({name: str(value) for name, value in told.items()})
        request = urllib.request.Request(f"{self.url}/api/v1/{path}", words.encode() or None)  # noqa: S310
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=150) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise BenchError(f"{told}: {error.read().decode(errors='replace')[:300]}") from None
        except OSError as error:
            raise BenchError(f"{told}: {error}") from None

    def value(self, expr: str) -> float:
        """One number; 0 where there is none."""
        rows = self.ask("query", query=expr)["result"]
        return float(rows[0]["value"][1]) if rows else 0.0

    def own(self, name: str) -> float:
        """One of its own metrics, summed up."""
        lines = said(f"{self.url}/metrics").splitlines()
        mine = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rpartition(" ")[2]) for line in mine)


@contextmanager
def serving(
    folder: Path, told: dict[str, Any], pages: dict[str, Moving], *, interval: str, speed: float
) -> Iterator[Server]:
    """Prometheus and the nodes that it asks."""
    folder.mkdir()
    prober, port = free_port(), free_port()
    rendered(folder, {**told, **({"prometheus_scrape_interval": interval} if interval else {})}, prober)
    argv = [
        sys.executable,
        "-m",
        "rackloom.lab.replayed_nodes",
        str(plan(folder, told, pages, prober, speed)),
    ]
    ready = folder / "ready"
    url = f"http://127.0.0.1:{port}"
    prometheus = [
        laid_out("prometheus", "prometheus"),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-admin-api",
        "--log.level=warn",
    ]
    with (
        Watched(
            argv, folder / "player.log", ready.exists, env={"PYTHONPATH": str(ROOT / "scripts")}
        ) as player,
        Watched(prometheus, folder / "prometheus.log", lambda: bool(said(f"{url}/-/ready"))) as process,
    ):
        yield Server(url, folder, process, player)


def all_up(server: Server, seconds: float) -> int:
    """Wait until every target has answered once; returns how many there are."""
    wanted = sum(len(row["targets"]) for path in (server.folder / "targets").glob("*.json")
                 for row in json.loads(path.read_text()))  # fmt: skip
    end = time.monotonic() + seconds
    while (up := server.value("count(max_over_time(up[15m]) == 1)")) < wanted:
        if time.monotonic() > end:
            raise BenchError(f"only {up:.0f} of {wanted} targets answer\n{server.player.tail()}")
        time.sleep(2)
    return wanted


# ------------------------------------------------------------ figures


def fetched(told: dict[str, Any], folder: Path, rounds: int = 15) -> float:
    """How long a bare client takes for a node's page, over a connection that it keeps."""
    host, _, port = _shifted("node", told["prometheus_targets"]["node"][-1]["targets"][0]).rpartition(":")
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    connection = http.client.HTTPSConnection(host, int(port), timeout=30, context=context)
    times = []
    for _ in range(rounds):
        began = time.monotonic()
        connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
        connection.getresponse().read()
        times.append(time.monotonic() - began)
        time.sleep(0.05)
    connection.close()
    return statistics.median(times[1:])


def took(
    server: Server, expr: str, kind: str, span: tuple[float, float], rounds: int = 3
) -> tuple[float, int]:
    """Median seconds of a query as the dashboard asks it, now or as many points as six hours have; and its series."""
    times: list[float] = []
    rows = 0
    for _ in range(rounds):
        began = time.monotonic()
        if kind == "timeseries":
            start, end = span
            step = max(0.001, (end - start) / _POINTS)
            rows = len(server.ask("query_range", query=expr, start=start, end=end, step=step)["result"])
        else:
            rows = len(server.ask("query", query=expr)["result"])
        times.append(time.monotonic() - began)
        if times[0] > 20:
            break
    return statistics.median(times), rows


def asked(
    server: Server, span: tuple[float, float], every: bool, say: Callable[[str], None]
) -> Iterator[Asked]:
    """Every query of the cluster's dashboard, or of all, with one node and one job chosen."""
    from rackloom.dashboards import DASHBOARDS  # noqa: PLC0415

    nodes = server.ask("query", query='slurm_job_node{jobid="1"}')["result"]
    members = "|".join(sorted({row["metric"]["node"] for row in nodes}))
    chosen = {
        "$node": "c0001",
        "$jobid": "1",
        "$members": members,
        "$__rate_interval": "5m",
        "$__range": "1h",
    }
    for board in DASHBOARDS:
        if not every and board.uid != _CLUSTER:
            continue
        for panel in board.panels():
            for number, query in enumerate(panel.queries):
                expr = query.expr
                for name, value in chosen.items():
                    expr = expr.replace(name, value)
                without = None
                if board.uid == _CLUSTER and number == 0 and panel.title in _WITHOUT_RECORDING:
                    try:
                        without, _ = took(server, _WITHOUT_RECORDING[panel.title], panel.kind, span, 1)
                    except BenchError as error:
                        say(f"{panel.title} without what is recorded: {error}")
                seconds, rows = took(server, expr, panel.kind, span)
                yield Asked(board.uid, panel.title, panel.kind, expr, seconds, rows, without)


def on_disk(
    folder: Path, told: dict[str, Any], pages: dict[str, Moving], say: Callable[[str], None]
) -> tuple[float, float]:
    """Bytes of a value, and of a series in the index, of a block of two hours; played sixty times as fast."""
    say(f"disk: {_BLOCK} values of each series of a few nodes, twice a second")
    with serving(folder, told, pages, interval="500ms", speed=60) as server:
        all_up(server, 60)
        time.sleep(_BLOCK / 2)
        name = server.ask("admin/tsdb/snapshot", skip_head="false")["name"]
        place = server.folder / "data" / "snapshots" / name
        blocks = [json.loads(path.read_text())["stats"] for path in place.glob("*/meta.json")]
        values = sum(path.stat().st_size for path in place.glob("*/chunks/*"))
        index = sum(path.stat().st_size for path in place.glob("*/index"))
    if not blocks:
        raise BenchError("the snapshot holds nothing")
    samples, series = (sum(int(each[name]) for each in blocks) for name in ("numSamples", "numSeries"))
    say(f"disk: {values / samples:.2f} bytes a value, {index / series:.0f} a series in the index")
    return values / samples, index / series


def measure(folder: Path, wanted: argparse.Namespace, say: Callable[[str], None]) -> Figures:
    """All of it. Raises BenchError."""
    say("taking what a node exporter says, twice")
    told = site_vars(folder, wanted.nodes, wanted.cores, wanted.gpus)
    names = [
        row["labels"]["node"]
        for row in told["prometheus_targets"]["node"]
        if row["labels"]["role"] == "compute"
    ]
    pages = {
        "node": node_page(folder, wanted.cores, 10),
        "dcgm": gpu_page(wanted.gpus),
        "slurm": slurm_page(names, wanted.cores, wanted.gpus),
        "probe": probe_page(),
    }
    node = pages["node"]
    say(
        f"a node: {node.series} series, {len(node.gaps)} of them move; {pages['dcgm'].series} more of its GPUs"
    )
    few = {**told, "prometheus_targets": {job: rows[:10] for job, rows in told["prometheus_targets"].items()}}
    value, index = (0.0, 0.0) if wanted.no_disk else on_disk(folder / "disk", few, pages, say)
    with serving(folder / "server", told, pages, interval="", speed=1) as server:
        targets = all_up(server, 600)
        say(f"{targets} targets answer; measuring for {wanted.seconds} s")
        server.process.mark()
        server.player.mark()
        began, before = time.time(), server.own("prometheus_tsdb_head_samples_appended_total")
        missed = server.own("prometheus_rule_group_iterations_missed_total")
        time.sleep(wanted.seconds)
        passed = time.time() - began
        samples = server.own("prometheus_tsdb_head_samples_appended_total") - before
        processors, player = server.process.processors(), server.player.processors()
        log = sum(
            path.stat().st_size for path in (server.folder / "data" / "wal").rglob("*") if path.is_file()
        )
        total = server.own("prometheus_tsdb_head_samples_appended_total")
        rules = {
            line.partition('rule_group="')[2].partition('"')[0].rpartition(";")[2]: float(
                line.rpartition(" ")[2]
            )
            for line in said(f"{server.url}/metrics").splitlines()
            if line.startswith("prometheus_rule_group_last_duration_seconds{")
        }
        memory = server.process.memory()
        say(f"asking what people ask, {_POINTS} points for each plot")
        answers = tuple(asked(server, (began, time.time()), wanted.all, say))
        return Figures(
            nodes=wanted.nodes,
            cores=wanted.cores,
            gpus=wanted.gpus,
            interval=passed,
            targets=targets,
            series=int(server.own("prometheus_tsdb_head_series")),
            samples_a_second=samples / passed,
            scrape_mean=server.value('avg(scrape_duration_seconds{job="node"})'),
            scrape_slowest=server.value('quantile(0.99, scrape_duration_seconds{job="node"})'),
            scrapes_failed=1 - server.value(f"avg(avg_over_time(up[{max(60, int(passed))}s]))"),
            fetch=fetched(told, server.folder),
            processors=processors,
            player=player,
            memory=memory,
            peak=server.process.memory(peak=True),
            rules_seconds=sum(rules.values()),
            rules_missed=int(server.own("prometheus_rule_group_iterations_missed_total") - missed),
            rules=rules,
            log_bytes=log / total,
            value_bytes=value,
            index_bytes=index,
            asked=answers,
            machine=load(),
        )


def table(found: Figures) -> str:
    """Return the figures as lines."""
    group, longest = max(found.rules.items(), key=lambda each: each[1], default=("", 0.0))
    ratio = found.scrape_mean / found.fetch
    each = found.memory / found.series / 1e3
    rows = [
        ("nodes", f"{found.nodes} of {found.cores} cores and {found.gpus} GPUs", f"{found.targets} targets"),
        ("series", f"{found.series:,}", f"{found.series / found.nodes:,.0f} a node"),
        ("values", f"{found.samples_a_second:,.0f} a second", f"in {found.interval:.0f} s"),
        (
            "scrape of a node",
            f"{found.scrape_mean:.3f} s",
            f"99 of 100 below {found.scrape_slowest:.2f} s; failed {found.scrapes_failed:.1%}",
        ),
        ("bare client", f"{found.fetch:.3f} s", f"for the same page; a scrape to it: {ratio:.1f}"),
        ("processors", f"{found.processors:.2f}", f"the player beside it {found.player:.2f}"),
        (
            "memory",
            f"{found.memory / 1e9:.2f} GB",
            f"at most {found.peak / 1e9:.2f} GB; {each:.1f} kB a series",
        ),
        (
            "disk a day",
            f"{found.disk_a_day / 1e9:.2f} GB",
            f"{found.value_bytes:.2f} bytes a value, {found.index_bytes:.0f} a series",
        ),
        ("log", f"{found.log_size / 1e9:.2f} GB", "more on the disk, before it is cut"),
        ("all rules", f"{found.rules_seconds:.2f} s", f"{group} alone {longest:.2f} s"),
        ("rounds left out", f"{found.rules_missed}", "of all groups of rules"),
    ]
    lines = [f"{what:18} {ours:>34}   {more}" for what, ours, more in rows]
    lines += ["", f"{'query':52} {'seconds':>8} {'series':>7}   without what is recorded"]
    slowest = sorted(found.asked, key=lambda one: -one.seconds)
    own = [one for one in slowest if one.board == _CLUSTER]
    for one in own + [one for one in slowest if one not in own][:_OTHERS]:
        name = f"{one.board.removeprefix('rackloom-')}: {one.panel} ({one.kind})"
        more = (
            ""
            if one.without is None
            else f"   {one.without:.2f} s, {one.without / one.seconds:.0f} times as long"
        )
        lines.append(f"{name:52} {one.seconds:8.3f} {one.rows:7}{more}")
    return "\n".join([*lines, "", found.machine])


def _stop(*_: object) -> None:
    """Told to end: what was started is ended first."""
    raise BenchError("stopped")


def main(argv: list[str] | None = None) -> int:
    """Measure and print. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="bench.sh monitoring", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--nodes", type=int, default=1000, help="nodes that are played (1000)")
    parser.add_argument("--cores", type=int, default=64, help="cores of each (64)")
    parser.add_argument("--gpus", type=int, default=8, help="GPUs of each (8)")
    parser.add_argument("--seconds", type=int, default=180, help="how long to measure (180)")
    parser.add_argument("--all", action="store_true", help="ask the queries of all dashboards")
    parser.add_argument("--no-disk", action="store_true", help="leave out how large a value is on the disk")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    wanted = parser.parse_args(argv)

    def say(line: str) -> None:
        sys.stderr.write(f"bench: {line}\n")

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGTERM, _stop)
    with tempfile.TemporaryDirectory(prefix="rackloom-bench-") as scratch:
        try:
            found = measure(Path(scratch), wanted, say)
        except BenchError as error:
            say(str(error))
            return 1
    if wanted.json:
        more = {name: getattr(found, name) for name in ("samples_a_day", "disk_a_day", "log_size")}
        sys.stdout.write(json.dumps(asdict(found) | more, indent=2) + "\n")
    else:
        sys.stdout.write(table(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
