"""scripts/setup.sh on machines that never saw it; each is a bare node."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rackloom.lab.instances import Scenario, create, destroy
from rackloom.lab.machine import detect
from rackloom.lab.podman import Podman

from .conftest import OS, ROOT

# How this machine reaches its package index; a real new machine would have the same in its own files.
CARRIED = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT", "http_proxy", "https_proxy", "no_proxy")
NEEDED = ("scripts", "requirements.lock", "requirements-dev.lock", "galaxy.yml")
WARM_SECONDS = 3.0
TRIES = 10

Run = Callable[..., subprocess.CompletedProcess[str]]


def _without_caches(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in info.name else info


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run a shell line on a bare machine that has a copy of this checkout in /home/joe/rackloom, owned by joe."""
    folder = tmp_path_factory.mktemp("setup")
    (folder / "inventory.yml").write_text("---\nall: {hosts: {fresh: }}\n")
    scenario = Scenario("setup", folder, folder, ROOT, OS)
    podman = Podman(detect())
    name = f"rackloom-{scenario.lab}-fresh"
    environment = [f"{key}={os.environ[key]}" for key in CARRIED if key in os.environ]

    def on_node(line: str, user: str = "root") -> subprocess.CompletedProcess[str]:
        words = ("exec", "--user", user, "--workdir", "/home/joe/rackloom", name, "env", *environment)
        return subprocess.run(
            podman.argv(*words, "bash", "-c", line), capture_output=True, text=True, check=False
        )

    create(scenario, podman.machine)
    try:
        podman.exec(name, "useradd", "--create-home", "--shell", "/bin/bash", "joe")
        archive = folder / "copy.tar"
        with tarfile.open(archive, "w") as tar:
            for part in NEEDED:
                tar.add(
                    ROOT / part,
                    f"rackloom/{part}",
                    filter=lambda info: None if "__pycache__" in info.name else info,
                )
        podman.call("cp", str(archive), f"{name}:/home/joe/copy.tar")
        if Path("/etc/pip.conf").exists():
            podman.call("cp", "/etc/pip.conf", f"{name}:/etc/pip.conf")
        podman.exec(
            name, "sh", "-c", "cd /home/joe && tar xf copy.tar && rm copy.tar && chown -R joe: rackloom"
        )
        yield on_node
    finally:
        destroy(scenario, podman.machine)
        shutil.rmtree(folder, ignore_errors=True)


def test_without_rights_it_lists_what_is_missing(run: Run) -> None:
    done = run("./scripts/setup.sh --lab </dev/null", "joe")
    assert done.returncode == 2
    for package in ("podman", "mmdebstrap", "git"):
        assert f"(package {package})" in done.stderr
    assert "as root" in done.stderr


def test_through_sudo_it_makes_everything_and_files_stay_the_users(run: Run) -> None:
    run("echo 'joe ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/joe")
    done = run("./scripts/setup.sh --lab </dev/null", "joe")
    assert done.returncode == 0, done.stdout + done.stderr
    said = run(
        ".venv/bin/python -c 'import ansible, rackloom.lab.manage; print(rackloom.lab.manage.__file__)'",
        "joe",
    ).stdout
    assert said.strip() == "/home/joe/rackloom/scripts/rackloom/lab/manage.py"
    assert run("test -x .venv/bin/rackloom").returncode == 0
    assert (
        run("readlink -f .venv/collections/ansible_collections/rackloom/cluster").stdout.strip()
        == "/home/joe/rackloom"
    )
    assert run("find . ! -user joe | head -n 1").stdout == ""
    assert run("podman --version && mmdebstrap --version").returncode == 0


def test_again_it_costs_next_to_nothing(run: Run) -> None:
    took: list[float] = []
    while min(took, default=WARM_SECONDS) >= WARM_SECONDS:
        # A busy machine is slow for reasons of its own, and not each time.
        assert len(took) < TRIES, took
        began = time.monotonic()
        done = run("./scripts/setup.sh --lab </dev/null", "joe")
        took.append(time.monotonic() - began)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_killed_set_up_is_made_good_by_the_next(run: Run) -> None:
    run("rm -rf .venv; timeout --signal KILL 4 ./scripts/setup.sh </dev/null", "joe")
    assert run("test -e .venv/.rackloom-stamp").returncode != 0
    two = run(
        "./scripts/setup.sh </dev/null & ./scripts/setup.sh </dev/null && wait $!", "joe"
    )  # both at once
    assert two.returncode == 0, two.stderr
    assert run(".venv/bin/ansible --version", "joe").returncode == 0


def test_elsewhere_it_stops_only_when_something_is_missing(run: Run) -> None:
    run("sed -i.kept s/^ID=.*/ID=plan9/ /etc/os-release")
    assert run("./scripts/setup.sh --lab </dev/null").returncode == 0
    run("mv /usr/bin/zstd /usr/bin/zstd.gone")
    done = run("./scripts/setup.sh --lab </dev/null")
    assert done.returncode == 2
    assert "zstd" in done.stderr and "Debian 12/13" in done.stderr


def test_unknown_options_are_refused(run: Run) -> None:
    done = run("./scripts/setup.sh --everything")
    assert done.returncode == 2
    assert "--dev --lab" in done.stderr
