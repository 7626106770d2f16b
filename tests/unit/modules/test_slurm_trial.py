"""Starting a controller where it can do no harm, with a stand-in for slurmctld."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import pytest
from plugins.module_utils.slurm_trial import NotTriedError, complaints, trial_conf, try_start

CONF = """ClusterName=demo
SlurmctldHost=mgmt01(10.0.0.11)
SlurmctldHost=mgmt02(10.0.0.12)
SlurmctldPort=17817
StateSaveLocation=/shared/state
AccountingStorageType=accounting_storage/slurmdbd
SlurmctldPidFile=/run/slurmctld.pid
PriorityWeightTRES=GRES/gpu=1
NodeName=n1
PartitionName=p TRESBillingWeights=GRES/gpu=1 Nodes=ALL
"""
SERVES = """#!/usr/bin/env python3
import os, socket, sys, time
conf = open(sys.argv[3]).read()
assert "StateSaveLocation=/shared" not in conf
server = socket.create_server(("0.0.0.0", 17817))
time.sleep(30)
"""
REFUSES = """#!/bin/sh
echo 'slurmctld: error: _parse_next_key: Parsing error at unrecognized key: Bogus' >&2
echo 'slurmctld: error: Configured MailProg is invalid' >&2
echo 'slurmctld: fatal: Unable to process configuration file' >&2
exit 1
"""


def start(tmp_path: Path, program: str, timeout: float = 60) -> list[str]:
    path = tmp_path / "slurmctld"
    path.write_text(program)
    path.chmod(0o755)
    try:
        return try_start(
            {"slurm.conf": CONF, "gres.conf": ""},
            program=str(path),
            user=getpass.getuser(),
            beside="",
            timeout=timeout,
        )
    except NotTriedError as error:
        pytest.skip(f"no namespace of its own here: {error}")


def test_the_copy_reaches_nothing_of_the_real_one() -> None:
    text = trial_conf(CONF, "/x", "here", {"slurmuser": "me"})
    assert text.splitlines() == [
        "ClusterName=demo",
        "SlurmctldPort=17817",
        "NodeName=n1",
        "PartitionName=p Nodes=ALL",
        "SlurmctldHost=here(127.0.0.1)",
        "StateSaveLocation=/x/state",
        "SlurmctldPidFile=/x/slurmctld.pid",
        "slurmuser=me",
    ]


def test_one_that_serves_has_no_complaint(tmp_path: Path) -> None:
    assert start(tmp_path, SERVES) == []


def test_one_that_gives_up_says_why(tmp_path: Path) -> None:
    assert start(tmp_path, REFUSES) == [
        "_parse_next_key: Parsing error at unrecognized key: Bogus",
        "Unable to process configuration file",
    ]


def test_one_that_ends_without_a_word_is_a_complaint(tmp_path: Path) -> None:
    assert "did not come to serve" in start(tmp_path, "#!/bin/sh\nexit 0\n")[0]


def test_one_that_never_serves_is_stopped(tmp_path: Path) -> None:
    said = start(tmp_path, "#!/bin/sh\necho waiting\nexec sleep 60\n", timeout=4)
    assert "within 4 s" in said[0]
    assert "waiting" in said[0]


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    start(tmp_path, REFUSES)
    assert [path.name for path in tmp_path.iterdir()] == ["slurmctld"]


def test_no_account_is_no_verdict() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root changes owners")
    with pytest.raises(NotTriedError, match="no-such-user"):
        try_start({"slurm.conf": CONF}, user="no-such-user", beside="")


def test_errors_without_an_end_are_no_complaint() -> None:
    assert complaints("slurmctld: error: Invalid something that does not matter\n") == []
