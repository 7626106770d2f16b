from __future__ import annotations

import re

from testinfra.host import Host
from waits import until

GET = "python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:9104/metrics').read().decode())\""


def value(host: Host, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", host.check_output(GET), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def test_the_server_is_up_and_its_counters_move(host: Host) -> None:
    assert value(host, "mysql_up") == 1
    before = value(host, 'mysql_global_status_commands_total{command="insert"}')
    host.check_output("mariadb kept -e 'create or replace table t (a int); insert into t values (1)'")
    assert value(host, 'mysql_global_status_commands_total{command="insert"}') >= before + 1


def test_its_user_reads_no_table(host: Host) -> None:
    host.check_output("mariadb kept -e 'create or replace table t (a int)'")
    as_exporter = "runuser -u prometheus -- mariadb -N -e"
    assert "kept" not in host.check_output(f"{as_exporter} 'show databases'").split()
    assert "denied" in host.run(f"{as_exporter} 'select * from kept.t'").stderr
    assert "denied" in host.run(f"{as_exporter} 'select * from mysql.user'").stderr


def test_nobody_else_comes_in_as_it(host: Host) -> None:
    assert "denied" in host.run("runuser -u nobody -- mariadb -u prometheus -pnone -e 'select 1'").stderr


def test_a_server_that_is_down_is_told(host: Host) -> None:
    host.check_output("systemctl stop mariadb")
    try:
        assert value(host, "mysql_up") == 0
    finally:
        host.check_output("systemctl start mariadb")
    until(lambda: value(host, "mysql_up") == 1)
