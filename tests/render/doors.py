"""nginx with the configuration that the roles give it, as processes on free ports of 127.0.0.1."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from tests.daemons import running
from tests.tools import tool

from rackloom.site.authority import issue, make_authority, make_key

ROOT = Path(__file__).parents[2]
KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def certify(folder: Path, key: str, name: str, *names: str) -> None:
    """A server's certificate and what it is checked with, as the roles lay them out."""
    (folder / "ca.crt").write_text(make_authority(key))
    made = issue(key, (folder / "ca.crt").read_text(), name, [*names, "127.0.0.1"])
    (folder / "server.key").write_text(made.key)
    (folder / "server.crt").write_text(made.certificate)


def authority() -> str:
    """The key of a new one."""
    return make_key()


def rendered(folder: Path, role: str, template: str, variables: Mapping[str, Any]) -> Path:
    """A template of a role, with the places of a node moved into a folder."""
    home = ROOT / "roles" / role
    known = yaml.safe_load((home / "defaults" / "main.yml").read_text())
    loader = DataLoader()
    loader.set_basedir(str(home))
    source = trust_as_template((home / "templates" / template).read_text())
    text = Templar(loader=loader, variables={**known, **variables}).template(
        source, overrides={"trim_blocks": True, "lstrip_blocks": True}
    )
    for place in (f"/etc/rackloom/{role.replace('_', '-')}", f"/etc/rackloom/{role}", "/var/log/nginx"):
        text = text.replace(place, str(folder))
    text = text.replace("/run/", f"{folder}/")
    text = text.replace(
        "http {\n", "http {\n" + "".join(f"{kind}_temp_path {folder}/t;\n" for kind in KINDS), 1
    )
    path = folder / template.removesuffix(".j2")
    path.write_text(text)
    return path


def front_door(folder: Path, template: str = "nginx.conf.j2", **inputs: Any) -> Path:
    """A template of the role front_door; its pages are in www."""
    variables: dict[str, Any] = {
        "front_door_address": "127.0.0.1",
        "front_door_ipv6": False,
        "front_door_sso": {},
        "__front_door_os": {"http_user": "root"},
        "__front_door_folder": str(folder / "www"),
        "__front_door_runbooks": [],
        **inputs,
    }
    variables["__front_door_sso"] = variables["front_door_sso"].get("url", "")
    return rendered(folder, "front_door", template, variables)


def ask(port: int, path: str, **headers: str) -> http.client.HTTPResponse:
    """What a door answers, whoever signed its certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


@contextmanager
def served(path: Path, port: int, health: str) -> Iterator[None]:
    """An nginx with this configuration, once it answers."""

    def well() -> bool:
        try:
            return ask(port, health).status == 200
        except OSError:
            return False

    argv = [str(tool("nginx", "nginx")), "-e", "stderr", "-c", str(path), "-g", "daemon off;"]
    with running(argv, path.parent / "nginx.log", well):
        yield
