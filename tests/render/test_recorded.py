"""The sums that Prometheus keeps are what they say, by promtool; and dashboards ask for none that is not kept."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.tools import tool

from rackloom.dashboards import DASHBOARDS

ROOT = Path(__file__).parents[2]
RULES = ROOT / "roles" / "prometheus" / "files" / "rules" / "recorded.yml"
KEPT = [rule["record"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
CASES: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "recorded.yml").read_text())
NAME = re.compile(r"\b[a-z_]+:[a-z0-9_:]+\b")


def judged(folder: Path, names: list[str], **changed: dict[str, float]) -> str:
    """What promtool has against these expectations; "" where all hold."""
    tests = [
        {
            "interval": "1m",
            "name": name,
            "input_series": [
                {"series": one, "values": values} for one, values in CASES[name]["series"].items()
            ],
            "promql_expr_test": [
                {
                    "expr": name,
                    "eval_time": "15m",
                    "exp_samples": [
                        {"labels": name + ("" if labels == "{}" else labels), "value": value}
                        for labels, value in changed.get(name, CASES[name]["kept"]).items()
                    ],
                }
            ],
        }
        for name in names
    ]
    told = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}
    (folder / "tests.yml").write_text(yaml.safe_dump(told, width=10000))
    argv = [str(tool("prometheus", "promtool")), "test", "rules", str(folder / "tests.yml")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_what_is_kept_is_what_it_says(tmp_path: Path) -> None:
    assert set(CASES) == set(KEPT)
    assert judged(tmp_path, KEPT) == ""


@pytest.mark.parametrize("name", KEPT[:1])
def test_promtool_would_have_said_so(tmp_path: Path, name: str) -> None:
    other = {labels: value + 1 for labels, value in CASES[name]["kept"].items()}
    assert judged(tmp_path, [name], **{name: other}) != ""


def test_dashboards_ask_for_what_is_kept() -> None:
    asked = {
        name
        for board in DASHBOARDS
        for panel in board.panels()
        for query in panel.queries
        for name in NAME.findall(re.sub(r"\[[^]]*\]|\"[^\"]*\"", "", query.expr))
    }
    assert asked
    assert asked <= set(KEPT)
    # Rules that nothing reads would be work for nothing; those of nodes are read by those of the cluster too.
    used = asked | set(NAME.findall(" ".join(re.findall(r"expr: (.*)", RULES.read_text()))))
    assert set(KEPT) == used
