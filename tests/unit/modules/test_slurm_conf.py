"""What a change of Slurm's files needs."""

from __future__ import annotations

import pytest
from plugins.module_utils.slurm_conf import (
    NONE,
    RECONFIGURE,
    RESTART,
    decide,
    logical_lines,
    parse,
    version_of,
)

OLD, NEW = (22, 5, 8), (24, 11, 5)
BASE = """
ClusterName=demo   # the name
SlurmctldHost=mgmt01(10.0.0.11)
KillWait=30
NodeName=n[1-4] Sockets=1 CoresPerSocket=2
PartitionName=batch Nodes=ALL Default=YES
"""


def way(before: str, after: str, version: tuple[int, ...] = OLD, name: str = "slurm.conf") -> tuple[str, str]:
    found = decide({name: before}, {name: after}, version)
    return found.action, ", ".join(found.reasons)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("slurm-wlm 22.05.8", (22, 5, 8)),
        ("slurm 24.11.5-1\n", (24, 11, 5)),
        ("slurm 25.05.0rc1", (25, 5)),
        ("no such thing", ()),
    ],
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert version_of(text) == version


def test_lines_are_joined_and_comments_cut() -> None:
    text = "# all\nNodeName=a \\\n  Sockets=1  # one\nReason=a\\#b\n\nLast=1 \\"
    assert list(logical_lines(text)) == ["NodeName=a Sockets=1", r"Reason=a\#b", "Last=1"]


def test_hosts_add_up() -> None:
    assert parse("SlurmctldHost=a\nslurmctldhost=b").parameters == {"slurmctldhost": "a,b"}


@pytest.mark.parametrize("version", [OLD, NEW])
@pytest.mark.parametrize(
    "after",
    [
        BASE,
        BASE + "# more words\n",
        BASE.replace("KillWait=30", "killwait = 30"),
        BASE.replace("Sockets=1 CoresPerSocket=2", "CoresPerSocket=2   Sockets=1"),
        "\n".join(reversed(BASE.splitlines())),
    ],
)
def test_the_same_said_otherwise_needs_nothing(after: str, version: tuple[int, ...]) -> None:
    assert way(BASE, after, version) == (NONE, "")


@pytest.mark.parametrize(
    ("after", "old", "new", "reason"),
    [
        (BASE.replace("KillWait=30", "KillWait=31"), RECONFIGURE, RECONFIGURE, "slurm.conf: killwait"),
        (BASE + "PartitionName=more Nodes=n1\n", RECONFIGURE, RECONFIGURE, "slurm.conf: partitions more"),
        (BASE.replace("n[1-4]", "n[1-5]"), RESTART, RECONFIGURE, "slurm.conf: nodes n[1-4], n[1-5]"),
        (BASE.replace("PerSocket=2", "PerSocket=4"), RESTART, RECONFIGURE, "slurm.conf: nodes n[1-4]"),
        (BASE + "SelectType=select/cons_tres\n", RESTART, RECONFIGURE, "slurm.conf: selecttype"),
        (BASE + "SlurmctldHost=mgmt02\n", RESTART, RECONFIGURE, "slurm.conf: slurmctldhost"),
        (BASE + "SlurmctldPort=7000\n", RESTART, RESTART, "slurm.conf: slurmctldport"),
        (BASE + "AuthType=auth/slurm\n", RESTART, RESTART, "slurm.conf: authtype"),
        (BASE + "TaskPlugin=task/cgroup\n", RESTART, RECONFIGURE, "slurm.conf: taskplugin"),
    ],
)
def test_what_a_change_needs(after: str, old: str, new: str, reason: str) -> None:
    assert way(BASE, after, OLD) == (old, reason)
    assert way(BASE, after, NEW) == (new, reason)


def test_the_strongest_need_wins_and_all_reasons_are_told() -> None:
    after = BASE.replace("KillWait=30", "KillWait=31") + "GresTypes=gpu\n"
    assert way(BASE, after) == (RESTART, "slurm.conf: grestypes, slurm.conf: killwait")


def test_many_nodes_are_told_in_short() -> None:
    after = BASE + "".join(f"NodeName=x{number} Sockets=1\n" for number in range(9))
    assert way(BASE, after)[1] == "slurm.conf: nodes x0, x1, x2 and 6 more"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("gres.conf", RESTART, RECONFIGURE),
        ("cgroup.conf", RECONFIGURE, RECONFIGURE),
        ("topology.conf", RECONFIGURE, RECONFIGURE),
    ],
)
def test_other_files(name: str, old: str, new: str) -> None:
    assert way("A=1\n", "A=2\n", OLD, name) == (old, name)
    assert way("A=1\n", "A=2\n", NEW, name) == (new, name)
    assert way("A=1\n", "# x\nA=1\n", OLD, name) == (NONE, "")
    assert decide({}, {name: "A=1\n"}, OLD).action == old
