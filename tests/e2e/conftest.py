"""One lab for all end-to-end tests, driven as a user drives it: through the scripts and their JSON answers."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.data.gpu.machine import Machine

if TYPE_CHECKING:
    from .test_kubernetes import KubeLab

PLAYED = "/var/lib/rackloom/gpu-health/played"
"""Where the health check of a node with made-up GPUs looks for the machine around them."""
ROOT = Path(__file__).parents[2]
NAME = os.environ.get("RACKLOOM_E2E_LAB", "e2e")
OS = os.environ.get("RACKLOOM_E2E_OS", "debian-12")


@dataclass(frozen=True)
class Answer:
    """What a command said: exit code, the JSON envelope, seconds, and what it printed for people."""

    code: int
    envelope: dict[str, Any]
    seconds: float
    said: str

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.envelope["data"]
        return data

    def must(self, code: int = 0) -> Answer:
        """Return the answer, or fail the test with all that the command said."""
        assert self.code == code, f"exit code {self.code}, not {code}\n{self.envelope}\n{self.said[-6000:]}"
        return self


class Lab:
    """The lab, its command line and its nodes."""

    name = NAME
    root = ROOT
    config = ROOT / ".lab" / NAME / "config"
    os = OS

    def call(self, *words: str, program: str = ".venv/bin/rackloom") -> Answer:
        """Run a command of ours with --json."""
        began = time.monotonic()
        done = subprocess.run(
            [str(ROOT / program), *words, "--json"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "RACKLOOM_CONFIG": str(self.config)},
        )
        seconds = time.monotonic() - began
        try:
            envelope = json.loads(done.stdout)
        except ValueError:
            pytest.fail(
                f"{' '.join(words)} gave no JSON (exit code {done.returncode}):\n{done.stdout}\n{done.stderr}"
            )
        return Answer(done.returncode, envelope, seconds, done.stderr)

    def up(self, *words: str) -> Answer:
        """Run scripts/lab.sh up for this lab."""
        return self.call("up", "--name", self.name, "--os", self.os, *words, program="scripts/lab.sh")

    def fresh(self, *words: str) -> None:
        """Bring it up; what a run that was ended has left of it goes before."""
        if not os.environ.get("RACKLOOM_E2E_KEEP"):
            self.call("lab", "down", "--name", self.name)
        self.up(*words).must()

    def ssh(self, node: str, command: str, *, check: bool = True) -> str:
        """Run a command on a node as root and return its output, errors included."""
        done = subprocess.run(
            [str(ROOT / ".venv/bin/rackloom"), "lab", "ssh", "--name", self.name, node, "--", command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        out = done.stdout + done.stderr
        assert not check or done.returncode == 0, f"{node}: {command}: {out}"
        return out.strip()

    def power(self, node: str, *, on: bool) -> None:
        """Pull or plug a node's power."""
        self.call("lab", "power", "--name", self.name, node, "on" if on else "off").must()

    def as_user(self, command: str) -> str:
        """Run a command on the login node as the ordinary user alice."""
        quoted = command.replace("'", "'\\''")
        return self.ssh("login01", f"runuser -l alice -c '{quoted}'")

    def give(self, node: str, folder: Path, place: str) -> None:
        """Lay a small folder onto a node; who looks there meanwhile never sees a part of it."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            tar.add(folder, ".")
        text = base64.b64encode(packed.getvalue()).decode()
        unpack = f"base64 -d | tar xzf - -C {place}.new --no-same-owner"
        swap = f"rm -rf {place} && mv {place}.new {place}"
        self.ssh(node, f"rm -rf {place}.new && mkdir -p {place}.new && echo {text} | {unpack} && {swap}")

    def play_gpus(self, node: str, folder: Path) -> None:
        """Have a node's two made-up GPUs answer as real ones do, and all is well with them."""
        Machine(folder / "machine", {"base": "a100"})
        self.give(node, folder / "machine", PLAYED)
        # What an earlier test has had the kernel say is none of this one's business.
        program = "/usr/libexec/rackloom/gpu-health"
        verdict = json.loads(self.ssh(node, f"{program} clear && {program} check"))
        assert verdict["healthy"] and len(verdict["gpus"]) == 2, verdict

    def await_that(self, what: str, done: Callable[[], Any], seconds: float = 240) -> Any:
        """Poll until something is true and return it."""
        deadline = time.monotonic() + seconds
        while not (value := done()):
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
            time.sleep(0.3)
        return value


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A deployed lab with two compute nodes; removed at the end unless RACKLOOM_E2E_KEEP is set."""
    it = Lab()
    try:
        it.fresh("--compute", "2")
        yield it
    finally:
        if not os.environ.get("RACKLOOM_E2E_KEEP"):
            it.call("lab", "down", "--name", it.name)


@pytest.fixture(scope="session")
def versions() -> Path:
    """The real programs, built from their modules where no earlier run has."""
    done = subprocess.run(
        [ROOT / "tests/upstream/build.py", "build"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Path(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def kube() -> Iterator[KubeLab]:
    """A lab for Kubernetes, not deployed yet: three control-plane nodes, a worker, and a node of Slurm."""
    from .test_kubernetes import KubeLab  # noqa: PLC0415 - that one imports this

    lab = KubeLab()
    try:
        lab.fresh("--closed", "--kubernetes", "--management", "3", "--compute", "2", "--no-deploy")
        yield lab
    finally:
        if not os.environ.get("RACKLOOM_E2E_KEEP"):
            lab.call("lab", "down", "--name", lab.name)


@pytest.fixture(scope="session")
def bundle(kube: KubeLab, versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that site takes, made on the side that has the internet."""
    from .test_kubernetes import STAGES, say  # noqa: PLC0415

    kube.wish()
    folder = tmp_path_factory.mktemp("disk") / "bundle"
    words = ("-o", str(folder), "--os", kube.os, "--stages", STAGES, "--versions", str(versions))
    made = kube.call("bundle", "create", *words).must()
    say(f"bundle of {made.data['size'] >> 20} MiB made in {made.seconds:.0f} s")
    installed = kube.call("bundle", "install", str(folder)).must()
    say(f"installed in {installed.seconds:.0f} s")
    return folder


@pytest.fixture(scope="session")
def first(kube: KubeLab, bundle: Path) -> float:
    """That cluster, deployed; how many seconds that took."""
    from .test_kubernetes import say  # noqa: PLC0415

    answer = kube.call("deploy").must()
    say(f"first deploy {answer.seconds:.0f} s: {answer.data['counts']}")
    kube.nothing_left()
    return answer.seconds
