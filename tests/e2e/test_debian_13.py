"""The same cluster on the next release: Slurm 24.11 and MariaDB 11 in place of 22.05 and 10.11."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import Lab


class Trixie(Lab):
    """A lab of Debian 13 nodes."""

    name = "e2e13"
    config = Lab.root / ".lab" / "e2e13" / "config"
    os = "debian-13"


@pytest.fixture(scope="module")
def trixie() -> Iterator[Trixie]:
    """Nodes that are up and nothing more; removed at the end."""
    lab = Trixie()
    try:
        lab.fresh("--no-deploy")
        yield lab
    finally:
        lab.call("lab", "down", "--name", lab.name)


def test_deploys_and_runs_jobs(trixie: Trixie) -> None:
    trixie.call("deploy").must()
    checks = trixie.call("validate").must().data["checks"]
    assert {check["service"] for check in checks} == {"base", "gpu", "slurm"}
    # the lab's GPUs are device files, and its checks of real ones say so
    assert {check["service"] for check in checks if check["skipped"]} == {"gpu"}
    assert 'VERSION_ID="13"' in trixie.ssh("gpu01", "cat /etc/os-release")


def test_a_second_deploy_changes_nothing(trixie: Trixie) -> None:
    answer = trixie.call("deploy").must()
    assert not any(counts["changed"] for counts in answer.data["hosts"].values()), answer.said
