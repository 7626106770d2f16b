"""Nodes move between groups in cluster.yml, and everything else in the file stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rackloom.site import edit, load_site
from rackloom.site.role_vars import role_vars
from rackloom.site.yaml_text import EditError

NODES = """\
profiles: {cpu: {cores: 2, memory: 4000}}
management: [{name: m1, address: 10.10.0.1}]
login: [{name: l1, address: 10.10.0.9}]
compute:
  - {name: "c[1-6]", address: 10.10.1.1, profile: cpu}
"""
HEAD = """\
# Ours.
name: t
domain: t.example # short
networks: {cluster: {cidr: 10.10.0.0/16}}
"""
SERVICES = """\
services:
  # One is enough.
  kube_control_plane: [m1]
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "nodes.yml").write_text(NODES)
    shutil.copy(Path(__file__).parent / "good" / "versions.yml", tmp_path)
    return tmp_path


def cluster(folder: Path, text: str) -> Path:
    (folder / "cluster.yml").write_text(HEAD + text)
    return folder


def text_of(folder: Path) -> str:
    text = (folder / "cluster.yml").read_text()
    assert text.startswith(HEAD)
    return text.removeprefix(HEAD)


def groups(folder: Path) -> tuple[list[str], list[str]]:
    found = load_site(folder).groups
    return found["kube_node"], found["slurm_node"]


@pytest.mark.parametrize(
    ("written", "name", "after"),
    [
        ("", "c2", "  kube_node: [c2]\n"),
        ("  kube_node: []\n", "c2", "  kube_node: [c2]\n"),
        ("  kube_node: c4 # this one\n", "c2", '  kube_node: "c[2,4]" # this one\n'),
        ("  kube_node: [c4] # this one\n", "c2", '  kube_node: ["c[2,4]"] # this one\n'),
        ("  kube_node: ['c[1-2]']\n", "c3", '  kube_node: ["c[1-3]"]\n'),
        ("  kube_node: [l1, ]\n", "c3", "  kube_node: [l1, c3, ]\n"),
        ("  kube_node: l1\n", "c3", "  kube_node: [l1, c3]\n"),
        ('  kube_node:\n    - "c[1-2]" # a\n', "c3", '  kube_node:\n    - "c[1-3]" # a\n'),
        ("  kube_node:\n    - l1 # a\n    # b\n", "c3", "  kube_node:\n    - l1 # a\n    - c3\n    # b\n"),
        ("  kube_node:\n  - l1\n  slurm: []\n", "c3", "  kube_node:\n  - l1\n  - c3\n  slurm: []\n"),
        (
            "  kube_node: [c1]\n  slurm_node: [c2, c3]\n",
            "c2",
            '  kube_node: ["c[1-2]"]\n  slurm_node: [c3]\n',
        ),
        (
            "  slurm_node: compute # all\n",
            "c6",
            '  slurm_node: "c[1-5]" # all\n  kube_node: [c6]\n',
        ),
    ],
)
def test_a_node_moves_to_kubernetes(site: Path, written: str, name: str, after: str) -> None:
    cluster(site, SERVICES + written)
    before = groups(site) if "slurm_node" not in written else ([], [])
    assert edit.move(site, name, "kubernetes") == []
    assert text_of(site) == SERVICES + after
    pods, jobs = groups(site)
    assert name in pods and name not in jobs
    assert set(before[0]) <= set(pods)


@pytest.mark.parametrize(
    ("written", "name", "after"),
    [
        ("  kube_node: [c2] # one\n", "c2", "  kube_node: [] # one\n"),
        ("  kube_node: c2 # one\n", "c2", "  kube_node: [] # one\n"),
        ("  kube_node: [c1, c2, c3]\n", "c1", "  kube_node: [c2, c3]\n"),
        ("  kube_node: [c1, c2, c3]\n", "c2", "  kube_node: [c1, c3]\n"),
        ("  kube_node: [c1, c2, c3]\n", "c3", "  kube_node: [c1, c2]\n"),
        ('  kube_node: "c[1-4]"\n', "c2", '  kube_node: "c[1,3-4]"\n'),
        ("  kube_node: c1,c2\n", "c2", "  kube_node: c1\n"),
        (
            "  kube_node:\n    - c1 # a\n    - c2 # b\n    # c\n",
            "c2",
            "  kube_node:\n    - c1 # a\n    # c\n",
        ),
        ("  kube_node:\n    - c1 # a\n", "c1", "  kube_node: [] # a\n"),
        ("  kube_node: compute\n", "c6", '  kube_node: "c[1-5]"\n'),
        (
            "  kube_node: [c1, c2]\n  slurm_node: [c3]\n",
            "c2",
            '  kube_node: [c1]\n  slurm_node: ["c[2-3]"]\n',
        ),
    ],
)
def test_a_node_moves_to_slurm(site: Path, written: str, name: str, after: str) -> None:
    cluster(site, SERVICES + written)
    assert edit.move(site, name, "slurm") == []
    assert text_of(site) == SERVICES + after
    pods, jobs = groups(site)
    assert name in jobs and name not in pods


@pytest.mark.parametrize("kube", ['["c[1-4]"]', '"c[1-4]"', '["c[1-4]", l1] # and that'])
def test_over_and_back_is_where_it_was(site: Path, kube: str) -> None:
    cluster(site, f"{SERVICES}  kube_node: {kube}\n")
    before = text_of(site)
    for name in ("c2", "c4", "c1"):
        assert edit.move(site, name, "slurm") == []
        assert edit.move(site, name, "kubernetes") == []
        assert text_of(site) == before


def test_a_site_without_services_gets_some(site: Path) -> None:
    cluster(site, "users: []")
    assert [mistake.code for mistake in edit.move(site, "c1", "kubernetes")] == ["missing-service"]
    assert text_of(site) == "users: []"
    cluster(site, "services: {kube_control_plane: m1}\nusers: []\n")
    assert edit.move(site, "c1", "kubernetes") == []
    assert text_of(site) == "services: {kube_control_plane: m1, kube_node: [c1]}\nusers: []\n"


def test_a_move_that_would_make_mistakes_changes_nothing(site: Path) -> None:
    cluster(site, f"{SERVICES}slurm: {{topology: [{{switch: s1, nodes: [m1]}}]}}\n")
    with pytest.raises(EditError, match="has mistakes"):
        edit.move(site, "c1", "kubernetes")
    cluster(site, f"{SERVICES}  kube_node: [l1]\n  slurm_node: [c1]\n")
    before = text_of(site)
    assert [mistake.code for mistake in edit.move(site, "l1", "slurm")] == ["no-profile"]
    assert text_of(site) == before


def test_who_is_no_compute_node_goes_to_slurm_by_name_alone(site: Path) -> None:
    cluster(site, f"{SERVICES}  kube_node: [l1]\n")
    with pytest.raises(EditError, match="no compute node"):
        edit.move(site, "l1", "slurm")
    with pytest.raises(EditError, match=r"not in nodes\.yml"):
        edit.move(site, "c9", "slurm")


def test_what_partitions_name_may_go_and_come_back(site: Path) -> None:
    cluster(
        site,
        f"{SERVICES}slurm:\n  partitions:\n    - {{name: a, nodes: [c1, c2]}}\n    - {{name: b, nodes: c3}}\n"
        '  topology:\n    - {switch: s1, nodes: "c[1-2]"}\n    - {switch: s2, nodes: "c[3-6]"}\n'
        "    - {switch: top, switches: [s1, s2]}\n",
    )
    for name in ("c1", "c2", "c3"):
        assert edit.move(site, name, "kubernetes") == []
    told = role_vars(load_site(site))
    assert {one["name"]: one["nodes"] for one in told["slurmctld_partitions"]} == {"a": "", "b": ""}
    assert told["slurmctld_topology"] == [
        {"switch": "s2", "nodes": "c[4-6]", "switches": ""},
        {"switch": "top", "nodes": "", "switches": "s2"},
    ]
    for name in ("c4", "c5", "c6"):
        assert edit.move(site, name, "kubernetes") == []
    assert role_vars(load_site(site))["slurmctld_topology"] == []


def test_a_node_is_forgotten_wherever_it_was_named(site: Path) -> None:
    cluster(
        site,
        f"{SERVICES}  kube_node: [c1, c2]\n  prometheus: [c2, m1] # p\n"
        'slurm:\n  partitions:\n    - {name: a, nodes: ["c[2-4]"]} # gone\n',
    )
    nodes = NODES.replace('"c[1-6]", address: 10.10.1.1', '"c[1,3-6]", address: 10.10.1.1')
    assert edit.remove(site, "c2", {"nodes.yml": nodes}) == []
    assert text_of(site) == (
        f"{SERVICES}  kube_node: [c1]\n  prometheus: [m1] # p\n"
        'slurm:\n  partitions:\n    - {name: a, nodes: ["c[3-4]"]} # gone\n'
    )
    assert "c2" not in load_site(site).nodes


def test_files_are_written_together_or_not_at_all(site: Path) -> None:
    cluster(site, f"{SERVICES}  kube_node: [c1, c2]\n")
    assert edit.remove(site, "c2", {"nodes.yml": NODES.replace("10.10.1.1", "10.99.1.1")})
    assert text_of(site) == f"{SERVICES}  kube_node: [c1, c2]\n"
    assert (site / "nodes.yml").read_text() == NODES


def test_another_node_takes_the_place_of_one(site: Path) -> None:
    (site / "nodes.yml").write_text(NODES.replace("{name: m1,", "{name: m9,"))
    cluster(site, f"{SERVICES}  kube_node: [c1]\n")
    assert edit.replace(site, "m1", "m9") == []
    assert text_of(site) == f"{SERVICES.replace('m1', 'm9')}  kube_node: [c1]\n"
    (site / "nodes.yml").write_text(NODES.replace("c[1-6]", "c[1-2,4-7]").replace("{name: m1,", "{name: m9,"))
    cluster(site, f'{SERVICES.replace("m1", "m9")}  kube_node: ["c[1-4]"]\n')
    assert edit.replace(site, "c3", "c7") == []
    assert groups(site)[0] == ["c1", "c2", "c7", "c4"]


@pytest.mark.parametrize(
    ("written", "after"),
    [
        ("", "\nkubernetes:\n  version: {}\n"),
        ("kubernetes:\n", "kubernetes:\n  version: {}\n"),
        ("kubernetes: {domain: k.local}\n", "kubernetes: {version: {}, domain: k.local}\n"),
        ("kubernetes:\n  # d\n  domain: k.local\n", "kubernetes:\n  # d\n  version: {}\n  domain: k.local\n"),
        ("kubernetes: {version: ''} # v\n", "kubernetes: {version: {}} # v\n"),
        ("kubernetes:\n  version:\n  domain: k.local\n", "kubernetes:\n  version: {}\n  domain: k.local\n"),
    ],
)
def test_the_release_is_written(site: Path, written: str, after: str) -> None:
    from rackloom.site import versions  # noqa: PLC0415

    release = versions.effective().releases()[-1]
    cluster(site, SERVICES + written)
    assert edit.set_kubernetes_version(site, release) == []
    assert text_of(site) == SERVICES + after.replace("{}", release)
    assert [mistake.code for mistake in edit.set_kubernetes_version(site, "1.2.3")] == ["unknown-version"]
    assert text_of(site) == SERVICES + after.replace("{}", release)
