"""Real programs that what is rendered is given to: helm, and an API server on a store of its own."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.daemons import UPSTREAM, free_port, program, running

ROOT = Path(__file__).parents[2]
WORD = "made-up"


def definitions(project: str) -> list[dict[str, Any]]:
    """Definitions of custom resources that ship in a project's module; none where they were not taken out of it."""
    paths = {path.name: path for path in sorted((UPSTREAM / project).glob("*/*/manifests/*/*.yaml"))}
    return [each for path in paths.values() for each in yaml.safe_load_all(path.read_text()) if each]


@dataclass
class Api:
    """An API server without anything behind it: it judges objects, and nothing comes of them."""

    port: int
    kubeconfig: Path
    places: dict[tuple[str, str], tuple[str, bool]] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any, list[str]]:
        """Status, what was said, and warnings."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", data=data, method=method)
        request.add_header("Authorization", f"Bearer {WORD}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, context=context, timeout=60) as got:  # noqa: S310 - ours
                return got.status, parsed(got.read()), got.headers.get_all("Warning") or []
        except urllib.error.HTTPError as error:
            with error:
                return error.code, parsed(error.read()), error.headers.get_all("Warning") or []
        except OSError as error:
            return 0, str(error), []

    def place(self, each: Mapping[str, Any]) -> str:
        """Where objects of this kind are posted; "" where the API has no such kind."""
        version, kind = each["apiVersion"], each["kind"]
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        if (version, kind) not in self.places:
            status, told, _ = self.ask("GET", root)
            for one in told["resources"] if status == 200 else []:
                if "/" not in one["name"]:
                    self.places[version, one["kind"]] = (one["name"], one["namespaced"])
        if (version, kind) not in self.places:
            return ""
        plural, namespaced = self.places[version, kind]
        inside = f"/namespaces/{each['metadata'].get('namespace', 'default')}" if namespaced else ""
        return f"{root}{inside}/{plural}"

    def trouble(self, each: Mapping[str, Any]) -> str:
        """Why the API would not take an object, or what it warns of; "" where it takes it as it is."""
        name = f"{each['kind']} {each['metadata']['name']}"
        if not (path := self.place(each)):
            return f"{name}: there is no {each['apiVersion']} {each['kind']}"
        query = "dryRun=All&fieldValidation=Strict"
        status, told, warnings = self.ask("POST", f"{path}?{query}", each)
        if status not in (200, 201):
            return f"{name}: {told['message'] if isinstance(told, dict) else told}"
        return "; ".join(f"{name}: {warning}" for warning in warnings)

    def define(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        """Have custom resources, and wait until they are served."""
        for each in wanted:
            path = self.place(each)
            status, told, _ = self.ask("POST", path, each)
            assert status in (201, 409), told
        for each in wanted:
            spec = each["spec"]
            [served] = [one["name"] for one in spec["versions"] if one["storage"]]
            self.until(f"/apis/{spec['group']}/{served}", spec["names"]["kind"], there=True)

    def forget(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        """Have them no more."""
        for each in wanted:
            self.ask("DELETE", f"{self.place(each)}/{each['metadata']['name']}")
        for each in wanted:
            spec = each["spec"]
            for one in spec["versions"]:
                self.until(f"/apis/{spec['group']}/{one['name']}", spec["names"]["kind"], there=False)
        self.places.clear()

    def until(self, path: str, kind: str, *, there: bool) -> None:
        """Wait until a kind is served, or no longer."""
        end = time.monotonic() + 180
        while True:
            status, told, _ = self.ask("GET", path)
            served = status == 200 and kind in {one["kind"] for one in told["resources"]}
            if served == there:
                return
            assert time.monotonic() < end, f"{kind} is {'not ' if there else ''}served after three minutes"
            time.sleep(0.1)


def parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode(errors="replace")


@pytest.fixture(scope="session")
def helm() -> str:
    found = program("helm", "helm")
    if not found:
        pytest.skip("helm was not built on this machine")
    return found


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A bare API server on 127.0.0.1."""
    server, store = program("kube-apiserver", "kubernetes"), program("etcd", "etcd")
    if not server or not store:
        pytest.skip("kube-apiserver and etcd were not built on this machine")
    folder = tmp_path_factory.mktemp("api")
    port, client, peer = free_port(), free_port(), free_port()
    url, other = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    etcd = [store, f"--data-dir={folder / 'data'}", f"--listen-client-urls={url}", "--unsafe-no-fsync"]
    etcd += [f"--advertise-client-urls={url}", f"--listen-peer-urls={other}"]
    etcd += [f"--initial-advertise-peer-urls={other}", f"--initial-cluster=default={other}"]
    key = folder / "accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    (folder / "tokens").write_text(f'{WORD},admin,1,"system:masters"\n')
    argv = [server, f"--etcd-servers={url}", f"--secure-port={port}", "--bind-address=127.0.0.1"]
    argv += [f"--cert-dir={folder / 'certificates'}", f"--token-auth-file={folder / 'tokens'}"]
    argv += ["--service-account-issuer=https://kubernetes.example", f"--service-account-key-file={key}"]
    argv += [f"--service-account-signing-key-file={key}", "--authorization-mode=RBAC"]
    # nobody makes accounts for pods here
    argv += ["--service-cluster-ip-range=192.0.2.0/24", "--disable-admission-plugins=ServiceAccount"]
    kubeconfig = folder / "kubeconfig"
    cluster = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "clusters": [{"name": "here", "cluster": cluster}],
                "users": [{"name": "admin", "user": {"token": WORD}}],
                "contexts": [{"name": "here", "context": {"cluster": "here", "user": "admin"}}],
            }
        )
    )
    found = Api(port, kubeconfig)

    def store_answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", client)) == 0

    def takes_objects() -> bool:
        # It makes its own namespaces beside saying that it is ready; what is put into them before is refused.
        places = ("/readyz", "/api/v1/namespaces/default", "/api/v1/namespaces/kube-system")
        return all(found.ask("GET", place)[0] == 200 for place in places)

    with (
        running(etcd, folder / "etcd.log", store_answers),
        running(argv, folder / "api.log", takes_objects, seconds=300),
    ):
        yield found
