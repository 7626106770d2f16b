#!/usr/bin/python3
# Managed by Rackloom.
"""What Slurm's own commands say, as metrics: slurm-metrics queue|accounting --output FILE.

Run by a timer on each controller. Whoever asks a controller that does not answer waits, so no scrape does: a
node exporter serves the file. Only the controller in charge writes all of it, so nothing is counted twice.
The commands are those of every Slurm since 21.08; their fields are cut at a sign that no name of Slurm's may hold,
and what people write themselves comes last on its line.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

Labels = Mapping[str, str]
Run = Callable[[str], str]

JOB = (
    *("JobID", "State", "Partition", "Account", "UserName", "NumCPUs", "tres-alloc"),
    *("EligibleTime", "StartTime", "Reason", "NodeList", "Name"),
)
NODE = (
    *("NodeList", "PartitionName", "StateLong", "CPUsState", "Memory", "AllocMem", "CPUsLoad"),
    *("Gres", "GresUsed", "Timestamp", "User", "Reason"),
)
RECORD = (
    *("JobIDRaw", "State", "Partition", "Account", "User", "Eligible", "Start", "End"),
    *("CPUTimeRAW", "TotalCPU", "MaxRSS", "NTasks", "AllocTRES"),
)
WINDOW = 3600
"""Seconds for which a job is told of after it ended."""


def _columns(names: Sequence[str]) -> str:
    return ",".join(f"{name}:|" for name in names)


COMMANDS: dict[str, list[str]] = {
    "ping": ["scontrol", "ping"],
    "jobs": ["squeue", "--noheader", "--all", "--array", "--Format", _columns(JOB)],
    "devices": ["scontrol", "--details", "--oneliner", "show", "jobs"],
    "nodes": ["sinfo", "--noheader", "--all", "--Node", "--Format", _columns(NODE)],
    "scheduler": ["sdiag"],
    "accounting": [
        *("sacct", "--noheader", "--parsable2", "--allusers", "--duplicates"),
        *("--starttime", f"now-{WINDOW}seconds", "--endtime", "now", "--format", ",".join(RECORD)),
    ],
}

# Name -> (kind, help), in the order in which they are written.
METRICS: dict[str, tuple[str, str]] = {
    "slurm_up": ("gauge", "Whether a controller answers"),
    "slurm_exporter_active": ("gauge", "Whether the controller on this host is the one in charge"),
    "slurm_controller_up": ("gauge", "Whether this controller answers"),
    "slurm_collector_success": ("gauge", "Whether this part could be asked"),
    "slurm_collector_duration_seconds": ("gauge", "How long Slurm took to say this part"),
    "slurm_collector_timestamp_seconds": ("gauge", "When this part was asked"),
    "slurm_collector_jobs_left_out": ("gauge", "Jobs without series of their own, for there are too many"),
    "slurm_jobs": ("gauge", "Jobs in the queue"),
    "slurm_job_cpus_allocated": ("gauge", "CPUs of running jobs"),
    "slurm_job_gpus_allocated": ("gauge", "GPUs of running jobs"),
    "slurm_partition_jobs": (
        "gauge",
        "Jobs in the queue by partition; those that wait or run are always told",
    ),
    "slurm_pending_jobs": ("gauge", "Jobs that wait, by the reason"),
    "slurm_pending_gpus": ("gauge", "GPUs that waiting jobs ask for"),
    "slurm_pending_wait_seconds": (
        "gauge",
        "How long jobs have waited that could have run; quantile 1 is the longest",
    ),
    "slurm_job_info": ("gauge", "A running job"),
    "slurm_job_start_timestamp_seconds": ("gauge", "When a running job started"),
    "slurm_job_cpus": ("gauge", "CPUs of a running job"),
    "slurm_job_gpus": ("gauge", "GPUs of a running job"),
    "slurm_job_node": ("gauge", "A running job has this node"),
    "slurm_job_gpu": ("gauge", "A running job has this GPU of a node; gpu is its number there"),
    "slurm_node_state": ("gauge", "The state that a node is in"),
    "slurm_node_responding": ("gauge", "Whether a node answers the controller"),
    "slurm_node_reason_timestamp_seconds": ("gauge", "When somebody wrote down why a node is not in use"),
    "slurm_node_cpus": ("gauge", "CPUs of a node"),
    "slurm_node_cpus_allocated": ("gauge", "CPUs that jobs have"),
    "slurm_node_load": ("gauge", "Load of a node"),
    "slurm_node_memory_bytes": ("gauge", "Memory of a node"),
    "slurm_node_memory_allocated_bytes": ("gauge", "Memory that jobs have"),
    "slurm_node_gpus": ("gauge", "GPUs of a node"),
    "slurm_node_gpus_allocated": ("gauge", "GPUs that jobs have"),
    "slurm_nodes": ("gauge", "Nodes by partition and state"),
    "slurm_scheduler_threads": ("gauge", "Threads of the controller that answer somebody"),
    "slurm_scheduler_agent_queue": ("gauge", "Messages that the controller has still to send"),
    "slurm_database_queue": ("gauge", "Messages that the accounting daemon has still to take"),
    "slurm_scheduler_jobs_total": (
        "counter",
        "Jobs by what became of them; the controller resets it at midnight",
    ),
    "slurm_scheduler_backfilled_jobs_total": ("counter", "Jobs that started before their turn"),
    "slurm_scheduler_cycles_total": ("counter", "Rounds of a scheduler"),
    "slurm_scheduler_last_cycle_seconds": ("gauge", "How long the last round took"),
    "slurm_scheduler_mean_cycle_seconds": ("gauge", "How long a round takes"),
    "slurm_scheduler_queue_length": ("gauge", "Jobs that the last round looked at"),
    "slurm_rpc_total": ("counter", "Requests to the controller by type"),
    "slurm_rpc_seconds_total": ("counter", "Time that requests took, by type"),
    "slurm_rpc_user_total": ("counter", "Requests to the controller by user"),
    "slurm_ended_jobs": ("gauge", "Jobs that ended in the last hour"),
    "slurm_started_wait_seconds": ("gauge", "How long jobs had waited that started in the last hour"),
    "slurm_ended_job_cpu_efficiency_ratio": ("gauge", "CPU time that a job used, of what it had"),
    "slurm_ended_job_memory_efficiency_ratio": ("gauge", "Memory that a job used at most, of what it had"),
    "slurm_ended_job_gpu_seconds": ("gauge", "GPUs of a job that ended, times its seconds"),
    "slurm_ended_job_end_timestamp_seconds": ("gauge", "When a job ended"),
}


class Metrics:
    """Samples by name; what is added twice under the same labels is summed up."""

    def __init__(self) -> None:
        self._samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}

    def add(self, metric: str, value: float, /, **labels: str) -> None:
        """Add one sample."""
        if metric not in METRICS:
            raise KeyError(metric)
        samples = self._samples.setdefault(metric, {})
        key = tuple(labels.items())
        samples[key] = samples.get(key, 0) + value

    def names(self) -> list[str]:
        """Names of what there is a sample of."""
        return list(self._samples)

    def text(self) -> str:
        """All of them, as Prometheus reads it."""
        lines: list[str] = []
        for name, (kind, meaning) in METRICS.items():
            if name not in self._samples:
                continue
            lines += [f"# HELP {name} {meaning}.", f"# TYPE {name} {kind}"]
            for key, value in sorted(self._samples[name].items()):
                labels = ",".join(f'{label}="{_escape(text)}"' for label, text in key)
                lines.append(f"{name}{{{labels}}} {value:.15g}" if labels else f"{name} {value:.15g}")
        return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def rows(text: str, names: Sequence[str]) -> list[dict[str, str]]:
    """Fields by name, line by line; the last one has whatever signs it likes.

    A line that has too few is left out: it is the rest of a name that somebody broke in two. When all lines have too
    few, Slurm writes something else than it was asked for.
    """
    lines = text.splitlines()
    found = []
    for line in lines:
        parts = line.split("|", len(names) - 1)
        if len(parts) == len(names):
            parts[-1] = parts[-1].removesuffix("|")
            found.append(dict(zip(names, parts, strict=True)))
    if lines and not found:
        raise ValueError(f"not {len(names)} fields: {lines[0][:80]}")
    return found


def _number(text: str) -> float:
    """0 for what is no number: N/A, Unknown, an empty field."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0


_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50}


def size(text: str, default: str = "") -> float:
    """Bytes of 200M or 53820K; a bare number counts in `default`."""
    match = re.fullmatch(r"([0-9.]+)([KMGTP]?)[cn]?", text)
    return float(match[1]) * _UNITS[match[2] or default] if match else 0.0


def duration(text: str) -> float:
    """Seconds of [days-][hours:]minutes:seconds, as sacct writes them."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)", text)
    if match is None:
        return 0.0
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def tres(text: str) -> dict[str, str]:
    """cpu=1,mem=100M,gres/gpu:a100=1 by name."""
    return dict(pair.partition("=")[::2] for pair in text.split(",") if "=" in pair)


def tres_gpus(text: str) -> float:
    """GPUs in a list of trackable resources; sites that count by type alone are understood."""
    found = tres(text)
    if "gres/gpu" in found:
        return _number(found["gres/gpu"])
    return sum(_number(count) for name, count in found.items() if name.startswith("gres/gpu:"))


_GPU = re.compile(r"gpu(?::([^:(),]+))?:(\d+)(?:\(IDX:([0-9,-]+)\))?")


def gpus(text: str) -> Iterator[tuple[str, int, list[int]]]:
    """(type, how many, their numbers) of gpu:a100:2(IDX:0-1),gpu:1."""
    for kind, count, numbers in _GPU.findall(text):
        yield kind, int(count), list(_numbers(numbers))


def _numbers(text: str) -> Iterator[int]:
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def hosts(text: str) -> list[str]:
    """Names of gpu[01-03,07],login1: what scontrol show hostnames would print."""
    found: list[str] = []
    for part in re.findall(r"(?:[^,\[\]]|\[[^\]]*\])+", text):
        names = [""]
        for plain, inside in re.findall(r"([^\[\]]+)|\[([^\]]*)\]", part):
            ends = [plain] if plain else list(_padded(inside))
            names = [name + end for name in names for end in ends]
        found += names
    return found


def _padded(text: str) -> Iterator[str]:
    for part in text.split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            yield f"{number:0{len(first)}d}"


def quantiles(values: Iterable[float]) -> dict[str, float]:
    """The middle, nine of ten, and the longest; zeros where there are none."""
    ordered = sorted(values)
    return {
        name: ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
        for name, share in (("0.5", 0.5), ("0.9", 0.9), ("1", 1.0))
    }


def controllers(text: str) -> dict[str, bool]:
    """Whether each controller answers, the primary first."""
    return {
        name: state == "UP"
        for name, state in re.findall(r"^Slurmctld\([^)]*\) at (\S+) is (\w+)", text, re.MULTILINE)
    }


def _base(state: str) -> str:
    """A state without the signs that sinfo adds for flags."""
    return re.sub(r"[^a-z_]+$", "", state.lower())


def add_nodes(metrics: Metrics, text: str) -> set[str]:
    """Metrics of nodes and partitions; returns the partitions."""
    seen: set[str] = set()
    partitions: set[str] = set()
    for row in rows(text, NODE):
        node, partition, state = row["NodeList"], row["PartitionName"], _base(row["StateLong"])
        partitions.add(partition)
        metrics.add("slurm_nodes", 1, partition=partition, state=state)
        if node in seen:  # once for each partition
            continue
        seen.add(node)
        metrics.add("slurm_node_state", 1, node=node, state=state)
        metrics.add("slurm_node_responding", 0 if "*" in row["StateLong"] else 1, node=node)
        allocated, _, _, total = (_number(part) for part in row["CPUsState"].split("/"))
        metrics.add("slurm_node_cpus", total, node=node)
        metrics.add("slurm_node_cpus_allocated", allocated, node=node)
        metrics.add("slurm_node_load", _number(row["CPUsLoad"]), node=node)
        metrics.add("slurm_node_memory_bytes", size(row["Memory"], "M"), node=node)
        metrics.add("slurm_node_memory_allocated_bytes", size(row["AllocMem"], "M"), node=node)
        used = {kind: count for kind, count, _ in gpus(row["GresUsed"])}
        for kind, count, _ in gpus(row["Gres"]):
            metrics.add("slurm_node_gpus", count, node=node, type=kind)
            metrics.add("slurm_node_gpus_allocated", used.get(kind, 0), node=node, type=kind)
        since = _number(row["Timestamp"])
        if since:
            user = re.sub(r"\(\d+\)$", "", row["User"])
            labels = {"node": node, "state": state, "user": user, "reason": row["Reason"].strip()}
            metrics.add("slurm_node_reason_timestamp_seconds", since, **labels)
    return partitions


def add_jobs(metrics: Metrics, text: str, partitions: Iterable[str], now: float, limit: int) -> list[str]:
    """Metrics of the queue; returns the running jobs that have GPUs."""
    waits: dict[str, list[float]] = {partition: [] for partition in partitions}
    for partition in waits:
        for state in ("pending", "running"):
            metrics.add("slurm_partition_jobs", 0, partition=partition, state=state)
        metrics.add("slurm_pending_gpus", 0, partition=partition)
    running: list[dict[str, str]] = []
    for row in rows(text, JOB):
        state, partition = row["State"].lower(), row["Partition"]
        who = {"partition": partition, "account": row["Account"], "user": row["UserName"]}
        metrics.add("slurm_jobs", 1, state=state, **who)
        for one in partition.split(","):  # it waits in each of them
            metrics.add("slurm_partition_jobs", 1, partition=one, state=state)
        if state == "running":
            running.append(row)
            metrics.add("slurm_job_cpus_allocated", _number(row["NumCPUs"]), **who)
            metrics.add("slurm_job_gpus_allocated", tres_gpus(row["tres-alloc"]), **who)
        elif state == "pending":
            reason = row["Reason"].partition(",")[0]  # some go on with the nodes that are missing
            metrics.add("slurm_pending_jobs", 1, partition=partition, reason=reason)
            metrics.add("slurm_pending_gpus", tres_gpus(row["tres-alloc"]), partition=partition)
            eligible = _number(row["EligibleTime"])
            if 0 < eligible <= now:
                for one in partition.split(","):
                    waits.setdefault(one, []).append(now - eligible)
    for partition, found in waits.items():
        for quantile, value in quantiles(found).items():
            metrics.add("slurm_pending_wait_seconds", value, partition=partition, quantile=quantile)
    # Those with GPUs first, then those that run for the longest time.
    running.sort(key=lambda row: (-tres_gpus(row["tres-alloc"]), _number(row["StartTime"])))
    metrics.add("slurm_collector_jobs_left_out", max(0, len(running) - limit), part="queue")
    for row in running[:limit]:
        job = {"jobid": row["JobID"]}
        who = {"partition": row["Partition"], "account": row["Account"], "user": row["UserName"]}
        metrics.add("slurm_job_info", 1, **job, **who, name=row["Name"])
        metrics.add("slurm_job_start_timestamp_seconds", _number(row["StartTime"]), **job)
        metrics.add("slurm_job_cpus", _number(row["NumCPUs"]), **job)
        metrics.add("slurm_job_gpus", tres_gpus(row["tres-alloc"]), **job)
        for node in hosts(row["NodeList"]):
            metrics.add("slurm_job_node", 1, **job, node=node)
    return [row["JobID"] for row in running[:limit] if tres_gpus(row["tres-alloc"])]


_DEVICES = re.compile(r" Nodes=(\S+) CPU_IDs=\S+ Mem=\d+ GRES=(\S+)")


def add_devices(metrics: Metrics, text: str, jobs: str, wanted: Iterable[str]) -> None:
    """Which GPU of which node a running job has."""
    by_id = {row["JobID"]: row for row in rows(jobs, JOB)}
    wanted = set(wanted)
    for line in text.splitlines():
        match = re.match(r"JobId=(\d+)", line)
        if match is None or match[1] not in wanted:
            continue
        row = by_id[match[1]]
        who = {"account": row["Account"], "user": row["UserName"], "partition": row["Partition"]}
        mine = set(hosts(row["NodeList"]))
        found = {
            (node, number)
            for nodes, given in _DEVICES.findall(line)
            for node in hosts(nodes)
            if node in mine  # the line has the job's name in it, which may say anything
            for _, _, numbers in gpus(given)
            for number in numbers
        }
        for node, number in sorted(found):
            metrics.add("slurm_job_gpu", 1, jobid=match[1], node=node, gpu=str(number), **who)


_RPC = re.compile(r"^\s+(\S+)\s+\(\s*\d+\)\s+count:(\d+)\s+ave_time:\d+\s+total_time:(\d+)", re.MULTILINE)


def add_scheduler(metrics: Metrics, text: str) -> None:
    """What sdiag says of the controller."""
    head, _, rest = text.partition("Main schedule statistics")
    main, _, rest = rest.partition("Backfilling stats")
    backfill, _, rest = rest.partition("Remote Procedure Call statistics by message type")
    by_type, _, by_user = rest.partition("Remote Procedure Call statistics by user")

    def said(part: str, name: str) -> float | None:
        match = re.search(rf"^\s*{re.escape(name)}:\s+(\d+)", part, re.MULTILINE)
        return float(match[1]) if match else None

    def put(metric: str, value: float | None, **labels: str) -> None:
        if value is not None:
            metrics.add(metric, value, **labels)

    put("slurm_scheduler_threads", said(head, "Server thread count"))
    put("slurm_scheduler_agent_queue", said(head, "Agent queue size"))
    put("slurm_database_queue", said(head, "DBD Agent queue size"))
    for what in ("submitted", "started", "completed", "canceled", "failed"):
        put("slurm_scheduler_jobs_total", said(head, f"Jobs {what}"), result=what)
    put(
        "slurm_scheduler_backfilled_jobs_total",
        said(backfill, "Total backfilled jobs (since last slurm start)"),
    )
    for name, part in (("main", main), ("backfill", backfill)):
        put("slurm_scheduler_cycles_total", said(part, "Total cycles"), scheduler=name)
        put("slurm_scheduler_queue_length", said(part, "Last queue length"), scheduler=name)
        for metric, key in (("last", "Last cycle"), ("mean", "Mean cycle")):
            took = said(part, key)
            seconds = None if took is None else took / 1e6
            put(f"slurm_scheduler_{metric}_cycle_seconds", seconds, scheduler=name)
    for kind, count, took in _RPC.findall(by_type):
        metrics.add("slurm_rpc_total", float(count), type=kind)
        metrics.add("slurm_rpc_seconds_total", float(took) / 1e6, type=kind)
    for user, count, _ in _RPC.findall(by_user.partition("Pending RPC")[0]):
        metrics.add("slurm_rpc_user_total", float(count), user=user)


def add_accounting(metrics: Metrics, text: str, now: float, limit: int) -> None:
    """What became of jobs, and what they made of what they had."""
    jobs: dict[str, dict[str, str]] = {}
    memory: dict[str, float] = defaultdict(float)
    for row in rows(text, RECORD):
        job, _, step = row["JobIDRaw"].partition(".")
        if step:
            # A step tells of its largest task.
            memory[job] = max(memory[job], size(row["MaxRSS"]) * max(1, _number(row["NTasks"])))
        else:
            jobs[job] = row
    waits: dict[str, list[float]] = defaultdict(list)
    ended: list[tuple[float, str]] = []
    for job, row in jobs.items():
        start, end = _number(row["Start"]), _number(row["End"])
        if now - WINDOW <= start <= now and row["Eligible"].isdigit():
            waits[row["Partition"]].append(max(0.0, start - _number(row["Eligible"])))
        if now - WINDOW <= end <= now:
            ended.append((end, job))
            state = row["State"].split()[0].lower() if row["State"] else "unknown"
            metrics.add(
                "slurm_ended_jobs",
                1,
                state=state,
                partition=row["Partition"],
                account=row["Account"],
                user=row["User"],
            )
    for partition, found in waits.items():
        for quantile, value in quantiles(found).items():
            metrics.add("slurm_started_wait_seconds", value, partition=partition, quantile=quantile)
    ended.sort(reverse=True)
    metrics.add("slurm_collector_jobs_left_out", max(0, len(ended) - limit), part="accounting")
    for end, job in ended[:limit]:
        row = jobs[job]
        had = tres(row["AllocTRES"])
        labels = {
            "jobid": job,
            "partition": row["Partition"],
            "account": row["Account"],
            "user": row["User"],
        }
        metrics.add("slurm_ended_job_end_timestamp_seconds", end, **labels)
        seconds = _number(row["CPUTimeRAW"])
        if seconds:
            used = duration(row["TotalCPU"]) / seconds
            metrics.add("slurm_ended_job_cpu_efficiency_ratio", used, **labels)
        if size(had.get("mem", "")) and memory[job]:
            share = memory[job] / size(had["mem"])
            metrics.add("slurm_ended_job_memory_efficiency_ratio", share, **labels)
        count = tres_gpus(row["AllocTRES"])
        if count and _number(row["Start"]):
            metrics.add("slurm_ended_job_gpu_seconds", count * (end - _number(row["Start"])), **labels)


def _ask(name: str) -> str:
    """What a command of Slurm's says; times as seconds since 1970."""
    env = {**os.environ, "SLURM_TIME_FORMAT": "%s", "LC_ALL": "C"}
    done = subprocess.run(COMMANDS[name], check=False, capture_output=True, text=True, timeout=60, env=env)
    if done.returncode and name != "ping":
        raise OSError(f"{COMMANDS[name][0]}: {done.stderr.strip()[:200] or done.returncode}")
    return done.stdout


class Collector:
    """Asks one part after another, and tells of each whether it could be asked."""

    def __init__(self, ask: Run, clock: Callable[[], float], limit: int) -> None:
        self.ask, self.clock, self.limit = ask, clock, limit
        self.metrics = Metrics()
        self.failed: list[str] = []

    def part(self, name: str, add: Callable[[], None]) -> None:
        """One part; what fails in it leaves the others alone."""
        started = self.clock()
        try:
            add()
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            self.failed.append(f"{name}: {error}")
        good = not any(text.startswith(f"{name}:") for text in self.failed)
        self.metrics.add("slurm_collector_success", good, part=name)
        self.metrics.add("slurm_collector_duration_seconds", self.clock() - started, part=name)
        self.metrics.add("slurm_collector_timestamp_seconds", started, part=name)

    def queue(self, me: str) -> None:
        """Who is in charge, nodes, jobs and the scheduler."""
        active = self.charge(me)
        self.metrics.add("slurm_exporter_active", active)
        if not active:
            return

        def queue() -> None:
            partitions = add_nodes(self.metrics, self.ask("nodes"))
            now, jobs = self.clock(), self.ask("jobs")
            wanted = add_jobs(self.metrics, jobs, partitions, now, self.limit)
            if wanted:
                add_devices(self.metrics, self.ask("devices"), jobs, wanted)

        self.part("queue", queue)
        self.part("scheduler", lambda: add_scheduler(self.metrics, self.ask("scheduler")))

    def charge(self, me: str, *, tell: bool = True) -> bool:
        """Whether this host's controller is the first that answers."""
        try:
            answer = self.ask("ping")
        except (OSError, subprocess.SubprocessError) as error:
            self.failed.append(f"ping: {error}")
            answer = ""
        found = controllers(answer)
        if tell:
            self.metrics.add("slurm_up", any(found.values()))
            for name, up in found.items():
                self.metrics.add("slurm_controller_up", up, controller=name)
        return next((name for name, up in found.items() if up), "") == me

    def accounting(self, me: str) -> None:
        """What the accounting knows of jobs that started or ended."""
        if self.charge(me, tell=False):
            self.part(
                "accounting",
                lambda: add_accounting(self.metrics, self.ask("accounting"), self.clock(), self.limit),
            )


def write(path: Path, text: str) -> None:
    """Replace the file in one step: whoever reads it sees the old one or the new one."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), 0o644)
        stream.write(text)
    Path(name).replace(path)


def main() -> int:
    """Ask Slurm and write the file; that Slurm does not answer is something to write down, not a failure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("part", choices=("queue", "accounting"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=5000, help="jobs with series of their own")
    parser.add_argument("--name", default=socket.gethostname().split(".")[0], help="this controller's name")
    told = parser.parse_args()
    collector = Collector(_ask, time.time, told.limit)
    (collector.queue if told.part == "queue" else collector.accounting)(told.name)
    write(told.output, collector.metrics.text())
    for line in collector.failed:
        print(line, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
