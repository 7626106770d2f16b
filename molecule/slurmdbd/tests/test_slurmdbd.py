from __future__ import annotations

from testinfra.host import Host
from waits import until

TABLES = "mysql -N slurm_acct_db -e"


def test_it_made_its_tables(host: Host) -> None:
    assert "gres" not in host.check_output(f"{TABLES} 'select type from tres_table'")
    assert "cpu" in host.check_output(f"{TABLES} 'select type from tres_table'").split()


def test_it_listens_for_the_cluster(host: Host) -> None:
    address = host.ansible.get_variables()["rackloom_address"]
    assert host.socket(f"tcp://{address}:6819").is_listening or host.socket("tcp://0.0.0.0:6819").is_listening


def test_others_cannot_read_the_password(host: Host) -> None:
    assert host.run("runuser -u nobody -- cat /etc/slurm/slurmdbd.conf").rc != 0
    assert host.run("runuser -u slurm -- cat /etc/slurm/slurmdbd.conf").rc == 0


def test_it_waits_for_a_database_that_is_late(host: Host) -> None:
    log = "/var/log/slurm/slurmdbd.log"

    def misses() -> int:
        return int(host.run(f"grep -cE 'mysql_real_connect|database must be up' {log}").stdout or 0)

    def said() -> str:
        return host.check_output(f"tail -n 20 {log}")

    host.check_output("systemctl stop slurmdbd mariadb")
    before = misses()
    host.check_output("systemctl start --no-block slurmdbd")
    until(lambda: misses() > before, what=said)
    host.check_output("systemctl start mariadb")
    until(lambda: host.run("bash -c ': > /dev/tcp/127.0.0.1/6819'").rc == 0, what=said)
