"""What programs may rely on: the envelope, the exit codes, and quick answers."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from rackloom.cli.main import app, from_error, run, wants_json
from rackloom.result import ExitCode, Problem, Result, Status, Table, render

REPO = Path(__file__).resolve().parents[3]
KEYS = {"rackloom_result_version", "command", "status", "exit_code", "data", "errors"}


def test_exit_codes_are_these() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0,
        "FAILED": 1,
        "MISTAKES": 2,
        "VERDICT": 3,
        "UNREACHABLE": 4,
        "INTERRUPTED": 130,
    }
    shown = app.info.help or ""
    assert all(f"{int(code)} " in shown for code in ExitCode)


def test_the_envelope() -> None:
    problem = Problem("x", "words", "cure", {"host": "a"})
    envelope = Result("deploy", ExitCode.FAILED, {"a": 1}, (problem,), status=Status.PARTIAL).envelope()
    assert set(envelope) == KEYS
    assert envelope["status"] == "partial"
    assert envelope["errors"] == [{"code": "x", "message": "words", "cure": "cure", "host": "a"}]
    assert Result("x").envelope()["status"] == "success"
    assert Result("x", ExitCode.VERDICT).envelope()["status"] == "error"


def test_for_people() -> None:
    out, err = io.StringIO(), io.StringIO()
    problem = Problem("x", "words [bold]not markup[/bold]", "do this", {"file": "a.yml", "line": 3})
    result = Result(
        "x", ExitCode.FAILED, errors=(problem,), view=("[head]", Table(("a",), (("ok",), ("x" * 300,))))
    )
    render(result, as_json=False, out=out, err=err)
    assert err.getvalue() == "✗ a.yml:3: words [bold]not markup[/bold]\n  → do this\n"
    assert out.getvalue().startswith("[head]\n")
    assert "x" * 300 in out.getvalue()
    assert "\x1b" not in out.getvalue() + err.getvalue()


@pytest.mark.parametrize("argv", [["deplyo"], ["deploy", "--lmit", "x"], ["version", "extra"]])
def test_usage_errors_come_as_the_envelope_too(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*argv, "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == KEYS
    assert answer["errors"][0]["code"] == "usage"
    assert run(argv) == 2
    assert "--help" in capsys.readouterr().err


def test_json_after_the_dashes_is_not_ours() -> None:
    assert wants_json(["deploy", "--json"])
    assert not wants_json(["lab", "ssh", "node", "--", "cmd", "--json"])


def test_check_tells_all_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cluster.yml").write_text("---\nname: demo\ndomian: x\n", encoding="utf-8")
    (tmp_path / "nodes.yml").write_text("---\nmanagement: []\n", encoding="utf-8")
    assert run(["check", "--config", str(tmp_path), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["errors"]) > 1
    assert all(
        {"code", "message", "cure", "file", "line", "value"} <= set(error) for error in answer["errors"]
    )
    assert any(error["line"] == 3 and "domian" in error["message"] for error in answer["errors"])


def test_the_config_folder_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RACKLOOM_CONFIG", str(tmp_path / "nowhere"))
    assert run(["check"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_schema_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "export", str(tmp_path), "--json"]) == 0
    for file in json.loads(capsys.readouterr().out)["data"]["written"]:
        assert "properties" in json.loads(Path(file).read_text(encoding="utf-8"))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version"]) == 0
    assert capsys.readouterr().out.count(".") == 2


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (PermissionError(13, "Permission denied", "/x"), "file", ExitCode.FAILED),
        (RuntimeError("odd"), "internal", ExitCode.FAILED),
        (typer.Abort(), "stopped", ExitCode.INTERRUPTED),
    ],
)
def test_errors_become_results(error: Exception, code: str, exit_code: ExitCode) -> None:
    result = from_error(["deploy"], error)
    assert (result.exit_code, result.errors[0].code) == (exit_code, code)


def test_help_loads_nothing_heavy() -> None:
    """Start-up time, measured in what it is made of: help and completion load neither Ansible nor pydantic nor rich."""
    program = (
        "import sys; from rackloom.cli.main import run; run(['--help']); "
        "print([name for name in ('ansible', 'ansible_runner', 'pydantic', 'rich', 'yaml', 'jinja2') "
        "if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPO / "scripts", capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_only_main_exits() -> None:
    for path in (REPO / "scripts" / "rackloom").rglob("*.py"):
        text = path.read_text(encoding="utf-8").partition("if __name__ ==")[0]
        if path.name not in ("main.py", "child.py", "__main__.py"):
            assert "sys.exit(" not in text, path
