"""What a run has done so far: fed with ansible-runner's events, read by progress, summary and timeline."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rackloom.run import cures

Raw = Mapping[str, Any]

_RESULTS = {
    "runner_on_ok": "ok",
    "runner_on_failed": "failed",
    "runner_on_async_failed": "failed",
    "runner_on_unreachable": "unreachable",
    "runner_on_skipped": "skipped",
}
SHELL = frozenset({"shell", "command", "raw", "script", "expect"})
# How ansible-core 2.19 begins what a module or action said.
_PREAMBLE = re.compile(r"^(?:(?:Task|Action|Module) failed: )+")
HIDDEN = "the result is hidden (no_log)"


@dataclass(slots=True)
class Tally:
    """A host's results, counted."""

    ok: int = 0
    changed: int = 0
    skipped: int = 0
    failed: int = 0
    unreachable: int = 0
    rescued: int = 0
    ignored: int = 0

    @property
    def state(self) -> str:
        """One word for the host."""
        if self.failed:
            return "failed"
        if self.unreachable:
            return "unreachable"
        return "changed" if self.changed else "ok"


@dataclass(slots=True)
class Task:
    """A task as the playbook has it; `number` is its place in the order of starting."""

    number: int
    name: str
    role: str
    action: str
    path: str
    stage: str
    play: str
    started: float

    @property
    def title(self) -> str:
        """Role and name, as people know it."""
        return f"{self.role} : {self.name}" if self.role else self.name


@dataclass(slots=True)
class Row:
    """One evaluation of a task on a host. Epoch seconds; status is ok, changed, skipped, failed or the like."""

    task: Task
    host: str
    start: float
    end: float
    status: str


@dataclass(slots=True)
class Stage:
    """A stage's span. status: running, ok, failed, unreachable or interrupted."""

    name: str
    start: float
    end: float
    status: str = "running"
    hosts: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that failed for good on a host, told as completely as it may be."""

    host: str
    stage: str
    task: str
    path: str
    message: str
    code: str
    cure: str
    unreachable: bool = False
    verdict: bool = False
    """The task only told that a service is not well (its result carries checks)."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


class Record:
    """Feed `see` with raw events in order. All times are epoch seconds."""

    def __init__(self, known_stages: Sequence[str] = (), project: Path | None = None) -> None:
        self.known_stages = tuple(known_stages)
        self.project = str(project) + "/" if project else ""
        self.started = time.time()
        self.ended = 0.0
        self.tasks: list[Task] = []
        self.rows: list[Row] = []
        self.stages: dict[str, Stage] = {}
        self.hosts: dict[str, Tally] = {}
        self.play = ""
        self.task: Task | None = None
        self.pending: dict[str, None] = {}
        """Hosts whose result of the current task is still missing, in order."""
        self.stats: dict[str, Any] | None = None
        self.checks: list[dict[str, Any]] = []
        self.statuses: list[dict[str, Any]] = []
        self.facts: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, str] = {}
        self.interrupted = False
        self.last_words: list[str] = []
        """The end of what Ansible said outside of tasks: errors before the first play show only here."""
        self._by_uuid: dict[str, Task] = {}
        self._failures: list[Failure] = []
        self._play_hosts: list[str] = []
        self._next_stage = ""
        self._lost: set[str] = set()

    @property
    def stage(self) -> str:
        """The stage at work, or nothing."""
        return next(reversed(self.stages), "")

    def see(self, raw: Raw) -> None:
        """Take in one event."""
        event, data = raw.get("event", ""), raw.get("event_data") or {}
        now = _epoch(raw.get("created"))
        if event == "playbook_on_play_start":
            self._play_starts(data)
        elif event in ("playbook_on_task_start", "playbook_on_handler_task_start"):
            self._task_starts(data, now)
        elif event in _RESULTS:
            self._result(_RESULTS[event], data, now)
        elif event == "playbook_on_stats":
            self.stats = {key: value for key, value in data.items() if isinstance(value, dict)}
        elif event in ("verbose", "error", "warning", "system_warning", "deprecated") and raw.get("stdout"):
            self.last_words = [*self.last_words[-39:], str(raw["stdout"])]

    def finish(self, *, interrupted: bool) -> None:
        """No more events: close what is open."""
        self.ended = time.time()
        self.interrupted = interrupted
        if self.task and interrupted:
            for host in self.pending:
                self.rows.append(Row(self.task, host, self.task.started, self.ended, "interrupted"))
        if self.stage:
            last = self.stages[self.stage]
            last.end = self.ended if interrupted else last.end
            if interrupted:
                last.status = "interrupted"
        for stage in self.stages.values():
            if stage.status == "running":
                stage.status = self._stage_verdict(stage.name)
        self._settle_rescued()

    def _play_starts(self, data: Raw) -> None:
        self.play = str(data.get("name", ""))
        self._play_hosts = [str(host) for host in data.get("hosts", [])]
        self._next_stage = self._stage_of(data)
        self.task, self.pending = None, {}

    def _stage_of(self, play: Raw) -> str:
        tags = [str(tag) for tag in play.get("tags", [])]
        for stage in self.known_stages:
            if stage in tags:
                return stage
        file = str(play.get("path", "")).rpartition(":")[0]
        return Path(file).stem or self.play or "run"

    def _open_stage(self, now: float) -> None:
        """A play's stage begins with its first task: Ansible also announces plays that --tags leaves empty."""
        name = self._next_stage
        if name not in self.stages:
            if self.stage and self.stages[self.stage].status == "running":
                self.stages[self.stage].status = self._stage_verdict(self.stage)
            self.stages[name] = Stage(name, now, now)
        self.stages[name].hosts.update(self._play_hosts)

    def _task_starts(self, data: Raw, now: float) -> None:
        self._open_stage(now)
        uuid = str(data.get("task_uuid", data.get("uuid", "")))
        task = self._by_uuid.get(uuid)
        if task is None:
            action = str(data.get("resolved_action") or data.get("task_action") or "")
            path = str(data.get("task_path") or "").removeprefix(self.project)
            name = str(data.get("task") or data.get("name") or action)
            task = Task(
                len(self.tasks), name, str(data.get("role") or ""), action, path, self.stage, self.play, now
            )
            self.tasks.append(task)
            self._by_uuid[uuid] = task
        self.task = task
        # A host that failed takes no further part (a rescued one does, but need not be shown as awaited).
        out = self._lost | {host for host, tally in self.hosts.items() if tally.failed}
        self.pending = dict.fromkeys(host for host in self._play_hosts if host not in out)

    def _result(self, status: str, data: Raw, now: float) -> None:
        host = str(data.get("host", ""))
        task = self._by_uuid.get(str(data.get("task_uuid", ""))) or self.task
        if task is None:
            return
        res = data.get("res")
        res = res if isinstance(res, dict) else {}
        tally = self.hosts.setdefault(host, Tally())
        if status == "ok" and res.get("changed"):
            status = "changed"
            tally.changed += 1
        if status in ("ok", "changed"):
            tally.ok += 1
        elif status == "failed" and data.get("ignore_errors"):
            status = "ignored"
            tally.ignored += 1
            tally.ok += 1
        elif status == "skipped":
            tally.skipped += 1
        else:
            self._fails(status, host, task, res)
        end = _epoch(data.get("end")) if data.get("end") else now
        start = _epoch(data.get("start")) if data.get("start") else task.started
        self.rows.append(Row(task, host, max(start, task.started), end, status))
        self.stages[task.stage].end = max(self.stages[task.stage].end, end)
        self.pending.pop(host, None)
        self._keep(host, res)

    def _fails(self, status: str, host: str, task: Task, res: dict[str, Any]) -> None:
        message = failure_text(res)
        code, cure = cures.find(f"{message}\n{res.get('module_stderr', '')}\n{res.get('stderr', '')}", host)
        if status == "unreachable":
            self.hosts[host].unreachable += 1
            self._lost.add(host)
            if code == "task_failed":
                code, cure = "unreachable", cures.find("no route to host", host)[1]
        else:
            self.hosts[host].failed += 1
        self._failures.append(
            Failure(
                host, task.stage, task.title, task.path, message, code, cure,
                unreachable=status == "unreachable", verdict="rackloom_checks" in res,
            )
        )  # fmt: skip

    def _keep(self, host: str, res: dict[str, Any]) -> None:
        for key, into in (("rackloom_checks", self.checks), ("rackloom_status", self.statuses)):
            found = res.get(key)
            if isinstance(found, list):
                into.extend(item for item in found if isinstance(item, dict))
        if isinstance(facts := res.get("rackloom_facts"), dict):
            self.facts.setdefault(host, {}).update(facts)
        if isinstance(versions := res.get("rackloom_versions"), dict):
            self.versions.update({str(name): str(version) for name, version in versions.items()})

    def _settle_rescued(self) -> None:
        """A failure that a `rescue` took care of is in the events but not in Ansible's final count."""
        if self.stats is None:
            return
        failed, dark = self.stats.get("failures", {}), self.stats.get("dark", {})
        for host, tally in self.hosts.items():
            if tally.failed and host not in failed:
                tally.rescued, tally.failed = tally.failed, 0
            if tally.unreachable and host not in dark:
                tally.ignored, tally.unreachable = tally.ignored + tally.unreachable, 0
        for stage in self.stages.values():
            if stage.status in ("failed", "unreachable"):
                stage.status = self._stage_verdict(stage.name)

    @property
    def failures(self) -> list[Failure]:
        """What failed for good: of a host that ended well, nothing; of others, not what was rescued before."""
        return [failure for failure in self._failures if self._final(failure)]

    def _final(self, failure: Failure) -> bool:
        tally = self.hosts[failure.host]
        return bool(tally.unreachable if failure.unreachable else tally.failed)

    def _stage_verdict(self, name: str) -> str:
        kinds = {failure.unreachable for failure in self.failures if failure.stage == name}
        if False in kinds:
            return "failed"
        return "unreachable" if kinds else "ok"

    def counts(self) -> dict[str, Any]:
        """Evaluations, skips and shell-like tasks, with their shares (0 to 1)."""
        evaluations = len(self.rows)
        skipped = sum(1 for row in self.rows if row.status == "skipped")
        shell_rows = sum(1 for row in self.rows if _is_shell(row.task))
        shell_tasks = sum(1 for task in self.tasks if _is_shell(task))
        return {
            "tasks": len(self.tasks),
            "evaluations": evaluations,
            "skipped": skipped,
            "skipped_share": round(skipped / evaluations, 4) if evaluations else 0.0,
            "shell_tasks": shell_tasks,
            "shell_share": round(shell_tasks / len(self.tasks), 4) if self.tasks else 0.0,
            "shell_evaluations": shell_rows,
            "changed": sum(tally.changed for tally in self.hosts.values()),
        }

    def timeline(self) -> dict[str, Any]:
        """The whole run as plain data; times are seconds since `started`.

        rows: `[task number, host, start, end, status]`.
        """

        def since(moment: float) -> float:
            return round(max(0.0, moment - self.started), 3)

        return {
            "version": 1,
            "started": self.started,
            "seconds": since(self.ended or time.time()),
            "interrupted": self.interrupted,
            "stages": [
                {
                    "name": stage.name,
                    "start": since(stage.start),
                    "end": since(stage.end),
                    "status": stage.status,
                    "hosts": len(stage.hosts),
                }
                for stage in self.stages.values()
            ],
            "tasks": [
                {
                    "name": task.name,
                    "role": task.role,
                    "action": task.action,
                    "path": task.path,
                    "stage": task.stage,
                    "play": task.play,
                }
                for task in self.tasks
            ],
            "rows": [
                [row.task.number, row.host, since(row.start), since(row.end), row.status] for row in self.rows
            ],
        }


def failure_text(res: Mapping[str, Any]) -> str:
    """What a failed result says, for people: the message, or the failed items' messages, or the end of stderr."""
    if "censored" in res:
        return HIDDEN
    if isinstance(res.get("results"), list):
        said = [_one(item) for item in res["results"] if isinstance(item, dict) and item.get("failed")]
        if said := list(dict.fromkeys(text for text in said if text)):
            return "; ".join(said[:3]) + (f"; and {len(said) - 3} more" if len(said) > 3 else "")
    return _one(res) or "failed without a message"


def _one(res: Mapping[str, Any]) -> str:
    if "censored" in res:
        return HIDDEN
    message = res.get("msg", "")
    if isinstance(message, (list, tuple)):
        message = "; ".join(str(part) for part in message)
    text = _PREAMBLE.sub("", str(message).strip())
    for key in ("module_stderr", "stderr", "reason"):
        more = str(res.get(key) or "").strip()
        if more and (not text or text.upper().startswith(("MODULE FAILURE", "NON-ZERO RETURN CODE"))):
            text = f"{text}: {_last_lines(more)}" if text else _last_lines(more)
            break
    return text[:2000]


def _last_lines(text: str, count: int = 3) -> str:
    return " | ".join(line.strip() for line in text.splitlines()[-count:] if line.strip())


def _is_shell(task: Task) -> bool:
    return task.action.rpartition(".")[2] in SHELL


def _epoch(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return time.time()
