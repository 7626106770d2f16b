from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from waits import until

if TYPE_CHECKING:
    from scenario import Apply, Node
    from testinfra.host import Host

PKI = "/etc/rackloom/etcd"
FILES = f"--cacert={PKI}/ca.crt --cert={PKI}/healthcheck-client.crt --key={PKI}/healthcheck-client.key"
UNIT = "rackloom-etcd.service"


@dataclass(frozen=True)
class Etcd:
    """What the members say."""

    host: Host
    addresses: dict[str, str]

    def command(self, name: str, words: str) -> str:
        return f"etcdctl --endpoints=https://{self.addresses[name]}:2379 {FILES} {words}"

    def ask(self, name: str, words: str) -> str:
        return str(self.host.check_output(self.command(name, words)))

    def get(self, name: str, key: str) -> str:
        return self.ask(name, f"get {key} --print-value-only")

    def rows(self, name: str = "one") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.ask(name, "member list -w json"))["members"]
        return found


@pytest.fixture
def etcd(host: Host, node: Node) -> Etcd:
    """The members, as the first host sees them."""
    names = ("one", "two", "three")
    return Etcd(host, {name: node(name).ansible.get_variables()["rackloom_address"] for name in names})


def test_each_takes_a_write_that_the_others_know(etcd: Etcd) -> None:
    names = list(etcd.addresses)
    assert sorted(row["name"] for row in etcd.rows()) == sorted(names)
    assert not [row for row in etcd.rows() if row.get("isLearner")]
    for name in names:
        etcd.ask(name, f"put by-{name} {name}")
        assert {etcd.get(each, f"by-{name}") for each in names} == {name}


def test_nobody_without_a_certificate_of_its_authority_is_heard(host: Host, etcd: Etcd) -> None:
    address = etcd.addresses["one"]
    short = "--dial-timeout=1s --command-timeout=2s"
    assert host.run(f"etcdctl {short} --endpoints=https://{address}:2379 --cacert={PKI}/ca.crt get a").rc != 0
    assert host.run(f"etcdctl {short} --endpoints=http://{address}:2379 get a").rc != 0


def test_it_listens_on_the_cluster_s_address_alone(host: Host, etcd: Etcd) -> None:
    address = etcd.addresses["one"]
    listening = [line.split()[3] for line in host.check_output("ss -Hltnp | grep etcd").splitlines()]
    assert sorted(listening) == sorted([f"{address}:2379", f"{address}:2380", "127.0.0.1:2381"])
    program = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:2381/metrics').read().decode())"
    assert "etcd_server_has_leader 1" in host.check_output(f'python3 -c "{program}"')


def test_keys_and_data_are_for_root_alone(host: Host) -> None:
    assert host.file("/var/lib/etcd").mode == 0o700 and host.file(PKI).mode == 0o700
    assert host.check_output(f"find {PKI} /var/lib/etcd -type f -perm /077") == ""
    assert host.run(f"ls {PKI}/ca.key").rc != 0


def test_it_goes_on_without_one_member(etcd: Etcd, node: Node) -> None:
    node("three").check_output(f"systemctl stop {UNIT}")
    try:
        # another leader may have to be chosen first
        put = etcd.command("two", "put while away")
        until(lambda: etcd.host.run(put).rc == 0, 30, "nothing can be written")
        assert etcd.get("one", "while") == "away"
    finally:
        node("three").check_output(f"systemctl start {UNIT}")
    until(
        lambda: (
            "away" in etcd.host.run(etcd.command("three", "--command-timeout=2s get while")).stdout.split()
        ),
        60,
        "it does not catch up",
    )


def test_lost_data_is_no_new_cluster_and_the_next_deploy_brings_it_back(
    etcd: Etcd, node: Node, apply: Apply
) -> None:
    before = {row["name"]: row["ID"] for row in etcd.rows()}
    two = node("two")
    two.check_output(f"systemctl stop {UNIT} && rm -r /var/lib/etcd/member && systemctl start {UNIT}")
    assert two.run(f"systemctl is-active {UNIT}").stdout.strip() == "inactive"
    # settings of today with it, which start one member after the other anew
    done = apply(etcd_settings={"heartbeat-interval": 150, "election-timeout": 1500})
    assert done.returncode == 0, done.stdout
    after = {row["name"]: row["ID"] for row in etcd.rows("two")}
    assert len(after) == 3 and {name for name in after if after[name] != before[name]} == {"two"}
    assert etcd.get("two", "by-two") == "two"
    for name in after:
        assert "--heartbeat-interval=150" in node(name).check_output("pgrep -af /usr/local/bin/etcd")


def test_copies_are_for_root_alone(host: Host) -> None:
    copies = "/var/lib/rackloom/etcd"
    host.check_output("systemctl start rackloom-etcd-snapshot.service")
    copy = f"{copies}/{host.check_output(f'ls -t {copies} | head -1')}"
    assert host.file(copy).mode == 0o600
    assert json.loads(host.check_output(f"etcdutl snapshot status -w json {copy}"))["totalKey"] > 0


def test_no_cluster_is_begun_where_one_is_used(host: Host, etcd: Etcd, node: Node, apply: Apply) -> None:
    """All data is gone, and somebody has kept theirs here."""
    for name in etcd.addresses:
        node(name).check_output(f"systemctl stop {UNIT} && rm -r /var/lib/etcd/member")
    done = apply(etcd_used=True)
    assert done.returncode != 0 and "Restore a snapshot" in " ".join(done.stdout.split()), done.stdout
    assert host.run("ls /var/lib/etcd/member").rc != 0
