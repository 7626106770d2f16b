"""Plain Ansible sees the same cluster: ansible-inventory is really run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rackloom.site import secrets
from rackloom.site.paths import example_dir, home
from rackloom.site.scaffold import ScaffoldError
from rackloom.site.scaffold import init as scaffold_init

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ansible(tmp_path: Path) -> Run:
    """Runs a program of ansible-core on the checkout, found as a collection whatever the checkout is called."""
    collections = tmp_path / "collections"
    link = collections / "ansible_collections/rackloom/cluster"
    link.parent.mkdir(parents=True)
    link.symlink_to(home(), target_is_directory=True)

    def run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).parent / program, *arguments],
            cwd=home(), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            env={**os.environ, "ANSIBLE_CONFIG": str(home() / "ansible.cfg"), "NO_COLOR": "1",
                 "ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_LOCALHOST_WARNING": "0", **environment},
        )  # fmt: skip

    return run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    scaffold_init(folder)
    return folder


def list_inventory(ansible: Run, config: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    answer = ansible("ansible-inventory", "-i", str(config), "--list", "--export", *arguments, **environment)
    assert answer.returncode == 0, answer.stderr
    assert "WARNING" not in answer.stderr, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def test_example(ansible: Run) -> None:
    found = list_inventory(ansible, example_dir())
    assert found["compute"]["hosts"] == ["cn001", "cn002", "cn003", "cn004", "gpu001", "gpu002"]
    assert found["slurm"]["children"][0] == "slurm_database"
    assert found["_meta"]["hostvars"]["gpu002"]["ansible_host"] == "10.10.2.2"
    assert found["all"]["vars"]["slurmctld_nodes"][1]["gres"] == "gpu:a100:8"
    assert "kubernetes" in found["all"]["children"]
    assert "etcd" in found["kubernetes"]["children"]


def test_graph(ansible: Run, config: Path) -> None:
    answer = ansible("ansible-inventory", "-i", str(config), "--graph", "profile_a100")
    assert answer.returncode == 0
    assert answer.stdout.split() == ["@profile_a100:", "|--gpu001", "|--gpu002"]


def test_limit(ansible: Run, config: Path) -> None:
    answer = ansible("ansible", "compute", "-i", str(config), "--limit", "profile_cpu:!cn004", "--list-hosts")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split()[2:] == ["cn001", "cn002", "cn003"]


def test_one_file_is_as_good_as_the_folder(ansible: Run, config: Path) -> None:
    assert list_inventory(ansible, config / "cluster.yml") == list_inventory(ansible, config)


def test_secrets_are_opened(ansible: Run, config: Path) -> None:
    secrets.init(config)
    found = list_inventory(ansible, config, RACKLOOM_CONFIG=str(config))
    assert found["all"]["vars"]["rackloom_secrets"] == secrets.load(config)


def test_host_vars_of_the_site_win(ansible: Run, config: Path) -> None:
    (config / "host_vars").mkdir()
    (config / "host_vars/cn001.yml").write_text("---\nansible_user: other\n", "utf-8")
    found = list_inventory(ansible, config)
    assert found["_meta"]["hostvars"]["cn001"]["ansible_user"] == "other"


def test_mistakes_are_listed(ansible: Run, config: Path) -> None:
    nodes = config / "nodes.yml"
    text = nodes.read_text("utf-8")
    nodes.write_text(
        text.replace("profile: cpu", "profile: cup").replace("10.10.0.21", "10.99.0.21"), "utf-8"
    )
    answer = ansible("ansible-inventory", "-i", str(config), "--graph")
    assert answer.returncode != 0
    said = " ".join(answer.stderr.split())
    assert "There is no profile cup." in said and "is outside network cluster" in said


def test_a_thousand_nodes(ansible: Run, config: Path) -> None:
    nodes = config / "nodes.yml"
    nodes.write_text(
        nodes.read_text("utf-8")
        .replace("cn[001-004]", "cn[001-256]")
        .replace("[001-002]", "[001-744]")
        .replace("10.10.2.1", "10.10.8.1")
        .replace("10.11.2.1", "10.11.8.1"),
        "utf-8",
    )
    start = time.perf_counter()
    answer = ansible("ansible-inventory", "-i", str(config), "--graph")
    print(f"1,000 nodes as a graph in {time.perf_counter() - start:.2f} s")
    assert answer.returncode == 0, answer.stderr
    assert "gpu744" in answer.stdout


def test_scaffold(config: Path) -> None:
    names = {str(path.relative_to(config)) for path in config.rglob("*") if path.is_file()}
    assert {"cluster.yml", "nodes.yml", ".gitignore", ".schema/cluster.schema.json"} <= names
    for file in ("cluster.yml", "nodes.yml"):
        assert (config / file).read_bytes() == (example_dir() / file).read_bytes()


def test_scaffold_never_overwrites(config: Path, tmp_path: Path) -> None:
    before = (config / "cluster.yml").read_bytes()
    with pytest.raises(ScaffoldError, match="not empty"):
        scaffold_init(config)
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(ScaffoldError, match="is a file"):
        scaffold_init(tmp_path / "file")
    assert (config / "cluster.yml").read_bytes() == before
    empty = tmp_path / "empty"
    empty.mkdir()
    assert scaffold_init(empty)
    shutil.rmtree(empty)
