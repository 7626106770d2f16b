"""The test runner counts honestly."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from tests.loading import loaded

from rackloom.docs_gen.tree import ROOT


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    return loaded(ROOT / "tests/runner.py", "rackloom_test_runner")


@pytest.fixture
def logs(runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runner, "LOGS", tmp_path)
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    return tmp_path


def job(runner: ModuleType, code: str, **more: object) -> object:
    return runner.Job(name=code[:20], argv=(sys.executable, "-c", code), **more)


def run(runner: ModuleType, *jobs: object) -> int:
    crew = runner.Runner()
    crew.run("suite", list(jobs), 2)
    code = runner.summary(crew.outcomes)
    assert isinstance(code, int)
    return code


@pytest.mark.usefixtures("logs")
def test_last_line_counts_jobs(runner: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(runner, job(runner, "pass"), job(runner, "print('the cause'); exit(3)")) == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "1 passed, 1 failed, 0 skipped"
    assert "the cause" in out
    assert "exit code 3" in out


@pytest.mark.usefixtures("logs")
def test_a_missing_tool_fails(runner: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(runner, runner.Job(name="gone", argv=("/no/such/tool",))) == 1
    assert "/no/such/tool" in capsys.readouterr().out


@pytest.mark.usefixtures("logs")
def test_what_the_machine_lacks_is_told_and_counted(
    runner: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = runner.Runner()
    runs.run("some", [runner.Job("built", ("false",), lacks="no compiler")], 1)
    runner.summary(runs.outcomes)
    said = capsys.readouterr().out
    assert "skipped: built: no compiler" in said
    assert said.splitlines()[-1] == "0 passed, 0 failed, 1 skipped"


@pytest.mark.usefixtures("logs")
def test_heavy_jobs_run_one_after_another_with_others_beside_them(runner: ModuleType, logs: Path) -> None:
    """Each heavy one fails where another is; the first goes on only when the light one has run."""
    there, light = logs / "there", logs / "light"
    program = logs / "heavy.py"
    program.write_text(
        "import os, sys, time\n"
        f"os.mkdir({str(there)!r})\n"
        "end = time.monotonic() + 120\n"
        f"while not os.path.exists({str(light)!r}):\n"
        "    assert time.monotonic() < end\n"
        "    time.sleep(0.01)\n"
        f"os.rmdir({str(there)!r})\n"
    )
    jobs = [
        *(runner.Job(name, (sys.executable, str(program)), heavy=True) for name in ("one", "two", "three")),
        runner.Job("light", (sys.executable, "-c", f"open({str(light)!r}, 'w')")),
    ]
    assert run(runner, *jobs) == 0


def test_a_job_that_hangs_fails(runner: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(runner, job(runner, "import time; time.sleep(60)", timeout=0.3)) == 1
    assert "ran longer than" in capsys.readouterr().out


def test_leftovers_of_a_hanging_job_are_taken_away(runner: ModuleType, logs: Path) -> None:
    mark = logs / "cleaned"
    cleanup = (sys.executable, "-c", f"open({str(mark)!r}, 'w')")
    run(runner, job(runner, "import time; time.sleep(60)", timeout=0.3, cleanup=cleanup))
    assert mark.exists()
    mark.unlink()
    run(runner, job(runner, "exit(1)", cleanup=cleanup))
    assert not mark.exists(), "a job that ended by itself cleans up by itself"


@pytest.mark.usefixtures("logs")
def test_an_ended_test_takes_down_what_it_has_made(runner: ModuleType, logs: Path) -> None:
    (logs / "test_lab.py").write_text(
        "import pytest, time\n"
        "from pathlib import Path\n"
        "HERE = Path(__file__).parent\n"
        "@pytest.fixture\n"
        "def lab():\n"
        "    (HERE / 'up').touch()\n"
        "    yield\n"
        "    (HERE / 'up').unlink()\n"
        "def test_it(lab): time.sleep(600)\n"
    )
    argv = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(logs), str(logs / "test_lab.py")]
    process = subprocess.Popen(argv, start_new_session=True, stdout=subprocess.DEVNULL, cwd=logs)
    end = time.monotonic() + 120
    while not (logs / "up").exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    runner.end(process)
    assert process.returncode and not (logs / "up").exists()


def test_nothing_run_is_no_success(runner: ModuleType) -> None:
    assert run(runner) == 1


def test_pytest_reports_are_counted_test_by_test(
    runner: ModuleType, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = logs / "test_three.py"
    test.write_text(
        "import pytest\n"
        "def test_good(): assert 1 + 1 == 2\n"
        "def test_bad(): assert 1 + 1 == 3\n"
        "@pytest.mark.skip(reason='no such machine')\n"
        "def test_not_here(): ...\n"
    )
    made = runner.pytest_job("pytest", [str(test)], ["-p", "no:cacheprovider"], workers=1, timeout=60)
    assert run(runner, made) == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "1 passed, 1 failed, 1 skipped"
    assert "no such machine" in out


def test_a_report_without_failures_does_not_hide_a_bad_exit(runner: ModuleType, logs: Path) -> None:
    report = logs / "r.xml"
    report.write_text('<testsuites><testsuite><testcase name="a"/></testsuite></testsuites>')
    assert runner.count(runner.Job("x", ("x",), junit=report), 3)[:3] == (0, 1, 0)


def test_unknown_scenario_is_refused(runner: ModuleType) -> None:
    with pytest.raises(SystemExit, match="no such scenario: nonsense"):
        runner.scenario_jobs(["nonsense"])


def test_jobs_can_be_listed() -> None:
    argv = [sys.executable, "tests/runner.py", "lint", "--list"]
    out = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"ansible-lint", "mypy", "ruff", "shellcheck", "yamllint", "docs"} <= set(out.splitlines())
