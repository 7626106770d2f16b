from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testinfra.host import Host

Apply = Callable[..., dict[str, Any]]
FILES = ("slurm.conf", "gres.conf", "cgroup.conf", "topology.conf")


@pytest.fixture(scope="module")
def files(host: Host) -> dict[str, str]:
    """What the role wrote."""
    return {name: host.file(f"/etc/slurm/{name}").content_string for name in FILES}


@pytest.fixture(scope="module")
def apply(host: Host, files: dict[str, str]) -> Iterator[Apply]:
    """Apply files that differ from the role's; the role's come back at the end."""

    def run(check: bool = False, **changed: str) -> dict[str, Any]:
        wanted = {**files, **{name.replace("_", "."): text for name, text in changed.items()}}
        arguments = json.dumps({"files": wanted, "restart_on": [unit]})
        result: dict[str, Any] = host.ansible("rackloom.cluster.slurm_apply", arguments, check=check)
        return result

    unit = "/etc/systemd/system/slurmctld.service.d/rackloom.conf"
    yield run
    run()


def config(host: Host) -> dict[str, str]:
    out = host.check_output("scontrol show config")
    pairs = (line.partition("=") for line in out.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def pid(host: Host) -> str:
    return host.check_output("systemctl show -p MainPID --value slurmctld")


def test_it_knows_all_nodes(host: Host) -> None:
    assert host.check_output("sinfo -h -p batch -o %D") == "65"
    shown = host.check_output("scontrol -o show node gpu64")
    for word in ("NodeAddr=198.51.100.64", "Gres=gpu:a100:4,gpu:3g.20gb:8", "CPUTot=64", "RealMemory=512000"):
        assert word in shown
    assert "AvailableFeatures=ib,nvlink" in shown


def test_partitions_are_there(host: Host) -> None:
    assert "MaxTime=1-00:00:00" in host.check_output("scontrol -o show partition batch")
    assert "LLN=YES" in host.check_output("scontrol -o show partition gpu")


def test_the_site_has_the_last_word(host: Host) -> None:
    found = config(host)
    assert found["KillWait"].split()[0] == "45"
    assert found["ReturnToService"] == "1"


def test_limits_are_enforced_by_cgroups(host: Host) -> None:
    found = config(host)
    assert found["ProctrackType"] == "proctrack/cgroup"
    for name in ("ConstrainCores", "ConstrainDevices", "ConstrainRAMSpace", "ConstrainSwapSpace"):
        assert found[name] == "yes"


def test_switches_are_known(host: Host) -> None:
    assert "SwitchName=root Level=1" in host.check_output("scontrol show topology")


def test_nodes_and_logins_can_fetch_the_configuration(host: Host) -> None:
    address = host.ansible.get_variables()["rackloom_address"]
    out = host.check_output(
        "mkdir -p /tmp/empty && mv /etc/slurm /etc/slurm.away;"
        f" SLURM_CONF_SERVER={address} scontrol show config; rc=$?; mv /etc/slurm.away /etc/slurm; exit $rc"
    )
    assert "ClusterName             = demo" in out


def test_a_comment_is_written_and_nothing_else_is_done(
    host: Host, apply: Apply, files: dict[str, str]
) -> None:
    result = apply(slurm_conf=files["slurm.conf"] + "# nothing new\n")
    assert (result["action"], result["changed_files"]) == ("none", ["slurm.conf"])


def test_a_weight_is_reconfigured(host: Host, apply: Apply, files: dict[str, str]) -> None:
    before = pid(host)
    result = apply(slurm_conf=files["slurm.conf"].replace("KillWait=45", "KillWait=46"))
    assert result["action"] == "reconfigure"
    assert result["reasons"] == ["slurm.conf: killwait"]
    assert config(host)["KillWait"].split()[0] == "46"
    if "Slurm 22" in host.check_output("slurmctld -V").replace("slurm-wlm", "Slurm"):
        assert pid(host) == before


def test_a_new_node_is_served_at_once(host: Host, apply: Apply, files: dict[str, str]) -> None:
    more = files["slurm.conf"].replace(
        "gpu[01-64] NodeAddr=198.51.100.[1-64]", "gpu[01-65] NodeAddr=198.51.100.[1-65]"
    )
    topology = files["topology.conf"].replace("gpu[33-64]", "gpu[33-65]")
    gres = files["gres.conf"].replace("gpu[01-64]", "gpu[01-65]")
    host.check_output("scontrol update NodeName=gpu03 State=DRAIN Reason='new fan'")
    foreseen = apply(check=True, slurm_conf=more, topology_conf=topology, gres_conf=gres)
    assert host.run("scontrol -o show node gpu65").rc != 0
    result = apply(slurm_conf=more, topology_conf=topology, gres_conf=gres)
    assert result["action"] == foreseen["action"] != "none"
    assert "NodeAddr=198.51.100.65" in host.check_output("scontrol -o show node gpu65")
    assert "new fan" in host.check_output("scontrol -o show node gpu03"), "a drain was lost"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Nonsense=1", "Nonsense"),
        ("PartitionName=broken Nodes=nowhere", "nowhere"),
        ("PriorityType=priority/none-such", "none-such"),
    ],
)
def test_what_slurm_refuses_replaces_nothing(
    host: Host, apply: Apply, files: dict[str, str], line: str, said: str
) -> None:
    text = files["slurm.conf"]
    if line.startswith("PriorityType"):
        text = text.replace("PriorityType=priority/multifactor", "")
    before = host.file("/etc/slurm/slurm.conf").content_string
    result = apply(slurm_conf=text + line + "\n")
    assert "nothing was replaced" in result["msg"]
    assert said in result["msg"]
    assert host.file("/etc/slurm/slurm.conf").content_string == before
    assert "UP" in host.check_output("scontrol ping")


def test_what_only_the_running_controller_refuses_is_taken_back(
    host: Host, apply: Apply, files: dict[str, str]
) -> None:
    """Weights of resources need the database, which the trial has not."""
    apply()
    text = files["slurm.conf"] + "PriorityWeightTRES=GRES/none=1\nMaxJobCount=9999\n"
    result = apply(slurm_conf=text)
    assert "the files of the last good run are back in force" in result["msg"]
    assert host.file("/etc/slurm/slurm.conf").content_string == files["slurm.conf"]
    assert "UP" in host.check_output("scontrol ping")


def test_a_killed_run_is_made_good(host: Host, apply: Apply, files: dict[str, str]) -> None:
    """The new file lies there, but the controller was never told."""
    text = files["slurm.conf"].replace("KillWait=45", "KillWait=47")
    apply()
    host.check_output("sed -i s/KillWait=45/KillWait=47/ /etc/slurm/slurm.conf")
    assert config(host)["KillWait"].split()[0] == "45"
    result = apply(slurm_conf=text)
    assert (result["action"], result["changed_files"]) == ("reconfigure", [])
    assert config(host)["KillWait"].split()[0] == "47"


def test_a_stopped_controller_is_started(host: Host, apply: Apply) -> None:
    host.check_output("systemctl stop slurmctld")
    assert apply()["action"] == "start"
    before = pid(host)
    again = apply()
    assert (again["action"], again["changed"]) == ("none", False)
    assert pid(host) == before
    assert "UP" in host.check_output("scontrol ping")
