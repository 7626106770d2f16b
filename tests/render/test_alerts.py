"""Every alert fires when it should and is silent when it should, by promtool; and there is a page on what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.tools import tool

ROOT = Path(__file__).parents[2]
RULES = ROOT / "roles" / "prometheus" / "files" / "rules"
CASES = Path(__file__).parent / "alerts"
RUNBOOKS = ROOT / "docs" / "runbooks"
SEVERITIES = {"critical", "warning", "info"}
LABEL = re.compile(r"\$labels\.(\w+)")


def alerts() -> dict[str, dict[str, Any]]:
    """Every alert of every file, with the file that it is in."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    assert rule["alert"] not in found, f"{rule['alert']} is there twice"
                    found[rule["alert"]] = {**rule, "file": path}
    return found


def cases() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(CASES.glob("*.yml")):
        found |= yaml.safe_load(path.read_text())
    return found


ALERTS = alerts()
TESTED = cases()
every_alert = pytest.mark.parametrize("name", sorted(ALERTS))


@pytest.fixture(scope="session")
def promtool() -> Path:
    return tool("prometheus", "promtool")


def bare(path: Path, folder: Path) -> Path:
    """A file of rules without texts: promtool compares them letter by letter, and they are looked at elsewhere."""
    data = yaml.safe_load(path.read_text())
    for group in data["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations", None)
    copy = folder / path.name
    copy.write_text(yaml.safe_dump(data, sort_keys=False))
    return copy


def case(name: str, told: dict[str, Any], labels: list[dict[str, str]]) -> dict[str, Any]:
    """One test in promtool's notation."""
    own = ALERTS[name].get("labels", {})
    return {
        "interval": "1m",
        "name": name,
        "input_series": [{"series": series, "values": values} for series, values in told["series"].items()],
        "alert_rule_test": [
            {
                "eval_time": told["at"],
                "alertname": name,
                "exp_alerts": [{"exp_labels": {**own, **one}} for one in labels],
            }
        ],
    }


def judged(promtool: Path, folder: Path, path: Path, tests: list[dict[str, Any]]) -> str:
    """What promtool has against these expectations; "" where all hold."""
    rules = bare(path, folder)
    file = folder / "tests.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": [rules.name], "evaluation_interval": "1m", "tests": tests}, width=10000)
    )
    done = subprocess.run(
        [str(promtool), "test", "rules", file.name], cwd=folder, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_every_alert_has_both_its_tests() -> None:
    assert ALERTS
    assert set(TESTED) == set(ALERTS)
    for name, told in TESTED.items():
        assert told["fires"]["labels"], name
        assert told["silent"] == "never" or told["silent"]["series"], name
    assert [name for name, told in TESTED.items() if told["silent"] == "never"] == ["DeadMansSwitch"]


@every_alert
def test_silence_is_no_accident(name: str) -> None:
    """What is silent was asked about metrics that the alert looks at, and fires on the same ones."""
    told = TESTED[name]
    if told["silent"] == "never":
        return
    metrics = [{series.partition("{")[0] for series in told[kind]["series"]} for kind in ("fires", "silent")]
    words = set(re.findall(r"[A-Za-z_:][A-Za-z0-9_:]*", str(ALERTS[name]["expr"])))
    assert metrics[0] <= words
    assert metrics[1] <= words
    assert metrics[0] & metrics[1]


def test_promtool_takes_the_rules_as_they_are(promtool: Path) -> None:
    files = [str(path) for path in sorted(RULES.glob("*.yml"))]
    done = subprocess.run(
        [str(promtool), "check", "rules", "--lint=all", "--lint-fatal", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "path", sorted({rule["file"] for rule in ALERTS.values()}), ids=lambda path: path.stem
)
def test_alerts_fire_and_are_silent(promtool: Path, tmp_path: Path, path: Path) -> None:
    tests = []
    for name in [name for name, rule in ALERTS.items() if rule["file"] == path]:
        told = TESTED[name]
        tests.append(case(name, told["fires"], told["fires"]["labels"]))
        if told["silent"] != "never":
            tests.append(case(name, told["silent"], []))
    assert tests
    wrong = judged(promtool, tmp_path, path, tests)
    assert not wrong, wrong


def test_promtool_would_have_said_so(promtool: Path, tmp_path: Path) -> None:
    """The other way round: what fires was not expected to, and the reverse."""
    told = TESTED["NodeDown"]
    assert judged(promtool, tmp_path, RULES / "node.yml", [case("NodeDown", told["fires"], [])])
    labels = told["fires"]["labels"]
    assert judged(promtool, tmp_path, RULES / "node.yml", [case("NodeDown", told["silent"], labels)])


def test_a_text_is_filled_in(promtool: Path, tmp_path: Path) -> None:
    """One alert whole, with its texts, as a person gets it."""
    told = TESTED["NodeDown"]
    text = (RULES / "node.yml").read_text().replace("@runbooks@", "https://door.example/runbooks")
    (tmp_path / "node.yml").write_text(text)
    test = case("NodeDown", told["fires"], told["fires"]["labels"])
    test["alert_rule_test"][0]["exp_alerts"][0]["exp_annotations"] = {
        "summary": "n1 is down",
        "description": "n1 (compute) has answered neither its exporter's port nor echo requests for two minutes.",
        "runbook_url": "https://door.example/runbooks/node-down.md",
    }
    (tmp_path / "tests.yml").write_text(
        yaml.safe_dump(
            {"rule_files": ["node.yml"], "evaluation_interval": "1m", "tests": [test]}, width=10000
        )
    )
    done = subprocess.run(
        [str(promtool), "test", "rules", "tests.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@every_alert
def test_it_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    if name != "DeadMansSwitch":
        assert rule["labels"]["severity"] in SEVERITIES
        assert rule["labels"].get("about"), "inhibition needs it"
    link = re.fullmatch(r"@runbooks@/([a-z0-9-]+\.md)", rule["annotations"]["runbook_url"])
    assert link, rule["annotations"]["runbook_url"]
    page = (RUNBOOKS / link.group(1)).read_text()
    assert f"`{name}`" in page, f"{link.group(1)} does not tell of it"
    assert "## What to do" in page


@every_alert
def test_texts_name_labels_that_are_there(name: str) -> None:
    """A text with an empty place in it tells nobody anything."""
    rule = ALERTS[name]
    used = {label for text in rule["annotations"].values() for label in LABEL.findall(text)}
    for labels in TESTED[name]["fires"]["labels"]:
        lacking = used - set(labels) - set(rule.get("labels", {}))
        # A service that moves between hosts is of no node.
        assert not lacking - {"role"}, f"{name}: {lacking}"


def test_every_runbook_is_of_an_alert() -> None:
    linked = {rule["annotations"]["runbook_url"].rpartition("/")[2] for rule in ALERTS.values()}
    assert {path.name for path in RUNBOOKS.glob("*.md")} - {"index.md"} == linked
