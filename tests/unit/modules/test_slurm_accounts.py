"""From what the accounting database holds to what lists say."""

from __future__ import annotations

from typing import Any

import pytest
from plugins.module_utils.slurm_accounts import (
    State,
    WrongValueError,
    canonical,
    limit_fields,
    plan_absent,
    plan_accounts,
    plan_qos,
    plan_users,
    rows,
)


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("GrpTRES", "cpu=8,gres/gpu=4", "gres/gpu=4,cpu=8"),
        ("GrpTRES", "mem=64G", "mem=65536"),
        ("GrpTRES", "mem=2T", "mem=2097152M"),
        ("GrpTRES", "cpu=1,node=-1", "cpu=1"),
        ("MaxWall", "1-00:00:00", "24:00:00"),
        ("MaxWall", "90", "01:30:00"),
        ("MaxWall", "90:00", "01:30:00"),
        ("MaxWall", "2-12", "60:00:00"),
        ("MaxWall", "-1", ""),
        ("GraceTime", "00:02:00", "120"),
        ("GraceTime", "00:00:00", ""),
        ("Preempt", "low,normal", ["normal", "low"]),
        ("Preempt", "", []),
        ("Flags", "DenyOnLimit", "denyonlimit"),
        ("Priority", "10", 10),
        ("UsageFactor", "0.500000", "0.5"),
        ("MaxJobs", "", -1),
        ("Fairshare", "parent", "Parent"),
        ("PreemptMode", "cluster", "Cluster"),
        ("Description", " for deadlines", "for deadlines "),
    ],
)
def test_spellings_of_the_same(key: str, one: Any, other: Any) -> None:
    assert canonical(key, one) == canonical(key, other)


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("GrpTRES", "cpu=8", "cpu=9"),
        ("GrpTRES", "gres/gpu=1", "gres/gpu:a100=1"),
        ("MaxWall", "60", "61"),
        ("MaxJobs", "0", ""),
        ("Fairshare", "1", "parent"),
    ],
)
def test_values_that_differ(key: str, one: str, other: str) -> None:
    assert canonical(key, one) != canonical(key, other)


@pytest.mark.parametrize(("key", "value"), [("MaxWall", "soon"), ("GrpTRES", "cpu=many")])
def test_values_that_mean_nothing(key: str, value: str) -> None:
    with pytest.raises(WrongValueError, match=key):
        canonical(key, value)


def test_rows() -> None:
    assert rows("a|1|\n\nb||x\n", ["Name", "Number", "Word"]) == [
        {"Name": "a", "Number": "1", "Word": ""},
        {"Name": "b", "Number": "", "Word": "x"},
    ]


def arguments(commands: list[Any]) -> list[str]:
    return [" ".join(command.arguments) for command in commands]


def test_new_qos_are_added_before_they_name_each_other() -> None:
    items: list[dict[str, Any]] = [
        {"name": "high", "preempt": ["low"], "limits": {"MaxJobsPerUser": 4}},
        {"name": "low"},
    ]
    assert arguments(plan_qos(State(), items)) == [
        "add qos high,low",
        "modify qos name=high set Preempt=low MaxJobsPerUser=4",
    ]


def test_only_what_differs_is_set() -> None:
    held = {
        "Name": "high",
        "Priority": "10",
        "Preempt": "low",
        "PreemptMode": "cluster",
        "MaxWall": "01:00:00",
    }
    item = {"name": "High", "priority": 11, "preempt": [], "preempt_mode": "", "limits": {"MaxWall": 60}}
    commands = plan_qos(State(qos={"high": held}), [item])
    assert arguments(commands) == ["modify qos name=high set Priority=11 Preempt="]
    assert commands[0].what == "qos high: Priority 10 -> 11, Preempt low -> -"


def account(name: str, parent: str, **more: str) -> dict[tuple[str, str], dict[str, str]]:
    return {(name, ""): {"Account": name, "ParentName": parent, "User": "", "Fairshare": "1", **more}}


def test_accounts_are_added_and_moved() -> None:
    state = State(
        associations={**account("research", "root"), **account("physics", "root", Fairshare="3")},
        accounts={"research": {"Description": "old", "Organization": "science"}, "physics": {}},
    )
    items = [
        {
            "name": "research",
            "parent": "root",
            "fairshare": 1,
            "description": "new",
            "organization": "science",
        },
        {"name": "physics", "parent": "research", "fairshare": 3},
        {"name": "optics", "parent": "physics", "fairshare": 2, "qos": ["a", "b"], "limits": {"MaxJobs": 5}},
    ]
    assert arguments(plan_accounts(state, "demo", items)) == [
        "modify account where name=research set Description=new",
        "modify account where name=physics cluster=demo set parent=research",
        "add account name=optics cluster=demo parent=physics Fairshare=2 QOS=a,b MaxJobs=5",
    ]


def test_users_that_are_alike_are_added_together() -> None:
    items: list[dict[str, Any]] = [
        {"name": "alice", "account": "a", "accounts": ["a", "b"], "admin": "none", "fairshare": 1},
        {"name": "bob", "account": "a", "accounts": ["b", "a"], "admin": "none", "fairshare": 1},
        {"name": "carol", "account": "b", "admin": "operator"},
    ]
    assert arguments(plan_users(State(), "demo", items)) == [
        "add user name=alice,bob cluster=demo account=a,b defaultaccount=a Fairshare=1",
        "add user name=carol cluster=demo account=b defaultaccount=b adminlevel=operator",
    ]


def test_users_change() -> None:
    state = State(
        users={"alice": {"User": "alice", "DefaultAccount": "a", "AdminLevel": "Administrator"}},
        associations={("a", "alice"): {"Fairshare": "1", "QOS": "normal"}},
    )
    item = {"name": "alice", "account": "b", "accounts": ["a"], "qos": ["normal", "high"], "admin": "none"}
    assert arguments(plan_users(state, "demo", [item])) == [
        "add user name=alice cluster=demo account=b QOS=normal,high",
        "modify user where name=alice cluster=demo account=a set QOS=normal,high",
        "modify user where name=alice cluster=demo set defaultaccount=b",
        "modify user where name=alice set adminlevel=none",
    ]


@pytest.mark.parametrize(
    ("held", "wanted"), [("Administrator", "admin"), ("Operator", "operator"), ("None", "none")]
)
def test_names_of_admin_levels(held: str, wanted: str) -> None:
    state = State(
        users={"alice": {"DefaultAccount": "a", "AdminLevel": held}}, associations={("a", "alice"): {}}
    )
    assert plan_users(state, "demo", [{"name": "alice", "account": "a", "admin": wanted}]) == []


def test_a_user_needs_an_account() -> None:
    with pytest.raises(WrongValueError, match="alice"):
        plan_users(State(), "demo", [{"name": "alice"}])


def test_only_what_is_absent_is_deleted_children_first() -> None:
    state = State(
        qos={"old": {}, "other": {}},
        associations={**account("a", "root"), **account("b", "a"), ("b", "eve"): {}, ("b", "bob"): {}},
    )
    gone = [
        {"name": "a", "state": "absent"},
        {"name": "b", "state": "absent"},
        {"name": "c", "state": "absent"},
    ]
    commands = plan_absent(
        state, "demo", [{"name": "old", "state": "absent"}], gone, [{"name": "eve", "state": "absent"}]
    )
    assert arguments(commands) == [
        "delete user where name=eve cluster=demo",
        "delete account where name=b cluster=demo",
        "delete account where name=a cluster=demo",
        "delete qos where name=old",
    ]


def test_absent_entries_are_not_added() -> None:
    gone = [{"name": "x", "state": "absent"}]
    assert plan_qos(State(), gone) == []
    assert plan_accounts(State(), "demo", gone) == []
    assert plan_users(State(), "demo", gone) == []


def test_limits_become_columns() -> None:
    assert limit_fields([{"limits": {"MaxWall": 1}}, {}, {"limits": {"GrpTRES": 2, "MaxWall": 3}}]) == [
        "GrpTRES",
        "MaxWall",
    ]
