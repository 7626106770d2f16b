"""The module around the plan, with a stand-in for sacctmgr."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Keep = Callable[..., dict[str, Any]]
# Knows one QOS; takes every change, and keeps what it was told beside itself.
SACCTMGR = """#!/bin/sh
here=$(dirname "$0")
grep -q '^AccountingStorageHost=192.0.2.1$' "$SLURM_CONF" || exit 9
if [ -e "$here/down" ]; then
    echo 'sacctmgr: error: Problem talking to the database: Connection refused' >&2
    exit 1
fi
case "$*" in
    *MaxNonsense*) echo "Unknown field 'MaxNonsense'" >&2; exit 1 ;;
    '-nP show qos '*) echo 'normal|0||cluster||Normal QOS default|'; cat "$here/qos" 2>/dev/null ;;
    '-nP show cluster '*) echo 'demo|' ;;
    '-i add qos high') echo 'high|0||cluster|||' > "$here/qos" ;;
    '-i modify qos name=high set Priority=5') echo 'high|5||cluster|||' > "$here/qos" ;;
    '-i '*) ;;
    *) ;;
esac
[ "$1" = -i ] && echo "$*" >> "$here/told"
exit 0
"""


@pytest.fixture
def bin_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "sacctmgr"
    program.write_text(SACCTMGR)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


@pytest.fixture
def keep(run_module: Keep, bin_dir: Path) -> Keep:
    def run(**arguments: Any) -> dict[str, Any]:
        return run_module("slurm_accounting", host="192.0.2.1", timeout=1, **arguments)

    return run


def test_differences_are_sent_once(keep: Keep, bin_dir: Path) -> None:
    qos = [{"name": "normal"}, {"name": "high", "priority": 5}]
    assert keep(qos=qos, check=True)["changes"] == ["qos high: added", "qos high: Priority - -> 5"]
    assert not (bin_dir / "told").exists()
    assert keep(qos=qos)["changed"]
    assert (bin_dir / "told").read_text().splitlines() == [
        "-i add qos high",
        "-i modify qos name=high set Priority=5",
    ]
    assert not keep(qos=qos)["changed"]


def test_a_change_that_does_not_arrive_is_an_error(keep: Keep) -> None:
    result = keep(qos=[{"name": "normal", "priority": 7}])
    assert result["failed"]
    assert "still differs" in result["msg"]


def test_nothing_to_keep_asks_nothing(keep: Keep, bin_dir: Path) -> None:
    (bin_dir / "down").touch()
    assert not keep()["changed"]


def test_an_unknown_limit_is_an_error(keep: Keep) -> None:
    assert "MaxNonsense" in keep(qos=[{"name": "normal", "limits": {"MaxNonsense": 1}}])["msg"]


def test_a_database_that_is_not_there(keep: Keep, bin_dir: Path) -> None:
    (bin_dir / "down").touch()
    qos = [{"name": "high"}]
    assert "does not answer" in keep(qos=qos)["msg"]
    foreseen = keep(qos=qos, check=True)
    assert (foreseen["changed"], foreseen["changes"]) == (True, ["high: not in the database yet"])


def test_a_dry_run_on_a_bare_node(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert keep(cluster="demo", check=True)["changes"] == ["cluster demo: not in the database yet"]
    assert "not installed" in keep(cluster="demo")["msg"]


def test_accounts_need_a_cluster(keep: Keep) -> None:
    assert "cluster is needed" in keep(accounts=[{"name": "a"}])["msg"]


def test_a_value_that_means_nothing(keep: Keep) -> None:
    assert "MaxWall" in keep(qos=[{"name": "normal", "limits": {"MaxWall": "soon"}}])["msg"]
