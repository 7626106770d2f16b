"""Run the test suites: lint gates, pytest, molecule scenarios, end-to-end tests.

Called by ``scripts/test.sh`` once the machine is set up. Every gate, scenario and pytest run is one
job: a command with a log file under ``.cache/test/``. Jobs of a suite run side by side. The terminal
gets a line when a job starts or ends and a sign of life every half minute; a failed job prints
the end of its log. The last line is always ``N passed, N failed, N skipped``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET  # the files are pytest's own, written a moment ago

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".cache" / "test"
BIN = Path(sys.prefix) / "bin"
SUITES = ("lint", "unit", "roles", "e2e", "pxe", "kubernetes", "upstream", "all")
LONG = "long"
"""Marker of tests that are too slow for every commit; the suites pxe, kubernetes and upstream run them."""
ALL_LONG = f"pytestmark = pytest.mark.{LONG}\n"
"""What a file says whose tests are all long."""
UNIT, RENDER = "unit", "render"
"""Folders of the tests that start no node; those of the second ask real programs, also such as are built here."""
HEARTBEAT = 30.0
TAIL = 80
TIMED_OUT = 124
CORES = os.cpu_count() or 2
HEAVY = ("test_pxe", "test_kubernetes", "test_monitoring")
"""End-to-end files that take both cores by themselves: emulated machines, and clusters with control-plane nodes. They
are begun first, one after another; side by side each would starve the other."""
WITH_PROGRAMS = {"test_kubernetes", "test_monitoring"}
"""End-to-end files whose labs install the programs that are built here."""
SHARED = {"test_kubernetes_gpu": "test_kubernetes"}
"""End-to-end files whose tests go on in the lab of another file's, in the same run."""


@dataclass(frozen=True)
class Job:
    """One command to run; ``junit`` names the report that counts its tests, if it has one."""

    name: str
    argv: tuple[str, ...]
    timeout: float = 900.0
    junit: Path | None = None
    env: dict[str, str] = field(default_factory=dict)
    cleanup: tuple[str, ...] = ()
    """What takes away the job's leftovers when it could not end by itself."""
    heavy: bool = False
    """Whether no other heavy job may run beside it."""
    lacks: str = ""
    """Why it cannot run on this machine; it is then counted as skipped, and the reason is told."""

    @property
    def log(self) -> Path:
        """Where the output goes."""
        return LOGS / f"{self.name.replace(' ', '-').replace('/', '-')}.log"


@dataclass(frozen=True)
class Outcome:
    """What came of a job: how many passed, failed and were skipped, and why."""

    job: Job
    seconds: float
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    notes: tuple[str, ...] = ()
    reason: str = ""


def say(text: str) -> None:
    """Print one line at once, so that a pipe shows it too."""
    print(text, flush=True)


def files(*suffixes: str) -> list[str]:
    """Tracked and new files of the repository that end in one of ``suffixes``, relative paths."""
    argv = [
        "git",
        "-c",
        f"safe.directory={ROOT}",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted(name for name in listed if name.endswith(suffixes) and (ROOT / name).is_file())


def environment(job: Job) -> dict[str, str]:
    """The environment that a job runs in: our programs first, and no colours in logs."""
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "NO_COLOR": "1", **job.env}


def shell_scripts() -> list[str]:
    """Every file that a shell reads, found by its suffix or its first line."""
    found = []
    for name in files(""):
        if name.endswith(".j2"):
            continue  # not a shell's language yet
        with (ROOT / name).open("rb") as stream:
            first = stream.readline(80)
        if name.endswith(".sh") or (
            first.startswith(b"#!") and first.split()[-1].endswith((b"bash", b"/sh"))
        ):
            found.append(name)
    return found


def tool(name: str) -> str:
    """Path of a program: the virtual environment first, then PATH, else the bare name."""
    own = BIN / name
    return str(own) if own.exists() else (shutil.which(name) or name)


def lint_jobs() -> list[Job]:
    """The gates, slowest first; they start no containers."""
    typed = [
        name
        for name in ("scripts/rackloom", "plugins", "tests", "molecule")
        if any((ROOT / name).rglob("*.py"))
    ]
    return [
        # with the scenarios' settings: no vault key is wanted to read playbooks
        Job(
            "ansible-lint",
            (tool("ansible-lint"), "-q"),
            env={"ANSIBLE_CONFIG": "molecule/shared/ansible.cfg"},
        ),
        Job("mypy", (tool("mypy"), *typed)),
        # never with --quiet: it hides the warnings from --strict
        Job("docs", (tool("mkdocs"), "build", "--strict"), env={"NO_MKDOCS_2_WARNING": "1"}),
        Job("yamllint", (tool("yamllint"), "--strict", *files(".yml", ".yaml", ".yamllint"))),
        Job("shellcheck", (tool("shellcheck"), "--external-sources", *shell_scripts())),
        Job("ruff", (tool("ruff"), "check", ".")),
        Job("ruff format", (tool("ruff"), "format", "--check", ".")),
    ]


def pytest_job(
    name: str,
    paths: Iterable[str],
    extra: Sequence[str] = (),
    *,
    workers: int,
    timeout: float,
    heavy: bool = False,
    lacks: str = "",
) -> Job:
    """One pytest run; its report counts the tests one by one."""
    junit = LOGS / f"{name.replace(' ', '-')}.xml"
    argv = [sys.executable, "-m", "pytest", "-q", f"--junitxml={junit}", "-o", "junit_family=xunit2"]
    if workers > 1:
        argv += ["-n", str(workers), "--dist", "loadfile"]
    return Job(name, (*argv, *paths, *extra), timeout=timeout, junit=junit, heavy=heavy, lacks=lacks)


def unit_jobs(extra: Sequence[str]) -> list[Job]:
    """Pytest over tests/unit and tests/render; ``extra`` goes to pytest and may name paths."""
    named = [arg for arg in extra if arg.startswith("tests/")]
    rest = [arg for arg in extra if arg not in named]
    workers = min(CORES, 4)
    if named:
        return [pytest_job("pytest", named, rest, workers=workers, timeout=2400)]
    return [
        pytest_job(f"pytest {name}", [f"tests/{name}"], rest, workers=workers, timeout=2400)
        for name in (UNIT, RENDER)
        if any((ROOT / "tests" / name).rglob("test_*.py"))
    ]


def e2e_jobs(extra: Sequence[str]) -> list[Job]:
    """One pytest run a file of tests/e2e, since the tests of a file share one lab; slowest first."""
    if extra:
        return [pytest_job("e2e", ["tests/e2e"], ["-v", *extra], workers=1, timeout=3000)]
    found = {path.stem for path in (ROOT / "tests/e2e").glob("test_*.py") if ALL_LONG not in path.read_text()}
    found -= SHARED.keys()
    jobs = {
        stem: pytest_job(
            f"e2e {stem.removeprefix('test_')}",
            [
                f"tests/e2e/{name}.py"
                for name in (stem, *(more for more, first in SHARED.items() if first == stem))
            ],
            ["-v", "-m", f"not {LONG}"],
            workers=1,
            timeout=2400,
            heavy=stem in HEAVY,
            lacks=no_go() if stem in WITH_PROGRAMS else "",
        )
        for stem in found
    }
    if any((ROOT / "tests/upstream").glob("test_*.py")):
        jobs["upstream"] = pytest_job(
            "upstream quick", ["tests/upstream"], ["-v", "-m", f"not {LONG}"], workers=1, timeout=1800
        )
    order = [*HEAVY, *sorted(jobs.keys() - {*HEAVY})]
    return [jobs[stem] for stem in order if stem in jobs]


def no_go() -> str:
    """Why the real programs cannot be built here; empty where they can."""
    return "" if shutil.which("go") else "this machine has no Go; the real programs cannot be built"


def program_jobs() -> list[Job]:
    """Build the upstream programs that scenarios and labs install; with what is built already, a second or two."""
    argv = (sys.executable, "tests/upstream/build.py", "build", "--suite", "full")
    return [Job("upstream programs", argv, timeout=3600, lacks=no_go())]


def long_jobs(name: str, extra: Sequence[str]) -> list[Job]:
    """What takes too long for every commit, with what is quick of the same kind."""
    paths = {
        "pxe": ["tests/e2e/test_pxe.py"],
        "kubernetes": [
            "tests/e2e/test_kubernetes_lifecycle.py",
            "tests/e2e/test_kubernetes_size.py",
            # last: their lab stays until the end of the run
            "tests/e2e/test_kubernetes.py",
            "tests/e2e/test_kubernetes_gpu.py",
        ],
        "upstream": ["tests/upstream"],
    }[name]
    return [pytest_job(name, paths, ["-v", *extra], workers=1, timeout=7200)]


def scenarios() -> list[str]:
    """Names of the molecule scenarios."""
    return sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))


def needs_programs(scenario: str) -> bool:
    """Whether a scenario installs programs that are built here."""
    prepare = ROOT / "molecule" / scenario / "prepare.yml"
    text = prepare.read_text() if prepare.exists() else ""
    return "tests/upstream/build.py" in text or "shared/kubernetes.yml" in text


def changed_scenarios(base: str) -> list[str]:
    """Scenarios touched since ``base``; all of them when something that they share changed."""
    argv = ["git", "-c", f"safe.directory={ROOT}", "diff", "--name-only", base]
    paths = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    known = scenarios()
    touched = {path.split("/")[1] for path in paths if path.startswith(("roles/", "molecule/"))}
    shared = any(path.startswith(("plugins/", "ansible.cfg", "requirements")) for path in paths)
    shared = shared or any(path.startswith("molecule/") and path.split("/")[1] not in known for path in paths)
    return known if shared else sorted(touched & set(known))


def scenario_jobs(names: Sequence[str]) -> list[Job]:
    """One job a scenario; an unknown name is a usage error."""
    known = scenarios()
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise SystemExit(f"test: no such scenario: {', '.join(unknown)}. There are: {', '.join(known)}")
    molecule = tool("molecule")
    return [
        Job(
            f"scenario {name}",
            (molecule, "test", "-s", name),
            timeout=1800,
            cleanup=(molecule, "destroy", "-s", name),
            lacks=no_go() if needs_programs(name) else "",
        )
        for name in names or known
    ]


def count(job: Job, code: int) -> tuple[int, int, int, tuple[str, ...]]:
    """Return passed, failed, skipped and the reasons for skips of a finished job."""
    if job.junit is None or not job.junit.exists():
        return (1, 0, 0, ()) if code == 0 else (0, 1, 0, ())
    cases = list(ET.parse(job.junit).getroot().iter("testcase"))  # noqa: S314 - our own file
    bad = sum(1 for case in cases if case.find("failure") is not None or case.find("error") is not None)
    skips = [(case, why) for case in cases if (why := case.find("skipped")) is not None]
    notes = [
        f"{case.get('classname', '')}::{case.get('name', '')}: {why.get('message', '')}"
        for case, why in skips
    ]
    if code and not bad:  # collection error, no test at all, a worker that died
        bad = 1
    return max(len(cases) - bad - len(skips), 0), bad, len(skips), tuple(notes)


class Runner:
    """Runs jobs, keeps the list of running ones for the sign of life and for the clean end."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.outcomes: list[Outcome] = []
        self._running: dict[str, tuple[Job, float, subprocess.Popen[bytes]]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def clock(self) -> str:
        """Minutes and seconds since the start."""
        seconds = int(time.monotonic() - self.started)
        return f"{seconds // 60:02d}:{seconds % 60:02d}"

    def run(self, title: str, jobs: Sequence[Job], workers: int) -> None:
        """Run the jobs of a suite side by side and keep what came of them."""
        if not jobs:
            say(f"[{self.clock()}] {title}: nothing to run")
            return
        say(f"[{self.clock()}] {title}: {len(jobs)} job(s), {workers} at a time")
        waiting, done = dict(enumerate(jobs)), dict[int, Outcome]()
        turn = threading.Condition()
        heavy = False

        def work() -> None:
            nonlocal heavy
            while True:
                with turn:
                    while waiting and heavy and all(each.heavy for each in waiting.values()):
                        turn.wait()
                    if not waiting:
                        return
                    place = next(n for n, each in waiting.items() if not (each.heavy and heavy))
                    job = waiting.pop(place)
                    heavy = heavy or job.heavy
                try:
                    done[place] = self._one(job)
                finally:
                    with turn:
                        heavy = heavy and not job.heavy
                        turn.notify_all()

        with ThreadPoolExecutor(max_workers=workers) as pool:
            for each in [pool.submit(work) for _ in range(workers)]:
                each.result()
        self.outcomes += [done[place] for place in sorted(done)]

    def heartbeat(self) -> None:
        """Say every half minute what is running, with the last line of its log."""
        while not self._stop.wait(HEARTBEAT):
            with self._lock:
                running = list(self._running.values())
            for job, since, _ in running:
                last = tail(job.log, 1)[-100:].strip()
                say(f"[{self.clock()}]   … {job.name} ({time.monotonic() - since:.0f} s) {last}")

    def stop(self) -> None:
        """End the sign of life and whatever still runs."""
        self._stop.set()
        with self._lock:
            running = list(self._running.values())
        end(*(process for _, _, process in running))

    def _one(self, job: Job) -> Outcome:
        if self._stop.is_set():
            return Outcome(job, 0.0, failed=1, reason="not started: the run was ended")
        if job.lacks:
            say(f"[{self.clock()}] skip  {job.name}: {job.lacks}")
            return Outcome(job, 0.0, skipped=1, notes=(f"{job.name}: {job.lacks}",))
        say(f"[{self.clock()}] start {job.name}")
        began = time.monotonic()
        reason = ""
        if job.junit is not None:
            job.junit.unlink(missing_ok=True)
        with job.log.open("wb") as log:
            try:
                code = self._spawn(job, began, log.fileno())
            except subprocess.TimeoutExpired:
                code, reason = TIMED_OUT, f"ran longer than {job.timeout:.0f} s"
            except OSError as error:
                code, reason = 127, f"{error.strerror}: {job.argv[0]} (scripts/setup.sh --dev installs it)"
        if job.cleanup and (self._stop.is_set() or code == TIMED_OUT):
            subprocess.run(
                job.cleanup, cwd=ROOT, env=environment(job), capture_output=True, timeout=120, check=False
            )
        passed, failed, skipped, notes = count(job, code)
        outcome = Outcome(
            job, time.monotonic() - began, passed, failed, skipped, notes, reason or f"exit code {code}"
        )
        self._report(outcome)
        return outcome

    def _spawn(self, job: Job, began: float, log: int) -> int:
        process = subprocess.Popen(
            job.argv,
            cwd=ROOT,
            env=environment(job),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with self._lock:
            self._running[job.name] = (job, began, process)
        try:
            return process.wait(timeout=job.timeout)
        finally:
            with self._lock:
                del self._running[job.name]
            end(process)

    def _report(self, outcome: Outcome) -> None:
        verdict = "FAIL" if outcome.failed else "ok"
        say(f"[{self.clock()}] {verdict:<5} {outcome.job.name} ({outcome.seconds:.0f} s)")
        if outcome.failed:
            with self._lock:
                text = tail(outcome.job.log, TAIL)
                say(f"----- {outcome.job.name}: {outcome.reason}; end of {outcome.job.log.relative_to(ROOT)}")
                say(text)
                say(f"----- end of {outcome.job.name}")


def end(*processes: subprocess.Popen[bytes]) -> None:
    """End jobs' process groups; finished ones are left alone. What a test has made it takes down when interrupted."""
    for number, patience in ((signal.SIGINT, 120), (signal.SIGTERM, 20), (signal.SIGKILL, 20)):
        living = [process for process in processes if process.poll() is None]
        for process in living:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        until = time.monotonic() + patience
        for process in living:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(until - time.monotonic(), 0))


def tail(path: Path, lines: int) -> str:
    """Last lines of a log, without reading a large one whole."""
    if not path.exists():
        return ""
    with path.open("rb") as stream:
        stream.seek(max(path.stat().st_size - 400 * lines, 0))
        text = stream.read().decode(errors="replace")
    return "\n".join(text.rstrip().splitlines()[-lines:])


def summary(outcomes: Sequence[Outcome]) -> int:
    """Print the table and the last line; return the exit code."""
    width = max((len(outcome.job.name) for outcome in outcomes), default=4)
    say(f"\n{'':<{width}}  {'seconds':>7} {'passed':>7} {'failed':>7} {'skipped':>7}")
    for each in outcomes:
        say(f"{each.job.name:<{width}}  {each.seconds:7.0f} {each.passed:7} {each.failed:7} {each.skipped:7}")
    for each in outcomes:
        for note in each.notes:
            say(f"skipped: {note}")
    totals = [sum(getattr(each, key) for each in outcomes) for key in ("passed", "failed", "skipped")]
    say(f"{totals[0]} passed, {totals[1]} failed, {totals[2]} skipped")
    return 1 if totals[1] or not sum(totals) else 0


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="scripts/test.sh", description="Run Rackloom's tests.")
    parser.add_argument("suite", nargs="?", default="all", choices=SUITES)
    parser.add_argument(
        "--workers", type=int, default=2 if CORES <= 2 else 3, help="scenarios or labs at a time"
    )
    parser.add_argument(
        "--changed", nargs="?", const="HEAD", metavar="BASE", help="only scenarios touched since BASE (HEAD)"
    )
    parser.add_argument("--list", action="store_true", help="name the jobs and stop")
    parser.add_argument(
        "names", nargs="*", help="roles: scenarios; the others: arguments for pytest, after --"
    )
    return parser.parse_args(argv)


def plan(options: argparse.Namespace) -> list[tuple[str, list[Job], int]]:
    """Turn the command line into suites: title, jobs, how many at a time."""
    suite, names = options.suite, options.names
    extra = names if suite in {"unit", "e2e", "pxe", "kubernetes", "upstream"} else []
    picked = changed_scenarios(options.changed) if options.changed else names if suite == "roles" else []
    wanted: dict[str, Callable[[], list[Job]]] = {
        "lint": lint_jobs,
        "unit": lambda: unit_jobs(extra),
        "roles": lambda: [] if options.changed and not picked else scenario_jobs(picked),
        "e2e": lambda: e2e_jobs(extra),
        "pxe": lambda: long_jobs("pxe", extra),
        "kubernetes": lambda: long_jobs("kubernetes", extra),
        "upstream": lambda: long_jobs("upstream", extra),
    }
    chosen = {"all": ["lint", "unit", "roles", "e2e"], "unit": ["lint", "unit"]}.get(suite, [suite])
    if suite == "unit" and extra:
        chosen = ["unit"]  # somebody works on one test: no gates
    together = [name for name in chosen if name in {"lint", "unit"}]
    fast = [job for name in together for job in wanted[name]()]
    late: list[Job] = []
    if suite == "all":
        late = [job for job in fast if job.name == f"pytest {RENDER}"]
        # the programs first: they take longest from cold, and others wait for them
        fast = [*program_jobs(), *(job for job in fast if job not in late)]
    slow = [name for name in chosen if name not in together]
    return [
        *([(" and ".join(together), fast, min(CORES, 3))] if together else []),
        *((name, [*(late if name == "roles" else []), *wanted[name]()], options.workers) for name in slow),
    ]


def main(argv: Sequence[str]) -> int:
    """Run the suites that the command line names."""
    options = arguments(argv)
    suites = plan(options)
    if options.list:
        for _, jobs, _ in suites:
            for job in jobs:
                say(job.name)
        return 0
    LOGS.mkdir(parents=True, exist_ok=True)
    runner = Runner()

    def ended(number: int, _frame: object) -> None:
        runner.stop()  # first: the pool waits for its jobs, and they do not see the terminal's Ctrl-C
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ended)
    threading.Thread(target=runner.heartbeat, daemon=True).start()
    try:
        for title, jobs, workers in suites:
            runner.run(title, jobs, workers)
    except KeyboardInterrupt:
        runner.stop()
        summary(runner.outcomes)
        return 130
    runner.stop()
    return summary(runner.outcomes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
