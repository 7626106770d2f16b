from __future__ import annotations

import time

from testinfra.host import Host

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
    host.check_output("systemctl stop slurmdbd mariadb")
    host.check_output("systemctl start --no-block slurmdbd")
    time.sleep(3)
    host.check_output("systemctl start mariadb")
    for _ in range(40):
        if host.run("bash -c ': > /dev/tcp/127.0.0.1/6819'").rc == 0:
            break
        time.sleep(0.5)
    else:
        raise AssertionError(host.check_output("journalctl -u slurmdbd -n 20 --no-pager"))
