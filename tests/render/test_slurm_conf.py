"""Slurm's files follow from the site alone, do not grow with the number of nodes, and slurmctld takes them."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from plugins.module_utils.slurm_conf import parse
from plugins.module_utils.slurm_trial import NotTriedError, try_start

from rackloom.site import load_site
from rackloom.site.inventory import build

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles" / "slurmctld"
SIZES = [10, 100, 1000]
FILES = ("slurm.conf", "gres.conf", "cgroup.conf", "topology.conf")

CLUSTER = """
name: demo
domain: demo.example
networks:
  cluster: {cidr: 10.0.0.0/8}
slurm:
  partitions:
    - {name: batch, nodes: all, default: true, max_time: 1-00:00:00}
    - {name: gpu, nodes: ["profile:a100"], priority: 2, qos: high}
  qos:
    - {name: high, priority: 1000, preempt: [normal]}
  preempt: {mode: requeue}
"""
NODES = """
profiles:
  cpu: {sockets: 1, cores: 2, threads: 1, memory: 4000M}
  a100: {sockets: 2, cores: 64, threads: 2, memory: 1000G, gpus: [{type: a100, count: 8}], features: [ib]}
management:
  - {name: mgmt01, address: 10.0.0.11, profile: cpu}
login:
  - {name: login01, address: 10.0.0.21, profile: cpu}
compute:
  - {name: "gpu[0001-%04d]", address: 10.1.1.1, profile: a100}
  - {name: "cpu[01-04]", address: 10.2.0.1, profile: cpu}
"""


def render(files: tuple[str, ...] = FILES, **variables: Any) -> dict[str, str]:
    """Render the role's files with its defaults, as the role would."""
    known = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    templar = Templar(loader=DataLoader(), variables={**known, **variables})
    folder = ROLE / "templates"
    blocks = {"trim_blocks": True}
    return {
        name: str(templar.template(trust_as_template((folder / f"{name}.j2").read_text()), overrides=blocks))
        for name in files
    }


def of_site(folder: Path, compute: int) -> dict[str, str]:
    """Render the files of a site of so many GPU nodes."""
    (folder / "cluster.yml").write_text(CLUSTER)
    (folder / "nodes.yml").write_text(NODES % compute)
    variables = build(load_site(folder)).vars["all"]
    return render(**{key: value for key, value in variables.items() if key.startswith("slurmctld_")})


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str], dict[str, str]]:
    """The real slurmctld: the machine's own, or the distribution's packages, unpacked and not installed.

    Returns its path, the parameters and the environment that it needs.
    """
    me = {"SlurmUser": getpass.getuser()}
    own = shutil.which("slurmctld", path="/usr/sbin:/usr/local/sbin")
    if own:
        return own, me, {}
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        pytest.skip("neither slurmctld nor apt-get is on this machine")
    folder = tmp_path_factory.mktemp("slurm")
    ask = ["apt-get", "install", "--simulate", "--no-install-recommends", "slurmctld"]
    plan = subprocess.run(ask, capture_output=True, text=True, check=False)
    names = re.findall(r"^Inst (\S+)", plan.stdout, re.MULTILINE)
    got = subprocess.run(
        ["apt-get", "download", *names], cwd=folder, capture_output=True, text=True, check=False
    )
    packages = list(folder.glob("*.deb"))
    if got.returncode != 0 or not packages:
        pytest.skip(f"the packages of slurmctld cannot be had: {(plan.stderr + got.stderr)[-300:]}")
    for package in packages:
        subprocess.run(["dpkg", "-x", str(package), str(folder)], check=True)
    plugins = next(folder.rglob("select_cons_tres.so")).parent
    program = next(path for path in folder.glob("usr/sbin/slurmctld*") if path.is_file())
    environment = {"LD_LIBRARY_PATH": f"{plugins}:{plugins.parent}"}
    return str(program), {**me, "PluginDir": str(plugins)}, environment


def complaints(slurm: tuple[str, dict[str, str], dict[str, str]], files: dict[str, str]) -> list[str]:
    """Return what slurmctld has against these files."""
    program, extra, environment = slurm
    given = {name: text for name, text in files.items() if text.strip()}
    try:
        return try_start(
            given, program=program, user=getpass.getuser(), beside="", extra=extra, environment=environment
        )
    except NotTriedError as error:
        pytest.skip(f"slurmctld cannot be started apart here: {error}")


@pytest.mark.parametrize("compute", SIZES)
def test_the_files_do_not_grow(tmp_path: Path, compute: int) -> None:
    files = of_site(tmp_path, compute)
    nodes = [line for line in files["slurm.conf"].splitlines() if line.startswith("NodeName=")]
    assert len(nodes) == 2
    assert f"NodeName=gpu[0001-{compute:04}] " in files["slurm.conf"]
    few = of_site(tmp_path, 2)
    assert {name: len(text.splitlines()) for name, text in files.items()} == {
        name: len(text.splitlines()) for name, text in few.items()
    }


@pytest.mark.parametrize("compute", SIZES)
def test_slurmctld_serves(
    tmp_path: Path, slurm: tuple[str, dict[str, str], dict[str, str]], compute: int
) -> None:
    assert complaints(slurm, of_site(tmp_path, compute)) == []


def test_slurmctld_would_have_refused(
    tmp_path: Path, slurm: tuple[str, dict[str, str], dict[str, str]]
) -> None:
    files = of_site(tmp_path, 10)
    files["slurm.conf"] += "PartitionName=broken Nodes=nowhere\n"
    assert any("nowhere" in line for line in complaints(slurm, files))


BARE: dict[str, Any] = {
    "slurmctld_cluster_name": "demo",
    "slurmctld_controllers": [
        {"name": "mgmt01", "address": "10.0.0.11"},
        {"name": "mgmt02", "address": "10.0.0.12"},
    ],
    "slurmctld_nodes": [
        {
            "names": "n[1-4]",
            "addresses": "10.0.1.[1-4]",
            "sockets": 1,
            "cores": 4,
            "threads": 2,
            "memory_mb": 8000,
        },
        {
            "names": "g[1-8]",
            "addresses": "10.0.2.[1-8]",
            "sockets": 2,
            "cores": 8,
            "threads": 1,
            "memory_mb": 64000,
            "gres": "gpu:a100:4,gpu:3g.20gb:8",
            "options": {"memspeclimit": 1000, "Weight": 50},
        },
    ],
    "slurmctld_gres_types": ["gpu"],
    "slurmctld_gres": [
        {
            "names": "g[1-4]",
            "name": "gpu",
            "type": "a100",
            "count": 4,
            "files": "/dev/nvidia[0-3]",
            "autodetect": "",
        },
        {"names": "g[1-4]", "name": "gpu", "type": "3g.20gb", "count": 8, "files": "", "autodetect": ""},
        {"names": "g[5-8]", "name": "gpu", "type": "a100", "count": 4, "files": "", "autodetect": "nvml"},
        {"names": "g[5-8]", "name": "gpu", "type": "3g.20gb", "count": 8, "files": "", "autodetect": "nvml"},
    ],
    "slurmctld_partitions": [
        {"name": "batch", "nodes": "ALL", "default": True, "options": {"default": "NO", "LLN": "YES"}},
        {"name": "low", "nodes": "n[1-4]", "allow_accounts": ["a", "b"], "preempt_mode": "requeue"},
    ],
    "slurmctld_topology": [
        {"switch": "s1", "nodes": "n[1-4]", "switches": ""},
        {"switch": "s2", "nodes": "g[1-8]", "switches": ""},
        {"switch": "top", "nodes": "", "switches": "s[1-2]"},
    ],
}


def test_options_of_nodes_and_partitions_win() -> None:
    text = render(**BARE)["slurm.conf"]
    nodes = [line for line in text.splitlines() if line.startswith("NodeName=g")]
    assert "CoresPerSocket=8 ThreadsPerCore=1 RealMemory=64000 Gres=gpu:a100:4,gpu:3g.20gb:8" in nodes[0]
    assert nodes[0].endswith(" State=UNKNOWN memspeclimit=1000 Weight=50")
    assert nodes[0].count("Weight=") == 1
    assert "MaxTime=UNLIMITED PriorityTier=1 State=UP default=NO LLN=YES" in text


def test_mixed_and_sliced_gpus() -> None:
    assert render(**BARE)["gres.conf"].splitlines()[1:] == [
        "NodeName=g[5-8] AutoDetect=nvml",
        "NodeName=g[1-4] Name=gpu Type=a100 File=/dev/nvidia[0-3]",
        "NodeName=g[1-4] Name=gpu Type=3g.20gb Count=8",
    ]


def test_backups_come_in_the_order_of_the_list() -> None:
    text = render(**BARE)["slurm.conf"]
    assert re.findall(r"^SlurmctldHost=(.*)", text, re.MULTILINE) == [
        "mgmt01(10.0.0.11)",
        "mgmt02(10.0.0.12)",
    ]


def test_a_job_that_asks_for_no_memory_leaves_some_for_others() -> None:
    assert parse(render(**BARE)["slurm.conf"]).parameters["defmempercpu"] == "1000"
    assert "defmempercpu" not in parse(render(**{**BARE, "slurmctld_nodes": []})["slurm.conf"]).parameters


@pytest.mark.parametrize(
    "key", ["ReturnToService", "returntoservice", "PriorityWeightFairshare", "MaxJobCount"]
)
def test_settings_have_the_last_word(key: str) -> None:
    text = render(**BARE, slurmctld_settings={key: "77"})["slurm.conf"]
    assert parse(text).parameters[key.lower()] == "77"
    assert len(re.findall(rf"^{key}=", text, re.MULTILINE | re.IGNORECASE)) == 1


@pytest.mark.parametrize(
    ("preempt", "kind", "mode"),
    [
        ({}, "preempt/none", "OFF"),
        ({"mode": "off", "type": "qos", "exempt_time": ""}, "preempt/none", "OFF"),
        ({"mode": "requeue", "type": "qos", "exempt_time": ""}, "preempt/qos", "REQUEUE"),
        ({"mode": "cancel", "type": "partition", "exempt_time": ""}, "preempt/partition_prio", "CANCEL"),
        ({"mode": "suspend", "type": "qos", "exempt_time": ""}, "preempt/qos", "SUSPEND,GANG"),
    ],
)
def test_preemption(preempt: dict[str, str], kind: str, mode: str) -> None:
    found = parse(render(**BARE, slurmctld_preempt=preempt)["slurm.conf"]).parameters
    assert (found["preempttype"], found["preemptmode"]) == (kind, mode)


def test_without_a_database_there_is_no_accounting() -> None:
    text = render(**BARE)["slurm.conf"]
    assert "AccountingStorage" not in text
    host = {"name": "mgmt01", "address": "10.0.0.11"}
    found = parse(render(**BARE, slurmctld_dbd_host=host)["slurm.conf"]).parameters
    assert found["accountingstorageenforce"] == "associations,limits,qos,safe"
    assert found["accountingstoragetres"] == "gres/gpu,gres/gpu:a100,gres/gpu:3g.20gb"


def test_no_health_check_at_all() -> None:
    assert "HealthCheckInterval=60" in render(**BARE)["slurm.conf"]
    assert "HealthCheck" not in render(**BARE, slurmctld_health_check={"interval": 0})["slurm.conf"]


@pytest.mark.parametrize("mode", ["off", "requeue", "suspend"])
def test_slurmctld_takes_everything_at_once(
    slurm: tuple[str, dict[str, str], dict[str, str]], mode: str
) -> None:
    variables = {
        **BARE,
        "slurmctld_gres": BARE["slurmctld_gres"][:2],  # nvml is no part of the distribution's Slurm
        "slurmctld_preempt": {"mode": mode, "type": "partition", "exempt_time": "00:10:00"},
        "slurmctld_priority": {"tres": "CPU=100,GRES/gpu=1000"},
        "slurmctld_cgroup_settings": {"AllowedSwapSpace": "10"},
        "slurmctld_partitions": [
            {"name": "b", "default": True, "options": {"TRESBillingWeights": "CPU=1.0,GRES/gpu=8"}}
        ],
        "slurmctld_dbd_host": {"name": "mgmt01", "address": "10.0.0.11"},
    }
    assert complaints(slurm, render(**variables)) == []


def test_slurmctld_serves_before_there_are_nodes(slurm: tuple[str, dict[str, str], dict[str, str]]) -> None:
    none: dict[str, Any] = {
        name: [] for name in BARE if name.removeprefix("slurmctld_") not in ("cluster_name", "controllers")
    }
    assert complaints(slurm, render(**{**BARE, **none})) == []
