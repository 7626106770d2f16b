"""One run of a playbook against a site, from the checks before it to the files it leaves.

Each run leaves `log.txt`, `timeline.json`, `summary.json`, `site.json` and, when services were asked,
`validation.json` in `<config>/.runs/<time>-<kind>/`.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rackloom import __version__
from rackloom.result import ExitCode, Problem
from rackloom.run import preflight, rundirs
from rackloom.run.progress import ProgressSink, Silent, names
from rackloom.run.record import Failure, Record
from rackloom.run.runner import PlayEnd, PlayRequest, RawEvent, Stop, play
from rackloom.run.stages import UnknownStageError, choose, stages_of

_MOST_HOSTS_ON_A_LINE = 8
_SLURM_RANGE = re.compile(r"\[[^\]:]*[-,][^\]:]*\]")
_LAST_WORDS = 12
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended. `run_dir` is None when it was refused: then nothing was touched.

    hosts: name → {ok, changed, skipped, failed, unreachable, rescued, ignored}; checks and statuses: what the
    services answered; facts: host → what modules gave as `rackloom_facts`; resume: the command that goes on, empty
    when there is nothing to go on with.
    """

    exit_code: ExitCode
    run_dir: Path | None = None
    problems: tuple[Problem, ...] = ()
    hosts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    stages: Sequence[Mapping[str, Any]] = ()
    counts: Mapping[str, Any] = field(default_factory=dict)
    checks: Sequence[Mapping[str, Any]] = ()
    statuses: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    resume: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The `data` of the JSON answer."""
        return {
            "run": str(self.run_dir) if self.run_dir else None,
            "seconds": round(self.seconds, 1),
            "stages": [dict(stage) for stage in self.stages],
            "hosts": {name: dict(counts) for name, counts in self.hosts.items()},
            "counts": dict(self.counts),
            "checks": [dict(check) for check in self.checks],
            "resume": self.resume,
        }


@dataclass(frozen=True, slots=True)
class Job:
    """What to run, and how it is called by people. `kind` names the run and its directory."""

    kind: str
    playbook: str
    stages: tuple[str, ...] = ()
    limit: str | None = None
    check: bool = False
    tags: tuple[str, ...] = ()
    extra_vars: Mapping[str, Any] = field(default_factory=dict)
    exclusive: bool = True
    """Hold the site meanwhile; a run that only looks does not need to."""


def deploy(
    config_dir: Path,
    *,
    stages: Sequence[str] = (),
    limit: str | None = None,
    check: bool = False,
    playbook: str = "playbooks/site.yml",
    progress: ProgressSink | None = None,
    extra_tags: Sequence[str] = (),
    extra_vars: Mapping[str, Any] | None = None,
) -> RunOutcome:
    """Bring the nodes to what the site says: all stages, or those named. Never raises for what goes wrong."""
    job = Job("deploy", playbook, tuple(stages), limit, check, tuple(extra_tags), extra_vars or {})
    return run(config_dir, job, progress)


def run(config_dir: Path, job: Job, progress: ProgressSink | None = None) -> RunOutcome:
    """Run a job on a site. Refuses (exit code 2, nothing touched) when the site or its key is wrong."""
    from rackloom.provision import host_keys  # noqa: PLC0415 - slow to load
    from rackloom.site.paths import home  # noqa: PLC0415

    config_dir, project = config_dir.absolute(), home().absolute()
    progress = progress or Silent()
    try:
        chosen = choose(project / job.playbook, job.stages)
    except UnknownStageError as error:
        return _refuse(Problem("unknown_stage", str(error), error.cure))
    looked = preflight.look(config_dir)
    if looked.problems:
        return RunOutcome(ExitCode.MISTAKES, problems=looked.problems)
    with ExitStack() as held:
        try:
            if job.exclusive:
                held.enter_context(rundirs.site_lock(config_dir, f"rackloom {job.kind}"))
                rundirs.await_ansible(config_dir)
            run_dir = rundirs.new_run(config_dir, job.kind)
        except rundirs.BusyError as error:
            return _refuse(
                Problem("busy", str(error), "wait for it, or stop it with Ctrl-C in its own terminal")
            )
        except OSError as error:
            return _refuse(
                Problem("runs_dir", f"cannot write {error.filename}: {error.strerror}", "mend its rights")
            )
        host_keys.learn(looked.site)
        log = held.enter_context((run_dir / "log.txt").open("w", encoding="utf-8"))
        return _Run(config_dir, project, job, chosen, run_dir, progress, log).perform(looked.site)


def _refuse(problem: Problem) -> RunOutcome:
    return RunOutcome(ExitCode.MISTAKES, problems=(problem,))


class _Run:
    """One run that was allowed to start."""

    def __init__(
        self,
        config_dir: Path,
        project: Path,
        job: Job,
        chosen: list[str],
        run_dir: Path,
        progress: ProgressSink,
        log: IO[str],
    ) -> None:
        self.config_dir, self.project, self.job, self.chosen = config_dir, project, job, chosen
        self.run_dir, self.progress, self.log = run_dir, progress, log
        self.known = stages_of(project / job.playbook)
        self.record = Record(self.known, project)
        self.stop = Stop()
        self._told_stop = False

    def perform(self, site: Any) -> RunOutcome:
        from rackloom.site import secrets  # noqa: PLC0415

        rundirs.write_json(self.run_dir / "site.json", describe_site(site))
        request = PlayRequest(
            project=self.project,
            playbook=self.job.playbook,
            inventory=(self.config_dir,),
            limit=expand_limit(self.job.limit),
            tags=(*self.chosen, *self.job.tags),
            check=self.job.check,
            extra_vars=self.job.extra_vars,
            env={
                secrets.KEY_VARIABLE: str(secrets.key_file(self.config_dir).absolute()),
                "RACKLOOM_CONFIG": str(self.config_dir),
            },
            lock=rundirs.ansible_lock(self.config_dir) if self.job.exclusive else None,
        )
        title = f"{self.job.kind} {site.cluster.name if site else self.config_dir.name}" + (
            " (check mode: nothing is changed)" * self.job.check
        )
        self._progress("start", title, self.chosen or self.known, self.record)
        with self.stop.on_signals():
            end = play(request, self._event, stop=self.stop, on_tick=self._tick)
            self.record.finish(interrupted=end.interrupted)
            self._progress("stop")
            return self._leave(end)

    def _event(self, raw: RawEvent) -> None:
        if text := str(raw.get("stdout") or "").replace("\r", ""):
            self.log.write(text + "\n")
        self.record.see(raw)
        self._progress("update")
        self._notice_stop()

    def _tick(self) -> None:
        self.log.flush()
        self._progress("tick")
        self._notice_stop()

    def _notice_stop(self) -> None:
        if self.stop.asked and not self._told_stop:
            self._told_stop = True
            self._progress("notice", "stopping: Ansible ends its tasks (Ctrl-C again to kill it) …")

    def _progress(self, call: str, *arguments: Any) -> None:
        """A display that breaks (a closed pipe, a terminal gone) must not cost the record of the run."""
        try:
            getattr(self.progress, call)(*arguments)
        except Exception:  # noqa: BLE001
            self.progress = Silent()
            self.progress.start("", (), self.record)

    def _leave(self, end: PlayEnd) -> RunOutcome:
        """Write the run's files and say how it ended."""
        record = self.record
        problems, code = self._judge(end)
        outcome = RunOutcome(
            exit_code=code,
            run_dir=self.run_dir,
            problems=tuple(problems),
            hosts={name: _counts(tally) for name, tally in sorted(record.hosts.items())},
            stages=record.timeline()["stages"],
            counts=record.counts(),
            checks=tuple(record.checks),
            statuses=tuple(record.statuses),
            facts=dict(record.facts),
            seconds=record.ended - record.started,
            resume=self._resume(end) if code not in (ExitCode.OK, ExitCode.MISTAKES) else "",
        )
        with suppress(OSError):
            rundirs.write_json(self.run_dir / "timeline.json", record.timeline())
            rundirs.write_json(self.run_dir / "summary.json", self._summary(outcome))
            if record.checks:
                verdict = {"ok": all(check.get("ok") for check in record.checks), "checks": record.checks}
                rundirs.write_json(self.run_dir / "validation.json", verdict)
        return outcome

    def _judge(self, end: PlayEnd) -> tuple[list[Problem], ExitCode]:
        record = self.record
        problems = [_problem(failure, self.run_dir) for failure in fold_failures(record.failures)]
        real = [failure for failure in record.failures if not failure.verdict]
        bad = [check for check in record.checks if not check.get("ok")]
        if end.interrupted:
            what = f"stopped in stage {record.stage}" if record.stage else "stopped before it began"
            cure = "nothing is lost: run the same command again, it goes on where it was"
            return [*problems, Problem("interrupted", what, cure)], ExitCode.INTERRUPTED
        if any(not failure.unreachable for failure in real):
            return problems, ExitCode.FAILED
        if bad or any(failure.verdict for failure in record.failures):
            return [*problems, *(_bad_check(check) for check in bad)], ExitCode.VERDICT
        if real:
            return problems, ExitCode.UNREACHABLE
        if end.rc == 0 and not end.fault:
            return problems, ExitCode.OK
        return [*problems, self._not_started(end)], ExitCode.FAILED

    def _not_started(self, end: PlayEnd) -> Problem:
        """Ansible gave up without a failed task: a playbook, inventory or limit that it does not accept."""
        said = " ".join(line.strip() for line in self.record.last_words[-_LAST_WORDS:] if line.strip())
        message = said[-1500:] or end.fault or f"ansible-playbook ended with status {end.rc}"
        from rackloom.run import cures  # noqa: PLC0415

        code, cure = cures.find(message, "the node")
        if "no hosts" in message.lower() or "--limit" in message:
            code, cure = (
                "empty_limit",
                "the --limit names no host of this site; `rackloom inventory` lists them",
            )
        cure = cure or f"the whole story is in {self.run_dir / 'log.txt'}"
        return Problem("ansible" if code == "task_failed" else code, message, cure)

    def _resume(self, end: PlayEnd) -> str:
        """The command that goes on: from the stage that failed, for the hosts that did not make it."""
        argv = ["rackloom", self.job.kind]
        order = self.chosen or self.known
        if self.job.kind == "deploy" and (first := self._first_bad_stage()) in order:
            rest = order[order.index(first) :]
            argv += [] if rest == self.known else rest
        elif self.job.kind != "deploy":
            argv += self.chosen
        if os.environ.get("RACKLOOM_CONFIG") is None and self.config_dir != Path("config").absolute():
            argv += ["--config", str(self.config_dir)]
        hosts = sorted({failure.host for failure in self.record.failures if not failure.verdict})
        if end.interrupted or not hosts or self.job.kind != "deploy":
            argv += ["--limit", self.job.limit] if self.job.limit else []
        elif len(hosts) <= _MOST_HOSTS_ON_A_LINE:
            argv += ["--limit", ",".join(hosts)]
        else:
            failed = self.run_dir / "failed-hosts.txt"
            failed.write_text("\n".join(hosts) + "\n", encoding="utf-8")
            argv += ["--limit", f"@{failed}"]
        return shlex.join(argv + (["--check"] if self.job.check else []))

    def _first_bad_stage(self) -> str:
        for failure in self.record.failures:
            return failure.stage
        return self.record.stage

    def _summary(self, outcome: RunOutcome) -> dict[str, Any]:
        return {
            "version": 1,
            "kind": self.job.kind,
            "config": self.config_dir.name,
            "command": shlex.join(["rackloom", *sys.argv[1:]])
            if len(sys.argv) > 1
            else f"rackloom {self.job.kind}",
            "started": time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(self.record.started)),
            "limit": self.job.limit,
            "check": self.job.check,
            "exit_code": int(outcome.exit_code),
            "errors": [problem.as_dict() for problem in outcome.problems],
            "facts": self.record.facts,
            "versions": {"rackloom": __version__, **_controller_versions(), **self.record.versions},
            "status": list(self.record.statuses),
            **outcome.as_dict(),
        }


def expand_limit(limit: str | None) -> str | None:
    """Accept Slurm's ranges in --limit (`gpu[001-016]`) beside Ansible's own patterns (`group[0]`, `gpu[1:16]`)."""
    if not limit or not _SLURM_RANGE.search(limit):
        return limit
    from rackloom.site.ranges import RangeError, expand, split  # noqa: PLC0415

    try:
        parts = [expand(part) if _SLURM_RANGE.search(part) else [part] for part in split(limit)]
    except RangeError:
        return limit
    return ",".join(name for part in parts for name in part)


def describe_site(site: Any) -> dict[str, Any]:
    """Nodes and groups for the report.

    {name, domain, nodes: {name: {role, address, profile}}, groups, services, profiles}
    """
    from rackloom.site.groups import groups  # noqa: PLC0415

    if site is None:
        return {}
    return {
        "name": site.cluster.name,
        "domain": site.cluster.domain,
        "nodes": {
            node.name: {"role": node.role, "address": node.address, "profile": node.profile}
            for node in site.nodes.values()
        },
        "groups": {name: list(hosts) for name, hosts in site.groups.items() if hosts},
        "services": [name for name, group in groups().items() if group.service and site.groups.get(name)],
        "profiles": {name: _hardware(profile) for name, profile in site.profiles.items()},
    }


def _hardware(profile: Any) -> str:
    """`2x64 cores, 8xa100`."""
    parts = [f"{profile.sockets}x{profile.cores} cores", *(f"{gpu.count}x{gpu.type}" for gpu in profile.gpus)]
    return ", ".join(parts)


def fold_failures(failures: Sequence[Failure]) -> list[tuple[Failure, list[str]]]:
    """The same failure on many hosts, told once: `(the first, all its hosts)`."""
    found: dict[tuple[str, str], tuple[Failure, list[str]]] = {}
    for failure in failures:
        message = _ADDRESS.sub("…", failure.message.replace(failure.host, "…"))
        found.setdefault((failure.task, message), (failure, []))[1].append(failure.host)
    return list(found.values())


def _problem(folded: tuple[Failure, list[str]], run_dir: Path) -> Problem:
    failure, hosts = folded
    cure = failure.cure.replace(failure.host, names(hosts)) or f"see {run_dir / 'log.txt'}"
    details = {
        "host": names(hosts),
        "hosts": hosts,
        "stage": failure.stage,
        "task": failure.task,
        "task_path": failure.path,
    }
    return Problem(failure.code, f"{failure.task} ({failure.path}): {failure.message}", cure, details)


def _bad_check(check: Mapping[str, Any]) -> Problem:
    name = f"{check.get('service', '?')}/{check.get('name', '?')}"
    message = f"{name}: {check.get('detail') or 'not ok'}"
    return Problem("check_failed", message, "", {"service": check.get("service"), "check": check.get("name")})


def _counts(tally: Any) -> dict[str, int]:
    return {name: getattr(tally, name) for name in tally.__slots__}


def _controller_versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    found = {"python": platform.python_version()}
    for package in ("ansible-core", "ansible-runner"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
