"""Real members on hosts of their own: what they are started with is taken, and each finds its place."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from plugins.filter.kubeadm import FilterModule
from plugins.module_utils import kube_documents
from plugins.modules import etcd_membership
from tests.daemons import program

from rackloom.site.authority import issue, make_authority, make_key

ROOT = Path(__file__).parents[2]
ETCD, CTL = program("etcd", "etcd"), program("etcdctl", "etcd")
NAMES = ("one", "two")


class Host:
    """A host of etcd, with folders of its own below one of this machine and an address of its own."""

    def __init__(self, root: Path, number: int) -> None:
        self.name, self.root = NAMES[number], root / NAMES[number]
        pid = os.getpid()
        self.address = f"127.{80 + number}.{pid >> 8 & 255}.{pid % 250 + 2}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def start(self) -> Path:
        return self.root / "start.env"

    def run(self) -> None:
        """What the unit does."""
        inputs = {
            "name": self.name,
            "address": self.address,
            "pki": str(self.root / "pki"),
            "quota": 1 << 30,
            "settings": {"data-dir": str(self.root / "data"), "listen-metrics-urls": None},
        }
        told = dict(line.split("=", 1) for line in self.start.read_text().splitlines())
        told = {name: value.strip('"') for name, value in told.items()}
        argv = [ETCD, *kube_documents.member_arguments(inputs)]
        with (self.root / "log").open("wb") as log:
            self.process = subprocess.Popen(argv, env={**os.environ, **told}, stdout=log, stderr=log)

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


class Module:
    """What a module gets from Ansible."""

    check_mode = False

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.result: dict[str, Any] = {}

    def run_command(self, argv: list[str], **_more: Any) -> tuple[int, str, str]:
        argv = [CTL if argv[0] == "etcdctl" else argv[0], *argv[1:]]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def exit_json(self, **result: Any) -> None:
        self.result = result


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[Host]]:
    key = make_key()
    certificate = make_authority(key)
    found = [Host(tmp_path, number) for number in range(len(NAMES))]
    for host in found:
        (host.root / "pki").mkdir(parents=True)
        (host.root / "pki/ca.crt").write_text(certificate)
        for name in ("server", "peer", "healthcheck-client"):
            made = issue(key, certificate, name, [host.address, "127.0.0.1"], "both")
            (host.root / f"pki/{name}.crt").write_text(made.certificate)
            (host.root / f"pki/{name}.key").write_text(made.key)
    yield found
    for host in found:
        host.stop()


@pytest.mark.skipif(not ETCD or not CTL, reason="etcd was not built on this machine")
def test_members_begin_and_join(hosts: list[Host], monkeypatch: pytest.MonkeyPatch) -> None:
    def apply(host: Host, **more: Any) -> dict[str, Any]:
        monkeypatch.setattr(etcd_membership, "DATA", host.root / "data/member")
        monkeypatch.setattr(etcd_membership, "START", host.start)
        members = [{"name": each.name, "address": each.address} for each in hosts]
        params = {"restart_on": [], "may_begin": False, "refusal": "", "timeout": 180, **more}
        module = Module({"name": host.name, "members": members, "pki": str(host.root / "pki"), **params})
        member: Any = etcd_membership.Member(module)
        member.apply = lambda: None if host.process else host.run()
        member.joined()
        return module.result

    one, two = hosts
    assert apply(one, may_begin=True)["actions"] == ["began the cluster"]
    assert not one.start.exists()
    assert apply(two, may_begin=True)["actions"] == ["joined the members"]
    assert not apply(one)["changed"] and not apply(two)["changed"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not on this machine")
@pytest.mark.parametrize(
    ("address", "settings"),
    [("192.0.2.21", {}), ("2001:db8::21", {"heartbeat-interval": 250, "odd": 'a "b" %h $HOME \\'})],
)
def test_the_unit_hands_over_what_is_meant(tmp_path: Path, address: str, settings: dict[str, Any]) -> None:
    quoted = FilterModule().filters()["etcd_arguments"](
        {"name": "one", "address": address, "pki": "/p", "quota": 1, "settings": settings}
    )
    text = (ROOT / "roles/etcd/templates/etcd.service.j2").read_text()
    templar = Templar(loader=DataLoader(), variables={"__etcd_arguments": quoted})
    rendered = str(templar.template(trust_as_template(text)))
    script = tmp_path / "told"
    script.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    script.chmod(0o755)
    unit = tmp_path / "rackloom-etcd.service"
    unit.write_text(rendered.replace("/usr/local/bin/etcd", str(script)) + "\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert "rackloom-etcd.service" not in done.stderr, done.stderr
    inputs = {"name": "one", "address": address, "pki": "/p", "quota": 1, "settings": settings}
    plain = kube_documents.member_arguments(inputs)
    undone = [
        each[1:-1].replace("$$", "$").replace("%%", "%").replace('\\"', '"').replace("\\\\", "\\")
        for each in quoted
    ]
    assert undone == plain
