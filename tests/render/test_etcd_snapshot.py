"""Copies of a real store: they leave room for it, and are restored, from its own file too."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from plugins.module_utils.kube_client import KubeError
from plugins.modules import kube_snapshot
from tests.daemons import free_port, program, running

ROOT = Path(__file__).parents[2]
ETCD, CTL, UTL = (program(name, "etcd") for name in ("etcd", "etcdctl", "etcdutl"))
NEEDS_ETCD = pytest.mark.skipif(not (ETCD and CTL and UTL), reason="etcd was not built on this machine")


def rendered(text: str, **variables: Any) -> str:
    """What Ansible makes of a text."""
    templar = Templar(loader=DataLoader(), variables=variables)
    return str(templar.template(trust_as_template(text)))


# --- Restoring -----------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> tuple[Path, str]:
    """A member with something in it: its folder, and where it answers."""
    data, client, peer = tmp_path / "data", *(f"http://127.0.0.1:{free_port()}" for _ in range(2))
    argv = [ETCD, f"--data-dir={data}", f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
    argv += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
    argv += [f"--initial-cluster=default={peer}"]
    ask = [CTL, f"--endpoints={client}"]
    with running(
        argv,
        tmp_path / "log",
        lambda: (
            subprocess.run([*ask, "endpoint", "health"], capture_output=True, check=False).returncode == 0
        ),
    ):
        subprocess.run([*ask, "put", "word", "quiet"], check=True, capture_output=True)
        subprocess.run([*ask, "snapshot", "save", str(tmp_path / "s.db")], check=True, capture_output=True)
    return data, str(tmp_path / "s.db")


def programs(argv: Sequence[str], _data: str = "") -> tuple[int, str, str]:
    """Run the real etcdutl."""
    done = subprocess.run([UTL, *argv[1:]], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@NEEDS_ETCD
@pytest.mark.parametrize("own", [False, True])
def test_both_kinds_of_files_are_restored(
    store: tuple[Path, str], own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, path = store
    path = str(data / "member/snap/db") if own else path
    monkeypatch.setattr(kube_snapshot, "STORE", str(tmp_path / "store"))
    params = {"path": path, "name": "m1", "address": "2001:db8::1", "mark": str(tmp_path / "state/restored")}
    assert kube_snapshot.about(programs, path)["keys"] > 0
    kube_snapshot.attempt(programs, params)
    assert not (tmp_path / "store").exists() and not list((tmp_path / "state").iterdir())
    assert kube_snapshot.restore(programs, params, "abc")
    assert (tmp_path / "store/member/snap/db").stat().st_size > 0


@NEEDS_ETCD
def test_a_damaged_file_is_refused_at_the_trial(store: tuple[Path, str], tmp_path: Path) -> None:
    _, path = store
    params = {"path": path, "name": "m1", "address": "192.0.2.1", "mark": str(tmp_path / "state/restored")}
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    kube_snapshot.about(programs, path)  # reads all of it, and never the checksum
    with pytest.raises(KubeError, match="snapshot restore"):
        kube_snapshot.attempt(programs, params)
    Path(path).write_bytes(whole[:-5])
    with pytest.raises(KubeError, match="hash"):
        kube_snapshot.attempt(programs, params)
    assert not list((tmp_path / "state").iterdir())


def test_the_trial_is_before_anything_is_taken_down() -> None:
    plays = yaml.safe_load((ROOT / "playbooks/lifecycle/restore.yml").read_text())
    tasks = [task for play in plays for task in play["tasks"]]
    what = [
        next(iter(set(task) & {"rackloom.cluster.kube_snapshot", "rackloom.cluster.kube_reset"}), "")
        for task in tasks
    ]
    trial = what.index("rackloom.cluster.kube_snapshot")
    assert tasks[trial][what[trial]]["state"] == "looked_at" and "address" in tasks[trial][what[trial]]
    assert trial < what.index("rackloom.cluster.kube_reset")


# --- Names -----------------------------------------------------------------------------------


def test_each_removal_has_a_snapshot_of_its_own() -> None:
    plays = yaml.safe_load((ROOT / "playbooks/lifecycle/leave.yml").read_text())
    [play] = [each for each in plays if "leave_names" in each.get("vars", {})]
    path = play["tasks"][0]["rackloom.cluster.kube_snapshot"]["path"]
    given = {
        "leave_members": ["m1", "https://[2001:db8::1]:2380"],
        "leave_time": "T",
        "leave_reason": "remove",
    }
    names = rendered(play["vars"]["leave_names"], **given)
    assert names == "m1-https-2001-db8-1-2380"
    found = rendered(path, leave_names=names, **given)
    assert found == f"/var/lib/rackloom/etcd/before-remove-{names}-T.db"
    assert rendered(play["vars"]["leave_time"]).endswith("Z")


@pytest.mark.parametrize(("given", "name"), [({}, "before"), ({"upgrade_begun": True}, "amid")])
def test_an_upgrade_that_is_gone_on_with_keeps_the_snapshot_of_before(
    given: dict[str, Any], name: str
) -> None:
    plays = yaml.safe_load((ROOT / "playbooks/lifecycle/upgrade_kubernetes.yml").read_text())
    [play] = [each for each in plays if "upgrade_when" in each.get("vars", {})]
    path = play["tasks"][-1]["rackloom.cluster.kube_snapshot"]["path"]
    when = rendered(play["vars"]["upgrade_when"], **given)
    assert rendered(path, upgrade_when=when, upgrade_release="1.2.3").endswith(f"/{name}-upgrade-1.2.3.db")


# --- The program that makes them now and then ------------------------------------------------


@pytest.mark.parametrize(
    ("free", "made"), [(512 * 1024 * 1024 + 999, False), (512 * 1024 * 1024 + 1000, True)]
)
def test_copies_leave_room_for_the_store(tmp_path: Path, free: int, made: bool) -> None:
    text = rendered(
        (ROOT / "roles/etcd/templates/etcd-snapshot.j2").read_text(),
        etcd_pki="/pki", etcd_address="192.0.2.1", etcd_snapshots={"every": "6h", "keep": 2},
    )  # fmt: skip
    (tmp_path / "etcd/member/snap").mkdir(parents=True)
    (tmp_path / "etcd/member/snap/db").write_bytes(bytes(1000))
    said = {
        "df": f"echo Avail; echo {free}",
        "etcdutl": "true",
        "etcdctl": 'echo all > "${@: -1}"',
        "sync": "true",
    }
    (tmp_path / "bin").mkdir()
    for name, does in said.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    text = text.replace("/var/lib/rackloom/etcd", f"{tmp_path}/copies").replace(
        "/var/lib/etcd", f"{tmp_path}/etcd"
    )
    text = text.replace("export PATH=", f"export PATH={tmp_path}/bin:")
    script = tmp_path / "rackloom-etcd-snapshot"
    script.write_text(text + "\n")
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)
    copies = [path.read_text() for path in (tmp_path / "copies").iterdir()]
    assert (done.returncode == 0, copies) == (made, ["all\n"] * made), done.stderr
    assert made or "512 MiB are free" in done.stderr
