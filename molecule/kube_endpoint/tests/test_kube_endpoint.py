from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import testinfra
from testinfra.host import Host

PATIENCE = 120


def await_that(what: str, done: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, f"not within {PATIENCE} s: {what}"
        time.sleep(0.1)


@pytest.fixture
def one(request: pytest.FixtureRequest) -> Host:
    return testinfra.get_host("ansible://one", ansible_inventory=request.config.option.ansible_inventory)


@pytest.fixture
def two(request: pytest.FixtureRequest) -> Host:
    return testinfra.get_host("ansible://two", ansible_inventory=request.config.option.ansible_inventory)


def address(host: Host) -> str:
    variables = host.ansible.get_variables()
    return str(variables["rackloom_address"]).rpartition(".")[0] + ".200"


def has_it(host: Host) -> bool:
    return f" {address(host)}/" in host.check_output("ip -brief address show")


def answer(host: Host) -> str:
    """What the address answers, asked from this machine; empty for nothing."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(address(host), 7443, timeout=2, context=context)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):  # the latter where it died in the middle of an answer
        return ""
    finally:
        connection.close()


@contextmanager
def stopped(host: Host, unit: str) -> Iterator[None]:
    host.check_output(f"systemctl kill --signal=KILL {unit}; systemctl stop {unit}")
    try:
        yield
    finally:
        host.check_output(f"systemctl start {unit}")


def test_the_first_node_has_the_address(one: Host, two: Host) -> None:
    await_that("one has the address", lambda: has_it(one) and not has_it(two))
    await_that("both API servers are reached", lambda: {answer(one) for _ in range(8)} == {"one", "two"})


def test_it_leaves_a_node_whose_haproxy_died(one: Host, two: Host) -> None:
    with stopped(one, "haproxy.service"):
        await_that("two has the address", lambda: has_it(two) and not has_it(one))
        await_that("it answers", lambda: answer(one))
    await_that("one has it again", lambda: has_it(one) and not has_it(two))


def test_it_leaves_a_node_that_says_nothing_any_more(one: Host, two: Host) -> None:
    with stopped(one, "keepalived.service"):
        await_that("two has the address", lambda: has_it(two))
        await_that("it answers", lambda: answer(one))
    await_that("one has it again", lambda: has_it(one) and not has_it(two))


def test_an_api_server_that_died_is_not_asked(one: Host) -> None:
    with stopped(one, "api.service"):
        await_that("only two answers", lambda: {answer(one) for _ in range(8)} == {"two"})
    await_that("both answer", lambda: {answer(one) for _ in range(8)} == {"one", "two"})


def test_its_metrics_are_told_to_the_host_alone(one: Host) -> None:
    """The node exporter passes them on."""
    ask = "python3 -c 'from urllib.request import *; print(urlopen(\"http://{}:7444/metrics\").read().decode())'"
    both = 'haproxy_backend_active_servers{proxy="kubernetes"} 2'
    await_that("both are told of", lambda: both in one.run(ask.format("127.0.0.1")).stdout)
    assert one.run(ask.format(one.ansible.get_variables()["rackloom_address"])).rc != 0


def test_the_password_is_for_root_alone(one: Host) -> None:
    assert one.file("/etc/keepalived/keepalived.conf").mode == 0o600


def test_an_address_that_somebody_else_has_is_refused(one: Host) -> None:
    taken = address(one).rpartition(".")[0] + ".201"
    told = one.ansible("rackloom.cluster.free_address", f"address={taken}", check=False)
    assert "is in use" in told["msg"] and "interface" not in told
