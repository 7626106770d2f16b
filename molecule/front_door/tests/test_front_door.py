"""The door is asked as a browser would ask it, and the pages behind it tell what they were asked."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from testinfra.host import Host
from waits import until

GET = """
import base64, json, ssl, sys, urllib.error, urllib.request
told = json.loads(sys.argv[1])
context = ssl.create_default_context(cafile="/etc/rackloom/front-door/ca.crt")
class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None
handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
opener = urllib.request.build_opener(Stay, *handlers)
request = urllib.request.Request(told["url"], headers=told["headers"])
try:
    answer = opener.open(request, timeout=20)
except urllib.error.HTTPError as error:
    answer = error
print(json.dumps({"code": answer.status, "body": answer.read().decode(), "headers": dict(answer.headers)}))
"""
BASIC = "Basic " + base64.b64encode(b"admin:made-up-for-this-test").decode()


def get(host: Host, path: str, authorization: str = BASIC, scheme: str = "https") -> dict[str, Any]:
    address = host.ansible.get_variables()["rackloom_address"]
    headers = {"Authorization": authorization} if authorization else {}
    told = json.dumps({"url": f"{scheme}://{address}{path}", "headers": headers})
    answer: dict[str, Any] = json.loads(host.check_output("python3 -c %s %s", GET, told))
    return answer


@pytest.fixture
def back(host: Host) -> Host:
    return host.get_host("ansible://back", ansible_inventory=host.backend.ansible_inventory)


def test_nobody_comes_in_without_a_name(host: Host) -> None:
    for path in ("/", "/prometheus/graph", "/runbooks/"):
        assert get(host, path, "")["code"] == 401
        assert get(host, path, "Basic " + base64.b64encode(b"admin:wrong").decode())["code"] == 401
    assert get(host, "/healthy", "")["body"] == "well\n"


def test_the_first_page_says_what_there_is(host: Host) -> None:
    body = get(host, "/")["body"]
    for said in ("Demo &lt;cluster&gt;", 'href="/prometheus/graph"', "<code>back</code>"):
        assert said in body
    assert "1 management, 1 compute" in re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", body))


def test_runbooks_are_there_to_read(host: Host) -> None:
    listed = get(host, "/runbooks/")["body"]
    name = next(part.split('"')[0] for part in listed.split('href="') if ".md" in part)
    answer = get(host, f"/runbooks/{name}")
    assert answer["body"].startswith("# ")
    assert answer["headers"]["Content-Type"].startswith("text/plain")


def test_a_page_is_asked_under_its_own_path_by_the_door(host: Host) -> None:
    asked = json.loads(get(host, "/prometheus/api/v1/query?query=up")["body"])
    assert asked["path"] == "/prometheus/api/v1/query?query=up"
    user, _, password = base64.b64decode(asked["Authorization"].split()[1]).decode().partition(":")
    assert (user, password) == ("rackloom", 'said "by" the door: only')
    assert asked["X-WEBAUTH-USER"] == "admin"
    assert asked["X-Forwarded-Proto"] == "https"


def test_a_visitors_password_goes_no_further(host: Host) -> None:
    assert "Authorization" not in json.loads(get(host, "/logs/")["body"])


def test_the_second_server_is_asked_when_the_first_is_down(host: Host, back: Host) -> None:
    assert json.loads(get(host, "/prometheus/")["body"])["port"] == "9090"
    back.check_output("systemctl stop page@9090")
    try:
        assert json.loads(get(host, "/prometheus/")["body"])["port"] == "9091"
    finally:
        back.check_output("systemctl start page@9090")
        until(lambda: back.socket("tcp://0.0.0.0:9090").is_listening)


def test_a_server_with_anothers_certificate_is_not_asked(host: Host) -> None:
    assert get(host, "/stranger/")["code"] == 502


def test_plain_http_leads_to_the_door(host: Host) -> None:
    answer = get(host, "/prometheus/graph", scheme="http")
    assert answer["code"] == 301
    address = host.ansible.get_variables()["rackloom_address"]
    assert answer["headers"]["Location"] == f"https://{address}/prometheus/graph"


def test_others_on_the_node_cannot_read_what_the_door_knows(host: Host) -> None:
    for name in ("nginx.conf", "users", "server.key"):
        assert host.run(f"runuser -u nobody -- cat /etc/rackloom/front-door/{name}").rc != 0


def test_the_packages_own_site_is_silent(host: Host) -> None:
    assert host.run("systemctl is-active nginx").stdout.strip() != "active"


def test_who_opened_what_is_in_the_journal(host: Host) -> None:
    get(host, "/runbooks/?asked-by-the-test")
    until(lambda: "asked-by-the-test" in host.check_output("journalctl --no-pager -t front_door"))
