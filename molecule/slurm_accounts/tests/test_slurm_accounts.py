from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from testinfra.host import Host

CONF = "/root/sacctmgr.conf"


@pytest.fixture(autouse=True)
def conf(host: Host) -> None:
    """sacctmgr itself needs a file; the module brings its own."""
    address = host.ansible.get_variables()["rackloom_address"]
    lines = [
        "ClusterName=demo",
        "SlurmctldHost=localhost",
        "AccountingStorageType=accounting_storage/slurmdbd",
    ]
    text = "\\n".join([*lines, f"AccountingStorageHost={address}"])
    host.check_output(f"printf '{text}\\n' > {CONF}")


def sacctmgr(host: Host, arguments: str) -> list[list[str]]:
    out = host.check_output(f"SLURM_CONF={CONF} sacctmgr -nP {arguments}")
    return [line.split("|") for line in out.splitlines()]


def keep(host: Host, check: bool = False, **lists: Any) -> dict[str, Any]:
    variables = host.ansible.get_variables()
    arguments = {"host": variables["rackloom_address"], "cluster": "demo", **lists}
    result: dict[str, Any] = host.ansible(
        "rackloom.cluster.slurm_accounting", json.dumps(arguments), check=check
    )
    return result


def test_qos_and_their_limits(host: Host) -> None:
    fields = "Priority,Preempt,PreemptMode,Flags,Description,MaxJobsPerUser,MaxWall,MaxTRESPerUser,GraceTime"
    high = sacctmgr(host, f"show qos high format={fields}")
    assert high == [
        [
            "100",
            "low,normal",
            "requeue",
            "DenyOnLimit",
            "for deadlines",
            "4",
            "2-00:00:00",
            "cpu=16,mem=64G",
            "00:02:00",
        ]
    ]


def test_accounts_stand_below_their_parents(host: Host) -> None:
    rows = sacctmgr(
        host, "show assoc user='' format=Account,ParentName,Fairshare,QOS,DefaultQOS,GrpTRES,MaxJobs"
    )
    found = {row[0]: row[1:] for row in rows}
    assert found["research"][:2] == ["root", "10"]
    assert found["physics"] == ["research", "3", "high,normal", "normal", "cpu=100,node=4", "50"]


def test_users_have_their_accounts(host: Host) -> None:
    rows = sacctmgr(host, "show user withassoc format=User,DefaultAccount,Account,AdminLevel,QOS")
    assert ["alice", "physics", "physics", "Operator", "high,normal"] in rows
    assert ["alice", "physics", "research", "Operator", "high,normal"] in rows
    assert ["bob", "physics", "physics", "None", "high,normal"] in rows  # from the account


@pytest.fixture
def stranger(host: Host) -> Iterator[None]:
    """Something that people made beside the lists."""
    host.check_output(f"SLURM_CONF={CONF} sacctmgr -i add account byhand")
    host.check_output(f"SLURM_CONF={CONF} sacctmgr -i add user eve account=byhand")
    yield
    host.check_output(f"SLURM_CONF={CONF} sacctmgr -i delete account byhand")


def test_what_is_not_listed_stays(host: Host, stranger: None) -> None:
    accounts = [{"name": "research", "fairshare": 10}]
    assert not keep(host, accounts=accounts)["changed"]
    assert ["eve"] in sacctmgr(host, "show user format=User")


def test_only_differences_are_sent_and_absent_is_deleted(host: Host, stranger: None) -> None:
    users = [
        {"name": "dave", "account": "research", "limits": {"MaxSubmitJobs": 11}},
        {"name": "eve", "state": "absent"},
    ]
    foreseen = keep(host, check=True, users=users)
    assert foreseen["changes"] == ["user dave in research: MaxSubmitJobs 10 -> 11", "user eve: deleted"]
    assert ["eve"] in sacctmgr(host, "show user format=User")
    assert keep(host, users=users)["changes"] == foreseen["changes"]
    assert not keep(host, users=users)["changed"]
    assert ["eve"] not in sacctmgr(host, "show user format=User")
    back = [{"name": "dave", "account": "research", "limits": {"MaxSubmitJobs": 10}}]
    assert keep(host, users=back)["changed"]


def test_a_limit_can_be_lifted(host: Host) -> None:
    limited = [{"name": "low", "limits": {"GrpJobs": 5}}]
    lifted = [{"name": "low", "limits": {"GrpJobs": -1}}]
    assert keep(host, qos=limited)["changed"]
    assert keep(host, qos=lifted)["changed"]
    assert not keep(host, qos=lifted)["changed"]
    assert sacctmgr(host, "show qos low format=Name,GrpJobs") == [["low", ""]]


def test_a_limit_that_slurm_does_not_know_is_an_error(host: Host) -> None:
    result = keep(host, qos=[{"name": "low", "limits": {"MaxNonsense": 5}}])
    assert "maxnonsense" in result["msg"].lower()
    assert "changes" not in result
