"""The database is asked as its user would ask it, from the server itself and over the network."""

from __future__ import annotations

from testinfra.backend.base import CommandResult
from testinfra.host import Host

SCRIPT = """
import pymysql, sys
where, user, password, database, query = sys.argv[1:]
at = {"unix_socket": where} if where.startswith("/") else {"host": where}
with pymysql.connect(user=user, password=password, database=database, **at).cursor() as cursor:
    cursor.execute(query)
    print(cursor.fetchall())
"""
PASSWORD = "made-up-for-this-test"


def query(
    host: Host, what: str, *, user: str = "slurm", password: str = PASSWORD, database: str = "slurm_acct_db"
) -> CommandResult:
    where = "/run/mysqld/mysqld.sock"
    if host.backend.get_hostname() != "db":
        where = host.ansible("debug", "var=hostvars.db.rackloom_address")["hostvars.db.rackloom_address"]
    return host.run(f"python3 -c '{SCRIPT}' {where} {user} '{password}' {database} '{what}'")


def test_user_owns_its_database(host: Host) -> None:
    name = host.backend.get_hostname()
    assert query(host, f"create or replace table of_{name} (job int)").rc == 0
    assert query(host, f"select count(*) from of_{name}").stdout.strip() == "((0,),)"


def test_user_has_no_other(host: Host) -> None:
    assert "denied" in query(host, "select 1", database="other_db").stderr
    assert "denied" in query(host, "select 1", database="mysql").stderr


def test_wrong_password_is_refused(host: Host) -> None:
    assert "denied" in query(host, "select 1", password="wrong").stderr


def test_root_comes_in_on_the_server_alone(host: Host) -> None:
    here = host.backend.get_hostname() == "db"
    assert (query(host, "select 1", user="root", password="", database="mysql").rc == 0) == here


def test_nobody_is_let_in_without_a_name(host: Host) -> None:
    if host.backend.get_hostname() == "db":
        assert host.run("su -s /bin/sh nobody -c 'mariadb -e \"select 1\"'").rc != 0
        assert host.check_output("mariadb -Ne 'show databases like \"test\"'") == ""


def test_settings_are_in_force(host: Host) -> None:
    if host.backend.get_hostname() == "db":
        settings = host.check_output(
            "mariadb -Ne 'select @@innodb_buffer_pool_size, @@innodb_lock_wait_timeout'"
        )
        assert settings.split() == [str(256 * 1024 * 1024), "900"]
