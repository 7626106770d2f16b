"""MPI Operator, the real program: a job becomes pods that find each other, and Kueue can hold it back."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.daemons import program, running
from tests.render.conftest import Api, api

if TYPE_CHECKING:
    from tests.upstream.conftest import Built

    Build = Callable[[str], Built]

JOB = Path(__file__).resolve().parents[2] / "workloads" / "kubernetes" / "mpijob.yml"
ROOM = "mpi-operator"
pytestmark = pytest.mark.long
__all__ = ["api"]


class Jobs:
    """Asks the API server with kubectl."""

    def __init__(self, kubectl: str, api: Api) -> None:
        self.kubectl = [kubectl, f"--kubeconfig={api.kubeconfig}"]

    def tell(self, *words: str) -> str:
        done = subprocess.run([*self.kubectl, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *words: str) -> Any:
        return json.loads(self.tell("get", *words, "--output=json"))

    def names(self, kind: str) -> set[str]:
        return {each["metadata"]["name"] for each in self.get(kind)["items"]}

    def until(self, what: str, done: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
            time.sleep(0.2)


@pytest.fixture
def jobs(built: Build, api: Api, tmp_path: Path) -> Iterator[Jobs]:
    """The operator beside an API server that has nobody who runs pods."""
    [file] = (built("mpi-operator").output / "manifests").glob("*/mpi-operator.yaml")
    kinds = [
        each for each in yaml.safe_load_all(file.read_text()) if each["kind"] == "CustomResourceDefinition"
    ]
    api.define(kinds)
    found = Jobs(program("kubectl", "kubernetes"), api)
    found.tell("create", "namespace", ROOM)
    log = tmp_path / "log"
    argv = [built("mpi-operator-program").program("mpi-operator"), "-alsologtostderr"]
    argv += [f"--lock-namespace={ROOM}", f"--kubeConfig={api.kubeconfig}"]
    argv += [f"--master=https://127.0.0.1:{api.port}"]
    with running(argv, log, lambda: "Started workers" in log.read_text()):
        yield found


def test_a_job_becomes_pods_that_find_each_other_and_is_held_back(jobs: Jobs) -> None:
    wanted = yaml.safe_load(JOB.read_text())
    name, count = wanted["metadata"]["name"], wanted["spec"]["mpiReplicaSpecs"]["Worker"]["replicas"]
    workers = {f"{name}-worker-{number}" for number in range(count)}
    jobs.tell("create", f"--filename={JOB}")
    jobs.until("its pods are there", lambda: jobs.names("pods") == workers)
    jobs.until("its launcher is there", lambda: jobs.names("jobs") == {f"{name}-launcher"})
    hosts = jobs.get("configmap", f"{name}-config")["data"]["hostfile"].split()
    assert {host.partition(".")[0] for host in hosts[::2]} == workers
    assert jobs.get("pod", min(workers))["spec"]["containers"][0]["resources"]["limits"] == {
        "nvidia.com/gpu": "1"
    }
    # As Kueue does where there is no room.
    jobs.tell("patch", "mpijob", name, "--type=merge", '--patch={"spec": {"runPolicy": {"suspend": true}}}')
    jobs.until("its pods are gone", lambda: not jobs.names("pods"))
    assert jobs.get("job", f"{name}-launcher")["spec"]["suspend"] is True
